"""What bridges say to each other: messages to bytes and back, strictly. Pure.

A message is one msgpack header, `[version, kind, fields...]`, and for snapshot parts one body; frames and gaps are binary
(`bridge_data`). A receiver leads: it names where to go on, and how much it will take; the server only ever answers. Its first heartbeat in a session divides older frames from those of the session. Both say at
least every quarter of a second that they are there.

Version 2: frames in records with a binary header. In version 1 their header was msgpack, too, with three numbers a frame.
"""

from dataclasses import dataclass
from typing import Any

import msgpack  # type: ignore[import-untyped]

from halftrack_dataplane import bridge_data
from halftrack_dataplane.bridge_data import (
    BATCH_RECORDS,
    HEADER_BYTES,
    MAGIC,
    RECORD_BYTES,
    VERSION,
    Data,
    Gap,
    OtherVersion,
    WireError,
)
from halftrack_dataplane.snapshot_form import HEAD_BYTES, MAX_SNAPSHOT_BYTES, PIECE_BYTES

MAX_HEADER_BYTES = 32 << 10
SNAPSHOT_PART_BYTES = PIECE_BYTES  # so that each part can be judged by itself
MAX_CREDIT = 256 << 20
HEARTBEAT_S = 0.25
DEAD_S = 1.0  # four heartbeats; a link that is cut for less is not even noticed

assert HEADER_BYTES + BATCH_RECORDS * RECORD_BYTES <= MAX_HEADER_BYTES  # noqa: S101 - checked once, at import


@dataclass(frozen=True, slots=True)
class Hello:
    """Receiver: serve me `ring` from `next_seq` on (-1: from the oldest that you have); I take `credit_bytes` at first."""

    session: bytes
    ring: str
    next_seq: int
    credit_bytes: int


@dataclass(frozen=True, slots=True)
class Credit:
    """Receiver: I take so many bytes more."""

    session: bytes
    more_bytes: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Either: I am there."""

    session: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Server: not now, because. Say Hello again after a while."""

    session: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class SnapshotWanted:
    """Member: which is your newest snapshot of `vertex` at or after input `min_next_in` that I could use?"""

    vertex: str
    release: str
    reads: tuple[str, ...]
    min_next_in: int


