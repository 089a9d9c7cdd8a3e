"""A graph is judged as a whole: every error at once, and none in a graph that can be deployed."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.graph_rules import problems
from tests.model.shapes import graphs


def _vertex(name: str, role: Role, *hosts: str) -> Vertex:
    sink = role is Role.SINK
    return Vertex(name, role, name, hosts, {}, 0 if sink else 1 << 20, 0 if sink else 64)


GOOD = StreamGraph(
    "spectra",
    "telescope",
    (
        _vertex("source", Role.SOURCE, "tank-a"),
        _vertex("spectrometer", Role.PAIR, "tank-a", "tank-b"),
        _vertex("sink", Role.SINK, "tank-a"),
    ),
    (Edge("source", "spectrometer"), Edge("spectrometer", "sink")),
)


def _changed(name: str, **fields: object) -> StreamGraph:
    vertices = tuple(replace(v, **fields) if v.name == name else v for v in GOOD.vertices)  # type: ignore[arg-type]
    return replace(GOOD, vertices=vertices)


def test_a_good_graph_has_no_problems() -> None:
    assert problems(GOOD) == ()


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (replace(GOOD, vertices=GOOD.vertices * 2), "vertex 'sink' is defined twice"),
        (
            replace(GOOD, edges=(*GOOD.edges, Edge("spectrometer", "moon"))),
            "edge spectrometer → moon: no vertex 'moon'",
        ),
        (replace(GOOD, edges=(*GOOD.edges, Edge("spectrometer", "source"))), "a source has no input"),
        (replace(GOOD, edges=(*GOOD.edges, Edge("source", "sink"))), "must say how they become one: write join:"),
        (replace(GOOD, edges=GOOD.edges[1:]), "vertex 'spectrometer': needs at least one input, has 0"),
        (replace(GOOD, edges=GOOD.edges[:1]), "vertex 'spectrometer': nobody consumes what it produces"),
        (_changed("spectrometer", hosts=("tank-a", "tank-b", "tank-c")), "a pair names 1 or 2 host(s), this one 3"),
        (_changed("spectrometer", role=Role.SINGLE), "a single names 1 host(s), this one 2"),
        (_changed("source", state="spectra"), "a source keeps no state that snapshots hold"),
        (_changed("spectrometer", hosts=("tank-a", "tank-a")), "the members of a pair need different hosts"),
        (_changed("source", hosts=("tank-a", "tank-b")), "a source names 1 host(s), this one 2"),
        (_changed("source", ring_slots=1000), "its ring's slots must be a power of two from 2 on"),
        (
            _changed("source", ring_slots=1),
            "its ring's slots must be a power of two from 2 on",
        ),  # no ring can be made with one
        (_changed("source", ring_bytes=1000), "its ring needs at least 65536 bytes"),
        (
            _changed("sink", ring_bytes=0, role=Role.PAIR, hosts=("tank-a", "tank-b")),
            "nobody consumes what it produces",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_rule_is_said_in_words(graph: StreamGraph, said: str) -> None:
    assert any(said in problem for problem in problems(graph)), problems(graph)


def test_all_errors_come_at_once() -> None:
    graph = replace(_changed("source", ring_slots=3, ring_bytes=1), edges=GOOD.edges[:1])
    found = problems(graph)
    assert len(found) == len(set(found)) == 4  # two of the ring, an idle pair, a sink without input


def test_a_cycle_is_shown_as_the_names_along_it() -> None:
    pairs = tuple(_vertex(name, Role.PAIR, "tank-a", "tank-b") for name in ("a", "b"))
    graph = StreamGraph("loop", "telescope", pairs, (Edge("a", "b"), Edge("b", "a")))
    assert "the edges form a cycle: a → b → a" in problems(graph)


def _chain(pairs: int) -> StreamGraph:
    """A source, so many pairs, a sink, in a line."""
    vertices = [_vertex("source", Role.SOURCE, "tank-a")]
    vertices += [_vertex(f"pair-{n}", Role.PAIR, "tank-a", "tank-b") for n in range(pairs)]
    vertices += [_vertex("sink", Role.SINK, "tank-a")]
    edges = tuple(Edge(one.name, two.name) for one, two in pairwise(vertices))
    return StreamGraph("chain", "telescope", tuple(vertices), edges)


@given(st.integers(0, 3), st.data())
def test_a_line_of_vertices_is_good_until_something_is_taken_away(pairs: int, data: st.DataObject) -> None:
    graph = _chain(pairs)
    assert problems(graph) == ()
    edge = data.draw(st.sampled_from(graph.edges))
    assert problems(replace(graph, edges=tuple(other for other in graph.edges if other is not edge)))
    vertex = data.draw(st.sampled_from(graph.vertices))
    assert problems(replace(graph, vertices=tuple(other for other in graph.vertices if other is not vertex)))
    apart = tuple(replace(each, hosts=(f"host-{n}",)) for n, each in enumerate(graph.vertices))
    assert problems(replace(graph, vertices=apart)) == ()  # members on one host, and every consumer on another


@given(graphs)
def test_problems_name_a_vertex_an_edge_or_the_cycle(graph: StreamGraph) -> None:
    assert all(problem.startswith(("vertex ", "edge ", "the edges form a cycle")) for problem in problems(graph))
    assert problems(graph) == problems(graph)
