"""What happens to an agent, and what it may do about it: the whole vocabulary between the pure core and the daemon's loop.

The loop turns the world into `Event`s, calls `core.advance`, and carries the `Action`s out in the order given: an action is
finished (a journal entry: on disk) before the next one begins. The core never learns how; the loop never decides why.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from halftrack_agent.cutoff import IN_STEP, ContactSeen
from halftrack_model.report import Happened
from halftrack_model.seals import Sealed
from halftrack_model.swap import SeatStatus, SwapRecord
from halftrack_model.workload import RingSpec, Workload

# ---------------------------------------------------------------------------------------------------------------- sight


@dataclass(frozen=True, slots=True)
class InstanceSeen:
    """An instance that the driver knows: running, or ended and not yet forgotten.

    `exit_code` is set when it ended by itself, `signal` when one killed it; both are None while it runs, and when it vanished
    with nobody left to tell how. `detail` is the last line of its log that explains an exit.
    """

    workload: str
    digest: str
    running: bool
    exit_code: int | None
    signal: int | None
    started_ms: int  # boot-time clock
    detail: str
    leaving: bool = False  # it runs, but was told to stop, by this agent or by one before it


@dataclass(frozen=True, slots=True)
class CutSeen:
    """A row of the owner table in a merged ring's header."""

    epoch: int
    generation: int
    fence: int | None
    applied_at: int | None


@dataclass(frozen=True, slots=True)
class RingSeen:
    """A ring's counters. `lags` has one row for each reader, by the name under which it reads (`frames.reader_name` of its workload's)."""

    name: str
    head: int
    tail: int
    slots: int
    lags: Mapping[str, int]
    cuts: tuple[CutSeen, ...]


@dataclass(frozen=True, slots=True)
class ShadowSeen:
    """What the merge counted while it compared a shadowing ring with what it passed."""

    equal: int
    different: int


@dataclass(frozen=True, slots=True)
class DifferenceSeen:
    """An output of green's that may not pass beside blue's, and why, in words."""

    seq: int
    text: str


@dataclass(frozen=True, slots=True)
class JudgedSeen:
    """What the judge that runs now has found of a green, by the generation of its ring. Latencies are of `timed` outputs.

    Of those that are `different` green declares `lost` ones lost; `unbroken` were compared since the last of them.
    """

    generation: int
    compared: int
    different: int
    timed: int
    blue_us_p99: int
    green_us_p99: int
    look_us: int
    first: tuple[DifferenceSeen, ...]
    lost: int = 0
    unbroken: int = 0


@dataclass(frozen=True, slots=True)
class UsageSeen:
    """What an instance has used of the processor since it began, and how much memory it holds that it shares with nobody."""

    at_ms: int  # boot-time clock
    cpu_ms: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class BeatSeen:
    """A process's sign of life: `mark` is another one with each beat, `beats` says when the next was promised (`dataplane.status`).

    `began_ms` is when the life began that it is of: the one that runs now, or one before.
    """

    mark: str
    beats: str
    began_ms: int  # boot-time clock


@dataclass(frozen=True, slots=True)
class ProbeSeen:
    """How a probe's looks at the life that runs now went: the last one, and how many in a row went like it. `good` None: it could not look.

    `text` says what was wrong, without numbers that change.
    """

    good: bool | None
    in_a_row: int
    text: str


@dataclass(frozen=True, slots=True)
class HostView:
    """One look at the host: all that decisions are made from. `shadows` and `judged` are keyed by ring name, `usages` by workload."""

    instances: Mapping[str, InstanceSeen]
    rings: Mapping[str, RingSeen]
    shadows: Mapping[str, ShadowSeen]
    artifacts: frozenset[str]  # digests that are complete and verified in the store
    judged: Mapping[str, JudgedSeen] = field(default_factory=dict)
    usages: Mapping[str, UsageSeen] = field(default_factory=dict)  # of those that are to be measured
    spools: frozenset[str] = frozenset()  # that have a folder here
    beats: Mapping[str, BeatSeen] = field(default_factory=dict)  # of data-plane processes, by workload
    probes: Mapping[str, Mapping[str, ProbeSeen]] = field(default_factory=dict)  # by workload and probe
    contact: ContactSeen = IN_STEP


