"""The reference ring: what the ring means, as plainly as it can be said. For tests and for reading, never for production.

Owns its state in this process (a registry by path stands for the file), behind one lock. It never shares memory, so it
knows no other process and no torn read; everything else (names, results, errors, which slot, which byte count) is the
fast ring's, and one suite holds both to it.
"""

import os
from typing import TYPE_CHECKING, Literal

from halftrack_dataplane.frames import (
    Cut,
    Frame,
    FrameTooLarge,
    ReadersFull,
    ReaderStats,
    RingError,
    RingFull,
    RingMissing,
    RingStats,
    WriterBusy,
)
from halftrack_dataplane.reference_reader import Reader
from halftrack_dataplane.reference_state import READERS, Closing, Record, State, check_label, frame_of, retire

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

__all__ = ["Reader", "Ring", "Writer", "forget"]

ALIGN = 64
PAGE = 4096
RING_LABEL_BYTES = 127


def _round(value: int, unit: int) -> int:
    return -(-value // unit) * unit


_registry: dict[str, State] = {}


def forget(path: str | os.PathLike[str]) -> None:
    """What unlinking the file is to the fast ring."""
    _registry.pop(os.fspath(path), None)


class Ring(Closing):
    """One hold on a ring."""

    def __init__(self, path: str, state: State, *, readonly: bool) -> None:
        self.path = path
        self.capacity_bytes = state.capacity_bytes
        self.slots = state.slots
        self.label = state.label
        self.generation = state.generation
        self._state: State | None = state
        self._readonly = readonly

    @staticmethod
    def create(
        path: str | os.PathLike[str],
        *,
        capacity_bytes: int = 64 << 20,
        slots: int = 4096,
        base_seq: int = 0,
        label: str = "",
        generation: int = 0,
        mode: int = 0o600,
    ) -> "Ring":
        if capacity_bytes < 1 or slots < 2 or slots & (slots - 1) or slots > 1 << 32:
            raise ValueError(
                f"slots must be a power of two from 2 on and capacity positive: {slots=} {capacity_bytes=}"
            )
        if not 0 <= base_seq < 1 << 62:
            raise ValueError(f"base_seq must be in [0, 2**62), not {base_seq}")
        check_label(label, RING_LABEL_BYTES)
        path = os.fspath(path)
        if path in _registry:
            raise FileExistsError(f"{path} exists; remove it first if its stream is no longer used")
        _registry[path] = state = State(_round(capacity_bytes, PAGE), slots, label, generation, base_seq, base_seq)
        return Ring(path, state, readonly=False)

    @staticmethod
    def open(path: str | os.PathLike[str], *, readonly: bool = False) -> "Ring":
        path = os.fspath(path)
        if path not in _registry:
            raise RingMissing(f"there is no ring at {path}; its stream's creator makes it")
        return Ring(path, _registry[path], readonly=readonly)

    def _shared(self) -> State:
        if self._state is None:
            raise RingError(f"{self.path}: this Ring is closed")
        return self._state

    def _writable(self) -> State:
        state = self._shared()
        if self._readonly:
            raise RingError(f"{self.path} was opened read-only; open it without readonly=True to do this")
        return state

    @property
    def head(self) -> int:
        return self._shared().head

    @property
    def tail(self) -> int:
        return self._shared().tail

    def writer(self, *, full: Literal["block", "drop", "overwrite"] = "block", name: str = "") -> "Writer":
        if full not in ("block", "drop", "overwrite"):
            raise ValueError(f"full must be one of block, drop, overwrite, not {full!r}")
        state = self._writable()
        if state.writer is not None:
            raise WriterBusy(f"{self.path} is being written by {state.writer.name!r}; a ring has one writer")
        state.writer = Writer(state, full, name)
        return state.writer

    def reader(
        self,
        *,
        policy: Literal["lossless", "lossy"] = "lossless",
        name: str = "",
        start: int | Literal["now", "oldest"] = "now",
    ) -> "Reader":
        if policy not in ("lossless", "lossy"):
            raise ValueError(f"policy must be one of lossless, lossy, not {policy!r}")
        state = self._writable()
        with state.changed:
            if isinstance(start, int) and not isinstance(start, bool) and 0 <= start < 1 << 62:
                wanted = start
            elif start in ("now", "oldest"):
                wanted = state.head if start == "now" else state.tail
            else:
                raise ValueError(f"start must be 'now', 'oldest' or a sequence, not {start!r}")
            if None not in state.readers:
                raise ReadersFull(f"{self.path} has {READERS} living readers, and no room for more; close or evict one")
            slot = state.readers.index(None)
            reader = state.readers[slot] = Reader(state, slot, policy, name, wanted)
            reader._clamp()
            return reader

    def peek(self, seq: int) -> Frame | None:
        if seq < 0:
            raise OverflowError("sequences are not negative")
        record = self._shared().find(seq)
        return None if record is None else frame_of(record, seq)

    def stats(self) -> RingStats:
        state = self._shared()
        used = state.data_head - state.records[0].offset if state.records else 0
        return RingStats(
            state.head,
            state.tail,
            state.capacity_bytes,
            used,
            state.slots,
            state.dropped,
            state.gap_frames,
            state.evicted,
            0 if state.writer is None else os.getpid(),
            tuple(
                ReaderStats(r.slot, r.name, os.getpid(), r.policy, r.cursor, r.lag_frames, r.overruns)
                for r in state.readers
                if r is not None and not r._evicted
            ),
        )

    def reap(self) -> tuple[ReaderStats, ...]:
        self._writable()
        return ()  # this process is alive

    def evict(self, slot: int) -> None:
        state = self._writable()
        if not 0 <= slot < READERS:
            raise ValueError(f"reader slots are 0 to {READERS - 1}, not {slot}")
        with state.changed:
            reader = state.readers[slot]
            if reader is not None:
                reader._evict()

    def propose_cut(self, epoch: int, generation: int, fence: int | None, label: str) -> None:
        state = self._writable()
        with state.changed:
            state.owners.propose(epoch, generation, fence, label)

    def cuts(self) -> tuple[Cut, ...]:
        return self._shared().owners.cuts()

    def apply_cut(self, epoch: int, at_seq: int) -> None:
        state = self._writable()
        with state.changed:
            state.owners.apply(epoch, at_seq)

    def withdraw_cut(self, epoch: int) -> bool:
        state = self._writable()
        with state.changed:
            return state.owners.withdraw(epoch)

    def close(self) -> None:
        self._state = None


class Writer(Closing):
    """The ring's one writer."""

    def __init__(self, state: State, full: str, name: str) -> None:
        self.full = full
        self.name = name
        self._state = state
        self._closed = False
        self._claim: tuple[int, bytearray, memoryview] | None = None

    def _check(self, *, claimed: bool = False) -> None:
        if self._closed:
            raise RingError("this Writer is closed")
        if (self._claim is not None) != claimed:
            raise RingError("nothing is claimed" if claimed else "a frame is claimed: commit or abort it first")

    def _fit(self, length: int) -> bool:
        """Reclaims what must go for `length` bytes to fit; nothing if a lossless reader still needs some of it."""
        s = self._state
        end = self._offset(length) + _round(length, ALIGN)
        drop = 0
        while drop < len(s.records):
            oldest = s.records[drop]
            if s.head - oldest.seq < s.slots and end - oldest.offset <= s.capacity_bytes:
                break
            drop += 1
        needed = s.records[drop].seq if drop < len(s.records) else s.head
        lagging = [r for r in s.readers if r is not None and r._gates() and r.cursor < needed]
        if not drop:
            return True
        if self.full == "overwrite":
            for reader in lagging:
                reader._evict()
        elif lagging:
            return False
        for _ in range(drop):
            s.records.popleft()
        return True

    def _offset(self, length: int) -> int:
        left = self._state.capacity_bytes - self._state.data_head % self._state.capacity_bytes
        return self._state.data_head + (left if length > left else 0)

    def _reserve(self, length: int, timeout_s: float | None) -> bool:
        s = self._state
        if length > s.capacity_bytes // 2:
            raise FrameTooLarge(
                f"a frame of {length} bytes; this ring of {s.capacity_bytes} takes half of that at most"
            )
        if self.full == "drop":
            return self._fit(length)
        if not s.wait(lambda: self._closed or self._fit(length), timeout_s):
            raise RingFull(f"no room for {length} bytes after {timeout_s} s: a lossless reader lags")
        if self._closed:
            raise RingError("this Writer was closed while it waited")
        return True

    def _publish(self, offset: int, payload: bytes, epoch: int, timestamp_ns: int, gap: int = 0) -> int:
        s = self._state
        record = Record(s.head, offset, payload, epoch, timestamp_ns, gap)
        s.records.append(record)
        s.head = record.end
        s.data_head = offset + _round(len(payload), ALIGN)
        s.gap_frames += gap
        s.changed.notify_all()
        return record.seq

    def write(self, data: "Buffer", *, epoch: int = 0, timestamp_ns: int = 0, timeout_s: float | None = None) -> int:
        payload = memoryview(data).tobytes()
        with self._state.changed:
            self._check()
            if not self._reserve(len(payload), timeout_s):
                self._state.dropped += 1
                return -1
            return self._publish(self._offset(len(payload)), payload, epoch, timestamp_ns)

    def claim(self, nbytes: int, timeout_s: float | None = None) -> memoryview:
        if nbytes < 0:
            raise OverflowError("a frame has no negative length")
        with self._state.changed:
            self._check()
            if not self._reserve(nbytes, timeout_s):
                self._state.dropped += 1
                raise RingFull(f"no room for {nbytes} bytes, and the writer's policy is to drop; counted as dropped")
            room = bytearray(nbytes)
            self._claim = (self._offset(nbytes), room, memoryview(room))
            return self._claim[2]

    def commit(self, *, epoch: int = 0, timestamp_ns: int = 0) -> int:
        with self._state.changed:
            self._check(claimed=True)
            assert self._claim is not None  # noqa: S101 - _check has seen it
            offset, room, view = self._claim
            self._claim = None
            seq = self._publish(offset, bytes(room), epoch, timestamp_ns)
        retire(view)
        return seq

    def abort(self) -> None:
        if self._closed:
            raise RingError("this Writer is closed")
        if self._claim is not None:
            retire(self._claim[2])
            self._claim = None

    def gap(self, count: int, *, epoch: int = 0, timestamp_ns: int = 0, timeout_s: float | None = None) -> int:
        if not 1 <= count < 1 << 62:
            raise ValueError(f"a gap covers at least one sequence, not {count}")
        with self._state.changed:
            self._check()
            if not self._reserve(0, timeout_s):
                self._state.dropped += count
                return -1
            return self._publish(self._offset(0), b"", epoch, timestamp_ns, count)

    def start_at(self, seq: int) -> None:
        if not 0 <= seq < 1 << 62:
            raise ValueError(f"a sequence must be in [0, 2**62), not {seq}")
        with self._state.changed:
            self._check()
            head = self._state.head
            if head != self._state.base_seq or seq < head:
                raise RingError(f"this ring goes on at {head}, so it cannot start at {seq}; declare a gap instead")
            if seq > head:
                self._publish(self._offset(0), b"", 0, 0, seq - head)
                self._state.gap_frames = 0

    def close(self) -> None:
        if not self._closed:
            self.abort()
            with self._state.changed:
                self._closed = True
                self._state.writer = None
                self._state.changed.notify_all()
