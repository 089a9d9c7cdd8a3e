"""Inlets: what stands between a vertex and its inputs, from the graph's edges to a workload's orders and its ring. Pure.

It decides how large an inlet's ring is when it is made. Where an inlet runs is `placement`'s to say, and what it does with frames the data plane's.
"""

from collections.abc import Sequence

from halftrack_controller import placement
from halftrack_model.graph import Edge, JoinBy, StreamGraph, Vertex
from halftrack_model.workload import Inlet, InletInput, RingSpec, SpoolLimits

_ALIGNED = (JoinBy.SEQUENCE, JoinBy.TIME)


def inlet_of(graph: StreamGraph, vertex: Vertex, edges: Sequence[Edge]) -> Inlet:
    """What the inlet of `vertex` does with `edges`: its inputs in their order, and how those of one generation become one."""
    generations = [edge.generation for edge in edges]
    several = len(set(generations)) < len(generations)
    join = vertex.join if several else None
    return Inlet(
        inputs=tuple(_input(graph, edge) for edge in edges),
        join="" if join is None else join.by.value,
        join_width_ns=0 if join is None else join.width_ms * 1_000_000,
        join_partial=join is not None and join.partial,
    )


def ring_of(graph: StreamGraph, vertex: Vertex) -> RingSpec:
    """The ring that the inlet of `vertex` writes: room for each edge's credit, or for as much as its source's ring holds.

    Joined frames hold one of each input, so there are no more of them than of one input; frames that go one by one need a slot each.
    """
    edges = newest(graph.into(vertex.name))
    feeders = [graph.vertex(edge.source) for edge in edges]
    capacity = sum(edge.credit_bytes or feeder.ring_bytes for edge, feeder in zip(edges, feeders, strict=True))
    aligned = vertex.join is not None and vertex.join.by in _ALIGNED
    slots = [feeder.ring_slots for feeder in feeders]
    return RingSpec(
        placement.inlet_ring_name(graph.name, vertex.name),
        capacity,
        max(slots) if aligned else _power_of_two(sum(slots)),
        None,
    )


def spool_of(graph: StreamGraph, edge: Edge) -> tuple[str, str, SpoolLimits]:
    """The name of an edge's spool, the ring that it keeps, and what it may hold."""
    assert edge.spool is not None  # noqa: S101 - asked of edges that have one
    limits = SpoolLimits(edge.spool.size_bytes, edge.spool.retain_ms, edge.spool.full.value)
    name = placement.spool_name(graph.name, edge.source, edge.target)
    return name, placement.ring_name(graph.name, edge.source), limits


def newest(edges: Sequence[Edge]) -> list[Edge]:
    """Those that the vertex shall read, without what it still reads."""
    last = max((edge.generation for edge in edges), default=0)
    return [edge for edge in edges if edge.generation == last]


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _input(graph: StreamGraph, edge: Edge) -> InletInput:
    sample, cut = edge.sample, edge.partition
    return InletInput(
        name=f"{edge.source}@{edge.generation}" if edge.generation else edge.source,
        ring=placement.ring_name(graph.name, edge.source),
        policy=edge.policy.value,
        every=sample.every if sample is not None and sample.every else 1,
        rate_per_s=0 if sample is None else sample.rate_per_s,
        latest=sample is not None and sample.latest,
        key_offset=0 if cut is None else cut.offset,
        key_bytes=0 if cut is None else cut.key_bytes,
        key_of=0 if cut is None else cut.of,
        key_take=() if cut is None else cut.take,
        replay_ms=edge.replay_ms,
        evict_after_ms=edge.evict_after_ms,
        generation=edge.generation,
        spool="" if edge.spool is None else placement.spool_name(graph.name, edge.source, edge.target),
    )