# --------------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class PlanArrived:
    """Bytes that claim to be a plan, from the link or a bundle."""

    sealed: Sealed


@dataclass(frozen=True, slots=True)
class Looked:
    """The loop has looked at the host. `still`: nothing can be journaled now, so no swap takes a step; all else goes on."""

    view: HostView
    still: bool = False


@dataclass(frozen=True, slots=True)
class PeerTold:
    """The leader of a swap has told us its record."""

    from_host: str
    record: SwapRecord


@dataclass(frozen=True, slots=True)
class PeerAnswered:
    """A member's host has told us, the leader, how its seat stands."""

    from_host: str
    status: SeatStatus


Event = PlanArrived | Looked | PeerTold | PeerAnswered

# -------------------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class JournalPlan:
    """Make the accepted plan durable."""

    sealed: Sealed


@dataclass(frozen=True, slots=True)
class JournalSwap:
    """Make a swap's record durable: ours when we lead, the leader's when we follow."""

    record: SwapRecord


@dataclass(frozen=True, slots=True)
class ForgetSwap:
    """The plan no longer names this swap: its record may go."""

    swap_id: str


@dataclass(frozen=True, slots=True)
class AckPlan:
    """Tell the controller that the revision is durable here."""

    revision: int


@dataclass(frozen=True, slots=True)
class NackPlan:
    """Tell the controller that a plan was refused, and why. `revision` is 0 when it could not be read."""

    revision: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class CreateRing:
    """Make the ring; a no-op when it exists."""

    ring: RingSpec


@dataclass(frozen=True, slots=True)
class RemoveRing:
    """Take a ring away; a no-op when it is gone."""

    name: str


@dataclass(frozen=True, slots=True)
class RemoveSpool:
    """Take a spool's folder away, with all that is in it; a no-op when it is gone."""

    name: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """Bring an artifact into the store, resuming where an earlier transfer ended."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Start:
    """Start an instance. `input_ring` and the rest are in the workload; the driver knows the paths."""

    workload: Workload


@dataclass(frozen=True, slots=True)
class Reorder:
    """Give a running instance other orders, which it takes up without ending; said again until it is seen to have them."""

    workload: Workload


@dataclass(frozen=True, slots=True)
class Stop:
    """End an instance: ask (SIGTERM), then insist (SIGKILL) after the grace period."""

    workload: str
    reason: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End an instance that does not listen, at once (SIGKILL). What becomes of it is as of any death; `again`: it will be started again."""

    workload: str
    reason: str
    again: bool


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop what is left of an ended instance, so that its name is free."""

    workload: str


@dataclass(frozen=True, slots=True)
class ProposeCut:
    """Write a row into the owner table of a merged ring. `fence` None: from the next sequence on."""

    ring: str
    epoch: int
    generation: int
    fence: int | None
    label: str


@dataclass(frozen=True, slots=True)
class WithdrawCut:
    """Take a row back, if it has not been applied yet."""

    ring: str
    epoch: int


@dataclass(frozen=True, slots=True)
class TellPeer:
    """Send the record to a member's host; again until its status shows the number."""

    host: str
    record: SwapRecord


@dataclass(frozen=True, slots=True)
class AnswerPeer:
    """Send our seat's status to the leader."""

    host: str
    status: SeatStatus


@dataclass(frozen=True, slots=True)
class Emit:
    """Put an event into the durable outbox."""

    happened: Happened
    subject: str
    detail: str


Action = (
    JournalPlan
    | JournalSwap
    | ForgetSwap
    | AckPlan
    | NackPlan
    | CreateRing
    | RemoveRing
    | RemoveSpool
    | Fetch
    | Start
    | Reorder
    | Stop
    | Kill
    | Forget
    | ProposeCut
    | WithdrawCut
    | TellPeer
    | AnswerPeer
    | Emit
)
