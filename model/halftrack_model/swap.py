"""The words of a swap: what a plan orders, what the leader records, what a member's host answers.

The transition table that moves a record along is the agent's (`halftrack_agent.swap`); here is only what travels: in plans,
between the two agents, and in reports. See docs/adr/0005 for the protocol.
"""

from dataclasses import dataclass
from enum import Enum

from halftrack_model.canonical import added
from halftrack_model.release import SwapStrategy
from halftrack_model.workload import Member


class Phase(Enum):
    """Where a leg of a swap stands (DESIGN.md section 6). DONE and UNDONE end the whole swap."""

    PENDING = "pending"
    JOINING = "joining"
    SHADOWING = "shadowing"
    CAUGHT_UP = "caught-up"
    ARMED = "armed"
    CUT = "cut"
    DRAINING = "draining"
    GONE = "gone"
    ABORTING = "aborting"
    DONE = "done"
    UNDONE = "undone"

    @property
    def terminal(self) -> bool:
        """Nothing more will happen in this swap."""
        return self in (Phase.DONE, Phase.UNDONE)


@dataclass(frozen=True, slots=True)
class Seat:
    """One place of the pair: which host it is on, the blue that sits there and the green that shall."""

    host: str
    blue: Member
    green: Member
    blue_workload: str
    green_workload: str


@dataclass(frozen=True, slots=True)
class SwapSpec:
    """The order to take a pair from blue to green. `seats[0]` goes first and is on the leader's host, where the merge runs.

    `abort` asks for the way back; it never needs a reason to be safe. `one_way`: it is obeyed only until green's output counts.
    """

    swap_id: str
    graph: str
    vertex: str
    leader: str
    seats: tuple[Seat, ...]
    input_ring: str
    merged_ring: str
    strategy: SwapStrategy
    abort: bool
    one_way: bool = added(False)

    @property
    def blue(self) -> Member:
        """A blue member (any: both have the same release)."""
        return self.seats[0].blue

    @property
    def green(self) -> Member:
        """A green member (any)."""
        return self.seats[0].green

    @property
    def hosts(self) -> tuple[str, ...]:
        """Where the seats are, the leader's host first; one host when both are there."""
        return tuple(dict.fromkeys(seat.host for seat in self.seats))


@dataclass(frozen=True, slots=True)
class SwapRecord:
    """What the leader has decided so far; journaled before it takes effect, then told to the other host.

    `number` counts the leader's decisions: a host takes only larger ones, so redelivery and reordering are harmless.
    `leg` is the seat being replaced. `fence` is the first sequence that counts for `epoch`; -1 when none is agreed.
    """

    swap_id: str
    number: int
    leg: int
    phase: Phase
    epoch: int
    fence: int
    fence_moves: int
    since_ms: int  # boot-time clock of the leader when this phase began; meaningless elsewhere
    leg_since_ms: int
    green_deaths: int
    reason: str  # why it is being undone, or what it waits for
    diff: tuple[str, ...] = added(())  # of a verdict that failed on outputs: the first that differ, a line each
    head: int = added(-1)  # of the merged output when this phase began: with `since_ms`, its pace; -1 while unknown

    @property
    def green_in_force(self) -> bool:
        """Has green's output begun to count? (While ABORTING nobody can say from the record: the owner table knows.)"""
        return self.leg == 1 or self.phase in (Phase.CUT, Phase.DRAINING, Phase.GONE, Phase.DONE)


@dataclass(frozen=True, slots=True)
class SeatStatus:
    """What a member's host sees of its own seat, sent to the leader each time it changes."""

    host: str
    swap_id: str
    knows_swap: bool  # it has a plan with this swap, and every artifact that its seat needs
    number: int  # the last record it has journaled
    green: "GreenStatus"
    blue_running: bool
    usage: "SeatUsage | None" = added(None)
    blue_leaving: bool = added(False)  # it runs, but was told to stop


@dataclass(frozen=True, slots=True)
class GreenStatus:
    """Green's health as its own host sees it. `lag_frames` and `outputs` are -1 while unknown."""

    running: bool
    failed: str  # why it ended by its own fault; empty while it has not
    deaths: int  # times that a signal has killed it
    lag_frames: int
    outputs: int


@dataclass(frozen=True, slots=True)
class SeatUsage:
    """What the two members of a seat have used, as their host has measured it. CPU time is of the same `window_ms`, while green kept up.

    Memory is what they do not share: rings belong to whoever touched them first, and say nothing of either.
    """

    window_ms: int
    blue_cpu_ms: int
    green_cpu_ms: int
    blue_bytes: int
    green_bytes: int
