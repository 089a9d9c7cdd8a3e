"""What bridges say to each other: messages to bytes and back, strictly. Pure.

A message is one msgpack header, `[version, kind, fields...]`, and for frames and snapshot parts one body. The body of DATA is
the payloads one after the other; the header has their lengths. A receiver leads: it names where to go on, and how much it
will take; the server only ever answers. Both say at least every quarter of a second that they are there.
"""

from dataclasses import dataclass
from typing import Any

import msgpack  # type: ignore[import-untyped]

from halftrack_dataplane.snapshots import MAX_SNAPSHOT_BYTES

VERSION = 1
MAX_HEADER_BYTES = 32 << 10  # a batch's header has at most 27 bytes a frame
BATCH_FRAMES = 1024
BATCH_BYTES = 1 << 20  # then a batch ends; a frame larger than that travels alone
MAX_FRAME_BYTES = 64 << 20
MAX_BODY_BYTES = BATCH_BYTES + MAX_FRAME_BYTES
SNAPSHOT_PART_BYTES = 1 << 20
FRAME_COST = 64  # credit for a frame beyond its payload: empty ones must be bounded, too
MAX_CREDIT = 256 << 20
HEARTBEAT_S = 0.25
DEAD_S = 1.0  # four heartbeats; a link that is cut for less is not even noticed

assert BATCH_FRAMES * 27 + 128 <= MAX_HEADER_BYTES  # noqa: S101 - checked once, at import


class WireError(ValueError):
    """Bytes that are no message of ours: refused and counted, by either side."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Receiver: serve me `ring` from `next_seq` on (-1: from the oldest that you have); I take `credit_bytes` at first."""

    session: bytes
    ring: str
    next_seq: int
    credit_bytes: int


@dataclass(frozen=True, slots=True)
class Data:
    """Server: frames from `first` on, without a hole. `frames` are (epoch, timestamp_ns, length), `body` their payloads."""

    session: bytes
    first: int
    frames: tuple[tuple[int, int, int], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """Server: [first, first + count) was declared lost, or is no longer retained."""

    session: bytes
    first: int
    count: int


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
    """Server: here; an empty body means that it is gone."""

    name: str
    offset: int
    body: bytes


Message = Hello | Data | Gap | Credit | Heartbeat | Refusal | SnapshotWanted | SnapshotIs | SnapshotGet | SnapshotPart


def encode(message: Message) -> list[bytes]:
    """The parts to send."""
    match message:
        case Hello(session, ring, next_seq, credit_bytes):
            return [_header("hello", session, ring, next_seq, credit_bytes)]
        case Data(session, first, frames, body):
            return [_header("data", session, first, [number for frame in frames for number in frame]), body]
        case Gap(session, first, count):
            return [_header("gap", session, first, count)]
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


def decode(parts: list[bytes]) -> Message:
    """The message that `parts` spell; WireError when they spell none."""
    if not 1 <= len(parts) <= 2 or len(parts[0]) > MAX_HEADER_BYTES:
        raise WireError(f"{len(parts)} parts, the first of {len(parts[0]) if parts else 0} bytes")
    try:
        fields = msgpack.unpackb(parts[0], max_array_len=3 * BATCH_FRAMES, max_map_len=0, max_ext_len=0)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"not msgpack: {error}") from None
    if not isinstance(fields, list) or len(fields) < 2 or fields[0] != VERSION or type(fields[0]) is not int:
        raise WireError("another version of the bridge's language, or none")
    body = parts[1] if len(parts) == 2 else None
    message = _with_body(fields[1:], body) if body is not None else _alone(fields[1:])
    if message is None:
        raise WireError("a message of a kind or form that we do not know")
    return message


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
        case ["data", session, first, list(numbers)] if _session(session) and _number(first):
            return _data(session, first, numbers, body)
        case ["part", name, offset] if _text(name) and _number(offset) and len(body) <= SNAPSHOT_PART_BYTES:
            return SnapshotPart(name, offset, body)
    return None


def _data(session: bytes, first: int, numbers: list[Any], body: bytes) -> Data | None:
    if not numbers or len(numbers) % 3 or len(body) > MAX_BODY_BYTES:
        return None
    if any(type(number) is not int for number in numbers):
        return None
    epochs, stamps, lengths = numbers[0::3], numbers[1::3], numbers[2::3]
    if min(epochs) < 0 or max(epochs) >= 1 << 64 or min(stamps) < -(1 << 63) or max(stamps) >= 1 << 63:
        return None
    if min(lengths) < 0 or sum(lengths) != len(body):
        return None
    return Data(session, first, tuple(zip(epochs, stamps, lengths, strict=True)), body)


def _alone(fields: list[Any]) -> Message | None:
    match fields:
        case ["beat", session] if _session(session):
            return Heartbeat(session)
        case ["credit", session, more] if _session(session) and _number(more, 1):
            return Credit(session, min(more, MAX_CREDIT))
        case ["gap", session, first, count] if _session(session) and _number(first) and _number(count, 1):
            return Gap(session, first, count)
        case ["hello", session, ring, next_seq, credit] if _session(session) and _text(ring) and _number(next_seq, -1):
            return Hello(session, ring, next_seq, min(credit, MAX_CREDIT)) if _number(credit, 1) else None
        case ["refusal", session, reason] if _session(session) and _text(reason, 512):
            return Refusal(session, reason)
        case ["snap?", vertex, release, list(reads), least] if _text(vertex) and _text(release) and _number(least):
            whole = len(reads) <= 64 and all(_text(schema) for schema in reads)
            return SnapshotWanted(vertex, release, tuple(reads), least) if whole else None
        case ["snap", name, size] if _text(name) and _number(size) and size <= MAX_SNAPSHOT_BYTES + 4096:
            return SnapshotIs(name, size)
        case ["part?", vertex, name, offset] if _text(vertex) and _text(name) and _number(offset):
            return SnapshotGet(vertex, name, offset)
    return None
