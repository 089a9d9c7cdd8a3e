"""Inputs that become one, edges that carry less than everything, and rates that cannot be: each rule in words, all at once."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_model import canonical
from halftrack_model.graph import (
    Edge,
    Full,
    Join,
    JoinBy,
    Partition,
    Place,
    Policy,
    Rate,
    Role,
    Sample,
    Spool,
    StreamGraph,
    Vertex,
)
from halftrack_model.graph_rates import carried, inflow
from halftrack_model.graph_rules import problems
from tests.model.shapes import graphs


def _vertex(name: str, role: Role, *hosts: str, join: Join | None = None) -> Vertex:
    ring = (0, 0) if role is Role.SINK else (1 << 20, 1024)
    return Vertex(name, role, name, hosts, {}, *ring, join)


def _take(source: str, target: str, *parts: int, of: int = 2) -> Edge:
    return Edge(source, target, partition=Partition(0, 8, of, parts))


SPOOL = Spool(1 << 30, 5000, Full.DROP_OLDEST)
UNION, SEQUENCE = Join(JoinBy.UNION), Join(JoinBy.SEQUENCE)
# A source whose stream is parted between two singles; they meet again; a sampled part of the source goes to a display.
GOOD = StreamGraph(
    "survey",
    "tank",
    (
        replace(_vertex("source", Role.SOURCE, "a"), rate=Rate(1_000_000, 1000)),
        _vertex("left", Role.SINGLE, "a"),
        replace(_vertex("right", Role.SINGLE, "b"), capacity=Rate(0, 600)),
        _vertex("both", Role.PAIR, "a", "b", join=UNION),
        _vertex("sink", Role.SINK, "b"),
        _vertex("display", Role.SINK, "a"),
    ),
    (
        _take("source", "left", 0),
        _take("source", "right", 1),
        Edge("left", "both", credit_bytes=1 << 16, evict_after_ms=500),
        Edge("right", "both"),
        Edge("both", "sink", retain_ms=5000),
        Edge("source", "display", Policy.SAMPLE, sample=Sample(rate_per_s=10), replay_ms=200),
    ),
)


def _edge(number: int, **fields: object) -> StreamGraph:
    changed = replace(GOOD.edges[number], **fields)  # type: ignore[arg-type]
    return replace(GOOD, edges=(*GOOD.edges[:number], changed, *GOOD.edges[number + 1 :]))


def _at(name: str, **fields: object) -> StreamGraph:
    vertices = tuple(replace(v, **fields) if v.name == name else v for v in GOOD.vertices)  # type: ignore[arg-type]
    return replace(GOOD, vertices=vertices)


def test_a_graph_that_uses_everything_has_no_problems() -> None:
    assert problems(GOOD) == ()


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (_at("both", join=None), "vertex 'both': has 2 inputs, so it must say how they become one: write join: {by: sequence"),
        (_at("sink", join=UNION), "vertex 'sink': has 1 input(s), so there is nothing to join"),
        (_at("both", join=Join(JoinBy.TIME)), "write join: {by: time, width: 10ms}"),
        (_at("both", join=Join(JoinBy.ORDER, 10)), "joins by order, which has no width"),
        (_at("both", join=Join(JoinBy.UNION, partial=True)), "joins by union, where nothing is partial"),
        (_edge(2, policy=Policy.SAMPLE, sample=Sample(latest=True), evict_after_ms=0), "picks frames by the time, and both joins by union"),
        (replace(GOOD, edges=(*GOOD.edges, GOOD.edges[0])), "edge source → left: stands twice"),
        (_edge(5, sample=None), "edge source → display: samples, so it must say which frames"),
        (_edge(5, policy=Policy.LOSSY), "says which frames to sample, and reads lossy: write policy: sample"),
        (_edge(5, sample=Sample()), "must sample in one way"),
        (_edge(5, sample=Sample(every=2, latest=True)), "must sample in one way"),
        (_edge(5, sample=Sample(every=-1)), "cannot sample less than nothing"),
        (_edge(5, partition=Partition(0, 8, 2, (0,))), "samples and takes parts, which one edge cannot"),
        (_edge(5, evict_after_ms=5), "reads sample, so it holds up nobody"),
        (_edge(2, credit_bytes=5), "its credit is the buffer of its inlet, which needs at least 65536 bytes"),
        (_edge(4, placement=Place.SOURCE), "edge both → sink: places an inlet, and needs none"),
        (
            replace(
                GOOD,
                edges=(
                    *GOOD.edges[:2],
                    replace(GOOD.edges[2], placement=Place.SOURCE),
                    replace(GOOD.edges[3], placement=Place.TARGET),
                    *GOOD.edges[4:],
                ),
            ),
            "edge left → both: another edge into both places its one inlet elsewhere",
        ),
        (_edge(0, partition=Partition(0, 8, 2, (2,))), "takes part 2 of 2; parts count from 0 to 1"),
        (_edge(0, partition=Partition(0, 8, 1, (0,))), "is divided into 1 parts; write of: 2"),
        (_edge(0, partition=Partition(0, 0, 2, (0,))), "its key must be 1 to 4096 bytes"),
        (_edge(0, partition=Partition(0, 8, 2, ())), "must take at least one part, and each once"),
        (_edge(0, partition=Partition(0, 8, 2, (0, 0))), "must take at least one part, and each once"),
        (
            _edge(0, partition=Partition(0, 8, 2, (0, 1))),
            "vertex 'both': part 1 of source comes both from left and from right, and a union passes only one of the two",
        ),
        (_at("both", hang_after_ms=1999), "vertex 'both': its hangAfter must be 2s"),
        (_at("sink", hang_after_ms=24 * 3_600_000 + 1), "to 24h, or 0 for never; not 86400001 ms"),
        (_at("source", rate=Rate()), "vertex 'source': its rate says nothing"),
        (_at("sink", rate=Rate(1, 1)), "a sink produces nothing"),
        (_at("source", capacity=Rate(1, 1)), "a source takes nothing in"),
        (_at("right", capacity=Rate(0, 499)), "vertex 'right': can take 499 frames/s, and lossless edges bring up to 500"),
        (_at("right", capacity=Rate(400_000, 0)), "can take 400000 bytes/s, and lossless edges bring up to 500000"),
        (_edge(5, sample=Sample(rate_per_s=1001)), "samples 1001 frames/s of a stream that has 1000"),
        (_edge(5, replay_ms=2000), "would replay 2000 ms, which at the declared rate are 2000000 bytes; the ring of source has 1048576"),
        (_edge(5, retain_ms=1100), "would retain 1100 ms, which at the declared rate are 1100 slots; the ring of source has 1024"),
        (_edge(5, spool=SPOOL), "reads sample, so it has nothing to be kept for: leave spool out"),
        (_edge(2, spool=SPOOL), "has a spool, so its consumer holds up nobody: leave evictAfter out"),
        (_edge(3, spool=SPOOL, placement=Place.SOURCE), "write placement: target"),
        (_edge(3, spool=replace(SPOOL, size_bytes=(2 << 20) - 1)), "must hold twice what the ring of right does: write a size of at least 2097152"),
        (_edge(3, spool=replace(SPOOL, retain_ms=-1)), "cannot keep that long what its consumer has had"),
        (replace(_edge(3, spool=SPOOL), live=True), "would not follow what a live graph reads next: leave spool out, or live"),
        (_edge(5, retain_ms=100), "replays 200 ms, and the ring of source keeps 100: let an edge retain as much"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)  # fmt: skip
def test_each_rule_is_said_in_words(graph: StreamGraph, said: str) -> None:
    assert any(said in problem for problem in problems(graph)), problems(graph)


def test_who_has_a_spool_may_be_slower_than_what_feeds_it() -> None:
    slow = replace(GOOD.vertex("right"), capacity=Rate(0, 499))
    graph = replace(_edge(1, spool=SPOOL), vertices=tuple(slow if v.name == "right" else v for v in GOOD.vertices))
    assert problems(graph) == ()


def test_all_errors_come_at_once() -> None:
    graph = _at("both", join=None)
    edges = (
        replace(GOOD.edges[0], partition=Partition(0, 8, 2, (2,))),
        GOOD.edges[1],
        replace(GOOD.edges[2], credit_bytes=5),
        *GOOD.edges[3:5],
        replace(GOOD.edges[5], sample=Sample(rate_per_s=5000)),
    )
    assert len(problems(replace(graph, edges=edges))) == 4


def test_parts_are_followed_through_everything_on_the_way() -> None:
    """Left hands its part to a relay; what comes from right overlaps with it, two vertices away."""
    relay = _vertex("relay", Role.SINGLE, "a")
    edges = (
        replace(GOOD.edges[0], partition=Partition(0, 8, 2, (1,))),
        GOOD.edges[1],
        Edge("left", "relay"),
        Edge("relay", "both"),
        *GOOD.edges[3:],
    )
    graph = replace(GOOD, vertices=(*GOOD.vertices, relay), edges=edges)
    (problem,) = problems(graph)
    assert "part 1 of source comes both from relay and from right" in problem
    keyed = replace(edges[0], partition=Partition(8, 8, 2, (1,)))  # another key: nothing is known of how both meet
    assert problems(replace(graph, edges=(keyed, *edges[1:]))) == ()


def test_two_that_work_on_the_same_frames_may_meet() -> None:
    """They are redundant, as the members of a pair are: neither was given what the other should have."""
    first, second = _vertex("first", Role.SINGLE, "a"), _vertex("second", Role.SINGLE, "b")
    edges = (
        *GOOD.edges[:2],
        Edge("left", "first"),
        Edge("left", "second"),
        Edge("first", "both"),
        Edge("second", "both"),
        Edge("right", "both"),
        *GOOD.edges[4:],
    )
    assert problems(replace(GOOD, vertices=(*GOOD.vertices, first, second), edges=edges)) == ()


def test_a_wide_graph_is_judged_quickly() -> None:
    """Thirty diamonds in a row: two to the thirtieth ways from end to end, which nobody walks one by one."""
    vertices, edges = [_vertex("s0", Role.SOURCE, "a")], []
    for n in range(30):
        vertices += [_vertex(f"l{n}", Role.SINGLE, "a"), _vertex(f"r{n}", Role.SINGLE, "a")]
        vertices.append(_vertex(f"s{n + 1}", Role.SINGLE, "a", join=UNION))
        edges += [_take(f"s{n}", f"l{n}", 0), _take(f"s{n}", f"r{n}", 1)]
        edges += [Edge(f"l{n}", f"s{n + 1}"), Edge(f"r{n}", f"s{n + 1}")]
    vertices.append(_vertex("sink", Role.SINK, "a"))
    edges.append(Edge("s30", "sink"))
    # From the second diamond on, both sides carry both parts of the first, and are parted anew.
    assert problems(StreamGraph("wide", "tank", tuple(vertices), tuple(edges))) == ()


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 50), st.integers(2, 8))
def test_an_edge_never_carries_more_than_its_source_makes(data: int, frames: int, every: int, of: int) -> None:
    source = replace(_vertex("s", Role.SOURCE, "a"), rate=Rate(data, frames))
    for edge in (
        Edge("s", "t"),
        Edge("s", "t", Policy.SAMPLE, Sample(every=every)),
        Edge("s", "t", Policy.SAMPLE, Sample(rate_per_s=every)),
        Edge("s", "t", partition=Partition(0, 8, of, (0, 1))),
    ):
        graph = StreamGraph("g", "tank", (source, _vertex("t", Role.SINK, "a")), (edge,))
        rate = carried(graph, edge)
        assert rate.bytes_per_s <= data
        assert rate.frames_per_s <= (frames or every)


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=4), st.sampled_from(JoinBy))
def test_joined_inputs_add_up_and_aligned_ones_are_one_frame(frames: list[int], by: JoinBy) -> None:
    sources = [replace(_vertex(f"s{n}", Role.SOURCE, "a"), rate=Rate(10 * f, f)) for n, f in enumerate(frames)]
    target = _vertex("t", Role.SINK, "a", join=Join(by, 10 if by is JoinBy.TIME else 0))
    graph = StreamGraph("g", "tank", (*sources, target), tuple(Edge(s.name, "t") for s in sources))
    rate = inflow(graph, target)
    assert rate.bytes_per_s == 10 * sum(frames)
    assert rate.frames_per_s == (max(frames) if by in (JoinBy.SEQUENCE, JoinBy.TIME) else sum(frames))


@given(graphs)
def test_a_graph_is_stored_and_read_as_it_was_declared(graph: StreamGraph) -> None:
    assert canonical.decode(StreamGraph, canonical.encode(graph)) == graph


@given(graphs)
def test_who_reads_a_ring_itself_reads_all_of_it(graph: StreamGraph) -> None:
    """So two members can see different frames of one stream only where an inlet has decided for both of them."""
    for vertex in graph.vertices:
        if not graph.has_inlet(vertex.name):
            edges = graph.into(vertex.name)
            assert len(edges) <= 1
            assert all(
                edge.policy is Policy.LOSSLESS and edge.sample is edge.partition is None for edge in edges
            )  # invariant: S1


@pytest.mark.parametrize(
    "fields",
    [
        {"policy": Policy.LOSSY},
        {"policy": Policy.SAMPLE, "sample": Sample(every=2)},
        {"partition": Partition(0, 8, 2, (0,))},
        {"replay_ms": 5},
        {"credit_bytes": 1 << 16},
        {"evict_after_ms": 5},
        {"spool": SPOOL},
    ],
    ids=str,
)
def test_whatever_an_edge_asks_for_beyond_all_of_a_stream_takes_an_inlet(fields: dict[str, object]) -> None:
    number = GOOD.edges.index(Edge("both", "sink", retain_ms=5000))
    assert not GOOD.has_inlet("sink"), "what the ring keeps is the ring's affair"
    assert _edge(number, **fields).has_inlet("sink")
    assert problems(_edge(number, **fields)) == ()
