"""Readers through the C API, with the face of the other rings'. See c_ring.py."""

import ctypes
import functools
from collections.abc import Iterator
from typing import Any

from halftrack_dataplane import frames
from halftrack_dataplane.frames import Batch, Evicted, Frame, RingError
from tests.ring.c_ring import BEHIND, CORRUPT, EVICTION, NOTHING, OK, Held, core, refused, told, u64, words
from tests.ring.c_ring_peers import READ, Peer, deadline, operation


class Reader(Peer):
    """ht_reader."""

    def __init__(self, held: Held, reader: Any, name: str, policy: str) -> None:
        super().__init__(held, reader, name)
        self.policy, self._last, self._view_end = policy, words(5), 0
        self.slot = self._words()[3]

    def _words(self) -> Any:
        if self._thing is not None:
            core().c_reader(self._thing, self._last)
        return self._last

    cursor = property(lambda self: self._words()[0])
    overruns = property(lambda self: self._words()[1])
    missed = property(lambda self: self._words()[2])
    spin_ns = property(lambda self: self._words()[4])

    @property
    def lag_frames(self) -> int:
        if self._thing is None:
            return 0
        into = words(22)
        core().c_header(ctypes.byref(self._held), into)
        return max(0, into[0] - self.cursor)

    def _enter(self) -> None:
        if self._thing is None or self._closing:
            raise self._evicted() if self._last[4] == 2**64 - 1 else RingError("this Reader is closed")
        if not core().c_held(self._thing):
            raise self._evicted()

    def _evicted(self) -> Evicted:
        seq = self.cursor
        self._let_go()
        self._last[4] = 2**64 - 1
        return Evicted(f"reader {self.name!r} was evicted at sequence {seq}; join again to go on")

    def _finish_view(self) -> None:
        if self._end_view():
            core().c_done(self._thing, u64(self._view_end))

    def _await(self, until: ctypes.c_int64) -> Any:
        """(end, length, epoch, time, is it a gap, address) of what is at the cursor; None if there was nothing in time."""
        while True:
            code = self._until(lambda: core().ht_wait(self._thing, until))
            if code == OK:
                into = words(6, ctypes.c_int64)
                core().c_found(self._thing, into)
                return told(into)
            if code == NOTHING:
                return None
            if code == EVICTION:
                raise self._evicted()
            if code == CORRUPT:
                raise frames.FrameCorrupt(f"sequence {self.cursor} does not match its checksum")
            if code != BEHIND or self.policy == "lossless":
                raise refused(code, f"sequence {self.cursor}")
            core().ht_overrun(self._thing, 0)

    def _torn(self) -> bool:
        if self.policy == "lossless" or core().c_intact(self._thing):
            if core().c_held(self._thing):
                return False
            raise self._evicted()
        core().ht_overrun(self._thing, 1)
        return True

    def _copied(self, timeout_s: float | None, copy: Any) -> Any:
        """What `copy` makes of the record at the cursor, once it was whole; then on to the end that it names."""
        until = deadline(timeout_s)
        self._enter()
        self._finish_view()
        while (found := self._await(until)) is not None:
            seq = self.cursor
            result, end = copy(seq, *found)
            if not self._torn():
                core().c_done(self._thing, u64(end))
                return result
        return None

    @operation
    def read(self, timeout_s: float | None = None) -> Frame | None:
        def copy(seq: int, end: int, length: int, epoch: int, stamp: int, gap: int, at: int) -> Any:
            if gap:
                return Frame(seq, epoch, stamp, b"", end - seq), end
            return Frame(seq, epoch, stamp, ctypes.string_at(at, length)), seq + 1

        frame: Frame | None = self._copied(timeout_s, copy)
        return frame

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        frame = self.read()
        assert frame is not None
        return frame

    @operation
    def read_many(self, limit: int = 1024, timeout_s: float | None = None) -> Batch | None:
        """In C one asks record by record: so does this, and stops where an epoch or the published ends."""
        if limit < 1:
            raise ValueError(f"a batch has at least one frame, not {limit}")
        batch: Batch | None = self._copied(timeout_s, functools.partial(self._run, batch=None, limit=limit))
        while batch is not None and not batch.gap and batch.count < limit:
            try:
                more = self._copied(0, functools.partial(self._run, batch=batch, limit=limit))
            except frames.FrameCorrupt:  # whoever asks next is told
                break
            if more is None or more is batch:
                break
            batch = more
        return batch

    def _run(
        self, seq: int, end: int, length: int, epoch: int, stamp: int, gap: int, at: int, *, batch: Any, limit: int
    ) -> Any:
        if batch is not None and (gap or epoch != batch.epoch or seq != batch.seq + batch.count):
            return batch, seq
        if gap:
            return Batch(seq, 0, epoch, stamp, 0, [], end - seq), end
        had = batch.payload if batch is not None else []
        count = min(end - seq, limit - len(had))
        items = had + [ctypes.string_at(at + number * length, length) for number in range(count)]
        first = batch if batch is not None else Batch(seq, 0, epoch, stamp, 0, [])
        return Batch(first.seq, len(items), epoch, first.timestamp_ns, length, items), seq + count

    @operation
    def read_into(self, buffer: Any, timeout_s: float | None = None) -> Batch | None:
        room = memoryview(buffer).cast("B")

        def copy(seq: int, end: int, length: int, epoch: int, stamp: int, gap: int, at: int) -> Any:
            count = 0 if gap else min(end - seq, len(room) // length if length else end - seq)
            if not gap and not count:
                raise ValueError(f"a buffer of {len(room)} bytes; the next frame has {length}")
            room[: count * length] = ctypes.string_at(at, count * length)
            after = seq + count if count else end
            return Batch(seq, count, epoch, stamp, length, None, 0 if count else end - seq), after

        batch: Batch | None = self._copied(timeout_s, copy)
        return batch

    def _viewable(self, timeout_s: float | None) -> Any:
        self._enter()
        if self.policy != "lossless":
            raise RingError("only a lossless reader can view: a lossy one's frames may be overwritten meanwhile")
        self._finish_view()
        return self._await(deadline(timeout_s))

    @operation
    def view(self, timeout_s: float | None = None) -> Frame | None:
        found = self._viewable(timeout_s)
        if found is None:
            return None
        end, length, epoch, stamp, gap, at = found
        seq = self.cursor
        self._view_end = end if gap else seq + 1
        return Frame(seq, epoch, stamp, self._export(at, 0 if gap else length, READ), end - seq if gap else 0)

    @operation
    def view_many(self, limit: int = 1 << 32, timeout_s: float | None = None) -> Batch | None:
        if limit < 1:
            raise ValueError(f"a batch has at least one frame, not {limit}")
        found = self._viewable(timeout_s)
        if found is None:
            return None
        end, length, epoch, stamp, gap, at = found
        seq = self.cursor
        count = 0 if gap else min(end - seq, limit)
        self._view_end = seq + count if count else end
        return Batch(
            seq, count, epoch, stamp, length, self._export(at, count * length, READ), 0 if count else end - seq
        )

    @operation
    def release(self) -> None:
        self._enter()
        self._finish_view()

    @operation
    def seek(self, seq: int) -> None:
        u64(seq)
        self._enter()
        self._end_view()
        if core().ht_seek(self._thing, u64(seq)) == EVICTION:
            raise self._evicted()

    def _let_go(self) -> None:
        self._end_view()
        if self._thing is not None:
            self._words()
            core().ht_leave(self._thing)
            self._thing = None
            self._held.drop()
