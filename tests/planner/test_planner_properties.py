"""Whatever people and hosts do, in any order: what the planner and the rollouts must never do, and what they always do."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from halftrack_agent import inbox
from halftrack_controller import placement, planner, rollout
from halftrack_controller.snapshot import Environment, RolloutPhase
from halftrack_model import canonical
from halftrack_model.errors import Refused
from halftrack_model.plan import Plan
from halftrack_model.swap import Phase, SwapSpec
from halftrack_model.workload import Runs
from tests.planner.world import NOW_MS, World, deployed, host, release, spectra, tank

HOSTS = st.sampled_from(["tank-a", "tank-b"])
PRODUCTS = st.sampled_from(["spectrometer", "spectrometer", "spectrometer", "spectra-sink", "spectra-source"])
VERBS = (rollout.paused, rollout.resumed, rollout.promoted, rollout.aborted)
TRUST = {
    name: inbox.Trust("north", name, {"plan-key": b""}, {"release-key": b""}, 1, lambda *_: True)
    for name in ("tank-a", "tank-b")
}


class Galaxy(RuleBasedStateMachine):
    """One environment; after each step the controller comes to rest, and all that it ever planned is looked at."""

    @initialize(running=st.booleans(), enrolled=st.booleans())
    def begin(self, running: bool, enrolled: bool) -> None:
        self.world: World = deployed() if running else tank(("tank-a", "tank-b") if enrolled else ("tank-a",))
        self.minor = 0
        self.checked = 0  # of the sets of plans, so many have been looked at
        self.edited = False
        self.phases: dict[str, RolloutPhase] = {}

    def settle(self) -> None:
        self.world.settle()

    # ------------------------------------------------------------------------------------------------------ what happens

    @rule(product=PRODUCTS, manual=st.booleans(), fits=st.integers(0, 9))
    def publish(self, product: str, manual: bool, fits: int) -> None:
        self.minor += 1
        writes = "s/2" if fits == 0 else "s/1"
        self.world.publish(release(product, f"1.{self.minor}.0", writes, ("s/1",), manual))
        self.settle()

    @rule(name=HOSTS)
    def accept(self, name: str) -> None:
        if name in self.world.held:
            self.world.accept(name)
            self.settle()

    @rule(name=HOSTS)
    def refuse(self, name: str) -> None:
        if name in self.world.held:
            self.world.refuse(name, "journal-full", "no space")
            self.settle()

    @rule(name=HOSTS, minutes=st.integers(0, 10_000))
    def silence(self, name: str, minutes: int) -> None:
        before = dict(self.world.rollouts)
        self.world.silent(name, minutes * 60_000)
        self.settle()
        for key, known in self.world.rollouts.items():  # invariant: O1
            ended = known.phase in (RolloutPhase.SUCCEEDED, RolloutPhase.FAILED)
            assert not ended or known.phase is before[key].phase, "silence has decided a rollout"

    @rule(name=HOSTS)
    def back(self, name: str) -> None:
        self.world.back(name)
        self.settle()

    @rule(name=HOSTS)
    def enrol(self, name: str) -> None:
        self.world.hosts[name] = host(name)
        self.settle()

    @rule(phase=st.sampled_from(list(Phase)), leg=st.integers(0, 1))
    def leader_tells(self, phase: Phase, leg: int) -> None:
        spec = self.swap()
        seen = self.world.seen.get("tank-a")
        if spec is None or seen is None or seen.observed is None:
            return
        known = [record for record in seen.observed.swaps if record.swap_id == spec.swap_id]
        accepted = seen.accepted_revision == self.world.held["tank-a"].plan.revision
        if (known and known[0].phase.terminal) or not (known or accepted):
            return  # what has ended stays ended; a leader that never had the plan has nothing to tell
        self.world.tell_swap(spec.swap_id, phase, leg, "a reason" if phase is Phase.UNDONE else "")
        self.settle()

    @precondition(lambda self: self.world.rollouts)
    @rule(data=st.data(), verb=st.sampled_from(VERBS))
    def steer(self, data: st.DataObject, verb: object) -> None:
        rollout_id = data.draw(st.sampled_from(sorted(self.world.rollouts)))
        assert callable(verb)
        try:
            self.world.record(verb(self.world.snapshot(), rollout_id))
        except Refused:
            return
        self.settle()

    @rule(k=st.integers(0, 5))
    def edit_graph(self, k: int) -> None:
        graph = self.world.graphs[0]
        vertices = tuple(replace(v, params={"gain": k}) if v.name == "spectrometer" else v for v in graph.vertices)
        self.edited = self.edited or vertices != graph.vertices
        self.world.graphs = [replace(graph, vertices=vertices)]
        self.settle()

    def swap(self) -> SwapSpec | None:
        return next((spec for held in self.world.held.values() for spec in held.plan.swaps), None)

    # ------------------------------------------------------------------------------------------------- what always holds

    @invariant()
    def nothing_moves_by_itself(self) -> None:
        assert self.world.settle() == []  # invariant: R1

    @invariant()
    def equal_snapshots_make_equal_plans(self) -> None:
        one, other = (planner.plan(self.world.snapshot(), NOW_MS + age) for age in (0, 10**9))
        assert one == other

    @invariant()
    def hosts_can_obey(self) -> None:
        for name, held in self.world.held.items():
            assert held.plan.workloads  # invariant: R3
            assert inbox.judged(held.sealed, TRUST[name], None) is not None

    @invariant()
    def rollouts_follow_the_table(self) -> None:
        for key, known in self.world.rollouts.items():
            old = self.phases.get(key)
            assert old is None or old is known.phase or _reachable(old, known.phase)
            self.phases[key] = known.phase

    @invariant()
    def plans_follow_from_plans(self) -> None:
        for before, now in pairwise(self.world.past[self.checked :]):
            for name, plan in now.items():
                _check_members(plan)
                if name in before:
                    self.check_swaps_go_on(before[name], plan)
                    self.check_names_keep_their_meaning(before[name], plan)
        self.checked = max(0, len(self.world.past) - 1)

    def check_swaps_go_on(self, before: Plan, now: Plan) -> None:
        for spec in before.swaps:
            kept = [other for other in now.swaps if other.swap_id == spec.swap_id]
            if not kept:
                assert self.world.rollouts[spec.swap_id].phase.ended, "a swap was dropped while hosts could act on it"
                continue
            assert kept[0] == replace(spec, abort=kept[0].abort)
            assert kept[0].abort >= spec.abort, "an order to undo was taken back"
            if self.told_everybody(spec):
                assert before.workloads == now.workloads, "the graph of a swap under way was altered"

    def check_names_keep_their_meaning(self, before: Plan, now: Plan) -> None:
        """Who stays in the plan stays as it was, byte by byte: blue in a swap, green after it, bridges, merges."""
        old = {w.name: w for w in before.workloads}
        for workload in now.workloads:
            if workload.runs in (Runs.SOURCE, Runs.SINK) or workload.name not in old or self.edited:
                continue  # these are replaced in place; and an edited graph means other workloads by the same names
            if old[workload.name].member == workload.member:  # else: the same version again, as another generation
                assert canonical.encode(old[workload.name]) == canonical.encode(workload)  # invariant: R2

    def told_everybody(self, spec: SwapSpec) -> bool:
        return all(any(s.swap_id == spec.swap_id for s in self.world.held[name].plan.swaps) for name in spec.hosts)


def _check_members(plan: Plan) -> None:
    """There is always a blue, or what has replaced it: the host never lacks a member of a pair that it is a seat of."""
    names = {w.name for w in plan.workloads}
    for spec in plan.swaps:
        mine = [seat for seat in spec.seats if seat.host == plan.host]
        assert all(seat.blue_workload in names and seat.green_workload in names for seat in mine)
        rings = {ring.name for ring in plan.rings}
        assert {
            placement.member_ring_name(m.graph, m.vertex, m.member, m.version) for s in mine for m in (s.blue, s.green)
        } <= rings
    members = [w for w in plan.workloads if w.runs is Runs.MEMBER]
    merges = [w for w in plan.workloads if w.runs is Runs.MERGE]
    assert members or not merges


def _reachable(start: RolloutPhase, end: RolloutPhase) -> bool:
    """Can rows of the table lead from one to the other? (Several may have been taken between two looks.)"""
    reached, waiting = set(), [start]
    while waiting:
        phase = waiting.pop()
        for (source, _), target in rollout.ROWS.items():
            if source is phase and target not in reached:
                reached.add(target)
                waiting.append(target)
    return end in reached


Galaxy.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestGalaxy = Galaxy.TestCase


@given(dead=st.sets(st.sampled_from([f"{site}-{side}" for site in "vwxyz" for side in "ab"])))
def test_a_dead_host_stops_only_what_needs_it(dead: set[str]) -> None:
    """Five sites, some hosts silent: every site whose own two hosts are seen goes on; and who returns gets what holds now."""
    world = World()
    for site in "vwxyz":
        world.environments[site] = Environment(site, {}, "stable")
        world.hosts |= {name: host(name, site) for name in (f"{site}-a", f"{site}-b")}
        world.graphs.append(spectra(site, f"{site}-a", f"{site}-b"))
    for product in ("spectra-source", "spectra-sink", "spectrometer"):
        world.publish(release(product, "1.0.0"))
    world.settle()
    for name in world.hosts:
        world.accept(name)
    world.settle()
    for name in dead:
        world.silent(name, 10**9)
    world.publish(release("spectrometer", "1.1.0"))
    world.settle()
    for site in "vwxyz":  # invariant: O2
        moves = world.rollouts[f"{site}.spectra.spectrometer.2"].phase is RolloutPhase.RUNNING
        assert moves == dead.isdisjoint({f"{site}-a", f"{site}-b"})
    world.publish(release("spectrometer", "1.2.0"))
    for name in dead:
        world.back(name)
    world.settle()
    for site in {name[0] for name in dead}:
        (swap,) = world.held[f"{site}-a"].plan.swaps
        assert swap.green.version == "1.2.0", "a host that returns gets the current decision, not a superseded one"


def test_a_swap_that_is_done_is_not_planned_away_before_its_rollout_has_succeeded() -> None:
    """The news that an aborted swap is done may be planned from before the rollouts are advanced: green must stay."""
    world = deployed()
    world.publish(release("spectrometer", "1.1.0"))
    world.settle()
    for name in ("tank-a", "tank-b"):
        world.accept(name)
    world.record(rollout.aborted(world.snapshot(), "tank.spectra.spectrometer.2"))
    world.settle()
    world.tell_swap("tank.spectra.spectrometer.2", Phase.DONE, 1)
    for name, plan in planner.plan(world.snapshot(), NOW_MS).plans.items():
        assert planner.same_but_revision(plan, world.held[name].plan)
