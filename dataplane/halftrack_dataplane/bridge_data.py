"""What frames are on their way between hosts: the binary part of the bridge's language, its bounds, and the plain truth about both.
Pure.

Frames travel as DATA: a header (little-endian) of 32 bytes, then 24 for each record, a run of frames of one length, epoch and time
as in the ring, then the payloads one after the other.

| at | bytes | what |
|---|---|---|
| 0 | 4 | magic `HTBR`: no other message begins so |
| 4 | 2 | version |
| 6 | 1 | kind: 1 DATA, 2 LATE, 3 GAP |
| 7 | 1 | zero |
| 8 | 4 | records; of a GAP: 0 |
| 12 | 4 | zero |
| 16 | 8 | the first sequence |
| 24 | 8 | payload bytes; of a GAP: sequences that are gone |
| 32 | 24 each | frames (4), bytes of each (4), epoch (8), time in ns (8, signed) |

LATE frames come straight out of ring memory, and may be overwritten on their way, as the sender never holds its ring's writer up. They
are three messages: the header with its records; the payload; and one byte that is written when the payload's last byte has
gone: 1, it was whole; anything else, it is void.

There are no parts: libzmq 4.3 aborts when a socket is closed while a message of several parts is half sent. And there is no
session: the same bytes go to every receiver. What belongs to a session is what follows the server's first heartbeat in it.

native/bridge_data.h is the same for C, and is held against this by tests.
"""

import struct
from dataclasses import dataclass

VERSION = 2
MAGIC = b"HTBR"
DATA, LATE, GAP = 1, 2, 3
WHOLE = b"\x01"
BATCH_RECORDS = 1024  # 24 KiB of header at most
BATCH_FRAMES = 1 << 16  # as many as a record of one-byte frames has
BATCH_BYTES = 1 << 20  # then a batch ends; a frame larger than that travels alone
MAX_FRAME_BYTES = 64 << 20
MAX_BODY_BYTES = BATCH_BYTES + MAX_FRAME_BYTES
FRAME_COST = 64  # credit for a frame beyond its payload: empty ones must be bounded, too
MAX_SEQ = 1 << 62

_HEADER = struct.Struct("<4sHBBIIQQ")
_RECORD = struct.Struct("<IIQq")
HEADER_BYTES, RECORD_BYTES = _HEADER.size, _RECORD.size

assert (HEADER_BYTES, RECORD_BYTES) == (32, 24)  # noqa: S101 - checked once, at import
assert BATCH_FRAMES * MAX_FRAME_BYTES < MAX_SEQ  # noqa: S101 - so a sum of lengths cannot wrap in C


class WireError(ValueError):
    """Bytes that are no message of ours: refused and counted, by either side."""


class OtherVersion(WireError):  # noqa: N818 - reads as what it is where it is raised
    """A message in another version of the bridge's language; `session` is whose, if that can be told."""

    def __init__(self, version: int, session: bytes = b"") -> None:
        super().__init__(
            f"it speaks version {version} of the bridge's language, and this Halftrack version {VERSION}: "
            "upgrade the host with the older one"
        )
        self.version = version
        self.session = session


@dataclass(frozen=True, slots=True)
class Record:
    """A run of `count` frames of `length` bytes, one epoch and one time."""

    count: int
    length: int
    epoch: int
    timestamp_ns: int


@dataclass(frozen=True, slots=True)
class Data:
    """Server: frames from `first` on, without a hole. `body` is their payloads; None: they were overwritten on their way."""

    first: int
    records: tuple[Record, ...]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Gap:
    """Server: [first, first + count) was declared lost, or is no longer retained."""

    first: int
    count: int


def encode(message: Data | Gap, *, late: bool = False) -> list[bytes]:
    """The messages to send. `late`: as if the payload came out of ring memory."""
    if isinstance(message, Gap):
        return [_HEADER.pack(MAGIC, VERSION, GAP, 0, 0, 0, message.first, message.count)]
    body, records = message.body, message.records
    size = sum(record.count * record.length for record in records)
    late = late or body is None
    fixed = _HEADER.pack(MAGIC, VERSION, LATE if late else DATA, 0, len(records), 0, message.first, size)
    header = b"".join([fixed, *[_RECORD.pack(r.count, r.length, r.epoch, r.timestamp_ns) for r in records]])
    if late:
        return [header, bytes(size) if body is None else body, b"\0" if body is None else WHOLE]
    return [header + (body or b"")]


def decode(messages: list[bytes]) -> Data | Gap:
    """The frames that `messages` spell; WireError when they spell none. The first begins with the magic."""
    header = messages[0]
    if len(header) < 6 or header[:4] != MAGIC:
        raise WireError("not frames")
    version = int.from_bytes(header[4:6], "little")
    if version != VERSION:
        raise OtherVersion(version)
    if len(header) < HEADER_BYTES:
        raise WireError(f"a header of {len(header)} bytes")
    _, _, kind, zero, count, more_zero, first, amount = _HEADER.unpack_from(header)
    if zero or more_zero or first >= MAX_SEQ or kind not in (DATA, LATE, GAP):
        raise WireError("a header whose fields cannot be")
    if len(messages) != (3 if kind == LATE else 1):
        raise WireError(f"{len(messages)} messages of kind {kind}")
    if kind == GAP:
        if len(header) != HEADER_BYTES or count or not 1 <= amount < MAX_SEQ - first:
            raise WireError("a gap that cannot be")
        return Gap(first, amount)
    if not 1 <= count <= BATCH_RECORDS or amount > MAX_BODY_BYTES:
        raise WireError(f"{count} records, {amount} bytes of payload")
    begin = HEADER_BYTES + count * RECORD_BYTES
    if len(header) != begin + (amount if kind == DATA else 0):
        raise WireError(f"a message of {len(header)} bytes, which its header contradicts")
    records = _records(header, count, amount, first)
    if kind == DATA:
        return Data(first, records, header[begin:])
    if len(messages[1]) != amount or len(messages[2]) != 1:
        raise WireError("a payload of another length than the header's, or a verdict of more than one byte")
    return Data(first, records, messages[1] if messages[2] == WHOLE else None)


def _records(header: bytes, count: int, size: int, first: int) -> tuple[Record, ...]:
    records = tuple(
        Record(*_RECORD.unpack_from(header, HEADER_BYTES + number * RECORD_BYTES)) for number in range(count)
    )
    frames = sum(record.count for record in records)
    if any(not record.count or record.length > MAX_FRAME_BYTES for record in records) or frames > BATCH_FRAMES:
        raise WireError("records without frames, or more and larger ones than travel together")
    if sum(record.count * record.length for record in records) != size or first + frames >= MAX_SEQ:
        raise WireError("records that do not add up to their payload")
    return records
