"""The stream of the swap soak: a source of numbered words, a vertex that sums them, a sink that writes down every frame and when it came.

`words` and `sums_of` are the same with no stream at all, for whoever checks. It is published as an artifact, so it imports no test code, and nothing
but NumPy is needed beside the SDK, by the checker only.

`marks-SEQ.bin` are the sink's files: rows of ROW, in the order in which they were consumed. A file begins every FILE_ROWS rows, so that
who checks may take away what he has seen.
"""

import json
import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from halftrack_dataplane.sdk import Cut, Frame, Param

MASK = (1 << 64) - 1
SPREAD = 0x9E3779B97F4A7C15  # odd, so that no two sequences have the same word: 2**64 / golden ratio
INPUT = struct.Struct("<QQ")  # sequence, word
OUTPUT = struct.Struct("<QQQ")  # sequence, sum of all words up to it, the release that computed it
STATE = struct.Struct("<QQ")  # the next sequence, the sum
ROW = struct.Struct("<7Q")  # sequence, epoch, arrival (monotonic ns), gap, and an OUTPUT
FILE_ROWS = 1 << 18
BEHIND_S = 0.25  # what the source makes up for after a stall; more would be a burst that no instrument makes


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
                yield INPUT.pack(next_seq, next_seq * SPREAD & MASK)
                next_seq += 1
            due = max(due + self._burst_s, time.monotonic() - BEHIND_S)
            time.sleep(max(0.0, due - time.monotonic()))


class Sums:
    """Each output depends on every frame since the first, and bears the release's number."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        """`release`: the number. `off` is added to what is given out, on the host of that name if there is an `only`; each frame takes `slow_us` more."""
        self._release, self._slow_s = int(params["release"]), int(params.get("slow_us", 0)) / 1e6
        self._off = int(params.get("off", 0)) if str(params.get("only", "")) in __file__ else 0
        self._next = self._sum = 0

    def process(self, frame: Frame) -> bytes:
        """Add the frame's word."""
        number, word = INPUT.unpack(frame.payload)
        if number != self._next:
            raise ValueError(f"frame {number} came where {self._next} was due")
        self._next += 1
        self._sum = self._sum + word & MASK
        if self._slow_s:
            time.sleep(self._slow_s)
        return OUTPUT.pack(number, self._sum + self._off & MASK, self._release)

    def snapshot(self) -> bytes:
        """Two numbers."""
        return STATE.pack(self._next, self._sum)

    def restore(self, state: bytes, *, same_release: bool) -> int:
        """Every release reads every other's."""
        self._next, self._sum = STATE.unpack(state)
        return 0


def sane(green: Frame) -> str | None:
    """What holds of every output, whatever its release: it is the sum of all words up to its number."""
    number, found, _ = OUTPUT.unpack(green.payload)
    wanted = number * (number + 1) // 2 * SPREAD & MASK
    return None if found == wanted else f"a sum of {found}, due is {wanted}"


class Marks:
    """Appends a row for each frame, and goes on where the last whole row ends."""

    def __init__(self, params: Mapping[str, Param], data_dir: str) -> None:
        """Find the end of what is written."""
        self._folder = Path(data_dir)
        self._rows: list[bytes] = []
        self._cuts: dict[int, Cut] = {}
        self._file, self._next, self._in_file = -1, 0, 0
        if found := files_of(self._folder):
            self._resume(found[-1])

    def next_seq(self) -> int:
        """After the last row."""
        return self._next

    def consume(self, frame: Frame) -> None:
        """One row, kept until the next flush."""
        now = time.monotonic_ns()
        output = bytes(frame.payload) if len(frame.payload) == OUTPUT.size else bytes(OUTPUT.size)
        self._rows.append(ROW.pack(frame.seq, frame.epoch, now, frame.gap, *OUTPUT.unpack(output)))
        self._next = frame.seq + max(1, frame.gap)
        if self._in_file + len(self._rows) >= FILE_ROWS:
            self.flush()
            self._begin()

    def cuts(self, cuts: Sequence[Cut]) -> None:
        """A line of JSON for each row of the owner table that is new or has changed."""
        changed = [cut for cut in cuts if self._cuts.get(cut.epoch) != cut]
        self._cuts |= {cut.epoch: cut for cut in changed}
        with (self._folder / "cuts.jsonl").open("a") as file:
            file.writelines(json.dumps(asdict(cut)) + "\n" for cut in changed)

    def flush(self) -> None:
        """To the kernel: the soak kills processes, not machines."""
        if not self._rows:
            return
        if self._file < 0:
            self._begin()
        data = memoryview(b"".join(self._rows))
        self._in_file += len(self._rows)
        self._rows.clear()
        while data:
            data = data[os.write(self._file, data) :]

    def _begin(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        first = ROW.unpack(self._rows[0])[0] if self._rows else self._next
        path = self._folder / f"marks-{first:020d}.bin"
        self._file, self._in_file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), 0

    def _resume(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND)
        self._in_file = os.fstat(self._file).st_size // ROW.size
        os.ftruncate(self._file, self._in_file * ROW.size)
        self._next = int(path.stem.removeprefix("marks-"))
        if self._in_file:
            last = ROW.unpack(os.pread(self._file, ROW.size, (self._in_file - 1) * ROW.size))
            self._next = last[0] + max(1, last[3])


def files_of(folder: Path) -> list[Path]:
    """The sink's files, in order."""
    return sorted(folder.glob("marks-*.bin"))
