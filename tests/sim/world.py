"""The whole fleet in one process: hosts with their agents' real cores, the controller's real core, network, disks and time.

A seed decides everything. `World.run` plays one life of the fleet and returns what came of it; nothing reads a real clock.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.ids import digest_of
from halftrack_model.release import Artifact, OnStateLoss, Release, StateSchemas, SwapStrategy
from halftrack_model.swap import SwapRecord, SwapSpec
from halftrack_model.verdict import Check, Verdict
from halftrack_model.workload import Workload
from tests.sim import faults, hardships, keys, settling
from tests.sim.agent import CONTROLLER, SimAgent
from tests.sim.controller import ENVIRONMENT, TURN_MS, SimController
from tests.sim.host import SimHost
from tests.sim.invariants import Violation, Watch
from tests.sim.network import Network
from tests.sim.processes import SLICE_MS
from tests.sim.story import Story
from tests.sim.timeline import Timeline

PATIENCE_MS = 60_000  # once faults are over; several times the longest way through a swap and back
LONGEST_MS = 180_000  # from a release's publication to its end, whatever happens
CHECK_MS = 200
STRATEGY = SwapStrategy(
    lag_frames=32, caught_up_ms=200, shadow_ms=300, shadow_frames=4, drain_ms=300, deadline_ms=8_000, green_deaths=3
)
VERDICT = Verdict(check=Check.INVARIANT, entry="spectrometer:sane", frames=12, latency_p99_percent=300)


@dataclass(slots=True)
class Pair:
    """A host for each seat, the graph that runs on them, and the swap that is under way there."""

    graph: str
    hosts: tuple[str, str]
    faults: faults.Faults
    rollout_id: str = ""
    swap: SwapSpec | None = None
    ended: SwapRecord | None = None

    @property
    def alone(self) -> bool:
        """Are both seats on one host?"""
        return self.hosts[0] == self.hosts[1]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run. `violation` is empty when all invariants held."""

    seed: str
    simulated_ms: int
    digest: str
    violation: str
    story: str
    faults: Counter[str]
    ends: tuple[str, ...]  # how each swap ended
    declared_lost: int
    longest_pause_ms: int


