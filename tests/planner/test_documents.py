"""What may be declared anew of a graph whose stream runs."""

from dataclasses import replace

import pytest

from halftrack_controller import documents, placement
from halftrack_model.graph import Edge, Place, Policy, StreamGraph
from tests.planner.graphs import CHAIN, SURVEY, running, world
from tests.planner.world import deployed, release, spectra, tank


def with_ring(vertex: str, ring_bytes: int, ring_slots: int) -> StreamGraph:
    graph = spectra()
    return replace(
        graph,
        vertices=tuple(
            replace(each, ring_bytes=ring_bytes, ring_slots=ring_slots) if each.name == vertex else each
            for each in graph.vertices
        ),
    )


def test_a_ring_keeps_its_size_while_its_stream_runs() -> None:
    running = deployed().snapshot()
    for vertex in ("source", "spectrometer"):
        for size in ((1 << 20, 4096), (1 << 28, 8)):
            (problem,) = documents.problems(running, [with_ring(vertex, *size)])
            assert problem.startswith(f"graph tank/spectra: vertex {vertex!r}: its ring has")
            assert "begins a new stream" in problem


def test_what_stays_and_what_does_not_run_yet_may_be_declared() -> None:
    assert list(documents.problems(deployed().snapshot(), [spectra()])) == []
    renamed = replace(with_ring("source", 1 << 20, 8), name="other")
    assert list(documents.problems(deployed().snapshot(), [renamed])) == []
    assert list(documents.problems(tank().snapshot(), [with_ring("source", 1 << 20, 8)])) == []


def _with_edges(graph: StreamGraph, *edges: Edge) -> StreamGraph:
    """The graph with these in place of the ones between the same two."""
    ends = {(edge.source, edge.target): edge for edge in edges}
    return replace(graph, edges=tuple(ends.get((edge.source, edge.target), edge) for edge in graph.edges))


def _moved(graph: StreamGraph, name: str, *hosts: str) -> StreamGraph:
    return replace(graph, vertices=tuple(replace(v, hosts=hosts) if v.name == name else v for v in graph.vertices))


LOSSY = Edge("south", "beam", Policy.LOSSY, placement=Place.TARGET)


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        (_with_edges(SURVEY, LOSSY), "vertex 'beam': its inlet writes on tank-a, and would on tank-c"),
        (
            _with_edges(SURVEY, Edge("north", "beam", credit_bytes=1 << 17)),
            "vertex 'beam': the ring of its inlet has 2097152 bytes and 1024 slots",
        ),
        (replace(SURVEY, edges=SURVEY.edges[1::-1] + SURVEY.edges[2:]), "vertex 'beam': it reads north, south and keeps"),
        (_with_edges(SURVEY, Edge("beam", "archive", Policy.LOSSY)), "vertex 'archive': it reads beam and keeps its place"),
        (_moved(SURVEY, "north", "tank-b"), "vertex 'north': its stream is written on tank-a, and would be on tank-b"),
        (_moved(SURVEY, "beam", "tank-b", "tank-a"), "vertex 'beam': its stream is written on tank-c, and would be on tank-b"),
    ],
)  # fmt: skip
def test_a_stream_and_who_reads_it_stay_where_they_are_while_it_runs(graph: StreamGraph, told: str) -> None:
    assert placement.problems(graph) == ()
    snapshot = running(SURVEY).snapshot()
    found = list(documents.problems(snapshot, [graph]))
    assert any(problem.startswith(f"graph tank/survey: {told}") for problem in found), found
    assert list(documents.problems(world(SURVEY).snapshot(), [graph])) == [], "nothing runs yet"


def test_what_moves_no_stream_may_be_declared_anew() -> None:
    snapshot = running(SURVEY).snapshot()
    patient = _with_edges(SURVEY, Edge("north", "beam", evict_after_ms=500), Edge("south", "beam", retain_ms=9))
    for graph in (patient, _moved(SURVEY, "beam", "tank-a", "tank-c"), _moved(SURVEY, "archive", "tank-c")):
        assert list(documents.problems(snapshot, [graph])) == []


def _stateful(**states: str) -> StreamGraph:
    vertices = tuple(replace(v, state=states.get(v.name, "")) for v in SURVEY.vertices)
    return replace(SURVEY, vertices=vertices)


@pytest.mark.parametrize(
    ("writes", "state", "told"),
    [
        ("s/1", "s", ""),
        ("s/2", "s", ""),
        ("s/1", "s/1", ""),
        ("", "s", "keeps state 's', and beam 2.0.0 writes none: publish a release that does"),
        ("t/1", "s", "keeps state 's', and beam 2.0.0 writes 't/1': let them agree"),
        ("s/2", "s/1", "keeps state 's/1', and beam 2.0.0 writes 's/2': let them agree"),
    ],
)
def test_a_vertex_that_says_what_state_it_keeps_is_held_to_it(writes: str, state: str, told: str) -> None:
    made = world(_stateful(beam=state))
    for name in ("north", "south", "archive", "display"):
        made.publish(release(name, "1.0.0"))
    made.publish(release("beam", "2.0.0", writes))
    found = list(documents.problems(made.snapshot(), made.graphs))
    assert found == ([f"graph tank/survey: vertex 'beam' {told}"] if told else [])
    made.settle()
    begun = made.rollouts["tank.survey.beam.1"]
    assert (begun.phase.value, begun.reason.removeprefix("vertex 'beam' ")) == (
        ("pending", told) if told else ("running", begun.reason)
    )


def test_once_one_vertex_says_that_it_keeps_a_state_silence_means_none() -> None:
    made = running(SURVEY)  # whose releases write s/1, while nobody says so: as before
    assert list(documents.problems(made.snapshot(), [SURVEY])) == []
    chain = replace(CHAIN, vertices=tuple(replace(v, state="s" if v.name == "first" else "") for v in CHAIN.vertices))
    (problem,) = documents.problems(running(CHAIN).snapshot(), [chain])
    assert problem == (
        "graph tank/chain: vertex 'second' keeps no state, and second 1.0.0 writes 's/1': write state: s at the vertex"
    )


@pytest.mark.parametrize("size", [("vertices", 257), ("edges", 1025)])
def test_a_graph_that_came_over_the_wire_has_bounds_too(size: tuple[str, int]) -> None:
    what, count = size
    large = replace(SURVEY, **{what: getattr(SURVEY, what)[:1] * count})
    (problem,) = documents.problems(world(SURVEY).snapshot(), [large])
    assert f"{count} {what}; at most {count - 1}" in problem
