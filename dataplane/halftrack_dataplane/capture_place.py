"""What a capture has taken from its socket and the ring does not have yet: read from the place that outlived the capture's process.

Decides which packets are still to be put into the ring, and with which number the next capture goes on. Pure; the layout is
`packet_place.pxd`'s. The ring's head is the one truth: a packet whose number comes before the head's is there already, or was declared lost,
so doing all of it twice changes nothing.
"""

import struct
from dataclasses import dataclass

MAGIC = int.from_bytes(b"HPLACE01", "little")
KINDS = {"arrival": 1, "le64": 2, "be64": 3}
_BATCH, _PREFIX, _MESSAGE, _WORD = 64, 8, 64, 1 << 64
_FAR, _PASSED = (
    1 << 20,
    8192,
)  # as in `packet_order`: beyond the one it is a stray, before the head by no more than the other it is old
_HEAD = struct.Struct("<9Q 4Q 3Q")
_FLAGS_AT, _LENGTH_AT, _TRUNCATED = 48, 56, 0x20  # in a struct mmsghdr; MSG_TRUNC


@dataclass(frozen=True, slots=True)
class Held:
    """A packet that is in no ring yet."""

    number: int
    frame: bytes
    timestamp_ns: int  # 0: it has just come


@dataclass(frozen=True, slots=True)
class Left:
    """What a capture left behind. `expected` is the number that the ring's head has; None: it had not begun."""

    expected: int | None
    epoch: int
    socket: int
    kernel_seen: int
    packets: tuple[Held, ...]


def left(data: bytes, head: int, frame_bytes: int, numbers: str) -> Left | None:
    """What the place `data` says, for a ring with that head; None when it is no place, or of frames of another kind."""
    if len(data) < _HEAD.size:
        return None
    magic, size, window, kind, started, armed, seen, socket, which, *rows, _, _, _ = _HEAD.unpack_from(data)
    if (magic, size, kind) != (MAGIC, frame_bytes, KINDS[numbers]) or len(data) != _bytes(size, window):
        return None
    shift, epoch = rows[2 * which : 2 * which + 2] if which in (0, 1) else (0, 0)
    expected = (head - shift) % _WORD if started else None
    found = [*_kept(data, size, window), *_batch(data, size, window, numbers, armed)]
    return Left(expected, epoch, socket, seen, tuple(found if expected is None else _outstanding(found, expected)))


def _bytes(size: int, window: int) -> int:
    return _HEAD.size + _BATCH * (_MESSAGE + _PREFIX) + window * (16 + size) + _BATCH * size


def _outstanding(found: list[Held], expected: int) -> list[Held]:
    """Those that the ring lacks: in order of their numbers, so that none gives up a hole that another fills. What is far from `expected`
    may be of a sender that began again, and comes last, as it came."""
    near = {held.number: held for held in found if (held.number - expected) % _WORD <= _FAR}
    far = [held for held in found if _FAR < (held.number - expected) % _WORD < _WORD - _PASSED]
    return [*(near[number] for number in sorted(near, key=lambda number: (number - expected) % _WORD)), *far]


def _kept(data: bytes, size: int, window: int) -> list[Held]:
    """Those that waited for an earlier one, in order."""
    numbers_at = _HEAD.size + _BATCH * (_MESSAGE + _PREFIX)
    frames_at = numbers_at + 16 * window + _BATCH * size
    marks = struct.unpack_from(f"<{window}Q", data, numbers_at)
    times = struct.unpack_from(f"<{window}q", data, numbers_at + 8 * window)
    slots = [slot for slot, mark in enumerate(marks) if mark and (mark - 1) % window == slot]
    at = {slot: frames_at + slot * size for slot in slots}
    return sorted(
        (Held(marks[slot] - 1, data[at[slot] : at[slot] + size], times[slot]) for slot in slots),
        key=lambda held: held.number,
    )


def _batch(data: bytes, size: int, window: int, numbers: str, armed: int) -> list[Held]:
    """Those of the last call, as they came. Without numbers, each that is whole is the next one."""
    prefixes_at = _HEAD.size + _BATCH * _MESSAGE
    frames_at = prefixes_at + _BATCH * _PREFIX + 16 * window
    prefixed = numbers != "arrival"
    found: list[Held] = []
    for message in range(_BATCH):
        at = _HEAD.size + message * _MESSAGE
        (length,) = struct.unpack_from("<I", data, at + _LENGTH_AT)
        (flags,) = struct.unpack_from("<I", data, at + _FLAGS_AT)
        if length != size + _PREFIX * prefixed or flags & _TRUNCATED:
            continue
        prefix = data[prefixes_at + message * _PREFIX : prefixes_at + (message + 1) * _PREFIX]
        number = int.from_bytes(prefix, "big" if numbers == "be64" else "little") if prefixed else armed + len(found)
        found.append(Held(number % _WORD, data[frames_at + message * size : frames_at + (message + 1) * size], 0))
    return found
