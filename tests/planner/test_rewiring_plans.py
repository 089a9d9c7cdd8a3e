"""Plans over edits of a live graph: who is touched, what is carried how long, and that nothing moves."""

from dataclasses import replace

import pytest

from halftrack_controller import deciding, graph_views, live, placement
from halftrack_controller.snapshot import RolloutPhase, Snapshot
from halftrack_model.edits import Edit, GraphRecord, Insert, Remove, Replace, Reroute, SetPolicy, Split
from halftrack_model.errors import HalftrackError, InvalidInput, Refused
from halftrack_model.graph import NOTHING, Edge, Policy, Role, StreamGraph
from halftrack_model.observed import Owner
from halftrack_model.plan import Plan
from halftrack_model.workload import InletInput, Runs
from halftrack_proto.graph_messages import GraphQuery, InputStanding
from tests.planner.graphs import A, B, C, vertex, world
from tests.planner.world import World, release

LIVE = StreamGraph(
    "live",
    "tank",
    (
        vertex("source", Role.SOURCE, A),
        vertex("clean", Role.SINGLE, A),
        vertex("twins", Role.PAIR, B, C),
        vertex("sink", Role.SINK, C),
        vertex("display", Role.SINK, A),
    ),
    (Edge("source", "clean"), Edge("clean", "twins"), Edge("twins", "sink"), Edge("clean", "display")),
    live=True,
)
STATELESS = ("source", "clean", "twins", "sink", "display", "flag", "flag-b")


class Live:
    """A world that runs a live graph, and is edited as the controller does it."""

    def __init__(self) -> None:
        self.world: World = world(LIVE)
        for product in STATELESS:
            self.world.publish(release(product, "1.0.0", writes="", reads=()))
        self.revision, self.declared = 1, LIVE
        self.obey()

    @property
    def graph(self) -> StreamGraph:
        return self.world.graphs[0]

    @property
    def record(self) -> GraphRecord:
        return GraphRecord("tank", "live", self.revision, self.declared, self.graph, ())

    def snapshot(self) -> Snapshot:
        return replace(self.world.snapshot(), records={("tank", "live"): self.record})

    def obey(self) -> None:
        """Plans are made and obeyed until nothing changes any more."""
        self.world.settle()
        for _ in range(3):
            for name in self.world.held:
                owners = self.owners(name)
                self.world.accept(name)
                self._show(name, owners)
            self.world.settle()

    def edit(self, edit: Edit) -> None:
        after, _ = live.edited(self.snapshot(), self.record, edit, "ada", 0)
        self.become(after)

    def edit_only(self, edit: Edit) -> None:
        """The same, and no host has heard of it yet."""
        self.world.graphs[0], _ = live.edited(self.snapshot(), self.record, edit, "ada", 0)
        self.revision += 1

    def become(self, after: StreamGraph) -> None:
        self.revision += 1
        self.world.graphs[0] = after
        self.obey()

    def owners(self, host: str) -> tuple[Owner, ...]:
        seen = self.world.seen.get(host)
        return seen.observed.owners if seen and seen.observed else ()

    def _show(self, host: str, owners: tuple[Owner, ...]) -> None:
        known = self.world.seen[host]
        assert known.observed is not None
        self.world.seen[host] = replace(known, observed=replace(known.observed, owners=owners))

    def over(self, name: str, first: int) -> None:
        """The host of the vertex's inlet tells that the newest of its inputs are in force."""
        host = placement.inlet_host(self.graph, self.graph.vertex(name))
        generation = max(edge.generation for edge in self.graph.into(name))
        others = tuple(each for each in self.owners(host) if each.ring != f"live/{name}.in")
        self._show(host, (*others, Owner(f"live/{name}.in", generation, first)))

    def heard(self) -> list[str]:
        """As the loop does: what is in force is settled, and planned."""
        found = list(deciding.settled(self.snapshot()))
        for graph, _ in found:
            self.world.graphs[0] = graph
        self.obey()
        return [told for _, told in found]

    def plan(self, host: str) -> Plan:
        return self.world.held[host].plan

    def inputs(self, name: str) -> list[InletInput]:
        host = placement.inlet_host(self.graph, self.graph.vertex(name))
        inlet = next(w.inlet for w in self.plan(host).workloads if w.name == f"live.{name}.in")
        assert inlet is not None
        return list(inlet.inputs)

    def digests(self) -> dict[tuple[str, str], str]:
        return {(h, w.name): w.digest() for h, held in self.world.held.items() for w in held.plan.workloads}

    def standing(self) -> tuple[InputStanding, ...]:
        return graph_views.graph_view(self.snapshot(), GraphQuery("tank", "live"), ()).inputs


