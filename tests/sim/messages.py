"""What travels between the controller and the hosts in the simulation, by the session's and the agents' own words."""

from dataclasses import dataclass

from halftrack_model.observed import Observed
from halftrack_model.seals import Sealed
from halftrack_model.swap import SeatStatus, SwapRecord


@dataclass(frozen=True, slots=True)
class Push:
    """Controller to host: a plan."""

    sealed: Sealed


@dataclass(frozen=True, slots=True)
class Accepted:
    """Host to controller."""

    revision: int


@dataclass(frozen=True, slots=True)
class Declined:
    """Host to controller. `revision` 0: whatever was sent."""

    revision: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Host to controller: what it holds and how it stands."""

    observed: Observed


@dataclass(frozen=True, slots=True)
class Told:
    """Leader to follower."""

    record: SwapRecord


@dataclass(frozen=True, slots=True)
class Answered:
    """Follower to leader."""

    status: SeatStatus
