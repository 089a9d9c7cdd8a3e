"""How an operator reaches the controller, and the one call that is made before anything that is slow to import: manifests to be applied.

    applied = operator_link.apply_manifests(papers.of_operator(path), texts)

All other calls are `operator_client`'s.
"""

from collections.abc import Iterable

import grpc

from halftrack_controller import papers
from halftrack_controller.papers import OperatorPapers
from halftrack_proto import manifests_codec
from halftrack_proto.channel import CLIENT_OPTIONS
from halftrack_proto.manifests_codec import Applied
from halftrack_proto.status import error_of
from halftrack_proto.v1 import operator_pb2_grpc

DEADLINE_S = 10.0


def channel_to(endpoint: str, ca_pem: bytes, key_pem: bytes, certificate_pem: bytes) -> grpc.Channel:
    """A channel to the controller at `endpoint`; it connects when it is used."""
    credentials = grpc.ssl_channel_credentials(ca_pem, key_pem, certificate_pem)
    return grpc.secure_channel(endpoint, credentials, CLIENT_OPTIONS)


def apply_manifests(operator: OperatorPapers, texts: Iterable[tuple[str, str]]) -> Applied:
    """Have the controller read the texts and register what they declare, all or nothing.

    Refused `not-read` when there is something in them that it does not apply; an error of the controller, or that none
    answers, is raised as `error_of` says it.
    """
    pems = [papers.read(path) for path in (operator.ca, operator.key, operator.certificate)]
    with channel_to(operator.endpoint, *pems) as channel:
        stub = operator_pb2_grpc.OperatorStub(channel)
        try:
            reply = stub.ApplyManifests(manifests_codec.manifests_message(texts), timeout=DEADLINE_S)
        except grpc.RpcError as error:
            raise error_of(error) from None
    return manifests_codec.applied_of(reply)
