"""Manifests as texts, on the way to a controller that reads them itself, and what it says of them.

It imports next to nothing, because an operator's verb sends them before it imports anything else.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from halftrack_proto.v1 import operator_pb2

NOT_READ = "not-read"
"""The reason of a refusal: something in the texts is not as it must be, or not for this verb. Who has the files finds out what."""

MAX_TEXTS_BYTES = (
    64 << 10
)  # of all texts together; more would keep a controller from its hosts, and is read where it is


@dataclass(frozen=True, slots=True)
class Applied:
    """What has become of manifests."""

    changes: tuple[tuple[str, str, str], ...]  # of each document: its kind, its name, what applying has done to it
    certificate_ends_ms: int  # of the operator who asked


def manifests_message(texts: Iterable[tuple[str, str]]) -> operator_pb2.ApplyManifestsRequest:
    """Files' names and their texts."""
    manifests = (operator_pb2.Manifest(file=file, text=text) for file, text in texts)
    return operator_pb2.ApplyManifestsRequest(manifests=manifests)


def manifests_of(message: operator_pb2.ApplyManifestsRequest) -> tuple[tuple[str, str], ...]:
    """Files' names and their texts."""
    return tuple((manifest.file, manifest.text) for manifest in message.manifests)


def short(texts: Iterable[tuple[str, str]]) -> bool:
    """Are the texts short enough to be read by the controller?"""
    return sum(len(text.encode()) for _, text in texts) <= MAX_TEXTS_BYTES


def applied_message(value: Applied) -> operator_pb2.ApplyManifestsReply:
    """What has become of them."""
    changes = (operator_pb2.DocumentChange(kind=kind, name=name, action=did) for kind, name, did in value.changes)
    return operator_pb2.ApplyManifestsReply(changes=changes, certificate_ends_ms=value.certificate_ends_ms)


def applied_of(message: operator_pb2.ApplyManifestsReply) -> Applied:
    """What has become of them."""
    changes = tuple((change.kind, change.name, change.action) for change in message.changes)
    return Applied(changes, message.certificate_ends_ms)
