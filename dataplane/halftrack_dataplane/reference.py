"""The reference ring: what the ring means, as plainly as it can be said. For tests and for reading, never for production.

Owns its state in this process (a registry by path stands for the file), behind one lock. It never shares memory, so it
knows no other process and no torn read; everything else (names, results, errors, which slot, which byte count) is the
fast ring's, and one suite holds both to it.
"""

import os
from typing import Literal

from halftrack_dataplane.frames import (
    Cut,
    Frame,
    ReadersFull,
    ReaderStats,
    RingError,
    RingMissing,
    RingStats,
    WriterBusy,
)
from halftrack_dataplane.reference_reader import Reader, Sample
from halftrack_dataplane.reference_state import READERS, Closing, State, check_label, frame_of, rounded
from halftrack_dataplane.reference_writer import Writer

__all__ = ["Reader", "Ring", "Writer", "forget"]

PAGE, PRIORITIES = 4096, 255
RING_LABEL_BYTES, SCHEMA_BYTES = 127, 2047

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
        self.frame_bytes = state.frame_bytes
        self.schema = state.schema
        self.checked = state.checked
        self.shared = state.shared
        self.retain_s = state.retain_ns / 1e9 if state.retain_ns else None
        self.base_seq = state.base_seq
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
        frame_bytes: int = 0,
        schema: str = "",
        checked: bool = False,
        shared: bool = False,
        retain_s: float | None = None,
    ) -> "Ring":
        if retain_s is not None and not 0 < retain_s < 1e9:
            raise ValueError(f"retain_s must be positive and below 10**9, not {retain_s}")
        if capacity_bytes < 1 or slots < 2 or slots & (slots - 1) or slots > 1 << 32:
            raise ValueError(
                f"slots must be a power of two from 2 on and capacity positive: {slots=} {capacity_bytes=}"
            )
        if not 0 <= base_seq < 1 << 62:
            raise ValueError(f"base_seq must be in [0, 2**62), not {base_seq}")
        check_label(label, RING_LABEL_BYTES)
        check_label(schema, SCHEMA_BYTES)
        capacity_bytes = rounded(capacity_bytes, PAGE)
        if not 0 <= frame_bytes <= capacity_bytes // 2:
            raise ValueError(f"frame_bytes must be at most half of the capacity, not {frame_bytes}")
        path = os.fspath(path)
        if path in _registry:
            raise FileExistsError(f"{path} exists; remove it first if its stream is no longer used")
        _registry[path] = state = State(
            capacity_bytes, slots, label, generation, base_seq, base_seq, frame_bytes, schema, checked, shared,
            int((retain_s or 0) * 1e9),
        )  # fmt: skip
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

    @property
    def credit_bytes(self) -> int:
        return self._shared().credit_bytes

    def writer(
        self, *, full: Literal["block", "drop", "overwrite"] = "block", name: str = "", spare: int | None = None
    ) -> "Writer":
        if full not in ("block", "drop", "overwrite"):
            raise ValueError(f"full must be one of block, drop, overwrite, not {full!r}")
        if spare is not None and (full != "overwrite" or not 0 <= spare <= PRIORITIES):
            raise ValueError(
                f"spare is a priority, from 0 to {PRIORITIES}, for a writer that overwrites, not {spare!r}"
            )
        state = self._writable()
        if state.shared:
            return Writer(state, full, name, spare)
        if state.writer is not None:
            raise WriterBusy(f"{self.path} is being written by {state.writer.name!r}; a ring has one writer")
        state.writer = Writer(state, full, name, spare)
        return state.writer

    def reader(
        self,
        *,
        policy: Literal["lossless", "lossy", "sample"] = "lossless",
        name: str = "",
        start: int | Literal["now", "oldest"] = "now",
        every: int = 1,
        per_s: float | None = None,
        latest: bool = False,
        evict_after_s: float | None = None,
        verify: bool = False,
        priority: int = 0,
    ) -> "Reader":
        del verify  # what is in this process's own memory is what was written
        if policy not in ("lossless", "lossy", "sample"):
            raise ValueError(f"policy must be one of lossless, lossy, sample, not {policy!r}")
        sample = Sample(every, per_s, latest)
        if policy != "sample" and sample != Sample():
            raise ValueError("every, per_s and latest are for policy 'sample'")
        if every < 1 or (per_s is not None and per_s <= 0) or (evict_after_s is not None and evict_after_s <= 0):
            raise ValueError(f"every, per_s and evict_after_s must be positive: {every=} {per_s=} {evict_after_s=}")
        if not 0 <= priority <= PRIORITIES:
            raise ValueError(f"a priority is from 0 to {PRIORITIES}, not {priority}")
        state = self._writable()
        with state.changed:
            wanted = _start(state, start)
            if None not in state.readers:
                raise ReadersFull(f"{self.path} has {READERS} living readers, and no room for more; close or evict one")
            slot = state.readers.index(None)
            reader = Reader(state, slot, policy, name, wanted, sample, evict_after_s)
            reader.priority = priority
            state.readers[slot] = reader
            reader._clamp()
            return reader

    def seq_at(self, timestamp_ns: int) -> int:
        state = self._shared()
        return next((record.seq for record in state.records if record.timestamp_ns >= timestamp_ns), state.head)

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
                ReaderStats(
                    r.slot,
                    r.name,
                    os.getpid(),
                    r.hold,
                    r.cursor,
                    r.lag_frames,
                    r.overruns,
                    r.missed,
                    r.priority,
                    r.most_lag,
                )
                for r in state.readers
                if r is not None and not r._evicted
            ),
            state.credit_bytes,
            state.most_lag,
            state.blocked,
            state.blocked_s,
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


def _start(state: State, start: int | str) -> int:
    if isinstance(start, int) and not isinstance(start, bool) and 0 <= start < 1 << 62:
        return start
    if start in ("now", "oldest"):
        return state.head if start == "now" else state.oldest
    raise ValueError(f"start must be 'now', 'oldest' or a sequence, not {start!r}")