class World:
    """One life of the fleet."""

    def __init__(
        self,
        seed: str,
        hosts: int = 2,
        rounds: int = 1,
        plan: list[faults.Fault] | None = None,
        surge: int | None = None,
        alone: bool | None = None,
        verdict: Verdict | None = None,
        wrong: bool = False,
        grown: bool = True,
    ) -> None:
        """`grown`: the seed also draws the faults of `hardships`, each class from randomness of its own. `wrong`: the outputs of releases after the first are not what they should be. `surge`, `verdict` (what they declare) and `alone`, whether both seats of a pair are on one host, are the seed's to choose unless they are given."""
        self.seed, self._rounds, self._plan = seed, rounds, plan
        shape = self.rng("shape")
        drawn = shape.choice((1, 1, 2)), shape.random() < 0.2
        self.surge = drawn[0] if surge is None else surge
        self.alone = drawn[1] if alone is None else alone
        judged = self.rng("verdict").random() < 0.3
        self.verdict = verdict or (VERDICT if judged and plan is None else None)
        self.wrong, self.grown = wrong, grown and plan is None
        self.story = Story()
        self.timeline = Timeline(self.story)
        self.net = Network(self.timeline, self.story, seed)
        self.watch = Watch(self)
        self.struck: Counter[str] = Counter()
        self.killed: Counter[str] = Counter()
        self.harmed_ms: dict[tuple[str, str], int] = {}  # by host and member: when a fault last struck what serves it
        self.broken: dict[tuple[str, str], int] = {}
        self._fetching: set[tuple[str, str]] = set()
        self._rng = self.rng("world")
        rate = self._rng.choice((60, 100, 200))
        self.slots = self._rng.choice((512, 2048, 2048))
        self.pairs = [_pair(self, number) for number in range(hosts // 2)]
        names = list(dict.fromkeys(name for pair in self.pairs for name in pair.hosts))
        self.hosts = {name: SimHost(self, name, rate) for name in names}
        self.agents = {
            name: SimAgent(host, keys.trust_of(name), self._rng.randrange(10**9)) for name, host in self.hosts.items()
        }
        self.controller = SimController(self, names, [_graph(pair, self.slots) for pair in self.pairs])
        self.net.receivers = {CONTROLLER: self.controller.receive, **{n: a.receive for n, a in self.agents.items()}}
        self.ends: list[str] = []

    def rng(self, name: str) -> random.Random:
        """Randomness of its own for each concern, so that one more draw here changes nothing there."""
        return random.Random(f"{self.seed}:{name}")

    @property
    def now_ms(self) -> int:
        """The present."""
        return self.story.now_ms

    # ---- what others ask ----------------------------------------------------------------------------------------------

    def breaks(self, workload: Workload, seq: int) -> bool:
        """Does this release raise at that input?"""
        if not self.broken or workload.member is None:
            return False
        first = self.broken.get((workload.member.graph, workload.version))
        return first is not None and seq >= first

    def pair_of(self, ring: str) -> Pair:
        """Whose stream it is in."""
        return next(pair for pair in self.pairs if pair.graph == ring.partition("/")[0])

    def fetch(self, host: SimHost, digest: str) -> None:
        """An artifact comes after a while, if the controller can be reached then."""
        if (host.name, digest) in self._fetching:
            return
        self._fetching.add((host.name, digest))

        def arrive() -> None:
            self._fetching.discard((host.name, digest))
            if self.controller.alive and self.net.both_ways(host.name, CONTROLLER):
                host.artifacts.add(digest)

        self.timeline.after(self._rng.randint(20, 300), arrive)

    def power_cut(self, agent: SimAgent) -> None:
        """The machine of that agent goes down and comes back."""
        for name in agent.host.instances:
            self.killed[name] += 1
        for member in "ab":
            self.harmed_ms[agent.name, member] = self.now_ms
        agent.reboot()

    def entered(self, spec: SwapSpec, record: SwapRecord) -> None:
        """The leader of a swap has journaled a record."""
        pair = self.pair_of(spec.merged_ring)
        pair.swap = spec
        if record.phase.terminal:
            pair.ended = record
            self.broken.pop((spec.graph, spec.green.version), None)
        pair.faults.entered(record)

    # ---- a life -------------------------------------------------------------------------------------------------------

    def run(self) -> Result:
        """From the first boot to the last swap's end."""
        violation = ""
        try:
            self._begin()
            for number in range(self._rounds):
                self._swap(f"1.{number + 1}.0")
        except Violation as error:
            violation = str(error)
        pauses = [output.longest_pause_ms for output in self.watch.outputs.values()]
        return Result(
            self.seed,
            self.now_ms,
            self.story.digest(),
            violation,
            self.story.recent(),
            self.struck,
            tuple(self.ends),
            self.watch.declared_lost,
            max(pauses, default=0),
        )

    def _begin(self) -> None:
        for agent in self.agents.values():
            agent.boot()
        self._slice()
        self._turn()
        for product in ("source", "spectrometer", "sink"):
            self.controller.publish(_release(product, "1.0.0"))
        self._until_settled()

    def _swap(self, version: str) -> None:
        generation = max(g.number for g in self.controller.generations) + 1
        for pair in self.pairs:
            plan = self._drawn(f"{pair.graph} {version}") if self._plan is None else self._plan
            pair.rollout_id = f"{ENVIRONMENT}.{pair.graph}.spectrometer.{generation}"
            pair.swap, pair.ended = None, None
            pair.faults = faults.Faults(self, pair, plan)
        self.killed.clear()
        self.controller.publish(_release("spectrometer", version, self.surge, self.verdict))
        self._until_settled()
        for pair in self.pairs:
            settling.judge_end(self, pair, pair.ended)
            self.ends.append(f"{pair.ended.phase.value} {pair.ended.reason}".strip() if pair.ended else "never begun")

    def _drawn(self, what: str) -> list[faults.Fault]:
        plan = faults.drawn(self.rng(f"faults {what}"))
        for name in hardships.CLASSES if self.grown else ():
            plan += hardships.drawn(self.rng(f"{name} {what}"), name, faults.of_kind)
        return plan

    def _until_settled(self) -> None:
        """Until the faults are over and everything has come to rest."""
        calm_ms = began_ms = next_check_ms = self.now_ms
        while True:
            self.timeline.step()
            if self.now_ms < next_check_ms:
                continue
            next_check_ms = self.now_ms + CHECK_MS
            if not all(pair.faults.over for pair in self.pairs):
                calm_ms = self.now_ms
            waits = next((text for pair in self.pairs if (text := settling.unsettled(self, pair))), "")
            if not waits and self.now_ms - calm_ms >= settling.CALM_MS:
                return
            if not waits:  # also a swap that was never begun has come to its end
                for pair in self.pairs:
                    pair.faults.drop_waiting()
            if waits and self.now_ms - calm_ms > PATIENCE_MS:
                raise Violation("R1", f"{PATIENCE_MS} ms after the last fault, {waits}")
            if self.now_ms - began_ms > LONGEST_MS:
                raise Violation("R1", f"after {LONGEST_MS} ms, faults waiting for what never comes, {waits}")

    def _every(self, period_ms: int, what: Callable[[], None]) -> None:
        self.timeline.after(period_ms, what)

    def _slice(self) -> None:
        for host in self.hosts.values():
            host.step(self.now_ms)
        self._every(SLICE_MS, self._slice)

    def _turn(self) -> None:
        self.controller.turn()
        self._every(TURN_MS, self._turn)


def _pair(world: World, number: int) -> Pair:
    suffix = str(number) if number else ""
    hosts = (f"tank-a{suffix}", f"tank-a{suffix}" if world.alone else f"tank-b{suffix}")
    pair = Pair(f"spectra{suffix}", hosts, None)  # type: ignore[arg-type]
    pair.faults = faults.Faults(world, pair, [])
    return pair


HANG_AFTER_MS = 2_500  # some processes that are frozen come back before, others do not


def _graph(pair: Pair, slots: int) -> StreamGraph:
    a, b = pair.hosts
    vertices = (
        Vertex("source", Role.SOURCE, "source", (a,), {}, 1 << 20, slots, hang_after_ms=HANG_AFTER_MS),
        Vertex("spectrometer", Role.PAIR, "spectrometer", (a, b), {}, 1 << 20, slots, hang_after_ms=HANG_AFTER_MS),
        Vertex("sink", Role.SINK, "sink", (a,), {}, 0, 0, hang_after_ms=HANG_AFTER_MS),
    )
    return StreamGraph(
        pair.graph, ENVIRONMENT, vertices, (Edge("source", "spectrometer"), Edge("spectrometer", "sink"))
    )


def _release(product: str, version: str, surge: int = 1, verdict: Verdict | None = None) -> Release:
    artifact = Artifact(digest_of(f"{product} {version}".encode()), 1000)
    state = (
        StateSchemas("sum", ("sum",), on_loss=OnStateLoss.RESUME) if product == "spectrometer" else StateSchemas("", ())
    )
    strategy = replace(STRATEGY, surge=surge, verdict=verdict)
    return Release(product, version, artifact, f"{product}:Main", {}, state, strategy)
