"""A reader of the reference ring: one cursor, what it may see, and what it missed.

Owns the reader's cursor and counts; never reclaims anything, which is the writer's business.
"""

from halftrack_dataplane.frames import Evicted, Frame, RingError
from halftrack_dataplane.reference_state import Closing, Record, State, frame_of, retire

__all__ = ["Reader"]


class Reader(Closing):
    """One reader's cursor."""

    def __init__(self, state: State, slot: int, policy: str, name: str, cursor: int) -> None:
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

    def _gates(self) -> bool:
        return self.policy == "lossless" and not self._evicted

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

    def _next(self, timeout_s: float | None) -> Record | None:
        self._check()
        self._end_view(advance=True)
        self._state.wait(lambda: self._closed or self._evicted or self._state.head > self.cursor, timeout_s)
        self._check()
        self._clamp()
        return self._state.find(self.cursor)

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
            self._advance(record.end)
            return frame

    def view(self, timeout_s: float | None = None) -> Frame | None:
        with self._state.changed:
            self._check()
            if self.policy != "lossless":
                raise RingError("only a lossless reader can view: a lossy one's frames may be overwritten meanwhile")
            record = self._next(timeout_s)
            if record is None:
                return None
            frame = frame_of(record, self.cursor)
            self._view = (record.end, memoryview(record.payload))
            return Frame(frame.seq, frame.epoch, frame.timestamp_ns, self._view[1], frame.gap)

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
