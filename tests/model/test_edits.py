"""Edits of a graph: what they make of it, what they refuse, and that drift is told exactly. Properties first."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_model import edit_rules, edits
from halftrack_model.edits import Edit, Remove, Tap
from halftrack_model.errors import InvalidInput
from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.graph_rules import problems

LINE = StreamGraph(
    "line",
    "home",
    (
        Vertex("source", Role.SOURCE, "counter", ("a",), {}, 1 << 16, 64),
        Vertex("sink", Role.SINK, "keeper", ("a",), {}, 0, 0),
    ),
    (Edge("source", "sink"),),
)
NAMES = ["source", "sink", "night", "noon"]


def sink(name: str, product: str = "keeper") -> Vertex:
    return Vertex(name, Role.SINK, product, ("a",), {}, 0, 0)


EDITS: st.SearchStrategy[Edit] = st.one_of(
    st.builds(
        Tap, st.sampled_from(NAMES), st.builds(sink, st.sampled_from(NAMES), st.sampled_from(["keeper", "other"]))
    ),
    st.builds(Remove, st.sampled_from(NAMES)),
)


@given(st.lists(EDITS, max_size=12))
def test_a_graph_that_was_valid_stays_valid_whatever_is_asked(steps: list[Edit]) -> None:
    graph = LINE
    for step in steps:
        before = graph
        try:
            graph = edit_rules.edited(graph, step)
        except InvalidInput:
            continue
        assert problems(graph) == ()
        untouched = [vertex for vertex in before.vertices if vertex.name not in (_touched(step))]
        assert all(vertex in graph.vertices for vertex in untouched)
        assert not edits.same(before, graph)


@given(st.lists(EDITS, max_size=12))
def test_drift_names_exactly_what_differs(steps: list[Edit]) -> None:
    graph = LINE
    for step in steps:
        try:
            graph = edit_rules.edited(graph, step)
        except InvalidInput:
            continue
    told = edits.differences(LINE, graph)
    assert (told == ()) is edits.same(LINE, graph)
    mine, theirs = ({vertex.name for vertex in each.vertices} for each in (LINE, graph))
    assert {line.removeprefix("+ vertex ") for line in told if line.startswith("+ vertex")} == theirs - mine
    assert {line.removeprefix("- vertex ") for line in told if line.startswith("- vertex")} == mine - theirs
    back = [line[0].translate(str.maketrans("+-", "-+")) + line[1:] for line in told]
    assert sorted(edits.differences(graph, LINE)) == sorted(back)


def _touched(edit: Edit) -> set[str]:
    return {edit.vertex.name} if isinstance(edit, Tap) else {edit.vertex}


def test_a_tap_taken_away_again_leaves_no_trace() -> None:
    tapped = edit_rules.edited(LINE, Tap("source", sink("night")))
    assert edits.differences(LINE, tapped) == ("+ vertex night", "+ edge source → night")
    assert edit_rules.edited(tapped, Remove("night")) == LINE


def test_the_order_of_writing_is_no_drift() -> None:
    turned = replace(LINE, vertices=tuple(reversed(LINE.vertices)))
    assert edits.same(LINE, turned)
    assert edits.differences(LINE, turned) == ()


def test_a_changed_vertex_is_told_by_its_fields() -> None:
    other = replace(LINE, vertices=(LINE.vertices[0], sink("sink", "other")))
    assert edits.differences(LINE, other) == ("~ vertex sink: product",)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (Tap("nobody", sink("night")), "there is no vertex 'nobody': line has sink, source"),
        (Tap("sink", sink("night")), "sink is a sink: it produces nothing that could be tapped"),
        (Tap("source", sink("sink")), "there is a vertex 'sink' already: give the tap another name"),
        (Tap("source", replace(sink("night"), role=Role.SOURCE)), "a tap is a sink, and night is a source"),
        (Tap("source", replace(sink("night"), hosts=("a", "b"))), "a sink names 1 host(s), this one 2"),
        (Remove("nobody"), "there is no vertex 'nobody': line has sink, source"),
        (Remove("source"), "source is a source, and others read what it produces: let them read another vertex first"),
        (Remove("sink"), "nobody consumes what it produces"),
    ],
)
def test_a_refusal_says_what_stands_in_the_way(edit: Edit, told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        edit_rules.edited(LINE, edit)
    assert told in caught.value.message
