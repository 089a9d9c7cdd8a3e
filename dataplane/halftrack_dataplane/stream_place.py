"""Between which byte of a connection and which frame of the ring a capture was, when its process ended: nothing is taken twice, nothing is lost.

Frames are looked at in the socket's buffer, put into the ring, and only then taken from the socket. Whoever comes after a death in between knows
from the kernel how many bytes of the connection were taken, and from the ring's head how many frames are there. Pure; the memory is its caller's.
"""

import struct
from dataclasses import dataclass

MAGIC = b"HPLACET1"
SIZE = 128
_WHICH_AT, _ROWS_AT = 8, 16
_ROW = struct.Struct("<4Q")


@dataclass(frozen=True, slots=True)
class Turn:
    """What a capture was about to take: `length` bytes from `offset` on of a connection, whose frames begin at `seq` of the ring."""

    connection: int
    offset: int
    seq: int
    length: int


def begin(memory: memoryview) -> None:
    """Make `memory`, zeroed and of SIZE bytes, a place."""
    memory[:8] = MAGIC


def write(memory: memoryview, turn: Turn) -> None:
    """Say what comes next. The row in force changes by one byte, so a death in the middle leaves the one before."""
    other = 1 - memory[_WHICH_AT]
    _ROW.pack_into(memory, _ROWS_AT + other * _ROW.size, turn.connection, turn.offset, turn.seq, turn.length)
    memory[_WHICH_AT] = other


def read(data: bytes) -> Turn | None:
    """What was said last; None when it is no place, or nothing was."""
    if len(data) != SIZE or data[:8] != MAGIC or data[_WHICH_AT] > 1:
        return None
    turn = Turn(*_ROW.unpack_from(data, _ROWS_AT + data[_WHICH_AT] * _ROW.size))
    return turn if turn.length else None


def published(turn: Turn | None, connection: int, taken: int, head: int) -> int:
    """How many of the frames that lie next in the connection's buffer are in the ring already.

    `taken` is the kernel's count. All of a turn's bytes are taken at once, so it is at the turn's begin or its end. (By one more,
    where the connection was reset after its end: the kernel counts that end as a byte.)
    """
    if turn is None or turn.connection != connection or 2 * (taken - turn.offset) > turn.length:
        return 0
    return max(head - turn.seq, 0)