@dataclass(frozen=True, slots=True)
class SnapshotIs:
    """Server: that one; an empty name means none."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class SnapshotGet:
    """Member: give me the part of it from `offset` on."""

    vertex: str
    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class SnapshotPart:
    """Server: here, the head or a piece of the state; an empty body means that it is gone."""

    name: str
    offset: int
    body: bytes


@dataclass(frozen=True, slots=True)
class StandingWanted:
    """Member: does `vertex` go on at your place from its state, or could it, with what it reads from `ring`?"""

    vertex: str
    ring: str
    release: str
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StandingIs:
    """Server: so, or not; and no output from `published` on has left it."""

    hopes: bool
    published: int


Message = (
    Hello
    | Data
    | Gap
    | Credit
    | Heartbeat
    | Refusal
    | SnapshotWanted
    | SnapshotIs
    | SnapshotGet
    | SnapshotPart
    | StandingWanted
    | StandingIs
)


def encode(message: Message) -> list[bytes]:
    """The parts to send."""
    match message:
        case Hello(session, ring, next_seq, credit_bytes):
            return [_header("hello", session, ring, next_seq, credit_bytes)]
        case Data() | Gap():
            return bridge_data.encode(message)
        case Credit(session, more_bytes):
            return [_header("credit", session, more_bytes)]
        case Heartbeat(session):
            return [_header("beat", session)]
        case Refusal(session, reason):
            return [_header("refusal", session, reason[:512])]
        case SnapshotWanted(vertex, release, reads, min_next_in):
            return [_header("snap?", vertex, release, list(reads), min_next_in)]
        case SnapshotIs(name, size):
            return [_header("snap", name, size)]
        case SnapshotGet(vertex, name, offset):
            return [_header("part?", vertex, name, offset)]
        case SnapshotPart(name, offset, body):
            return [_header("part", name, offset), body]
        case StandingWanted(vertex, ring, release, reads):
            return [_header("stands?", vertex, ring, release, list(reads))]
        case StandingIs(hopes, published):
            return [_header("stands", hopes, published)]


def decode(parts: list[bytes]) -> Message:
    """The message that `parts` spell; WireError when they spell none."""
    if not 1 <= len(parts) <= 3 or len(parts[0]) > MAX_HEADER_BYTES:
        raise WireError(f"{len(parts)} parts, the first of {len(parts[0]) if parts else 0} bytes")
    if parts[0].startswith(MAGIC):
        return bridge_data.decode(parts)
    try:
        fields = msgpack.unpackb(parts[0], max_array_len=64, max_map_len=0, max_ext_len=0)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"not msgpack: {error}") from None
    if not isinstance(fields, list) or len(fields) < 2 or type(fields[0]) is not int:
        raise WireError("a message of no version")
    if fields[0] != VERSION:
        raise OtherVersion(fields[0], fields[2] if len(fields) > 2 and _session(fields[2]) else b"")
    message = None
    if len(parts) == 2:
        message = _with_body(fields[1:], parts[1])
    elif len(parts) == 1:
        message = _alone(fields[1:])
    if message is None:
        raise WireError("a message of a kind or form that we do not know")
    return message


def refusal_in(version: int, session: bytes, reason: str) -> list[bytes]:
    """A refusal that a peer of another version can read: in all of them it has the same form."""
    data: bytes = msgpack.packb([version, "refusal", session, reason[:512]])
    return [data]


def _header(*fields: Any) -> bytes:
    data: bytes = msgpack.packb([VERSION, *fields])
    return data


def _number(value: object, least: int = 0) -> bool:
    return type(value) is int and least <= value < 1 << 62


def _text(value: object, most: int = 256) -> bool:
    return type(value) is str and len(value) <= most


def _session(value: object) -> bool:
    return type(value) is bytes and 1 <= len(value) <= 32


def _with_body(fields: list[Any], body: bytes) -> Message | None:
    match fields:
        case ["part", name, offset] if _text(name) and _number(offset) and len(body) <= SNAPSHOT_PART_BYTES:
            return SnapshotPart(name, offset, body)
    return None


def _alone(fields: list[Any]) -> Message | None:
    match fields:
        case ["beat", session] if _session(session):
            return Heartbeat(session)
        case ["credit", session, more] if _session(session) and _number(more, 1):
            return Credit(session, min(more, MAX_CREDIT))
        case ["hello", session, ring, next_seq, credit] if _session(session) and _text(ring) and _number(next_seq, -1):
            return Hello(session, ring, next_seq, min(credit, MAX_CREDIT)) if _number(credit, 1) else None
        case ["refusal", session, reason] if _session(session) and _text(reason, 512):
            return Refusal(session, reason)
        case ["snap?", vertex, release, list(reads), least] if _text(vertex) and _text(release) and _number(least):
            whole = len(reads) <= 64 and all(_text(schema) for schema in reads)
            return SnapshotWanted(vertex, release, tuple(reads), least) if whole else None
        case ["snap", name, size] if _text(name) and _number(size) and size <= HEAD_BYTES + MAX_SNAPSHOT_BYTES:
            return SnapshotIs(name, size)
        case ["part?", vertex, name, offset] if _text(vertex) and _text(name) and _number(offset):
            return SnapshotGet(vertex, name, offset)
        case ["stands?", vertex, ring, release, list(reads)] if _text(vertex) and _text(ring) and _text(release):
            whole = len(reads) <= 64 and all(_text(schema) for schema in reads)
            return StandingWanted(vertex, ring, release, tuple(reads)) if whole else None
        case ["stands", bool(hopes), published] if _number(published):
            return StandingIs(hopes, published)
    return None
