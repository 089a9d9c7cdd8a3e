"""What the fast ring keeps in its file, as plain data: records, reader slots, the owner table. For the reference ring.

Owns the rules of the owner table and the waiting; never decides about room or cursors, which reference.py does.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from halftrack_dataplane.frames import Cut, Frame, RingError, StaleCut

if TYPE_CHECKING:
    from halftrack_dataplane.reference_reader import Reader
    from halftrack_dataplane.reference_writer import Writer

READERS = 64
CUTS = 64
CUT_LABEL_BYTES = 87


def check_label(label: str, limit: int) -> None:
    """Labels carry meaning, so they are refused rather than cut to fit."""
    if len(label.encode()) > limit:
        raise ValueError(f"a label may have at most {limit} bytes, this one has {len(label.encode())}: {label!r}")


ALIGN = 64
PARTS, RUN_BYTES = 64, 65536


def rounded(value: int, unit: int) -> int:
    """Up to a multiple of `unit`."""
    return -(-value // unit) * unit


@dataclass(slots=True)
class Record:
    """A run of frames of one length, epoch and time, or a gap, with the absolute offset that it has in the fast ring."""

    seq: int
    offset: int
    frames: list[bytes]
    epoch: int
    timestamp_ns: int
    gap: int
    before: bool = False  # a gap of sequences before the stream's first; nothing was lost

    @property
    def end(self) -> int:
        """The sequence after it."""
        return self.seq + (self.gap or len(self.frames))

    @property
    def length(self) -> int:
        """Of each frame, in bytes."""
        return len(self.frames[0]) if self.frames else 0

    @property
    def end_offset(self) -> int:
        """Of the first byte behind it."""
        return self.offset + self.length * len(self.frames)


@dataclass(slots=True)
class _Row:
    epoch: int
    generation: int
    fence: int | None
    label: str
    state: Literal["proposed", "applied", "withdrawn"] = "proposed"
    applied_at: int | None = None


class OwnerTable:
    """Which epoch's output counts from where: rows go from proposed to applied or withdrawn, once."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []

    def propose(self, epoch: int, generation: int, fence: int | None, label: str) -> None:
        highest = max((row.epoch for row in self._rows), default=-1)
        if epoch <= highest:
            raise StaleCut(f"epoch {epoch} is not above {highest}, the highest in the owner table")
        check_label(label, CUT_LABEL_BYTES)
        if len(self._rows) == CUTS:
            settled = [row for row in self._rows if row.state != "proposed" and row.epoch != highest]
            if not settled:
                raise RingError(f"all {CUTS} rows of the owner table wait to be applied; withdraw some first")
            self._rows.remove(min(settled, key=lambda row: row.epoch))
        self._rows.append(_Row(epoch, generation, fence, label))

    def cuts(self) -> tuple[Cut, ...]:
        shown = [row for row in self._rows if row.state != "withdrawn"]
        return tuple(Cut(row.epoch, row.generation, row.fence, row.applied_at, row.label) for row in shown)

    def apply(self, epoch: int, at_seq: int) -> None:
        if any(row.state == "applied" and row.epoch > epoch for row in self._rows):
            raise StaleCut(f"epoch {epoch} cannot be applied: a later one is in force already")
        row = self._find(epoch)
        if row is None or row.state == "withdrawn":
            raise StaleCut(f"epoch {epoch} was never proposed, or was withdrawn")
        if row.state == "applied" and row.applied_at != at_seq:
            raise StaleCut(f"epoch {epoch} was applied at {row.applied_at} already, so not at {at_seq}")
        row.state, row.applied_at = "applied", at_seq

    def withdraw(self, epoch: int) -> bool:
        row = self._find(epoch)
        if row is None or row.state == "applied":
            return False
        row.state = "withdrawn"
        return True

    def _find(self, epoch: int) -> _Row | None:
        return next((row for row in self._rows if row.epoch == epoch), None)


@dataclass(slots=True)
class State:
    """One ring; all of it is guarded by `changed`."""

    capacity_bytes: int
    slots: int
    label: str
    generation: int
    base_seq: int
    head: int
    frame_bytes: int = 0
    schema: str = ""
    checked: bool = False
    shared: bool = False
    retain_ns: int = 0
    data_head: int = 0
    dropped: int = 0
    gap_frames: int = 0
    evicted: int = 0
    writer: "Writer | None" = None  # in a shared ring the one whose turn it is
    waits_for_room: bool = False
    most_lag: int = 0
    blocked: int = 0
    blocked_s: float = 0.0
    records: deque[Record] = field(default_factory=deque)
    readers: list["Reader | None"] = field(default_factory=lambda: [None] * READERS)
    owners: OwnerTable = field(default_factory=OwnerTable)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def tail(self) -> int:
        """The oldest retained sequence."""
        return self.records[0].seq if self.records else self.head

    def run_frames(self, length: int) -> int:
        """How many frames of `length` a record may hold."""
        return max(1, min(self.capacity_bytes // PARTS, RUN_BYTES) // length) if length else 1

    @property
    def oldest(self) -> int:
        """Where a stream begins: behind the record, if there is one, that says where it does."""
        return self.records[0].end if self.records and self.records[0].before else self.tail

    @property
    def gate(self) -> int | None:
        """The least cursor of all lossless readers; None if there are none."""
        return min((r.cursor for r in self.readers if r is not None and r._gates()), default=None)

    @property
    def credit_bytes(self) -> int:
        """What fits before a lossless reader is in the way; a record goes as a whole."""
        record = None if self.gate is None else self.find(self.gate)
        return self.capacity_bytes if record is None else self.capacity_bytes - (self.data_head - record.offset)

    def note_lags(self) -> None:
        """The high-water marks, when room is needed."""
        for reader in self.readers:
            if reader is not None and reader._gates():
                reader.most_lag = max(reader.most_lag, self.head - reader.cursor)
                self.most_lag = max(self.most_lag, reader.most_lag)

    def expire(self, before: int) -> None:
        """Retention by time: what is older goes, unless a lossless reader needs it."""
        gate = self.head if self.gate is None else self.gate
        while self.records and self.records[0].timestamp_ns < before and self.records[0].end <= gate:
            self.records.popleft()

    def find(self, seq: int) -> Record | None:
        """The retained record that covers `seq`."""
        return next((record for record in self.records if record.seq <= seq < record.end), None)

    def wait(self, ready: Callable[[], bool], timeout_s: float | None) -> bool:
        """Sleeps, holding `changed`, until it is ready or time is up; in slices, so that Ctrl-C works."""
        deadline = None if timeout_s is None else time.monotonic() + max(timeout_s, 0)
        while not ready():
            left = 0.1 if deadline is None else min(0.1, deadline - time.monotonic())
            if left <= 0:
                return False
            self.changed.wait(left)
        return True


class Closing:
    """`with` for rings, writers and readers."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def frame_of(record: Record, seq: int) -> Frame:
    """What a reader at `seq` is given of a record that covers it."""
    if record.gap:
        return Frame(seq, record.epoch, record.timestamp_ns, b"", record.end - seq)
    return Frame(seq, record.epoch, record.timestamp_ns, record.frames[seq - record.seq])


def retire(view: memoryview) -> None:
    """Ends a view that was handed out."""
    try:
        view.release()
    except BufferError:
        return  # arrays made from it keep it alive
