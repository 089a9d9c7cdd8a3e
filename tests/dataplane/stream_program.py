"""A user's program for the tests: a source of checkable frames, a stateful vertex, and a sink that writes down what it gets.

`outputs_of` is the same computation with no stream at all, for the checker. It imports no test code: the runner loads it as
the artifact that it stands for.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from halftrack_dataplane.sdk import Cut, Frame, Param

WINDOW = 4
RECORD = struct.Struct("<QQQI")  # seq, gap, epoch, crc32 of the payload
STATE = struct.Struct("<QQQ")  # frames seen, chain, chain of this window


def frame_of(seq: int, size: int = 256) -> bytes:
    """Frame `seq` of the source."""
    return struct.pack("<Q", seq) * (size // 8)


class Counter:
    """A source whose frames tell their number."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        self._size = int(params.get("frame_bytes", 256))

    def frames(self, next_seq: int) -> Iterator[bytes]:
        """For ever."""
        while True:
            yield frame_of(next_seq, self._size)
            next_seq += 1


class Chain:
    """Every fourth frame brings an output that depends on all frames since the first, and on the release's `flavour`."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        self._flavour = str(params.get("flavour", "plain")).encode()
        self._poison = int(params.get("raise_after", 0))
        self._seen = self._chain = self._window = 0

    def process(self, frame: Frame) -> bytes | None:
        """Chain the frame."""
        if self._poison and frame.seq >= self._poison:
            raise ArithmeticError(f"frame {frame.seq} is not to my taste")
        self._chain = zlib.crc32(frame.payload, self._chain)
        self._window = zlib.crc32(self._flavour, self._window + 1)
        self._seen += 1
        if self._seen % WINDOW:
            return None
        output = self._flavour + STATE.pack(self._seen, self._chain, self._window)
        self._window = 0
        return output

    def snapshot(self) -> bytes:
        """Three numbers."""
        return STATE.pack(self._seen, self._chain, self._window)

    def restore(self, state: bytes, *, same_release: bool) -> int:
        """In mid-window another release's state spoils one output."""
        self._seen, self._chain, self._window = STATE.unpack(state)
        return 0 if same_release or self._seen % WINDOW == 0 else 1

    def counters(self) -> dict[str, int]:
        """For the status."""
        return {"seen": self._seen}


class Echo:
    """A vertex without state: each frame comes out as it went in."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        self._seen = 0

    def process(self, frame: Frame) -> bytes:
        """The same bytes."""
        self._seen += 1
        return bytes(frame.payload)

    def snapshot(self) -> bytes:
        """Nothing."""
        return b""

    def restore(self, state: bytes, *, same_release: bool) -> int:
        """Nothing."""
        return 0

    def counters(self) -> dict[str, int]:
        """For the status."""
        return {"seen": self._seen}


class Ledger:
    """A sink that appends a record for each frame, and continues where the file ends."""

    def __init__(self, params: Mapping[str, Param], data_dir: str) -> None:
        self._file = open(os.path.join(data_dir, "ledger"), "a+b")  # noqa: SIM115 - open as long as the process
        whole = self._file.seek(0, os.SEEK_END) // RECORD.size * RECORD.size
        self._file.truncate(whole)
        self._cuts = os.path.join(data_dir, "cuts")

    def next_seq(self) -> int:
        """After the last record."""
        rows = ledger(Path(self._file.name))
        return 0 if not rows else rows[-1][0] + max(rows[-1][1], 1)

    def consume(self, frame: Frame) -> None:
        """One record."""
        self._file.write(RECORD.pack(frame.seq, frame.gap, frame.epoch, zlib.crc32(frame.payload)))

    def cuts(self, cuts: Sequence[Cut]) -> None:
        """One line a table."""
        with open(self._cuts, "a") as file:
            print([(cut.epoch, cut.generation, cut.applied_at) for cut in cuts], file=file)

    def flush(self) -> None:
        """To the kernel: the tests kill processes, not machines."""
        self._file.flush()


def ledger(path: Path) -> list[tuple[int, int, int, int]]:
    """What a Ledger has written: (seq, gap, epoch, crc)."""
    data = path.read_bytes() if path.exists() else b""
    return list(RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]))


def outputs_of(count: int, flavour: str = "plain", size: int = 256) -> list[bytes]:
    """The first `count` outputs of a Chain over a Counter."""
    vertex = Chain({"flavour": flavour})
    found = (vertex.process(Frame(seq, 0, 0, frame_of(seq, size))) for seq in range(count * WINDOW))
    return [output for output in found if output is not None]
