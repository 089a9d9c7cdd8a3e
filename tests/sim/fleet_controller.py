"""The controller of a fleet of services: the one of `controller`, with sessions instead of datagrams, and turns when something has changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from halftrack_controller.snapshot import Refusal, Rollout, RolloutPhase, Seen
from halftrack_model.disconnect import Reconcile
from halftrack_model.graph import StreamGraph
from halftrack_model.observed import Observed
from tests.sim.controller import RETRY_DECLINED_MS, SimController
from tests.sim.invariants import Violation

if TYPE_CHECKING:
    from tests.sim.fleet import Fleet
    from tests.sim.service_host import ServiceHost

DEBOUNCE_MS = (50, 250)


class FleetController(SimController):
    """Silence is measured by its own ears: nobody has been silent for longer than it has listened."""

    world: Fleet  # type: ignore[assignment]

    def __init__(self, world: Fleet, hosts: list[str], graphs: list[StreamGraph]) -> None:
        super().__init__(world, hosts, graphs)  # type: ignore[arg-type]
        self.sessions: dict[str, int] = {}
        self.up_ms: dict[str, int] = {}  # each host's clock at its last word, and when that was
        self.listens_ms = 0
        self.replaced = 0
        self.recent: dict[
            str, None
        ] = {}  # rollouts that have moved since all was last at rest, or that have not ended since
        self._due = False
        self._seen: dict[str, Seen] = {}
        rules = {
            host: g.vertices[0].disconnect for g in graphs if g.vertices[0].disconnect for host in g.vertices[0].hosts
        }
        self._after_ms = {host: rule.lost_after_ms for host, rule in rules.items() if rule}
        self._clocked = {h for h, rule in rules.items() if rule and rule.reconcile is Reconcile.LONGEST_RUNNING}

    # ---- what is known --------------------------------------------------------------------------------------------------

    def seen_of(self, name: str) -> Seen:
        """As the service makes it of a session."""
        known, connected = self.known[name], name in self.sessions
        age_ms = 0 if connected else -1 if known.heard_ms < 0 else self.world.now_ms - known.heard_ms
        heard_ms = max(known.heard_ms, self.listens_ms)
        silent_ms = 0 if connected else self.world.now_ms - heard_ms
        up_ms = self.world.now_ms - self.up_ms[name] if connected and name in self.up_ms else -1
        return Seen(
            connected, age_ms, known.observed, age_ms, known.accepted, known.refusal, silent_ms=silent_ms, up_ms=up_ms
        )

    def seen_all(self) -> Mapping[str, Seen]:
        """Of all hosts; the very same rows, where nothing has changed."""
        away = self.hosts.keys() - self.sessions.keys()
        for name in self.stale | self._clocked | away:
            self._seen[name] = self.seen_of(name)
        self.stale.clear()
        return self._seen

    def _verdict(self, new: Rollout) -> None:
        self.recent[new.rollout_id] = None
        if new.phase is RolloutPhase.FAILED and not self.world.killed[new.graph]:
            raise Violation("O1", f"{new.rollout_id} has failed, and none of its programs was killed: {new.reason}")

    def rested(self) -> None:
        """What has ended by now is told of no more."""
        self.recent = {name: None for name in self.recent if not self.rollouts[name].phase.ended}

    # ---- turns ----------------------------------------------------------------------------------------------------------

    def stirred(self) -> None:
        """Something has changed."""
        self._changed = True
        if self._due or not self.alive:
            return
        self._due = True

        def turns() -> None:
            self._due = False
            before, plans = self._stand_ins(), self._plans
            self.turn()
            if plans is self._plans:
                return
            for original in sorted(self._stand_ins() - before):
                self.replaced += 1
                self._replaced(original)

        self.world.timeline.after(self.world.rand.randint(*DEBOUNCE_MS), turns)

    def _stand_ins(self) -> set[str]:
        return {each.replaces for held in self.held.values() for each in held.plan.holdings if each.replaces}

    def _replaced(self, name: str) -> None:
        """O1: only who was long silent is replaced, and by nobody who sees less than half of all."""
        silent_ms = self.world.now_ms - max(self.known[name].heard_ms, self.listens_ms)
        rule = self.world.rule_of(name)
        if name in self.sessions or silent_ms < rule.lost_after_ms:
            raise Violation(
                "O1", f"{name} is replaced after {silent_ms} ms of silence; {rule.lost_after_ms} make it lost"
            )
        if 2 * len(self.sessions) < len(self.hosts):
            raise Violation(
                "O1", f"{name} is replaced by a controller that sees {len(self.sessions)} of {len(self.hosts)}"
            )

    def _now_ms(self) -> int:
        return self.clock_ms()

    def clock_ms(self) -> int:
        """Its wall clock, whatever that says."""
        return self.world.real_ms() + self.world.wall_off_ms

    def _push(self, host: str) -> None:
        held, number = self.held.get(host), self.sessions.get(host)
        if held is not None and number and self.alive:
            self.known[host].sent = held.plan.revision
            self.world.push(self.world.hosts[host], number, held.plan.revision, held.sealed)

    # ---- sessions -------------------------------------------------------------------------------------------------------

    def welcome(self, host: ServiceHost, number: int) -> None:
        """A host is back, and says what it holds."""
        name, held = host.name, self.held.get(host.name)
        self.sessions[name] = number
        self.stale.add(name)
        self.known[name].heard_ms = self.world.now_ms
        self.up_ms[name] = host.booted_ms
        newest = held.plan.revision if held else 0
        host.connected(number, newest, self._now_ms())
        mine = host.state.plan.plan.revision if host.state.plan else 0
        if mine < newest:
            self._push(name)
        self.stirred()

    def hear(self, host: ServiceHost, number: int, word: tuple[object, ...]) -> None:
        """A word over a session that stands."""
        if not self.alive or self.sessions.get(host.name) != number:
            return
        known = self.known[host.name]
        self.stale.add(host.name)
        known.heard_ms = self.world.now_ms
        match word:
            case ("accepted", int(revision)):
                known.accepted, known.sent = max(known.accepted, revision), 0
            case ("declined", int(revision), str(reason), str(text)):
                if revision or known.sent:
                    known.refusal, known.sent = Refusal(revision or known.sent, reason, text), 0
                    self.world.timeline.after(RETRY_DECLINED_MS, lambda: self._offer_again(host.name))
            case ("observed", Observed() as observed):
                known.observed = observed
        self.stirred()

    def _offer_again(self, name: str) -> None:
        held, refusal = self.held.get(name), self.known[name].refusal
        if held is not None and refusal is not None and refusal.revision == held.plan.revision:
            self._push(name)

    def lost(self, host: ServiceHost, number: int | None = None) -> None:
        """A session is over, as far as this side can see."""
        if number is not None and self.sessions.get(host.name) != number:
            return
        if self.sessions.pop(host.name, None) is None:
            return
        line = self.world.lines[host.name]
        self.known[host.name].heard_ms = self.world.now_ms if self.world.up(host.name) else line.cut_ms
        self.stale.add(host.name)
        self.stirred()
        self.world.timeline.after(self._after_ms[host.name] + 5, self.stirred)

    def crash(self, back_in_ms: int) -> None:
        """All sessions are over."""
        super().crash(back_in_ms)
        for name, number in self.sessions.items():
            self.known[name].heard_ms = self.world.now_ms
            self._hangs_up(self.world.hosts[name], number)
        self.sessions.clear()

    def _hangs_up(self, host: ServiceHost, number: int) -> None:
        self.world.timeline.after(self.world.rand.randint(1, 2_000), lambda: host.disconnected(number))

    def _boot(self) -> None:
        heard = {name: known.heard_ms for name, known in self.known.items()}
        observed = {name: known.observed for name, known in self.known.items()}
        super()._boot()
        for name, known in self.known.items():  # observed states are in the store, and so is when they were confirmed
            known.heard_ms, known.observed = heard[name], observed[name]
        self.listens_ms = self.world.now_ms
        self.stale.update(self.hosts)
        for host in self.world.hosts.values():
            self.world.reconnect(host)
        for after_ms in sorted(set(self._after_ms.values())):
            self.world.timeline.after(after_ms + 5, self.stirred)
        self.stirred()
