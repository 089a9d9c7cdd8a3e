"""Rewiring a graph that runs: hosts are modelled by what each vertex's inlet passes, and told or not told of. Properties first."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_model import canonical, edit_rules, edits, rewiring, rewiring_rules
from halftrack_model.edits import Edit, Insert, Remove, Replace, Reroute, SetPolicy, Split, Tap
from halftrack_model.errors import InvalidInput
from halftrack_model.graph import NOTHING, Edge, Join, JoinBy, Policy, Role, StreamGraph, Vertex
from halftrack_model.graph_rules import problems


def vertex(name: str, role: Role = Role.SINGLE, join: Join | None = None) -> Vertex:
    ring = (0, 0) if role is Role.SINK else (1 << 16, 64)
    return Vertex(name, role, "any", ("a", "b") if role is Role.PAIR else ("a",), {}, *ring, join)


LINE = StreamGraph(
    "line",
    "home",
    (
        vertex("source", Role.SOURCE),
        vertex("clean"),
        vertex("spectra", Role.PAIR),
        vertex("sink", Role.SINK),
        vertex("display", Role.SINK),
    ),
    (Edge("source", "clean"), Edge("clean", "spectra"), Edge("spectra", "sink"), Edge("clean", "display")),
    live=True,
)
UNION = Join(JoinBy.UNION)


class Hosts:
    """A graph, and for each vertex the generation that its inlet passes: never back, and unknown to anybody until it is told."""

    def __init__(self, graph: StreamGraph) -> None:
        self.graph, self.revision = graph, 0
        self.in_force = {each.name: 0 for each in graph.vertices}
        self.told: dict[str, int] = {}

    def ask(self, wanted: StreamGraph) -> None:
        """As the controller does: refused, or carried out."""
        if found := tuple(rewiring_rules.refusals(self.graph, wanted, self.in_force.keys(), ())):
            raise InvalidInput("bad-edit", "\n".join(found))
        self.revision += 1
        self.graph = rewiring.rewired(self.graph, wanted, self.revision, self.in_force.keys())
        self._follow()

    def edit(self, edit: Edit) -> None:
        self.ask(edit_rules.edited(rewiring.asked(self.graph), edit))

    def go_over(self, name: str) -> None:
        """Its inlet goes over to the next generation that it has."""
        later = {e.generation for e in rewiring.carried(self.graph).into(name) if e.generation > self.in_force[name]}
        self.in_force[name] = min(later, default=self.in_force[name])

    def tell(self, name: str) -> None:
        self.told[name] = self.in_force[name]

    def settle(self) -> None:
        self.graph = rewiring.settled(self.graph, self.told)
        self._follow()

    def all_told(self) -> None:
        while rewiring.going(self.graph):
            for name in list(self.in_force):
                self.go_over(name)
                self.tell(name)
            self.settle()

    def inputs_in_force(self) -> dict[str, tuple[Edge, ...]]:
        """What each vertex that runs is fed by."""
        carried = rewiring.carried(self.graph)
        return {
            name: tuple(edge for edge in carried.into(name) if edge.generation == generation)
            for name, generation in self.in_force.items()
        }

    def _follow(self) -> None:
        """A vertex that comes begins with what it finds; one that is gone is forgotten."""
        carried = rewiring.carried(self.graph)
        for each in carried.vertices:
            oldest = min((edge.generation for edge in carried.into(each.name)), default=0)
            self.in_force.setdefault(each.name, oldest)
        for name in self.in_force.keys() - {each.name for each in carried.vertices}:
            del self.in_force[name]
            self.told.pop(name, None)


NAMES = st.sampled_from([f"new{n}" for n in range(4)])


def _edits(graph: StreamGraph) -> st.SearchStrategy[Edit]:
    """Edits of what is there, most of which can be."""
    edges = st.sampled_from([(edge.source, edge.target) for edge in graph.edges])
    inner = st.sampled_from([each.name for each in graph.vertices if each.role.transforms] or ["source"])
    producers = st.sampled_from([each.name for each in graph.vertices if each.role is not Role.SINK])
    return st.one_of(
        st.builds(lambda edge, name: Insert(*edge, vertex(name)), edges, NAMES),
        st.builds(lambda edge, other: Reroute(*edge, other), edges, producers),
        st.builds(lambda old, name: Replace(old, vertex(name)), inner, NAMES),
        st.builds(lambda source, name: Tap(source, vertex(name, Role.SINK)), producers, NAMES),
        st.builds(Remove, st.sampled_from([each.name for each in graph.vertices])),
        st.builds(Split, inner, st.integers(2, 3), st.just(0), st.just(8)),
        st.builds(
            lambda edge, policy: SetPolicy(*edge, policy), edges, st.sampled_from([Policy.LOSSY, Policy.LOSSLESS])
        ),
        st.builds(lambda edge, credit: SetPolicy(*edge, credit_bytes=credit), edges, st.sampled_from([0, 1 << 20])),
    )


def _happen(data: st.DataObject, hosts: Hosts) -> None:
    """One thing: an edit, an inlet that goes over, a host that tells, a controller that hears."""
    kind = data.draw(st.sampled_from(["edit", "edit", "over", "tell", "settle"]))
    if kind == "edit":
        edit = data.draw(_edits(rewiring.asked(hosts.graph)))
        before, revision = hosts.graph, hosts.revision
        try:
            hosts.edit(edit)
        except InvalidInput:
            assert (hosts.graph, hosts.revision) == (before, revision)
    elif kind == "settle":
        hosts.settle()
    else:
        name = data.draw(st.sampled_from(sorted(hosts.in_force)))
        hosts.go_over(name) if kind == "over" else hosts.tell(name)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_in_force_is_never_taken_away(data: st.DataObject) -> None:
    """Whatever is edited, goes over, is told or not: each vertex that runs keeps being fed, by what it was fed by."""
    # invariant: S1
    hosts = Hosts(LINE)
    for _ in range(data.draw(st.integers(1, 10))):
        before, force = hosts.inputs_in_force(), dict(hosts.in_force)
        _happen(data, hosts)
        assert problems(rewiring.asked(hosts.graph)) == ()
        assert canonical.decode(StreamGraph, canonical.encode(hosts.graph)) == hosts.graph
        carried = rewiring.carried(hosts.graph)
        for name, edges in hosts.inputs_in_force().items():
            if name in before and hosts.in_force[name] == force[name]:
                assert edges == before[name]
            assert edges or not carried.into(name)
        assert {edge.source for edge in carried.edges} <= {each.name for each in carried.vertices}
        for each in rewiring.going(hosts.graph):
            assert len(each.old) < rewiring.MAX_GENERATIONS
            assert each.new > max(each.old)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_once_all_have_gone_over_the_graph_is_what_was_asked(data: st.DataObject) -> None:
    hosts = Hosts(LINE)
    for _ in range(data.draw(st.integers(1, 8))):
        _happen(data, hosts)
    wanted = rewiring.asked(hosts.graph)
    hosts.all_told()
    assert hosts.graph.leaving == NOTHING
    assert rewiring.asked(hosts.graph) == wanted
    assert rewiring.going(hosts.graph) == ()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_everything_can_be_reverted_by_going_over_again(data: st.DataObject) -> None:
    """Once what was edited is in force everywhere, what was declared can be asked for like any other graph."""
    hosts = Hosts(LINE)
    for _ in range(data.draw(st.integers(1, 6))):
        _happen(data, hosts)
        hosts.all_told()
    try:
        hosts.ask(LINE)
    except InvalidInput as refused:
        assert "form a cycle" in refused.message  # noqa: PT017 - the one thing that needs steps
        return
    assert edits.same(hosts.graph, LINE)
    assert edits.differences(LINE, hosts.graph) == ()
    hosts.all_told()
    assert edits.same(hosts.graph, LINE)
    assert hosts.graph.leaving == NOTHING


PARTS: list[Edit] = [
    Insert("spectra", "sink", vertex("late")),
    SetPolicy("clean", "display", Policy.LOSSY),
    Insert("source", "clean", vertex("early")),
    Tap("spectra", vertex("night", Role.SINK)),
    Split("spectra", 2, 0, 8),
]


@pytest.mark.parametrize("second", range(1, len(PARTS)))
@pytest.mark.parametrize("first", range(len(PARTS) - 1))
def test_edits_of_different_parts_commute(first: int, second: int) -> None:
    one, other = PARTS[first], PARTS[second]
    if first >= second or {"spectra"} <= _touched(one) & _touched(other):
        return
    ways = []
    for order in ((one, other), (other, one)):
        hosts = Hosts(LINE)
        for edit in order:
            hosts.edit(edit)
        ways.append(hosts)
    assert edits.same(ways[0].graph, ways[1].graph)
    going = [{(each.vertex, len(each.old)) for each in rewiring.going(hosts.graph)} for hosts in ways]
    assert going[0] == going[1]
    assert {v.name for v in ways[0].graph.leaving.vertices} == {v.name for v in ways[1].graph.leaving.vertices}


def _touched(edit: Edit) -> set[str]:
    match edit:
        case Tap(source, _):
            return {source}
        case Split(name):
            return {name}
        case Insert(source, target, _):
            return {source, target}
    return set()


# ---------------------------------------------------------------------------------------------------------------- examples


def test_an_insert_is_carried_beside_the_old_until_it_is_told_to_be_in_force() -> None:
    hosts = Hosts(LINE)
    hosts.edit(Insert("clean", "spectra", vertex("flag")))
    assert hosts.graph.into("spectra") == (Edge("flag", "spectra", generation=1),)
    assert hosts.graph.leaving.edges == (Edge("clean", "spectra"),)
    assert rewiring.going(hosts.graph) == (rewiring.Going("spectra", (0,), 1),)
    hosts.settle()  # nobody has told anything
    assert hosts.graph.leaving.edges == (Edge("clean", "spectra"),)
    hosts.go_over("spectra")
    hosts.tell("spectra")
    hosts.settle()
    assert hosts.graph.leaving == NOTHING


def test_what_was_inserted_and_removed_again_leaves_with_what_leads_to_it() -> None:
    hosts = Hosts(LINE)
    hosts.edit(Insert("clean", "spectra", vertex("flag")))
    hosts.all_told()
    hosts.edit(Remove("flag"))
    assert [each.name for each in hosts.graph.leaving.vertices] == ["flag"]
    assert {str(edge) for edge in hosts.graph.leaving.edges} == {"edge clean → flag", "edge flag → spectra"}
    assert edits.same(hosts.graph, LINE)
    hosts.all_told()
    assert hosts.graph.leaving == NOTHING


def test_an_edit_that_cannot_come_into_force_can_be_taken_back_and_then_no_more() -> None:
    """Its vertex never makes a frame: the inlet stays where it is, and goes past it to the third."""
    hosts = Hosts(LINE)
    hosts.edit(Insert("clean", "spectra", vertex("broken")))
    hosts.edit(Remove("broken"))
    assert rewiring.going(hosts.graph) == (rewiring.Going("spectra", (0, 1), 2),)
    with pytest.raises(InvalidInput) as caught:
        hosts.edit(Insert("clean", "spectra", vertex("flag")))
    assert "spectra has still to go over" in caught.value.message
    hosts.in_force["spectra"] = 2
    hosts.tell("spectra")
    hosts.settle()
    assert hosts.graph.leaving == NOTHING


def test_parts_are_joined_as_one_stream_while_the_whole_leaves() -> None:
    hosts = Hosts(LINE)
    hosts.edit(Split("clean", 2, 0, 8))
    assert hosts.graph.vertex("spectra").join == UNION
    assert [e.source for e in hosts.graph.into("spectra")] == ["clean-0", "clean-1"]
    assert {v.name for v in hosts.graph.leaving.vertices} == {"clean"}
    hosts.all_told()
    hosts.edit(Replace("clean-0", vertex("first")))
    hosts.all_told()
    assert rewiring.carried(hosts.graph).vertex("spectra").join == UNION


def test_who_joins_no_more_still_joins_what_it_had() -> None:
    hosts = Hosts(LINE)
    hosts.edit(Split("clean", 2, 0, 8))
    hosts.all_told()
    hosts.ask(LINE)
    assert hosts.graph.vertex("spectra").join is None
    assert rewiring.carried(hosts.graph).vertex("spectra").join == UNION
    hosts.all_told()
    assert rewiring.carried(hosts.graph).vertex("spectra").join is None


def test_who_does_not_run_yet_has_nothing_to_go_over_from() -> None:
    wanted = edit_rules.edited(LINE, Insert("clean", "spectra", vertex("flag")))
    after = rewiring.rewired(LINE, wanted, 1, ())
    assert after.leaving == NOTHING
    assert rewiring.asked(after) == wanted


def test_a_vertex_that_comes_back_while_it_leaves_just_stays() -> None:
    hosts = Hosts(LINE)
    hosts.edit(Remove("clean"))
    assert {v.name for v in hosts.graph.leaving.vertices} == {"clean"}
    hosts.ask(LINE)
    assert hosts.graph.into("clean") == (Edge("source", "clean"),)
    assert hosts.graph.leaving.vertices == ()
    hosts.all_told()
    assert hosts.graph.leaving == NOTHING


def test_two_vertices_are_not_turned_around_in_one_step() -> None:
    """Each would wait for the other's frames, and some frames would pass one of them twice."""
    turned = replace(
        LINE,
        edges=(Edge("source", "spectra"), Edge("spectra", "clean"), Edge("clean", "sink"), Edge("clean", "display")),
    )
    hosts = Hosts(LINE)
    with pytest.raises(InvalidInput) as caught:
        hosts.ask(turned)
    assert "form a cycle: clean → spectra → clean; do it in steps" in caught.value.message