def test_every_vertex_of_a_live_graph_has_an_inlet_at_its_own_home() -> None:
    run = Live()
    at = {w.name: h for h in (A, B, C) for w in run.plan(h).workloads if w.runs in (Runs.INLET, Runs.MERGE)}
    assert at == {
        "live.clean.in": A,
        "live.twins.in": B,
        "live.twins.merge": B,
        "live.sink.in": C,
        "live.display.in": A,
    }
    for name in ("clean", "twins", "sink", "display"):
        assert [each.generation for each in run.inputs(name)] == [0]


def test_an_insert_restarts_one_inlet_and_nobody_else() -> None:
    # invariant: R2
    run = Live()
    before = run.digests()
    run.edit(Insert("clean", "twins", vertex("flag", Role.SINGLE, A)))
    after = run.digests()
    assert {key for key in before if after.get(key) != before[key]} == {(B, "live.twins.in")}
    come = {name for _, name in after.keys() - before.keys()}
    assert come == {"live.flag", "live.flag.in", "live.flag.from-tank-a"}
    assert [(each.name, each.generation) for each in run.inputs("twins")] == [("clean", 0), ("flag@2", 2)]


def test_the_old_way_is_planned_until_the_host_has_told_that_the_new_one_counts() -> None:
    # invariant: S1
    run = Live()
    run.edit(Insert("clean", "twins", vertex("flag", Role.SINGLE, A)))
    assert run.heard() == []
    (waits,) = run.standing()
    assert (waits.vertex, waits.newest, waits.in_force, waits.first) == ("twins", 2, 0, -1)
    assert waits.waits == "tank-b has not told yet that the new inputs have caught up"
    run.over("twins", 4711)
    assert run.heard() == ["twins reads its new inputs from number 4711 on"]
    assert [each.name for each in run.inputs("twins")] == ["flag@2"]
    assert run.graph.leaving == NOTHING
    assert run.standing() == (InputStanding("twins", 2, 2, 4711, ""),)


def test_a_vertex_that_leaves_goes_once_nobody_reads_it() -> None:
    run = Live()
    before = run.digests()
    run.edit(Insert("clean", "twins", vertex("flag", Role.SINGLE, A)))
    run.over("twins", 10)
    run.heard()
    run.edit(Remove("flag"))
    assert (A, "live.flag") in run.digests()
    run.over("twins", 20)
    run.heard()
    assert run.digests().keys() == before.keys()


def test_new_inputs_come_by_whole_generations_and_the_old_need_not_wait_for_them() -> None:
    """One part of a split has no host yet: the inlet goes on with the whole."""
    run = Live()
    run.world.hosts[C] = replace(run.world.hosts[C], curve_public="")
    run.edit(Split("clean", 2, 0, 8, (A, C)))
    assert [each.name for each in run.inputs("twins")] == ["clean"]
    assert run.standing()[0].waits.startswith("clean-1 does not run yet")


def test_an_inlets_ring_keeps_its_size_whatever_it_reads() -> None:
    run = Live()
    size = {ring.name: ring for ring in run.plan(B).rings}["live/twins.in"]
    large = replace(vertex("flag", Role.SINGLE, A), ring_bytes=1 << 26, ring_slots=4096)
    run.edit(Insert("clean", "twins", large))
    run.over("twins", 1)
    run.heard()
    assert {ring.name: ring for ring in run.plan(B).rings}["live/twins.in"] == size
    with pytest.raises(InvalidInput, match="which it keeps while it runs"):
        run.edit(SetPolicy("flag", "twins", credit_bytes=1 << 27))


def test_a_revert_is_carried_out_like_any_edit() -> None:
    # invariant: S1
    run = Live()
    before = run.digests()
    run.edit(Insert("clean", "twins", vertex("flag", Role.SINGLE, A)))
    run.edit(Reroute("clean", "display", "flag"))
    for name in ("twins", "display"):
        run.over(name, 5)
    run.heard()
    run.become(live.reverted(run.snapshot(), run.record))
    assert [each.generation for each in run.inputs("twins")] == [2, 4]
    assert [each.generation for each in run.inputs("display")] == [3, 4]
    for name in ("twins", "display"):
        run.over(name, 9)
    run.heard()
    assert run.graph.leaving == NOTHING
    assert run.digests().keys() == before.keys()


