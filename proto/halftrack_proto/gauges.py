"""What hosts tell of their rings and of the processes that read them, and the rows in which an operator is shown it.

As in `messages`, plain values; shown to people, never a ground for a decision.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RingGauge:
    """A ring's counters at one moment. `lost` and `dropped` count since the ring was made, `missed` since each reader joined.

    `lost` are frames that the stream declares to be gone; `dropped` those that a writer had no room for.
    """

    name: str
    head: int
    tail: int
    slots: int
    lags: Mapping[str, int]
    lost: int = 0
    dropped: int = 0
    missed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FlowGauge:
    """What one process has counted of one of its inputs, by what became of it. `input` is empty where it has but one.

    `counts` hold what is not 0: `lost` (declared lost before it came here), `missed` (gone before this reader got to it), `late` and
    `duplicates` (dropped, since its turn was over), all in frames; `left_out` in times.
    """

    workload: str
    input: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TransferGauge:
    """An artifact on its way to a host. `all_bytes` are what travels, by `way`; `waits` says why nothing comes now."""

    digest: str
    done_bytes: int
    all_bytes: int
    bytes_per_s: int
    way: str  # whole, parcel, or the sibling that it comes from
    waits: str

    def __str__(self) -> str:
        """In a line, for people."""
        share = f"{100 * self.done_bytes // self.all_bytes} % of " if self.all_bytes else ""
        how = self.waits or f"{self.bytes_per_s} bytes a second"
        return f"{self.digest[:19]}…: {share}{self.all_bytes} bytes ({self.way or 'asking'}), {how}"


@dataclass(frozen=True, slots=True)
class RingRow:
    """A ring on a host, as of `age_ms` ago. `frames_per_1000_s` is -1 while unknown; `missed` holds the readers that have."""

    host: str
    ring: str
    head: int
    tail: int
    slots: int
    lags: Mapping[str, int]
    frames_per_1000_s: int
    age_ms: int
    lost: int = 0
    dropped: int = 0
    missed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FlowRow:
    """A process's count of an input, as its host has told it."""

    host: str
    workload: str
    input: str
    counts: Mapping[str, int]
