"""A reader of the reference ring: one cursor, what it may see, and what it missed.

Owns the reader's cursor and counts; never reclaims anything, which is the writer's business.
"""

import time
from dataclasses import dataclass
from typing import Any

from halftrack_dataplane.frames import Batch, Evicted, Frame, RingError
from halftrack_dataplane.reference_state import Closing, Record, State, frame_of, retire

__all__ = ["Reader", "Sample"]


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sampling reader picks: sequences that `every` divides, at most `per_s` a second, or the latest only."""

    every: int = 1
    per_s: float | None = None
    latest: bool = False


class Reader(Closing):
    """One reader's cursor."""

    def __init__(
        self, state: State, slot: int, policy: str, name: str, cursor: int, sample: Sample, evict_after_s: float | None
    ) -> None:
        self._sample = sample
        self._evict_after_s = evict_after_s
        self._next_s = 0.0
        self.priority = 0
        self.most_lag = 0
        self.slot = slot
        self.policy = policy
        self.name = name
        self.cursor = cursor
        self.overruns = 0
        self.missed = 0
        self._state = state
        self._closed = False
        self._evicted = False
        self._view: tuple[int, memoryview] | None = None

    def _check(self) -> None:
        if self._evicted:
            self._end_view(advance=False)
            self._free()
            raise Evicted(f"reader {self.name!r} was evicted at sequence {self.cursor}; join again to go on")
        if self._closed:
            raise RingError("this Reader is closed")

    def _check_batch(self) -> None:
        self._check()
        if self.policy == "sample":
            raise RingError("a sampling reader picks single frames: use read")

    def _gates(self) -> bool:
        return self.policy == "lossless" and not self._evicted

    @property
    def hold(self) -> str:
        """Its policy as the others see it: what a sampling reader picks is its own business."""
        return "lossless" if self.policy == "lossless" else "lossy"

    def _impatient(self, blocked_s: float) -> bool:
        return self._evict_after_s is not None and blocked_s >= self._evict_after_s

    def _evict(self) -> None:
        if not self._evicted:
            self._evicted = True
            self._state.evicted += 1
            self._state.changed.notify_all()

    def _free(self) -> None:
        if self._state.readers[self.slot] is self:
            self._state.readers[self.slot] = None
            self._state.changed.notify_all()

    def _clamp(self) -> None:
        """Overrun: goes on at the oldest retained sequence, and counts what that skips."""
        if self.cursor < self._state.tail:
            self.overruns += 1
            self.missed += self._state.tail - self.cursor
            self.cursor = self._state.tail

    def _align(self) -> None:
        if self.policy == "sample":
            self.cursor = -(-self.cursor // self._sample.every) * self._sample.every

    def _pick(self, timeout_s: float | None) -> bool:
        """Moves a sampling reader's cursor; False if its time has not come within `timeout_s`."""
        if self._sample.per_s is not None:
            left = self._next_s - time.monotonic()
            if left > 0 and timeout_s is not None and timeout_s < left:
                return False
            time.sleep(max(0.0, left))
        if self._sample.latest:
            self.cursor = max(self.cursor, self._state.head - 1)
        self._align()
        return True

    def _next(self, timeout_s: float | None) -> Record | None:
        self._check()
        self._end_view(advance=True)
        if self.policy == "sample" and not self._pick(timeout_s):
            return None
        self._state.wait(lambda: self._closed or self._evicted or self._state.head > self.cursor, timeout_s)
        self._check()
        self._clamp()
        self._align()
        record = self._state.find(self.cursor)
        if record is not None and self._sample.per_s is not None:
            self._next_s = max(self._next_s, time.monotonic()) + 1 / self._sample.per_s
        return record

    def _advance(self, to: int) -> None:
        self.cursor = to
        self._state.changed.notify_all()

    def _end_view(self, *, advance: bool) -> None:
        if self._view is not None:
            end, view = self._view
            self._view = None
            retire(view)
            if advance:
                self._advance(end)

    def read(self, timeout_s: float | None = None) -> Frame | None:
        with self._state.changed:
            record = self._next(timeout_s)
            if record is None:
                return None
            frame = frame_of(record, self.cursor)
            self._advance(record.end if record.gap else self.cursor + 1)
            return frame

    def __iter__(self) -> "Reader":
        return self

    def __next__(self) -> Frame | None:
        return self.read()

    def _batch(self, record: Record, frames: list[bytes], payload: Any) -> Batch:
        """`frames` from the cursor on, or the gap that is there; the cursor stays."""
        gap = record.end - self.cursor if record.gap else 0
        length = len(frames[-1]) if frames else 0
        return Batch(self.cursor, len(frames), record.epoch, record.timestamp_ns, length, payload, gap)

    def read_many(self, limit: int = 1024, timeout_s: float | None = None) -> Batch | None:
        if limit < 1:
            raise ValueError(f"a batch has at least one frame, not {limit}")
        with self._state.changed:
            self._check_batch()
            record = self._next(timeout_s)
            if record is None:
                return None
            frames: list[bytes] = []
            at: Record | None = record
            while at is not None and not at.gap and at.epoch == record.epoch and len(frames) < limit:
                frames += at.frames[self.cursor + len(frames) - at.seq :][: limit - len(frames)]
                at = self._state.find(self.cursor + len(frames))
            batch = self._batch(record, frames, frames)
            self._advance(self.cursor + batch.count + batch.gap)
            return batch

    def read_into(self, buffer: Any, timeout_s: float | None = None) -> Batch | None:
        with self._state.changed:
            self._check_batch()
            record = self._next(timeout_s)
            if record is None:
                return None
            room = memoryview(buffer).cast("B")
            frames = record.frames[self.cursor - record.seq :] if not record.gap else []
            if frames and record.length:
                frames = frames[: len(room) // record.length]
            if not frames and not record.gap:
                raise ValueError(f"a buffer of {len(room)} bytes; the next frame has {record.length}")
            data = b"".join(frames)
            room[: len(data)] = data
            batch = self._batch(record, frames, None)
            self._advance(self.cursor + batch.count + batch.gap)
            return batch

    def view(self, timeout_s: float | None = None) -> Frame | None:
        with self._state.changed:
            record = self._viewable(timeout_s)
            if record is None:
                return None
            frame = frame_of(record, self.cursor)
            self._view = (record.end if record.gap else self.cursor + 1, memoryview(bytes(frame.payload)))
            return Frame(frame.seq, frame.epoch, frame.timestamp_ns, self._view[1], frame.gap)

    def view_many(self, limit: int = 1 << 32, timeout_s: float | None = None) -> Batch | None:
        if limit < 1:
            raise ValueError(f"a batch has at least one frame, not {limit}")
        with self._state.changed:
            record = self._viewable(timeout_s)
            if record is None:
                return None
            frames = record.frames[self.cursor - record.seq :][:limit] if not record.gap else []
            block = memoryview(b"".join(frames))
            batch = self._batch(record, frames, block)
            self._view = (self.cursor + batch.count + batch.gap, block)
            return batch

    def _viewable(self, timeout_s: float | None) -> Record | None:
        self._check()
        if self.policy != "lossless":
            raise RingError("only a lossless reader can view: a lossy one's frames may be overwritten meanwhile")
        return self._next(timeout_s)

    def release(self) -> None:
        with self._state.changed:
            self._check()
            self._end_view(advance=True)

    def seek(self, seq: int) -> None:
        if seq < 0:
            raise OverflowError("sequences are not negative")
        with self._state.changed:
            self._check()
            self._end_view(advance=False)
            self.cursor = seq
            self._clamp()
            self._state.changed.notify_all()

    @property
    def lag_frames(self) -> int:
        return max(0, self._state.head - self.cursor)

    def close(self) -> None:
        if not self._closed:
            with self._state.changed:
                self._end_view(advance=False)
                self._closed = True
                self._free()
                self._state.changed.notify_all()
