"""An agent: the real core in a loop that looks, advances and carries actions out one by one, and that may die between any two.

What a crash takes is exactly this object's memory. Each action takes its time, so the world moves on between a look and its deeds.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from halftrack_agent import core
from halftrack_agent import events as ev
from halftrack_agent.inbox import Trust
from halftrack_agent.state import AgentState
from halftrack_dataplane.frames import RingError
from halftrack_model.errors import HostFault
from halftrack_model.observed import Observed
from tests.sim import messages
from tests.sim.disk import Interrupted, Trouble

if TYPE_CHECKING:
    from tests.sim.host import SimHost

LOOK_MS = (60, 120)
HEARTBEAT_MS = 500
COSTS_MS: dict[type, tuple[int, int]] = {  # what carrying an action out takes; 0 for the others
    ev.JournalPlan: (1, 12),
    ev.JournalSwap: (1, 12),
    ev.ForgetSwap: (1, 12),
    ev.Start: (1, 15),
    ev.ProposeCut: (0, 10),
}
CONTROLLER = "controller"


class SimAgent:
    """The agent of one host. `life` counts its starts: what an earlier life had in hand is dropped."""

    def __init__(self, host: SimHost, trust: Trust, clock_ms: int) -> None:
        self.host, self.world, self.story = host, host.world, host.story
        self.name, self.trust = host.name, trust
        self._clock_offset = clock_ms
        self._rng = self.world.rng(f"agent {self.name}")
        self.life = 0
        self.alive = False
        self.crash_in = -1  # actions until it dies; -1: it does not
        self.restless_ms = 0  # when it last changed something here
        self._inbox: deque[ev.Event | None] = deque()  # None stands for a look
        self._hand: deque[ev.Action] = deque()
        self._step: tuple[AgentState, ev.Event]
        self._done: list[ev.Action] = []
        self._busy = False
        self._mute = False  # a session is told of what came over it, not of what a stick brought
        self._unanswered: list[ev.Event] = []

    # ---- life -------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start, from what the disk has."""
        self.life += 1
        self.alive, self._busy, self.crash_in = True, False, -1
        self._inbox.clear()
        self._unanswered.clear()
        self._hand.clear()
        found = self.host.disk.recovered()
        self.world.watch.found(self, found)
        seed, now_ms = self._rng.randrange(1 << 30), self.clock_ms()
        self.state = core.recovered(self.trust, found.entries, seed, now_ms, found.floor)
        if self.state.plan is not None and not self.host.disk.full:
            self.host.disk.floor = max(self.host.disk.floor, self.state.plan.plan.revision)
        lost = ", the journal is damaged" if found.lost else ""
        self.story.tell(self.name, f"agent starts, life {self.life}, {len(found.entries)} journal entries{lost}")
        self.world.watch.booted(self)
        self._look_later(self.life)
        self._beat(self.life)

    def crash(self) -> None:
        """Die at once; come back after a while."""
        if not self.alive:
            return
        self.alive = False
        self.story.tell(self.name, f"agent is killed with {len(self._hand)} actions in hand")
        self.world.timeline.after(self._rng.randint(50, 1_500), self.boot)

    def reboot(self) -> None:
        """The whole host goes down and comes back; its clock begins again."""
        self.crash()
        self.host.reboot()
        self._clock_offset = -self.world.now_ms

    def clock_ms(self) -> int:
        """The host's boot-time clock; no two hosts agree on it."""
        return self.world.now_ms + self._clock_offset

    def observed(self) -> Observed:
        """As the core reports it."""
        return core.observed(self.state)

    # ---- loop -------------------------------------------------------------------------------------------------------

    def receive(self, source: str, message: object) -> None:
        """From the network."""
        if not self.alive:
            return
        match message:
            case messages.Push(sealed):
                arrived = ev.PlanArrived(sealed)
                self._unanswered = [*self._unanswered, arrived] if source != CONTROLLER else self._unanswered
                self._take(arrived)
            case messages.Told(record):
                self._take(ev.PeerTold(source, record))
            case messages.Answered(status):
                self._take(ev.PeerAnswered(source, status))

    def _look_later(self, life: int) -> None:
        def look() -> None:
            if self.alive and self.life == life:
                self._take(None)
                self._look_later(life)

        self.world.timeline.after(self._rng.randint(*LOOK_MS), look)

    def _beat(self, life: int) -> None:
        if self.alive and self.life == life:
            self.world.net.send(self.name, CONTROLLER, messages.Heartbeat(self.observed()))
            self.world.timeline.after(HEARTBEAT_MS, lambda: self._beat(life))

    def _take(self, event: ev.Event | None) -> None:
        if event is None and None in self._inbox:
            return
        self._inbox.append(event)
        self._pump()

    def _pump(self) -> None:
        while not self._busy and self._inbox:
            event = self._inbox.popleft() or ev.Looked(self.host.view(self.clock_ms()))
            self._mute = any(event is other for other in self._unanswered)
            before = self.state
            self.state, actions = core.advance(self.state, event, self.clock_ms())
            self.world.watch.advanced(self, before, event, actions)
            self._step, self._done = (before, event), []
            self._hand.extend(actions)
            self._work(self.life)

    def _work(self, life: int) -> None:
        """Carry actions out until one takes time."""
        self._busy = False
        if not self.alive or self.life != life:
            return
        while self._hand:
            if self.crash_in == 0:
                self.crash()
                return
            self.crash_in -= self.crash_in > 0
            action = self._hand.popleft()
            try:
                self._do(action)
            except HostFault:
                self._forget_step()
                return
            except Interrupted as error:
                self._interrupted(error.trouble)
                return
            self._done.append(action)
            cost = COSTS_MS.get(type(action))
            if cost is not None and (pause_ms := self._rng.randint(*cost)):
                self._busy = True
                self.world.timeline.after(pause_ms, lambda: self._resume(life))
                return

    def _forget_step(self) -> None:
        """As the loop does it. A plan comes again: the controller sees that it is not in force."""
        (before, event), standing = self._step, ev.Looked(self.host.view(self.clock_ms()), still=True)
        self.story.tell(self.name, "the disk is full: the step is forgotten")
        self.state = core.kept(before, self._done)
        self._hand.clear()
        if isinstance(event, ev.Looked):
            self._inbox.appendleft(standing)

    def _interrupted(self, trouble: Trouble) -> None:
        """The journal's write did not return: this program is no more, or its whole machine."""
        self.story.tell(self.name, f"a write to the journal does not return: {trouble.value}")
        if trouble is Trouble.POWER:
            self.world.power_cut(self)
        else:
            self.crash()

    def _resume(self, life: int) -> None:
        if self.alive and self.life == life:
            self._work(life)
            self._pump()

    # ---- deeds ------------------------------------------------------------------------------------------------------

    def _do(self, action: ev.Action) -> None:
        if isinstance(action, ev.JournalPlan | ev.JournalSwap | ev.ForgetSwap):
            self.host.disk.append(action)
        if not isinstance(action, ev.AnswerPeer | ev.TellPeer | ev.AckPlan):
            self.restless_ms = self.world.now_ms
            self.story.tell(self.name, _said(action))
        self.world.watch.acting(self, action)
        net = self.world.net
        match action:
            case ev.JournalPlan() | ev.JournalSwap() | ev.ForgetSwap():
                self.world.watch.journaled(self, action)
            case ev.AckPlan(revision):
                self.host.disk.floor = max(self.host.disk.floor, revision)
                net.send(self.name, CONTROLLER, messages.Accepted(revision))
            case ev.NackPlan(revision, reason, message) if not self._mute:
                net.send(self.name, CONTROLLER, messages.Declined(revision, reason, message))
            case ev.TellPeer(host, record):
                net.send(self.name, host, messages.Told(record))
            case ev.AnswerPeer(host, status):
                net.send(self.name, host, messages.Answered(status))
            case ev.Fetch(digest):
                self.world.fetch(self.host, digest)
            case ev.ProposeCut() | ev.WithdrawCut():
                self._write_table(action)
            case _:
                self._drive(action)

    def _drive(self, action: ev.Action) -> None:
        match action:
            case ev.CreateRing(ring):
                self.host.create_ring(ring)
            case ev.RemoveRing(name):
                self.host.remove_ring(name)
            case ev.Start(workload):
                self.host.start(workload)
            case ev.Reorder(workload):
                self.host.reorder(workload)
            case ev.Kill(workload):
                self.host.kill(workload)
            case ev.Stop(workload):
                self.host.stop(workload)
            case ev.Forget(workload):
                self.host.forget(workload)

    def _write_table(self, action: ev.ProposeCut | ev.WithdrawCut) -> None:
        ring = self.host.rings.get(action.ring)
        if ring is None:
            return
        try:
            if isinstance(action, ev.ProposeCut):
                ring.owners.propose(action.epoch, action.generation, action.fence, action.label)
            else:
                ring.owners.withdraw(action.epoch)
        except RingError as error:
            self.story.tell(self.name, f"the owner table refuses: {error}")


def _said(action: ev.Action) -> str:
    match action:
        case ev.JournalPlan():
            return "journals a plan"
        case ev.JournalSwap(record):
            told = f"journals swap record {record.number}: seat {record.leg} {record.phase.value}"
            told += f", epoch {record.epoch}, fence {record.fence}" if record.fence >= 0 else ""
            return f"{told} ({record.reason})" if record.reason else told
        case ev.Emit(happened, subject, detail):
            return f"reports {happened.value} of {subject} {detail}".rstrip()
        case ev.Start(workload):
            return f"starts {workload.name}"
        case ev.CreateRing(ring):
            return f"creates ring {ring.name}"
        case _:
            return str(action)
