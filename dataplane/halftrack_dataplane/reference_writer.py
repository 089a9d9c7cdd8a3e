"""The writer of the reference ring: finds room by its policy, fills it, publishes.

Owns what is reclaimed and when. Never moves a reader's cursor.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from halftrack_dataplane.frames import FrameTooLarge, RingError, RingFull, WrongLength
from halftrack_dataplane.reference_state import ALIGN, Closing, Record, State, retire, rounded

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

__all__ = ["Writer"]


class Writer(Closing):
    """The ring's one writer; in a shared ring one of several, who take turns."""

    def __init__(self, state: State, full: str, name: str, spare: int | None = None) -> None:
        self._spare = 256 if spare is None else spare
        self.full = full
        self.name = name
        self._state = state
        self._closed = False
        self._claim: tuple[int, bytearray, memoryview] | None = None
        self._growing: Record | None = None  # the newest record, while further frames may join it
        self._given_up = (-1, 0.0)  # the sequence that last found no room in time, and how long it has waited in all

    def _check(self, *, claimed: bool = False) -> None:
        if self._closed:
            raise RingError("this Writer is closed")
        if (self._claim is not None) != claimed:
            raise RingError("nothing is claimed" if claimed else "a frame is claimed: commit or abort it first")

    def _check_length(self, length: int, *, batch: bool = False) -> None:
        s = self._state
        whole = batch and length and s.frame_bytes and length % s.frame_bytes == 0
        if s.frame_bytes and length != s.frame_bytes and not whole:
            raise WrongLength(f"every frame of this ring has {s.frame_bytes} bytes, not {length}")
        if length > s.capacity_bytes // 2:
            raise FrameTooLarge(
                f"a frame of {length} bytes; this ring of {s.capacity_bytes} takes half of that at most"
            )

    @contextlib.contextmanager
    def _turn(self, timeout_s: float | None) -> Iterator[bool]:
        """The ring is this writer's until the end, or until its claim ends; False if it will not wait behind one that waits for room."""
        s = self._state
        if s.shared and s.writer is not self:
            hasty = self.full == "drop"
            s.wait(lambda: self._closed or s.writer is None or (hasty and s.waits_for_room), timeout_s)
            if s.writer is not None and hasty:
                yield False
                return
            if s.writer is not None:
                raise RingFull(f"another writer of this ring had the turn for {timeout_s} s")
            self._check()
            s.writer = self
            newest = s.records[-1] if s.records else None
            self._growing = (
                newest if newest is not None and s.frame_bytes and not newest.gap and not s.checked else None
            )
        try:
            yield True
        finally:
            if self._claim is None:
                self._pass_turn()

    def _pass_turn(self) -> None:
        if self._state.shared and self._state.writer is self:
            self._state.writer = None
            self._state.changed.notify_all()

    def _fit(self, length: int, blocked_since: float) -> bool:
        """Reclaims what must go for `length` bytes to fit; nothing if a lossless reader still needs some of it."""
        s = self._state
        end = self._offset(length) + length
        drop = 0
        while drop < len(s.records):
            if len(s.records) - drop < s.slots and end - s.records[drop].offset <= s.capacity_bytes:
                break
            drop += 1
        needed = s.records[drop].seq if drop < len(s.records) else s.head
        if not drop:
            return True
        s.note_lags()
        blocked_s = time.monotonic() - blocked_since
        for reader in [r for r in s.readers if r is not None and r._gates() and r.cursor < needed]:
            low = self.full == "overwrite" and reader.priority < self._spare
            if low or (self.full != "drop" and reader._impatient(blocked_s)):
                reader._evict()
        if any(r is not None and r._gates() and r.cursor < needed for r in s.readers):
            return False
        for _ in range(drop):
            s.records.popleft()
        return True

    def _offset(self, length: int) -> int:
        left = self._state.capacity_bytes - self._state.data_head % self._state.capacity_bytes
        return self._state.data_head + (left if length > left else 0)

    def _reserve(self, length: int, timeout_s: float | None) -> bool:
        s, called = self._state, time.monotonic()
        at, waited_s = self._given_up
        began = called - (waited_s if at == s.head and timeout_s != 0 else 0.0)
        if not self._fit(length, began):
            if self.full == "drop":
                return False
            s.blocked += timeout_s is None or timeout_s > 0
            s.waits_for_room = True
            room = s.wait(lambda: self._closed or self._fit(length, began), timeout_s)
            s.waits_for_room = False
            s.blocked_s += time.monotonic() - called
            if not room:
                self._given_up = s.head, time.monotonic() - began
                raise RingFull(f"no room for {length} bytes after {timeout_s} s: a lossless reader lags")
        if self._closed:
            raise RingError("this Writer was closed while it waited")
        self._growing = None
        return True

    def _publish(self, offset: int, frames: list[bytes], epoch: int, timestamp_ns: int, gap: int = 0) -> int:
        s = self._state
        record = Record(s.head, offset, frames, epoch, timestamp_ns, gap)
        s.records.append(record)
        self._growing = record if s.frame_bytes and not gap and not s.checked else None
        s.gap_frames += gap
        self._show(record)
        if s.retain_ns:
            s.expire(timestamp_ns - s.retain_ns)
        return record.seq

    def _show(self, record: Record) -> None:
        s = self._state
        s.head = record.end
        s.data_head = rounded(record.end_offset, ALIGN)
        s.changed.notify_all()

    def _joins(self, frames: list[bytes], epoch: int, timestamp_ns: int) -> bool:
        """Do frames fit behind those of the newest record, within its bounds, the ring's end and what is free?"""
        s, record = self._state, self._growing
        if record is None or (epoch, timestamp_ns) != (record.epoch, record.timestamp_ns):
            return False
        length = len(frames[0])
        end = record.end_offset + length * len(frames)
        wrap = record.offset + s.capacity_bytes - record.offset % s.capacity_bytes
        run = s.run_frames(length) * length
        return end <= min(record.offset + run, wrap) and end - s.records[0].offset <= s.capacity_bytes

    def _put(self, frames: list[bytes], epoch: int, timestamp_ns: int, timeout_s: float | None) -> bool:
        if self._joins(frames, epoch, timestamp_ns) and self._growing is not None:
            self._growing.frames += frames
            self._show(self._growing)
            return True
        length = len(frames[0]) * len(frames)
        if not self._reserve(length, timeout_s):
            return False
        self._publish(self._offset(length), frames, epoch, timestamp_ns)
        return True

    def write(self, data: "Buffer", *, epoch: int = 0, timestamp_ns: int = 0, timeout_s: float | None = None) -> int:
        payload = memoryview(data).tobytes()
        with self._state.changed:
            self._check()
            self._check_length(len(payload))
            with self._turn(timeout_s) as mine:
                if not mine or not self._put([payload], epoch, timestamp_ns, timeout_s):
                    self._state.dropped += 1
                    return -1
                return self._state.head - 1

    def write_many(
        self, frames: "Iterable[Buffer]", *, epoch: int = 0, timestamp_ns: int = 0, timeout_s: float | None = None
    ) -> range:
        items = [memoryview(frame).tobytes() for frame in frames]
        with self._state.changed:
            self._check()
            for item in items:
                self._check_length(len(item))
            with self._turn(timeout_s) as mine:
                first, done = self._state.head, 0
                while done < len(items):
                    length = len(items[done])
                    run = items[done : done + self._state.run_frames(length)]
                    run = run[: next((at for at, item in enumerate(run) if len(item) != length), len(run))]
                    try:
                        if not mine or not self._put(run, epoch, timestamp_ns, timeout_s):
                            self._state.dropped += len(items) - done
                            break
                    except RingFull as error:
                        error.written = done
                        raise
                    done += len(run)
                return range(first, first + done)

    def write_array(
        self, array: "Buffer", *, epoch: int = 0, timestamp_ns: int = 0, timeout_s: float | None = None
    ) -> range:
        rows = memoryview(array)
        if not rows.ndim:
            raise ValueError("an array without rows holds no frames; give it a first axis")
        count = rows.shape[0] if rows.shape else 0
        data, length = rows.tobytes(), rows.nbytes // count if count else 0
        frames = [data[at * length : (at + 1) * length] for at in range(count)]
        return self.write_many(frames, epoch=epoch, timestamp_ns=timestamp_ns, timeout_s=timeout_s)

    def claim(self, nbytes: int, timeout_s: float | None = None) -> memoryview:
        if nbytes < 0:
            raise OverflowError("a frame has no negative length")
        with self._state.changed:
            self._check()
            self._check_length(nbytes, batch=True)
            with self._turn(timeout_s) as mine:
                if not mine or not self._reserve(nbytes, timeout_s):
                    self._state.dropped += 1
                    raise RingFull(
                        f"no room for {nbytes} bytes, and the writer's policy is to drop; counted as dropped"
                    )
                room = bytearray(nbytes)
                self._claim = (self._offset(nbytes), room, memoryview(room))
                return self._claim[2]

    def commit(self, *, epoch: int = 0, timestamp_ns: int = 0) -> int:
        with self._state.changed:
            self._check(claimed=True)
            assert self._claim is not None  # noqa: S101 - _check has seen it
            offset, room, view = self._claim
            self._claim = None
            length = self._state.frame_bytes or len(room) or 1
            frames = [bytes(room[at : at + length]) for at in range(0, len(room), length)] or [b""]
            seq = self._publish(offset, frames, epoch, timestamp_ns)
            self._pass_turn()
        retire(view)
        return seq

    def abort(self) -> None:
        if self._closed:
            raise RingError("this Writer is closed")
        if self._claim is not None:
            retire(self._claim[2])
            self._claim = None
            with self._state.changed:
                self._pass_turn()

    def gap(self, count: int, *, epoch: int = 0, timestamp_ns: int = 0, timeout_s: float | None = None) -> int:
        if not 1 <= count < 1 << 62:
            raise ValueError(f"a gap covers at least one sequence, not {count}")
        with self._state.changed:
            self._check()
            with self._turn(timeout_s) as mine:
                if not mine or not self._reserve(0, timeout_s):
                    self._state.dropped += count
                    return -1
                return self._publish(self._offset(0), [], epoch, timestamp_ns, count)

    def start_at(self, seq: int) -> None:
        if not 0 <= seq < 1 << 62:
            raise ValueError(f"a sequence must be in [0, 2**62), not {seq}")
        with self._state.changed:
            self._check()
            with self._turn(0) as mine:
                if not mine:
                    raise RingFull("another writer of this ring has the turn")
                head = self._state.head
                if head != self._state.base_seq or seq < head:
                    raise RingError(f"this ring goes on at {head}, so it cannot start at {seq}; declare a gap instead")
                if seq > head:
                    self._publish(self._offset(0), [], 0, 0, seq - head)
                    self._state.records[-1].before = True
                    self._state.gap_frames = 0

    def close(self) -> None:
        if not self._closed:
            self.abort()
            with self._state.changed:
                self._closed = True
                if self._state.writer is self:
                    self._state.writer = None
                self._state.changed.notify_all()