def test_an_edit_waits_for_the_end_of_a_swap() -> None:
    run = Live()
    run.world.publish(release("twins", "1.1.0", writes="", reads=()))
    run.obey()
    assert run.plan(B).swaps
    before = run.digests()
    run.edit(Insert("clean", "twins", vertex("flag", Role.SINGLE, A)))
    assert run.digests() == before
    assert run.standing()[0].waits == "a swap of the graph is under way: hosts are told of the edit once it has ended"


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (Insert("clean", "twins", vertex("nothing", Role.SINGLE, A)), "nothing has no release that nothing could run"),
        (
            Insert("clean", "twins", vertex("heavy", Role.SINGLE, A)),
            "heavy, which keeps a state and so counts its outputs",
        ),
        (
            Replace("twins", vertex("flag", Role.PAIR, B, C)),
            "twins is going from 1.0.0 to 1.1.0 (tank.live.twins.2, running)",
        ),
        (SetPolicy("clean", "display", Policy.SAMPLE, 10), "would read those of every 10 of source"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(edit: Edit, told: str) -> None:
    run = Live()
    run.world.publish(release("heavy", "1.0.0"))
    run.world.publish(release("twins", "1.1.0", writes="", reads=()))
    run.obey()
    before, graph = run.digests(), run.graph
    with pytest.raises(HalftrackError) as caught:
        run.edit(edit)
    assert told in caught.value.message
    assert "nothing was changed" in caught.value.message
    assert (run.digests(), run.graph) == (before, graph)


def test_a_name_stays_its_products() -> None:
    run = Live()
    run.edit(Insert("clean", "twins", vertex("flag", Role.SINGLE, A)))
    run.over("twins", 1)
    run.heard()
    run.edit(Remove("flag"))
    run.over("twins", 2)
    run.heard()
    with pytest.raises(InvalidInput, match="flag has run flag: give the vertex that runs flag-b a name of its own"):
        run.edit(Insert("clean", "twins", replace(vertex("flag", Role.SINGLE, A), product="flag-b")))
    run.edit(Insert("clean", "twins", vertex("flag", Role.SINGLE, A)))
    assert [each.name for each in run.inputs("twins")] == ["clean@3", "flag@4"]


def test_what_was_declared_otherwise_cannot_be_reverted_to_at_once() -> None:
    run = Live()
    run.edit(Insert("clean", "twins", vertex("flag", Role.SINGLE, A)))
    run.declared = replace(LIVE, live=False)
    with pytest.raises(Refused, match="it was declared live: true"):
        live.reverted(run.snapshot(), run.record)


def test_an_insert_whose_release_fails_is_carried_until_it_is_taken_back() -> None:
    """It may have come into force before it failed: only an edit, and what the host tells of that, lets it go."""
    # invariant: S1
    run = Live()
    run.edit_only(Insert("clean", "twins", vertex("flag", Role.SINGLE, A)))
    run.world.settle()
    (rollout_id,) = [each for each in run.world.rollouts if each.startswith("tank.live.flag.")]
    failed = replace(run.world.rollouts[rollout_id], phase=RolloutPhase.FAILED)
    run.world.rollouts[rollout_id] = failed
    run.obey()
    assert [each.name for each in run.inputs("twins")] == ["clean", "flag@2"]
    run.edit(Remove("flag"))
    assert [each.name for each in run.inputs("twins")] == ["clean", "flag@2", "clean@3"]
    run.over("twins", 7)
    run.heard()
    assert [each.name for each in run.inputs("twins")] == ["clean@3"]
    assert (A, "live.flag") not in run.digests()


def test_a_first_release_of_who_has_left_stands_in_nobodys_way() -> None:
    run = Live()
    run.edit_only(Insert("clean", "twins", vertex("flag", Role.SINGLE, A)))
    run.world.settle()  # planned, and never seen to run
    run.edit_only(Remove("flag"))
    run.over("twins", 7)
    for graph, _ in deciding.settled(run.snapshot()):
        run.world.graphs[0] = graph
    run.world.settle()
    (mine,) = [each for each in run.world.rollouts.values() if each.vertex == "flag"]
    assert (mine.phase, mine.reason) == (RolloutPhase.ABORTED, "its vertex has left the graph")
    run.world.publish(release("twins", "1.1.0", writes="", reads=()))
    run.obey()
    assert run.plan(B).swaps


def test_a_release_does_not_begin_at_a_vertex_that_leaves() -> None:
    run = Live()
    run.edit(Remove("clean"))
    run.world.publish(release("clean", "1.1.0", writes="", reads=()))
    run.obey()
    assert [each for each in run.world.rollouts.values() if each.vertex == "clean" and each.to_version == "1.1.0"] == []


def test_what_one_inlet_has_told_settles_nothing_of_another() -> None:
    """Both stand on one host."""
    # invariant: S1
    run = Live()
    run.edit(SetPolicy("clean", "display", Policy.LOSSY))
    run.edit(Insert("source", "clean", vertex("flag", Role.SINGLE, A)))
    run.over("clean", 5)
    run.heard()
    assert [each.name for each in run.inputs("clean")] == ["flag@3"]
    assert [each.name for each in run.inputs("display")] == ["clean", "clean@2"]
