"""The words of a ring: frames, statistics, cuts and errors, shared by the fast ring and the reference ring.

Owns no memory and does no I/O; both rings and everything that talks about them import it, and it imports neither.
"""

# ruff: noqa: N818 - these errors say what was met, and read better without a suffix
import hashlib
from dataclasses import dataclass, field

from halftrack_dataplane.frame import Batch, Frame

__all__ = [
    "Batch", "Cut", "Evicted", "Frame", "FrameCorrupt", "FrameTooLarge", "NotRetained", "ReaderStats", "ReadersFull", "RingDamaged", "RingError",
    "RingFull", "RingMissing", "RingStats", "RingVersion", "StaleCut", "WriterBusy", "WrongLength", "reader_name",
]  # fmt: skip


NAME_BYTES = 63  # of a reader's name are kept in a ring's header (`HT_NAME`, with its zero)


def reader_name(who: str) -> str:
    """The name under which `who` reads a ring, and by which others find it among the readers again.

    Cut to what a ring keeps, the names of two releases of one member could be the same, and neither would be found by its own.
    """
    text = who.encode()
    if len(text) <= NAME_BYTES:
        return who
    mark = "~" + hashlib.sha256(text).hexdigest()[:12]
    return text[: NAME_BYTES - len(mark)].decode("utf-8", "ignore") + mark


@dataclass(frozen=True, slots=True)
class ReaderStats:
    """One attached reader, as the ring's header has it."""

    slot: int
    name: str
    pid: int
    policy: str
    cursor: int
    lag_frames: int
    overruns: int
    missed: int = 0
    priority: int = 0
    most_lag_frames: int = 0  # when a writer needed room


@dataclass(frozen=True, slots=True)
class Cut:
    """One row of the owner table: from where on the output of `epoch` counts.

    `fence` None means "at the next sequence"; `applied_at` None means that the merge has not applied it yet.
    """

    epoch: int
    generation: int
    fence: int | None
    applied_at: int | None
    label: str


@dataclass(frozen=True, slots=True)
class RingStats:
    """A ring at one moment. `dropped` and `gap_frames` count sequences, `evicted` counts readers; `writer_pid` 0: none.

    `credit_bytes` fit before a lossless reader is in the way. Over the ring's life: `most_lag_frames` of any lossless reader when room was
    needed, how often a writer was `blocked` by one and for how long, how many writers died as such.
    """

    head: int
    tail: int
    capacity_bytes: int
    used_bytes: int
    slots: int
    dropped: int
    gap_frames: int
    evicted: int
    writer_pid: int
    readers: tuple[ReaderStats, ...]
    credit_bytes: int = 0
    most_lag_frames: int = 0
    blocked: int = 0
    blocked_s: float = field(default=0.0, compare=False)
    writers_died: int = 0


class RingError(Exception):
    """Something about a ring; used itself when an object is closed or called out of turn."""


class RingMissing(RingError):
    """There is no ring at that path."""


class RingDamaged(RingError):
    """What lies at that path is no ring, or no longer one."""


class RingVersion(RingError):
    """The ring was laid out by another version of Halftrack."""


class WriterBusy(RingError):
    """A living process is this ring's writer."""


class ReadersFull(RingError):
    """All reader slots are held by living processes."""


class RingFull(RingError):
    """No room, and the policy or the timeout says not to wait (any longer)."""

    written = 0  # frames of a batch that were published before


class FrameTooLarge(RingError):
    """A frame may be at most half of the ring's capacity."""


class WrongLength(RingError):
    """In a ring whose frames all have one length, this one has another."""


class FrameCorrupt(RingError):
    """A frame's bytes are not those that its checksum was made of."""


class NotRetained(RingError):
    """Some of the wanted range was reclaimed, or is not published yet."""


class Evicted(RingError):
    """This reader was evicted: frames after its cursor may be gone, and it must join again to go on."""


class StaleCut(RingError):
    """The epoch is not newer than the owner table, or its cut was withdrawn, superseded or applied elsewhere."""
