"""What declared rates make impossible in a stream graph, each in a sentence. Pure.

Only what is certain is a problem: a rate that nobody has declared is unknown, and what is unknown passes. Keys are taken to spread evenly
over the parts of a partition.
"""

from collections.abc import Iterator

from halftrack_model.graph import Edge, JoinBy, Policy, Rate, Role, StreamGraph, Vertex

UNKNOWN = Rate()
_ALIGNED = (JoinBy.SEQUENCE, JoinBy.TIME)  # these make one frame of one of each input


def problems(graph: StreamGraph) -> Iterator[str]:
    """Everything that cannot be, in a graph whose edges end somewhere and form no cycle."""
    for vertex in graph.vertices:
        yield from (f"vertex {vertex.name!r}: {text}" for text in _of_vertex(graph, vertex))
    for edge in graph.edges:
        yield from (f"{edge}: {text}" for text in _of_edge(graph, edge))


def carried(graph: StreamGraph, edge: Edge) -> Rate:
    """What comes through `edge` at most, after its partition and its sampling."""
    rate = graph.vertex(edge.source).rate or UNKNOWN
    if (cut := edge.partition) is not None and cut.of > 0:
        rate = _scaled(rate, len(cut.take), cut.of)
    sample = edge.sample
    if sample is None:
        return rate
    if sample.every > 0:
        return _scaled(rate, 1, sample.every)
    if sample.rate_per_s > 0:
        if not rate.frames_per_s:
            return Rate(0, sample.rate_per_s)
        taken = min(sample.rate_per_s, rate.frames_per_s)
        return _scaled(rate, taken, rate.frames_per_s)
    return UNKNOWN  # the newest, whenever the reader looks


def inflow(graph: StreamGraph, vertex: Vertex) -> Rate:
    """What lossless edges bring to `vertex` at most: nobody can make it less, so the vertex must be able to take it."""
    held = [edge for edge in graph.into(vertex.name) if edge.policy is Policy.LOSSLESS and edge.spool is None]
    rates = [carried(graph, edge) for edge in held]  # what is more than it can take for a while is what a spool is for
    aligned = vertex.join is not None and vertex.join.by in _ALIGNED
    frames = [rate.frames_per_s for rate in rates]
    return Rate(sum(rate.bytes_per_s for rate in rates), max(frames, default=0) if aligned else sum(frames))


def _scaled(rate: Rate, share: int, whole: int) -> Rate:
    return Rate(rate.bytes_per_s * share // whole, rate.frames_per_s * share // whole)


def _of_vertex(graph: StreamGraph, vertex: Vertex) -> Iterator[str]:
    for what, rate in (("rate", vertex.rate), ("capacity", vertex.capacity)):
        if rate is not None and (min(rate.bytes_per_s, rate.frames_per_s) < 0 or rate == UNKNOWN):
            yield f"its {what} says nothing: write {what}: {{bytes: 100MB, frames: 20000}}, or one of the two; both are per second"
    if vertex.rate is not None and vertex.role is Role.SINK:
        yield "a sink produces nothing, so it has no rate: write what it can take as its capacity"
    if vertex.capacity is None:
        return
    if vertex.role is Role.SOURCE:
        yield "a source takes nothing in, so it has no capacity: write what it produces as its rate"
        return
    fed = inflow(graph, vertex)
    pairs = (
        ("bytes", vertex.capacity.bytes_per_s, fed.bytes_per_s),
        ("frames", vertex.capacity.frames_per_s, fed.frames_per_s),
    )
    for unit, takes, comes in pairs:
        if 0 < takes < comes:
            yield (
                f"can take {takes} {unit}/s, and lossless edges bring up to {comes}: partition its work, sample an edge, "
                "or let one be lossy"
            )


def _of_edge(graph: StreamGraph, edge: Edge) -> Iterator[str]:
    source = graph.vertex(edge.source)
    rate = source.rate or UNKNOWN
    if edge.sample is not None and 0 < rate.frames_per_s < edge.sample.rate_per_s:
        yield f"samples {edge.sample.rate_per_s} frames/s of a stream that has {rate.frames_per_s}: write less, or read all of it"
    kept_ms = max(other.retain_ms for other in graph.out_of(edge.source))
    if 0 < kept_ms < edge.replay_ms:
        yield f"replays {edge.replay_ms} ms, and the ring of {source.name} keeps {kept_ms}: let an edge retain as much"
    for what, wanted_ms in (("retain", edge.retain_ms), ("replay", edge.replay_ms)):
        wants = (
            ("bytes", source.ring_bytes, rate.bytes_per_s * wanted_ms // 1000),
            ("slots", source.ring_slots, rate.frames_per_s * wanted_ms // 1000),
        )
        for unit, has, needs in wants:
            if has < needs:
                yield (
                    f"would {what} {wanted_ms} ms, which at the declared rate are {needs} {unit}; the ring of {source.name} has {has}: "
                    "make it larger, or the time shorter"
                )
