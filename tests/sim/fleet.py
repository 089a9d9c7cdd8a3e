"""A galaxy of services: hosts that are cut off, replaced and come back, their sessions, what those of a site see of each other, and the controller's real
planner over them.

Everything is an event: between two of them the clock jumps, so a night in which nothing happens costs nothing. A session is what TCP and heartbeats make
of a link: in order, and dead when either side has noticed; each notices at its own time.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from halftrack_model.disconnect import MARGIN_MS, ColdBoot, Disconnect, Reconcile
from halftrack_model.graph import Role, StreamGraph, Vertex
from halftrack_model.ids import digest_of
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy
from tests.sim import certificates, fleet_faults
from tests.sim.absences import Absences
from tests.sim.certificates import LIVES_MS, Certificate
from tests.sim.controller import ENVIRONMENT
from tests.sim.deletions import Deletions
from tests.sim.fleet_controller import FleetController
from tests.sim.fleet_watch import FleetWatch, unsettled
from tests.sim.invariants import Violation
from tests.sim.service_host import ServiceHost
from tests.sim.sights import Sights
from tests.sim.story import Story
from tests.sim.timeline import Timeline

NOTICE_MS = (1, 2_000)  # two heartbeats
DELAY_MS = (1, 60)
SENT_AGAIN_MS = (1, 500)  # after the line is back
RECONNECT_MS = (100, 5_000)
PATIENCE_MS = 180_000  # once faults are over
QUIET_MS = (600_000, 10 * 3_600_000)
GROUP = 5  # hosts that may run the same services
EPOCH_MS = 1_790_000_000_000


@dataclass(slots=True)
class Line:
    """The way between a host and the controller: what cuts each direction, the session over it, and when its last word comes."""

    cuts: Counter[str]
    waits: tuple[list[Callable[[], None]], list[Callable[[], None]]]  # what is sent again, in order: likewise
    number: int = 0  # of the session; counts up
    last_ms: tuple[int, int] = (0, 0)  # to the controller, to the host
    cut_ms: int = -1
    stuck_ms: int = -1  # since when nothing has come to the controller, while something waits


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    seed: str
    simulated_ms: int
    digest: str
    violation: str
    story: str
    faults: Counter[str]
    rollouts: tuple[str, ...]
    proofs: Counter[str]  # that it has exercised something: how often which
    longest_away_ms: int


class Fleet:
    """One galaxy and its life."""

    def __init__(self, seed: str, hosts: int = 5, days: float = 1.0, only: tuple[str, ...] | None = None) -> None:
        """`only`: these kinds of faults; None is all."""
        self.seed, self.days, self.only = seed, days, only
        self.story = Story()
        self.timeline = Timeline(self.story)
        self.rand = self.rng("fleet")
        self.watch = FleetWatch(self)
        self.struck: Counter[str] = Counter()
        self.killed: Counter[str] = Counter()
        names = [f"host-{n}" for n in range(hosts)]
        self.lines = {name: Line(Counter(), ([], [])) for name in names}
        self.hosts = {name: ServiceHost(self, name) for name in names}
        groups = [names[n : n + GROUP] for n in range(0, hosts, GROUP)]
        self.graphs = [_service(self, number, group) for number, group in enumerate(groups)]
        self.sights = Sights(self, groups)
        self.controller = FleetController(self, names, self.graphs)
        self.wall_off_ms = 0
        life_ms = self.rng("certificates").choice(LIVES_MS)
        self.certificates = {
            name: Certificate(self, host, number, life_ms) for number, (name, host) in enumerate(self.hosts.items())
        }
        self.faults = fleet_faults.FleetFaults(self)
        self.absences, self.deletions = Absences(self), Deletions(self)

    def rng(self, name: str) -> random.Random:
        """Randomness of its own for each concern."""
        return random.Random(f"{self.seed}:{name}")

    @property
    def now_ms(self) -> int:
        """The present."""
        return self.story.now_ms

    def real_ms(self) -> int:
        """What a right wall clock would say."""
        return EPOCH_MS + self.now_ms

    def service_of(self, workload: str) -> Vertex:
        """The vertex that a workload is of."""
        return next(graph.vertices[0] for graph in self.graphs if workload.startswith(f"{graph.name}."))

    def rule_of(self, host: str) -> Disconnect:
        """What its services do while it is cut off."""
        rules = [g.vertices[0].disconnect for g in self.graphs if host in g.vertices[0].hosts]
        return rules[0] or Disconnect()

    # ---- lines --------------------------------------------------------------------------------------------------------

    def up(self, name: str) -> bool:
        """Do both directions carry?"""
        return not any(self.lines[name].cuts.values())

    def cut(self, name: str, directions: tuple[str, ...], lasts_ms: int) -> None:
        """For so long. Whoever notices within it has lost the session; who does not goes on with it."""
        self.sever(name, directions)
        self.timeline.after(lasts_ms, lambda: self.mend(name, directions))

    def sever(self, name: str, directions: tuple[str, ...]) -> None:
        """Until it is mended."""
        line = self.lines[name]
        if self.up(name):
            line.cut_ms = self.now_ms
            self._noticing(name)
        line.cuts.update(directions)

    def mend(self, name: str, directions: tuple[str, ...]) -> None:
        """Of all that cut it, this is over."""
        line = self.lines[name]
        line.cuts.subtract(directions)
        if self.up(name):
            self.certificates[name].back(self.now_ms - line.cut_ms)
            self.reconnect(self.hosts[name])
            if any(line.waits):
                self.timeline.after(self.rand.randint(*SENT_AGAIN_MS), lambda: self._send_again(line))

    @staticmethod
    def _send_again(line: Line) -> None:
        for waits in line.waits:
            due, waits[:] = waits[:], ()
            for arrives in due:
                arrives()

    def _noticing(self, name: str) -> None:
        number, host = self.lines[name].number, self.hosts[name]

        def host_notices() -> None:
            if host.session == number and not self.up(name):
                host.disconnected()

        def controller_notices() -> None:
            if not self.up(name):
                self.controller.lost(host, number)

        self.timeline.after(self.rand.randint(*NOTICE_MS), host_notices)
        self.timeline.after(self.rand.randint(*NOTICE_MS), controller_notices)

    def reconnect(self, host: ServiceHost) -> None:
        """It tries, after its backoff."""
        life = host.life

        def tries() -> None:
            ready = host.alive and host.life == life and self.controller.alive and self.up(host.name)
            if not ready or (host.session and self.controller.sessions.get(host.name) == host.session):
                return
            certificate = self.certificates[host.name]
            if not certificate.good():
                certificate.refused()
                self.timeline.after(certificate.rng.randint(*RECONNECT_MS), tries)
                return
            host.disconnected()
            line = self.lines[host.name]
            line.number += 1
            line.waits = ([], [])
            self.controller.welcome(host, line.number)
            certificate.welcomed()

        self.timeline.after(self.rand.randint(*RECONNECT_MS), tries)

    def _carry(self, name: str, to_host: bool, what: Callable[[], None], rng: random.Random | None = None) -> None:
        line = self.lines[name]
        at_ms = max(self.now_ms + (rng or self.rand).randint(*DELAY_MS), line.last_ms[to_host])
        line.last_ms = (line.last_ms[0], at_ms) if to_host else (at_ms, line.last_ms[1])
        number = line.number

        def arrives() -> None:
            if line.number != number or not self._stands(name, number):
                return
            if not self.up(name) or line.waits[to_host]:  # sent again once it is back, if the session lives for so long
                if not (to_host or line.waits[False]):
                    line.stuck_ms = line.cut_ms
                line.waits[to_host].append(arrives)
                return
            what()

        self.timeline.after(at_ms - self.now_ms, arrives)

    def _stands(self, name: str, number: int) -> bool:
        """Has either side not yet given that session up?"""
        return number in (self.hosts[name].session, self.controller.sessions.get(name))

    def heard_ms(self, name: str) -> int:
        """When the controller has last heard of a host with which it has a session."""
        line = self.lines[name]
        if line.waits[False]:
            return line.stuck_ms
        return self.now_ms if self.up(name) else line.cut_ms

    def say(self, host: ServiceHost, word: tuple[object, ...], rng: random.Random | None = None) -> None:
        """To the controller, in this session."""
        number = host.session
        if number:
            self._carry(host.name, False, lambda: self.controller.hear(host, number, word), rng)

    def tell_to_look(self, host: ServiceHost, number: int, names: tuple[str, ...]) -> None:
        """Whom the host shall look for."""

        def arrives() -> None:
            if host.alive and host.session == number:
                self.sights.look_for(host.name, names)

        self._carry(host.name, True, arrives, self.sights.rng)

    def push(self, host: ServiceHost, number: int, revision: int, sealed: object) -> None:
        """A plan to the host."""

        def arrives() -> None:
            if host.alive and host.session == number:
                host.newest = max(host.newest, revision)
                host.receive(sealed)

        self._carry(host.name, True, arrives)

    def fetch(self, host: ServiceHost, digest: str) -> None:
        """An artifact comes after a while, over a session."""

        def arrives() -> None:
            if host.session and self.up(host.name) and not host.disk.full and digest not in host.artifacts:
                host.artifacts.add(digest)
                host.stir()

        self.timeline.after(self.rand.randint(50, 900), arrives)

    # ---- a life -------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Days of faults, each with a quiet end in which everything must come to rest, and a new release."""
        violation = ""
        try:
            self._begin()
            day = 0
            while self.now_ms < self.days * 86_400_000:
                day += 1
                self.deletions.day()
                self._publish(f"1.{day}.0")
                self.faults.storm()
                self._settle()
                self._jump()
        except Violation as error:
            violation = str(error)
        ends = tuple(f"{r.rollout_id} {r.phase.value}" for r in self.controller.rollouts.values())
        return Outcome(
            self.seed, self.now_ms, self.story.digest(), violation, self.story.recent(), self.struck,
            ends, self._proofs(), max(self.absences.over, default=0),
        )  # fmt: skip

    def _proofs(self) -> Counter[str]:
        certificates, hosts = self.certificates.values(), self.hosts.values()
        proofs = Counter(f"rollouts {each.phase.value}" for each in self.controller.rollouts.values())
        proofs["hosts replaced"] = self.controller.replaced
        proofs["certificates renewed"] = sum(each.renewals for each in certificates)
        proofs["certificates renewed after their end"] = sum(each.renewals_late for each in certificates)
        proofs["sessions"] = sum(line.number for line in self.lines.values())
        proofs["starts of agents"] = sum(host.life for host in hosts)
        proofs["boots of hosts"] = sum(host.boots for host in hosts)
        proofs["absences of months"] = len(self.absences.over)
        proofs["services deleted"] = self.deletions.count
        proofs["losses put off by a sighting"] = len(self.controller.watch.put_off)
        return proofs + self.controller.sighted

    def _begin(self) -> None:
        for host in self.hosts.values():
            host.power_on()
        self._publish("1.0.0")
        self._settle()

    def _publish(self, version: str) -> None:
        self.killed.clear()
        for graph in self.graphs:
            self.controller.publish(_release(graph.name, version))
        self.controller.stirred()

    def _until(self, at_ms: int) -> None:
        self.timeline.after(at_ms - self.now_ms, lambda: None)
        story, step = self.story, self.timeline.step  # the innermost of all loops
        while story.now_ms < at_ms:
            step()

    def _settle(self) -> None:
        """R1, O2: faults have ended, and everything comes to rest where it should."""
        while self.now_ms < (
            end_ms := max(self.faults.until_ms, self.absences.lost_ms(), self.deletions.until_ms)
        ):  # a fault that strikes late lasts longer
            self._until(end_ms)
        here = [each for name, each in self.certificates.items() if name not in self.absences.away]
        over = any(not each.good() for each in here)
        patience_ms = PATIENCE_MS + (certificates.PATIENCE_MS if over else 0)
        end_ms = self.now_ms + patience_ms
        while waits := unsettled(self):
            if self.now_ms > end_ms:
                over = any(not each.good() for each in here)
                raise Violation("C2" if over else "R1", f"{patience_ms} ms after the last fault, {waits}")
            self._until(self.now_ms + 2_000)
        self.watch.rested()
        for each in here:
            each.rested()

    def _jump(self) -> None:
        """A quiet time: nobody may do anything in it."""
        events = self.watch.deeds
        self._until(self.now_ms + self.rand.randint(*QUIET_MS))
        if self.watch.deeds != events:
            raise Violation("R1", "something was started or stopped in a time in which nothing happened")


