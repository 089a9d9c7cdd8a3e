"""What an agent's core remembers between two events. Pure data; the core and the seats of a swap read it and make the next one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from halftrack_agent.hanging import Watch
from halftrack_agent.health import Verdict
from halftrack_agent.inbox import Trust, TrustedPlan
from halftrack_agent.reconcile import Instance
from halftrack_agent.usage import Window
from halftrack_model.observed import Owner
from halftrack_model.swap import SeatStatus, SwapRecord, SwapSpec

FRESH_MS = 750  # three tellings may be lost before a host counts as silent
TELL_EVERY_MS = 200  # a level is told again this often, however little changed: messages may be lost
NEWS_EVERY_MS = 40  # and this often when something has changed that the other host acts upon


@dataclass(frozen=True)
class Heard:
    """The other host's last word on a swap, and how long it was silent in this leg so far.

    `at_ms` is when a word came that shows it hears us: one that acknowledges our newest record, or more than its last one did.
    Words that go on without that are from a host that is deaf to us, and nothing can be agreed with it: it counts as silent.
    """

    status: SeatStatus | None
    at_ms: int
    silent_ms: int


NEVER_HEARD = Heard(None, -FRESH_MS, 0)


@dataclass(frozen=True)
class SeatNews:
    """Of a seat's status, what its leader acts upon: all but how far a green is that keeps up, or does not."""

    status: SeatStatus
    joined: bool
    close: bool


@dataclass(frozen=True)
class AgentState:
    """All that the core remembers. Journaled parts are `plan` and `swaps`; the rest is seen again after a restart."""

    trust: Trust
    seed: int
    plan: TrustedPlan | None
    swaps: Mapping[str, SwapRecord]
    instances: Mapping[str, Instance]
    verdicts: Mapping[str, Verdict]  # on each of `instances`
    heard: Mapping[str, Heard]
    told_ms: Mapping[str, int]
    looked_ms: int
    floor: int  # no plan below this revision is obeyed, should the journal know of none
    windows: Mapping[str, Mapping[str, Window]] = field(default_factory=dict)  # of swaps whose members are measured
    waits: Mapping[str, str] = field(default_factory=dict)  # of swaps that we lead: the evidence that is still to come
    owners: tuple[Owner, ...] = ()
    watches: Mapping[str, Watch] = field(default_factory=dict)  # of running data-plane processes
    held_back: Mapping[str, str] = field(
        default_factory=dict
    )  # workloads that the plan has, and that shall not run now: why
    told_words: Mapping[str, SeatNews] = field(default_factory=dict)  # of swaps that we follow
    began_ms: Mapping[str, int] = field(default_factory=dict)  # when the lives began that others compare theirs with

    @property
    def orders(self) -> tuple[SwapSpec, ...]:
        """The swaps that the plan in force orders."""
        return () if self.plan is None else self.plan.plan.swaps

    def order(self, swap_id: str) -> SwapSpec | None:
        """The order of that swap, if the plan in force has it."""
        return next((spec for spec in self.orders if spec.swap_id == swap_id), None)
