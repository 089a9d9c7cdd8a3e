"""The controller of a fleet of services: the one of `controller`, with sessions instead of datagrams, and turns when something has changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from halftrack_controller import sites, standing
from halftrack_controller.lookouts import Lookouts, with_sightings
from halftrack_controller.session import HEARTBEAT_MS
from halftrack_controller.snapshot import Refusal, Rollout, RolloutPhase, Seen, Snapshot
from halftrack_controller.standing import SIGHTED_MS
from halftrack_controller.tables import Hosts
from halftrack_model.disconnect import Reconcile, lost_after_ms
from halftrack_model.graph import StreamGraph
from halftrack_model.observed import Observed
from tests.sim.controller import RETRY_DECLINED_MS, SimController
from tests.sim.invariants import Violation
from tests.sim.sight_watch import SightWatch

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
        self._saw: dict[str, frozenset[str]] = {}  # what each lookout has said last
        self._since_ms: dict[str, int] = {}  # each session
        self.up_ms: dict[str, int] = {}  # each host's clock at its last word, and when that was
        self.listens_ms = 0
        self.replaced = 0
        self.recent: dict[
            str, None
        ] = {}  # rollouts that have moved since all was last at rest, or that have not ended since
        self._due = False
        self._lookouts = Lookouts()
        self._asked_with: tuple[object, Mapping[str, int]] = (None, {})
        self.sighted = Counter[str]()
        self.watch = SightWatch(world)
        self._snapshot: Snapshot  # the last one
        site_of = world.sights.sites
        self.hosts = Hosts({name: replace(host, site=site_of.get(name, "")) for name, host in self.hosts.items()})
        self._seen: dict[str, Seen] = {}
        rules = {
            host: g.vertices[0].disconnect for g in graphs if g.vertices[0].disconnect for host in g.vertices[0].hosts
        }
        self._after_ms = {
            host: {rule.lost_after_ms, lost_after_ms(rule, sighted=True)} for host, rule in rules.items() if rule
        }
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

    def snapshot(self) -> Snapshot:
        """With what siblings say of those who are away, as the service adds it."""
        now_s, looking = self.monotonic_s(), self.world.sights.looking()
        heard_s = {each.host.name: self._heard_s(each.host.name) for each in looking}
        sightings = self._lookouts.sightings(heard_s, now_s)
        self._snapshot = with_sightings(super().snapshot(), sightings)
        if sightings:
            self.watch.told(self._snapshot)
        return self._snapshot

    def monotonic_s(self) -> float:
        """The clock by which it knows how long ago something was."""
        return self.world.now_ms / 1000

    def _heard_s(self, name: str) -> float:
        """When each host was last heard, which beats while its session stands."""
        heard_ms = self.known[name].heard_ms
        if name in self.sessions:
            beats_ms = self.world.heard_ms(name)
            heard_ms = max(heard_ms, beats_ms - (beats_ms - self._since_ms[name]) % HEARTBEAT_MS)
        return self.monotonic_s() - (self.world.now_ms - heard_ms) / 1000

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
            self._have_looked_for()
            if plans is self._plans:
                return
            for original in sorted(self._stand_ins() - before):
                self.replaced += 1
                self._replaced(original)

        self.world.timeline.after(self.world.rand.randint(*DEBOUNCE_MS), turns)

    def _have_looked_for(self) -> None:
        """Whom each shall look for, where that is news to it. It depends on who is here, and on the plans."""
        snapshot = self._snapshot
        if not self.alive or (self._asked_with[0] is snapshot.held and self._asked_with[1] == self.sessions):
            return
        self._asked_with = (snapshot.held, {**self.sessions})
        wanted = sites.lookouts(snapshot)
        self.watch.asked(wanted, self._asked_with[1])
        for name, number in self.sessions.items():
            hosts = sorted(wanted.get(name, ()))
            if self._lookouts.ask(name, hosts):
                self.sighted["hosts told to look for others"] += bool(hosts)
                self.watch.told_to_look(name, number, len(hosts))
                self.world.tell_to_look(self.world.hosts[name], number, tuple(hosts))

    def _stand_ins(self) -> set[str]:
        return {each.replaces for held in self.held.values() for each in held.plan.holdings if each.replaces}

    def _replaced(self, name: str) -> None:
        """O1: only who was long silent is replaced, for longer where siblings see it, and by nobody who sees less than half of all."""
        silent_ms = self.world.now_ms - max(self.known[name].heard_ms, self.listens_ms)
        by = standing.sighted_by(self.snapshot(), name)
        after_ms = lost_after_ms(self.world.rule_of(name), sighted=bool(by))
        if name in self.sessions or silent_ms < after_ms:
            text = f"{name}, seen by {by or 'nobody'}, is replaced after {silent_ms} ms of silence; {after_ms} make it lost"
            raise Violation("O1", text)
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
        self._lookouts.gone(name, self._heard_s(name))
        self._lookouts.back(name)
        self.sessions[name] = number
        self._since_ms[name] = self.world.now_ms
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
        known.heard_ms = self.world.now_ms
        if word[0] == "sees":
            self._told_of_sights(host.name, number, cast(tuple[str, ...], word[1]))
            return
        self.stale.add(host.name)
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

    def _told_of_sights(self, name: str, number: int, hosts: tuple[str, ...]) -> None:
        """What is said now counts in the next turn. No plan hangs on it before it is old: one that is not seen any more may be lost by then."""
        self.watch.heard(name, number)
        self._lookouts.said(name, hosts, self.monotonic_s())
        self.sighted["siblings seen" if hosts else "siblings seen no more"] += 1
        self._sees_no_more(name, frozenset(hosts))

    def _sees_no_more(self, lookout: str, hosts: frozenset[str] = frozenset()) -> None:
        """But these, from now on; of the others it is old after a while that they were seen."""
        before, self._saw[lookout] = self._saw.get(lookout, frozenset()), hosts
        for name in before - hosts - self.sessions.keys():
            soonest_ms, latest_ms = min(self._after_ms[name]), max(self._after_ms[name])
            silent_ms = self.world.now_ms - self.known[name].heard_ms
            if latest_ms > soonest_ms and soonest_ms <= silent_ms + SIGHTED_MS < latest_ms:
                self.world.timeline.after(SIGHTED_MS + 5, self.stirred)
                return

    def _offer_again(self, name: str) -> None:
        held, refusal = self.held.get(name), self.known[name].refusal
        if held is not None and refusal is not None and refusal.revision == held.plan.revision:
            self._push(name)

    def lost(self, host: ServiceHost, number: int | None = None) -> None:
        """A session is over, as far as this side can see."""
        if number is not None and self.sessions.get(host.name) != number:
            return
        if host.name not in self.sessions:
            return
        self._lookouts.gone(host.name, self._heard_s(host.name))
        del self.sessions[host.name]
        line = self.world.lines[host.name]
        self.known[host.name].heard_ms = self.world.now_ms if self.world.up(host.name) else line.cut_ms
        self.stale.add(host.name)
        self.stirred()
        self._sees_no_more(host.name)
        self.world.timeline.after(min(self._after_ms[host.name]) + 5, lambda: self._may_be_lost(host.name))

    def _anybody_away(self) -> None:
        if self.sessions.keys() < self.hosts.keys():
            self.stirred()

    def _may_be_lost(self, name: str) -> None:
        """It is time to look at a host that has been silent, if it still is; and later again, if siblings see it."""
        if name in self.sessions:
            return
        self.stirred()
        soonest_ms, latest_ms = min(self._after_ms[name]), max(self._after_ms[name])
        if latest_ms > soonest_ms:
            self.world.timeline.after(latest_ms - soonest_ms, self.stirred)

    def crash(self, back_in_ms: int) -> None:
        """All sessions are over."""
        super().crash(back_in_ms)
        for name, number in self.sessions.items():
            self.known[name].heard_ms = self.world.now_ms
            self._hangs_up(self.world.hosts[name], number)
        self.sessions.clear()
        self._lookouts, self._asked_with = Lookouts(), (None, {})

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
        for after_ms in sorted(set[int]().union(*self._after_ms.values())):
            self.world.timeline.after(after_ms + 5, self._anybody_away)
        self.stirred()