def _service(world: Fleet, number: int, hosts: list[str]) -> StreamGraph:
    rng = world.rng(f"service {number}")
    replaces = rng.random() < 0.75
    stop_ms = rng.choice((0, 5_000, 30_000, 120_000, 1_800_000))
    lost_ms = max(5_000, stop_ms + MARGIN_MS + rng.choice((0, 0, 60_000)))
    reconcile = rng.choice(list(Reconcile)) if replaces else Reconcile.KEEP_ORIGINAL
    cold, seen_ms = rng.choice(list(ColdBoot)), world.rng(f"seen {number}").choice((0, 0, lost_ms + 60_000))
    rule = Disconnect(lost_ms, stop_ms, replaces, reconcile, cold, seen_ms if replaces else 0)
    instances = rng.randint(1, max(1, len(hosts) - 2))
    name = f"svc{number}"
    vertex = Vertex(name, Role.SERVICE, name, tuple(hosts), {}, 0, 0, instances=instances, disconnect=rule)
    return StreamGraph(name, ENVIRONMENT, (vertex,), ())


def _release(product: str, version: str) -> Release:
    artifact = Artifact(digest_of(f"{product} {version}".encode()), 1000)
    release = Release(product, version, artifact, "", {}, StateSchemas("", ()), SwapStrategy(green_deaths=3))
    return replace(release, command=("python3", "{artifact}"))
