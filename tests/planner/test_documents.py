"""What may be declared anew of a graph whose stream runs."""

from dataclasses import replace

from halftrack_controller import documents
from halftrack_model.graph import StreamGraph
from tests.planner.world import deployed, spectra, tank


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
