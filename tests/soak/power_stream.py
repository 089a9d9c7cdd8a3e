"""The stream of the power cuts: an instrument that cannot repeat itself, a vertex that counts what it has seen, a sink that writes it down.

It is published as an artifact, so it imports no test code.
"""

import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from halftrack_dataplane.sdk import Cut, Frame, Param

OUTPUT = struct.Struct("<QQ")  # the instant of the instrument's frame, and how many frames the state knows with it
ROW = struct.Struct("<QQQQ")  # sequence, gap, and an OUTPUT
COUNT = struct.Struct("<Q")


class Instrument:
    """A frame is the instant at which it was taken, by the clock that counts from the machine's boot: none comes twice."""

    live = True

    def __init__(self, params: Mapping[str, Param]) -> None:
        """`rate` in frames a second."""
        self._every_s = 1 / int(params["rate"])

    def frames(self, next_seq: int) -> Iterator[bytes]:
        """For ever, whatever number comes next."""
        while True:
            yield COUNT.pack(time.monotonic_ns())
            time.sleep(self._every_s)


class Counts:
    """How many frames there were."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        """None yet."""
        self._count = 0

    def process(self, frame: Frame) -> bytes:
        """One more."""
        self._count += 1
        return bytes(frame.payload) + COUNT.pack(self._count)

    def snapshot(self) -> bytes:
        """The count."""
        return COUNT.pack(self._count)

    def restore(self, state: bytes, *, same_release: bool) -> int:
        """The count."""
        (self._count,) = COUNT.unpack(state)
        return 0


class Rows:
    """Appends a row for each frame and each gap, synced, and goes on where the last whole row ends."""

    def __init__(self, params: Mapping[str, Param], data_dir: str) -> None:
        """Find the end of what is written."""
        self._rows: list[bytes] = []
        self._file = os.open(Path(data_dir) / "rows", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        size = os.fstat(self._file).st_size // ROW.size * ROW.size
        os.ftruncate(self._file, size)
        last = ROW.unpack(os.pread(self._file, ROW.size, size - ROW.size)) if size else (0, 0, 0, 0)
        self._next = last[0] + max(1, last[1]) if size else 0

    def next_seq(self) -> int:
        """After the last row."""
        return self._next

    def consume(self, frame: Frame) -> None:
        """One row, kept until the next flush."""
        found = (0, 0) if frame.gap else OUTPUT.unpack(frame.payload)
        self._rows.append(ROW.pack(frame.seq, frame.gap, *found))

    def cuts(self, cuts: Sequence[Cut]) -> None:
        """They change nothing here."""

    def flush(self) -> None:
        """To the disk."""
        data = memoryview(b"".join(self._rows))
        self._rows.clear()
        while data:
            data = data[os.write(self._file, data) :]
        os.fdatasync(self._file)
