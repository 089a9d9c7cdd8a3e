"""What a host is seen to be: instances, rings and swaps, with a digest so that nothing known is sent twice."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from halftrack_model import canonical
from halftrack_model.ids import digest_of
from halftrack_model.swap import SwapRecord


class Health(Enum):
    """Three values, never two: what we have not heard lately is unknown, not bad (O1)."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class InstanceObserved:
    """A workload's instance on a host. `phase` is one of the agent's lifecycle phases, `detail` says why when it is not running.

    `hangs` are the times that it did not move, and was killed; each is one of the restarts as well. `started_ms` is when the life that runs now
    began, by the host's boot-time clock; 0 while none does.
    """

    workload: str
    digest: str
    phase: str
    health: Health
    restarts: int
    detail: str
    hangs: int = canonical.added(0)
    started_ms: int = canonical.added(0)


@dataclass(frozen=True, slots=True)
class Owner:
    """Which generation of its inputs the inlet that writes `ring` passes, and `first`, the number from which on it counts.

    Read from the ring's own header, and never taken back. Only of rings whose inlets have had more than one generation.
    """

    ring: str
    generation: int
    first: int


@dataclass(frozen=True, slots=True)
class SwapWaits:
    """A swap that waits for evidence, and for what, in prose without its end."""

    swap_id: str
    text: str


@dataclass(frozen=True, slots=True)
class AgentSeen:
    """The agent itself: its version, the artifact it was brought as (empty: as installed), and whether it is still on trial.

    `failed` are the artifacts that were given up here, with the reason.
    """

    version: str
    artifact: str
    on_trial: bool
    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Observed:
    """A host as its agent sees it. Nothing in here changes while nothing happens, so the digest of a calm host is constant."""

    host: str
    revision: int  # of the plan in force; 0 when there is none
    instances: tuple[InstanceObserved, ...]
    swaps: tuple[SwapRecord, ...]
    problems: tuple[str, ...]  # what the host cannot do now: journal full, no cgroup, clock behind its floor
    owners: tuple[Owner, ...] = canonical.added(())
    waits: tuple[SwapWaits, ...] = canonical.added(())
    agent: AgentSeen | None = canonical.added(None)
    _digest: str = canonical.remembered()

    def digest(self) -> str:
        """The content address that heartbeats carry. Worked out once: a calm host is the same value for hours."""
        if not self._digest:
            object.__setattr__(self, "_digest", digest_of(canonical.encode(self)))
        return self._digest
