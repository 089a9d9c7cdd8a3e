"""The one loop: what has happened goes into `core.advance`, and what comes out is carried out, in order.

Owns when to look. Decides nothing: it does not know what a plan or a swap is for, only that something is going on. A step whose
journal entry could not be written is forgotten, as if it had not been thought of; the next look thinks of it again. Until then the
host is looked at once more, for all that needs no journal: a full disk stops decisions, never workloads.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from halftrack_agent import clock, core, seats, together
from halftrack_agent.cutoff import IN_STEP, ContactSeen
from halftrack_agent.events import Action, CreateRing, Event, Looked, PlanArrived
from halftrack_agent.hands import QUIET, Hands
from halftrack_agent.inbox import TrustedPlan
from halftrack_agent.outbox import Outbox
from halftrack_agent.peers import Heard
from halftrack_agent.rings import Rings
from halftrack_agent.sight import Sight
from halftrack_agent.state import AgentState
from halftrack_model.errors import HostFault
from halftrack_model.observed import AgentSeen, Observed
from halftrack_model.seals import Sealed

log = logging.getLogger("halftrack.agent")

QUICK_S = 0.02  # while something changes: a fence is a few dozen milliseconds wide at a hundred outputs a second
OPEN_S = 0.1  # while a swap is open and nothing moves: its clocks are hundreds of milliseconds wide
CALM_S = 0.2  # while a stream runs here, whose counters nobody announces. Deaths, plans and other agents' words do not wait for it
# Else once a second: what probes find comes by itself, and what is left are clocks of seconds.
LIVELY_MS = 2_000  # after a change, more of them are likely
HOUSEKEEPING_MS = 900  # each of the looks that are a second apart
WORDS_MAX = 256  # from other agents between two steps; said again anyway
FAULT_SHOWN_MS = 10_000  # a step that still cannot be written comes back much sooner
RETRY_PLAN_MS = 1_000  # a plan that the disk had no room for


class Loop:
    """Steps of one agent. `plan_in_force` is called when the core has taken another plan, before anything of it is done; `turned` after each step."""

    def __init__(
        self,
        state: AgentState,
        sight: Sight,
        hands: Hands,
        rings: Rings,
        outbox: Outbox,
        plan_in_force: Callable[[TrustedPlan], None],
        stirred: Callable[[], None],
        problems: Callable[[], tuple[str, ...]],
        contact: Callable[[int], ContactSeen] = lambda _: IN_STEP,
        turned: Callable[[], None] = lambda: None,
        agent: Callable[[], AgentSeen | None] = lambda: None,
    ) -> None:
        self._agent = agent
        self._contact = contact
        self._state, self._turned = state, turned
        self._sight, self._hands, self._rings, self._outbox = sight, hands, rings, outbox
        self._plan_in_force, self._stirred, self._problems = plan_in_force, stirred, problems
        self._woken = asyncio.Event()
        self._plan: Sealed | None = None
        self._plan_not_before_ms = 0
        self._words: deque[Heard] = deque(maxlen=WORDS_MAX)
        self._changed_ms = clock.boot_ms()
        self._kept_house_ms = 0
        self._fault, self._fault_ms = "", 0
        self._observed = core.observed(state)
        self._observed_state: AgentState | None = None  # of what `_observed` was made
        self._observed_with: tuple[tuple[str, ...], AgentSeen | None] = (), None

    @property
    def state(self) -> AgentState:
        """What the core remembers now."""
        return self._state

    def wake(self) -> None:
        """Look at once."""
        self._woken.set()

    def plan_came(self, sealed: Sealed) -> None:
        """Bytes that claim to be a plan; only the newest matter."""
        self._plan, self._plan_not_before_ms = sealed, 0
        self.wake()

    def heard(self, word: Heard) -> None:
        """A word from another agent."""
        self._words.append(word)
        self.wake()

    def observed(self) -> Observed:
        """The host as the controller shall know it."""
        faults = (self._fault,) if self._fault else ()
        problems, agent = (*faults, *self._hands.problems, *self._problems()), self._agent()
        if self._state is self._observed_state and (problems, agent) == self._observed_with:
            return self._observed  # asked for several times a second, and mostly nothing has been looked at since
        seen = core.observed(self._state, problems, agent)
        self._observed_state, self._observed_with = self._state, (problems, agent)
        if seen != self._observed:  # else the one whose digest is known
            self._observed = seen
        return self._observed

    async def run(self) -> None:
        """Steps, for ever; cancel it to stop. Whatever is under way then is found again by the next agent."""
        if self._state.plan is not None:
            self._plan_in_force(self._state.plan)
        loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            self.step()
            self._turned()
            timer = loop.call_at(self._next_s(loop.time()), self._woken.set)
            try:
                await self._woken.wait()
            finally:
                timer.cancel()

    def step(self) -> None:
        """Everything that has come, then one look."""
        now_ms = clock.boot_ms()
        if self._plan is not None and now_ms >= self._plan_not_before_ms:
            self._take_plan(self._plan)
        while self._words:
            self._advance(self._words.popleft())
        held = 0 if self._state.plan is None else self._state.plan.plan.revision
        view = self._sight.look(seats.members_measured(self._state), self._contact(held))
        if self._advance(Looked(view)) is not None:
            self._advance(Looked(view, still=True))
        if now_ms - self._kept_house_ms >= HOUSEKEEPING_MS:
            self._kept_house_ms = now_ms
            self._keep_house(now_ms)

    def _take_plan(self, sealed: Sealed) -> None:
        before = self._state.plan
        error = self._advance(PlanArrived(sealed))
        if error is None:
            self._plan = None
        else:  # kept: the disk may have room soon, and the controller should not have to send it again
            if self._plan_not_before_ms == 0:
                self._hands.carry_out(core.refusal_of(error))
            self._plan_not_before_ms = clock.boot_ms() + RETRY_PLAN_MS
        if self._state.plan is not None and self._state.plan is not before:
            self._hands.clear(self._state.plan.artifacts)
            self._plan_in_force(self._state.plan)

    def _advance(self, event: Event) -> HostFault | None:
        """One step of the core; its state counts only when all that had to be written was. Returns what stood in the way."""
        state, actions = core.advance(self._state, event, clock.boot_ms())
        done: list[Action] = []
        try:
            for action in actions:
                self._hands.carry_out(action)
                done.append(action)
        except HostFault as error:
            self._state = core.kept(self._state, done)
            text = f"journal: {error.message}"
            if text != self._fault:
                log.error("%s", text)
            self._fault, self._fault_ms = text, clock.boot_ms()
            return error
        self._state = state
        if any(not isinstance(action, (*QUIET, CreateRing)) for action in actions):
            self._changed_ms = clock.boot_ms()
            self._stirred()
        return None

    def _keep_house(self, now_ms: int) -> None:
        if now_ms - self._fault_ms >= FAULT_SHOWN_MS:
            self._fault = ""
        self._rings.rescan()
        self._rings.reap()
        self._outbox.flush()
        self._hands.keep_house()
        for emit in self._sight.samples(now_ms):
            self._hands.carry_out(emit)
            self._stirred()

    @property
    def calm(self) -> bool:
        """Is nothing under way: no swap open, and nothing changed lately?"""
        return clock.boot_ms() - self._changed_ms >= LIVELY_MS and not self._fault and not self._is_open()

    def _next_s(self, now_s: float) -> float:
        """When to look again, by the event loop's clock."""
        if self._fault:
            return now_s + CALM_S
        if clock.boot_ms() - self._changed_ms < LIVELY_MS:
            return now_s + QUICK_S
        if self._is_open():
            return now_s + OPEN_S
        plan = self._state.plan
        return now_s + CALM_S if plan is not None and plan.plan.rings else together.next_second(now_s)

    def _is_open(self) -> bool:
        plan, records = self._state.plan, self._state.swaps
        return plan is not None and any(
            spec.swap_id not in records or not records[spec.swap_id].phase.terminal for spec in plan.plan.swaps
        )
