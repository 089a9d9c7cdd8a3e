"""What a reader of a ring finds, one record's frames at a time, with everything that is missing between them counted.

Owns a buffer that frames are copied into (a copy is checked, a view of an evicted reader is not) and the count of what was lost.
Never prints, never decides what loss means.
"""

from dataclasses import dataclass

from halftrack_dataplane.frames import FrameCorrupt
from halftrack_dataplane.ring_reader import Reader
from halftrack_dataplane.spool_reader import SpoolReader

BUFFER_BYTES = 256 << 10  # several records of small frames (64 KiB each at most); doubled for frames that need more


@dataclass(frozen=True, slots=True)
class Taken:
    """Frames of one record, or a declared gap. `block` holds the frames one behind the other until the next is taken.

    `missed` sequences before `seq` were lost to this reader: overrun, reclaimed before it joined, or refused as `corrupt`.
    """

    seq: int
    count: int
    epoch: int
    timestamp_ns: int
    frame_bytes: int
    block: memoryview
    gap: int = 0
    missed: int = 0
    corrupt: int = 0

    def frames(self) -> list[bytes]:
        """Copies of the frames."""
        size = self.frame_bytes
        return [bytes(self.block[at * size : (at + 1) * size]) for at in range(self.count)]

    def first(self, count: int) -> "Taken":
        """The same with `count` frames at most."""
        if count >= self.count:
            return self
        block = self.block[: count * self.frame_bytes]
        return Taken(
            self.seq, count, self.epoch, self.timestamp_ns, self.frame_bytes, block, self.gap, self.missed, self.corrupt
        )


class Intake:
    """Takes from one reader, whose closing stays its maker's."""

    def __init__(self, reader: Reader | SpoolReader, capacity_bytes: int) -> None:
        self._reader = reader
        self._one_by_one = reader.policy == "sample"  # it picks frames, and only `read` asks it for each
        self._most = capacity_bytes // 2
        self._buffer = bytearray(min(BUFFER_BYTES, self._most))
        self._missed = 0
        self._corrupt = 0
        self.missed = 0
        self.corrupt = 0
        self.gaps = 0
        self.gap_frames = 0

    @property
    def lost(self) -> int:
        """All sequences that this reader did not get, for whatever reason."""
        return self.missed + self.corrupt + self.gap_frames

    def take(self, timeout_s: float | None) -> Taken | None:
        """The next frames or gap; None if there are none within `timeout_s` (None: wait)."""
        while True:
            try:
                return self._one(timeout_s) if self._one_by_one else self._many(timeout_s)
            except FrameCorrupt:  # every frame of its record is in doubt, and is met here one by one
                self._corrupt += 1
                self._reader.seek(self._reader.cursor + 1)

    def _many(self, timeout_s: float | None) -> Taken | None:
        while True:
            try:
                batch = self._reader.read_into(self._buffer, timeout_s)
                break
            except ValueError:  # the next frame is longer than our buffer
                if len(self._buffer) >= self._most:
                    raise
                self._buffer = bytearray(min(2 * len(self._buffer), self._most))
        if batch is None:
            return None
        block = memoryview(self._buffer)[: batch.count * batch.frame_bytes]
        return self._counted(
            batch.seq, batch.count, batch.epoch, batch.timestamp_ns, batch.frame_bytes, block, batch.gap
        )

    def _one(self, timeout_s: float | None) -> Taken | None:
        frame = self._reader.read(timeout_s)
        if frame is None:
            return None
        block = memoryview(frame.payload)
        return self._counted(
            frame.seq, 0 if frame.gap else 1, frame.epoch, frame.timestamp_ns, block.nbytes, block, frame.gap
        )

    def _counted(
        self, seq: int, count: int, epoch: int, timestamp_ns: int, frame_bytes: int, block: memoryview, gap: int
    ) -> Taken:
        missed, self._missed = self._reader.missed - self._missed, self._reader.missed
        corrupt, self._corrupt = self._corrupt, 0
        self.missed += missed
        self.corrupt += corrupt
        self.gaps += gap > 0
        self.gap_frames += gap
        return Taken(seq, count, epoch, timestamp_ns, frame_bytes, block, gap, missed, corrupt)
