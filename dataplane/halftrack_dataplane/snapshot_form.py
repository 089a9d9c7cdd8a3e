"""The form of a snapshot: its head, its pieces and their checksums, its name, and who may go on from it. Opens no file.

A snapshot is a head of `HEAD_BYTES` and then the state, as it came from the vertex:

    0   "HTSNAP2\\n"
    8   u32 length of the body, u32 CRC-32C of the body
    16  the body: msgpack [schema, release, next_in, next_out, size, sums], zeros up to HEAD_BYTES

`sums` holds a CRC-32C for each MiB of the state, so that a part of it can be judged before the rest has come. The state begins on a page
boundary, and what lies behind its `size` bytes means nothing: files are used again.
"""

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack  # type: ignore[import-untyped]
from typing_extensions import Buffer

from halftrack_dataplane.spool_record import crc32c
from halftrack_dataplane.state_copy import first_bad, gather

MAX_SNAPSHOT_BYTES = 1 << 30  # a tenth of a second of copying, and three of them in memory for each member
PIECE_BYTES = 1 << 20  # what the bridge sends at a time, each judged when it comes
HEAD_BYTES = 8192  # two pages; the sums of the largest state fill one
MAGIC = b"HTSNAP2\n"
_HEAD = struct.Struct("<8sII")
_NAME = re.compile(r"(\d{20})\.([a-z0-9-]{1,63})@([0-9A-Za-z.+-]{1,64})(?:_(\d{1,2}))?\.snap")

assert MAX_SNAPSHOT_BYTES // PIECE_BYTES * 4 + 4 * 256 + _HEAD.size <= HEAD_BYTES  # noqa: S101 - checked once, at import

State = Buffer | Sequence[Buffer]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A vertex's state before input `next_in`, when its next output is `next_out`. The state may lie in several buffers."""

    schema: str
    release: str
    next_in: int
    next_out: int
    state: State


@dataclass(frozen=True, slots=True)
class Head:
    """What a snapshot's head says of it."""

    schema: str
    release: str
    next_in: int
    next_out: int
    size: int
    sums: bytes

    @property
    def total_bytes(self) -> int:
        """Head and state."""
        return HEAD_BYTES + self.size

    def with_state(self, state: Buffer) -> Snapshot:
        """The snapshot whose head this is."""
        return Snapshot(self.schema, self.release, self.next_in, self.next_out, state)


@dataclass(frozen=True, slots=True)
class Entry:
    """A snapshot's file, as its name tells. `form` 0 is the schema that the release writes, others are migrated for releases before it."""

    name: str
    next_in: int
    instance: str  # member@release
    release: str
    form: int = 0


def name_of(instance: str, next_in: int, form: int = 0) -> str:
    """The file's name; ValueError when it could not be found again, nor dropped."""
    name = f"{next_in:020d}.{instance}{f'_{form}' if form else ''}.snap"
    if entry_of(name) is None:
        raise ValueError(f"{instance!r} cannot name a snapshot: member@release is needed")
    return name


def entry_of(name: str) -> Entry | None:
    """What the file name says, or None when it is not a snapshot's."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return Entry(name, int(match[1]), f"{match[2]}@{match[3]}", match[3], int(match[4] or 0))


def parts_of(state: State) -> list[memoryview]:
    """The buffers that a state lies in, as bytes; TypeError for what is none."""
    listed = state if isinstance(state, (list, tuple)) else (state,)
    try:
        return [memoryview(part).cast("B") for part in listed]
    except TypeError as error:
        raise TypeError(f"a snapshot must be bytes, a contiguous buffer, or a list of these: {error}") from None


def joined(state: State) -> bytes:
    """The state as bytes, copied if it is anything else."""
    return state if isinstance(state, bytes) else b"".join(parts_of(state))


def size_of(parts: Sequence[memoryview]) -> int:
    """Their bytes; ValueError when they are more than a snapshot may have."""
    size = sum(part.nbytes for part in parts)
    if size > MAX_SNAPSHOT_BYTES:
        raise ValueError(f"a snapshot of {size} bytes; at most {MAX_SNAPSHOT_BYTES} are allowed")
    return size


def write_into(memory: memoryview, snapshot: Snapshot, parts: Sequence[memoryview]) -> None:
    """The snapshot into a file's memory, the head last: until it is there, the file's old head matches nothing."""
    memory[:8] = bytes(8)
    sums = gather(memory[HEAD_BYTES:], parts, PIECE_BYTES)
    memory[:HEAD_BYTES] = _head_bytes(snapshot, size_of(parts), sums)


def pack(snapshot: Snapshot) -> bytearray:
    """The file's bytes, of a snapshot that is small enough to be copied twice."""
    parts = parts_of(snapshot.state)
    data = bytearray(HEAD_BYTES + size_of(parts))
    write_into(memoryview(data), snapshot, parts)
    return data


def _head_bytes(snapshot: Snapshot, size: int, sums: bytes) -> bytes:
    body: bytes = msgpack.packb([snapshot.schema, snapshot.release, snapshot.next_in, snapshot.next_out, size, sums])
    if _HEAD.size + len(body) > HEAD_BYTES:
        raise ValueError(
            f"schema {snapshot.schema[:32]!r} or release {snapshot.release[:32]!r} is too long to be written"
        )
    return (_HEAD.pack(MAGIC, len(body), crc32c(body)) + body).ljust(HEAD_BYTES, b"\0")


def head_of(data: Buffer) -> Head:
    """The head that the first `HEAD_BYTES` spell; ValueError when they spell none."""
    view = memoryview(data)
    if view.nbytes < HEAD_BYTES:
        raise ValueError(f"a snapshot's head has {HEAD_BYTES} bytes, here are {view.nbytes}")
    magic, length, crc = _HEAD.unpack(view[: _HEAD.size])
    body = view[_HEAD.size : _HEAD.size + length]
    if magic != MAGIC or body.nbytes != length or crc32c(body) != crc:
        raise ValueError("this is not a snapshot's head, or a damaged one")
    tree: Any = msgpack.unpackb(body)
    match tree:
        case [str(schema), str(release), int(next_in), int(next_out), int(size), bytes(sums)]:
            fits_its_sums = len(sums) == (size + PIECE_BYTES - 1) // PIECE_BYTES * 4
            if next_in >= 0 and next_out >= 0 and 0 <= size <= MAX_SNAPSHOT_BYTES and fits_its_sums:
                return Head(schema, release, next_in, next_out, size, sums)
    raise ValueError("the snapshot's head has another form")


def unpack(data: Buffer) -> Snapshot:
    """The snapshot that `data` holds; ValueError when it is damaged. Its state is a view of `data`."""
    head, view = head_of(data), memoryview(data)
    if view.nbytes < head.total_bytes:
        raise ValueError(f"the snapshot has {view.nbytes} bytes of {head.total_bytes}")
    state = view[HEAD_BYTES : head.total_bytes]
    if (bad := first_bad(state, head.sums, PIECE_BYTES)) >= 0:
        raise ValueError(f"piece {bad} of the snapshot does not match its checksum")
    return head.with_state(state)


def fits(snapshot: Snapshot | Head, release: str, writes: str, reads: Iterable[str]) -> bool:
    """May a member of `release` go on from it?"""
    return snapshot.schema == writes if snapshot.release == release else snapshot.schema in tuple(reads)
