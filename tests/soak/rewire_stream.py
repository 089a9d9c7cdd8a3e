"""The stream of the rewire soak: a source of numbered words, steps that leave their mark in a frame, a sum over all of them, sinks that write all down.

A frame is its number, a word, and the marks of all that it has passed, in order; each step also makes the word another, so that marks and word have to agree.
It is published as an artifact, so it imports no test code.

`rows.bin` is a sink's file: rows of ROW, in the order in which they were consumed.
"""

import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from halftrack_dataplane.sdk import Cut, Frame, Param

MASK = (1 << 64) - 1
SPREAD = 0x9E3779B97F4A7C15  # odd, so that no two sequences have the same word: 2**64 / golden ratio
HEAD = struct.Struct("<QQ")  # number, word
MARK = struct.Struct("<HH")  # who, and in which release
MARKS = 14  # more steps in a row are not made
ROW = struct.Struct("<5Q56s")  # sequence, gap, number, word, bytes of marks, the marks
STATE = struct.Struct("<QQ")  # the next number, the sum
BEHIND_S = 0.25  # what the source makes up for after a stall; more would be a burst that no instrument makes
assert ROW.size == 96
assert MARKS * MARK.size == 56


def word_of(number: int) -> int:
    """The source's word of a frame."""
    return number * SPREAD & MASK


def folded(word: int, who: int, release: int) -> int:
    """A step's word from the one before. In another order steps come to another word."""
    return ((word ^ (who << 16 | release)) * SPREAD + 1) & MASK


def marked(payload: bytes, word: int, who: int, release: int) -> bytes:
    """A frame's payload with one mark more, and `word` as its word."""
    return payload[:8] + word.to_bytes(8, "little") + payload[16:] + MARK.pack(who, release)


class Numbers:
    """Frame n is n and its word. It paces itself: some frames every `burst_us`, as packets come from a network card."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        """`rate` in frames a second."""
        self._burst_s = int(params["burst_us"]) / 1e6
        self._frames = max(1, round(int(params["rate"]) * self._burst_s))

    def frames(self, next_seq: int) -> Iterator[bytes]:
        """For ever."""
        due = time.monotonic()
        while True:
            for _ in range(self._frames):
                yield HEAD.pack(next_seq, word_of(next_seq))
                next_seq += 1
            due = max(due + self._burst_s, time.monotonic() - BEHIND_S)
            time.sleep(max(0.0, due - time.monotonic()))


class Step:
    """Leaves its mark: `mark` is the vertex's, `release` the release's."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        """Both are numbers."""
        self._who, self._release = int(params["mark"]), int(params["release"])

    def process(self, frame: Frame) -> bytes:
        """The frame with a mark more."""
        payload = bytes(frame.payload)
        word = folded(HEAD.unpack_from(payload)[1], self._who, self._release)
        return marked(payload, word, self._who, self._release)


class Sums:
    """Each word that it gives out is the sum of all that it ever got: whatever was lost, doubled or out of order before it shows for ever after."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        """As a step's."""
        self._who, self._release = int(params["mark"]), int(params["release"])
        self._next = self._sum = 0

    def process(self, frame: Frame) -> bytes:
        """Add the frame's word."""
        payload = bytes(frame.payload)
        number, word = HEAD.unpack_from(payload)
        if number != self._next:
            raise ValueError(f"frame {number} came where {self._next} was due")
        self._next += 1
        self._sum = self._sum + word & MASK
        return marked(payload, self._sum, self._who, self._release)

    def snapshot(self) -> bytes:
        """Two numbers."""
        return STATE.pack(self._next, self._sum)

    def restore(self, state: bytes, *, same_release: bool) -> int:
        """Every release reads every other's."""
        self._next, self._sum = STATE.unpack(state)
        return 0


class Rows:
    """Appends a row for each frame, and goes on where the last whole row ends."""

    def __init__(self, params: Mapping[str, Param], data_dir: str) -> None:
        """Find the end of what is written."""
        self._file = os.open(Path(data_dir) / "rows.bin", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        whole = os.fstat(self._file).st_size // ROW.size
        os.ftruncate(self._file, whole * ROW.size)
        self._rows: list[bytes] = []
        self._next = 0
        if whole:
            last = ROW.unpack(os.pread(self._file, ROW.size, (whole - 1) * ROW.size))
            self._next = last[0] + max(1, last[1])

    def next_seq(self) -> int:
        """After the last row."""
        return self._next

    def consume(self, frame: Frame) -> None:
        """One row, kept until the next flush."""
        payload = bytes(frame.payload)
        number, word = HEAD.unpack_from(payload) if len(payload) >= HEAD.size else (0, 0)
        marks = payload[HEAD.size :]
        self._rows.append(ROW.pack(frame.seq, frame.gap, number, word, len(marks), marks))
        self._next = frame.seq + max(1, frame.gap)

    def cuts(self, cuts: Sequence[Cut]) -> None:
        """What the owner table says is not this sink's affair: the frames say it themselves."""

    def flush(self) -> None:
        """To the kernel: the soak kills processes, not machines."""
        data = memoryview(b"".join(self._rows))
        self._rows.clear()
        while data:
            data = data[os.write(self._file, data) :]
