"""What a joined frame is made of: the form that an inlet writes (native/parts.h), read without a copy.

Owns the form on Python's side. Decides nothing about which frames belong together; that is `join.py`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from halftrack_dataplane.frame import Frame

__all__ = ["NONE", "Form", "FormError", "Part", "Row", "dumped", "is_none", "loaded", "parts"]

MAGIC = b"HTPARTS\x01"
MORE = 1
LOST, ABSENT, NEXT, LATE = 1, 2, 4, 8

_HEAD = struct.Struct("<8sII")
_ROW = struct.Struct("<IIQQqQ")
NONE = _HEAD.pack(MAGIC, 0, 0)


class FormError(ValueError):
    """What begins like a joined frame is none; whoever wrote it has to act."""


@dataclass(frozen=True, slots=True)
class Part:
    """One input's share of a joined frame. `input` is its place in the inlet's list, `seq` its own number there.

    `lost` > 0: [seq, seq + lost) of that input is declared lost, and there is no payload. `none`: that input has none here, and nothing was
    lost. `late`: it came after its time had passed.
    """

    input: int
    seq: int
    epoch: int
    timestamp_ns: int
    payload: bytes | memoryview
    lost: int = 0
    none: bool = False
    late: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A part as it is written: its header and its bytes. `length` is theirs, or a count with `LOST`."""

    input: int
    flags: int
    length: int
    seq: int
    timestamp_ns: int
    epoch: int
    payload: bytes | memoryview = b""


@dataclass(frozen=True, slots=True)
class Form:
    """A whole joined frame as it is written, the inlet's own marks included."""

    flags: int
    rows: tuple[Row, ...]


def is_none(payload: bytes | memoryview) -> bool:
    """Does this frame say that there is none here? Whoever numbers frames counts it, and nobody processes it."""
    return len(payload) == len(NONE) and payload == NONE


def parts(frame: Frame) -> tuple[Part, ...]:
    """What `frame` is made of, in the order of the inputs; payloads are views of its own.

    A frame that no inlet has joined is one part, a declared gap is one that is lost, and a frame that says "none here" has none: so
    a vertex that asks for parts does not mind how its edge is read.
    """
    if frame.gap:
        return (Part(0, frame.seq, frame.epoch, frame.timestamp_ns, b"", frame.gap),)
    if frame.payload[:8] != MAGIC:
        return (Part(0, frame.seq, frame.epoch, frame.timestamp_ns, frame.payload),)
    return tuple(
        Part(
            row.input,
            row.seq,
            row.epoch,
            row.timestamp_ns,
            row.payload,
            row.length if row.flags & LOST else 0,
            bool(row.flags & ABSENT),
            bool(row.flags & LATE),
        )
        for row in loaded(frame.payload).rows
        if not row.flags & NEXT
    )


def loaded(payload: bytes | memoryview) -> Form:
    """The form that `payload` spells; FormError when it contradicts itself."""
    view = memoryview(payload)
    if len(view) < _HEAD.size or view[:8] != MAGIC:
        raise FormError("a joined frame begins with its mark")
    _, count, flags = _HEAD.unpack_from(view)
    at = _HEAD.size + count * _ROW.size
    if at > len(view):
        raise FormError(f"{count} parts do not fit into a frame of {len(view)} bytes")
    rows = []
    for number in range(count):
        which, marks, length, seq, timestamp_ns, epoch = _ROW.unpack_from(view, _HEAD.size + number * _ROW.size)
        size = 0 if marks & (LOST | ABSENT | NEXT) else length
        if size > len(view) - at:
            raise FormError(f"part {number} says {size} bytes, and {len(view) - at} are left")
        rows.append(Row(which, marks, length, seq, timestamp_ns, epoch, view[at : at + size]))
        at += -(-size // 8) * 8
    if at != len(view):
        raise FormError(f"{len(view)} bytes, and the parts say {at}")
    return Form(flags, tuple(rows))


def dumped(rows: Sequence[Row], flags: int = 0) -> bytes:
    """The frame of these parts: for tests and tools; an inlet writes its own in `branch.pyx`."""
    heads = [_ROW.pack(row.input, row.flags, row.length, row.seq, row.timestamp_ns, row.epoch) for row in rows]
    bodies = [bytes(row.payload) + bytes(-len(row.payload) % 8) for row in rows]
    return b"".join([_HEAD.pack(MAGIC, len(rows), flags), *heads, *bodies])
