"""Graphs for tests of the planner: some that people draw, and any that can be deployed."""

from dataclasses import replace

from hypothesis import strategies as st

from halftrack_controller.snapshot import Environment
from halftrack_model.graph import (
    Edge,
    Full,
    Join,
    JoinBy,
    Partition,
    Place,
    Policy,
    Role,
    Sample,
    Spool,
    StreamGraph,
    Vertex,
)
from tests.planner.world import World, host, release

A, B, C = "tank-a", "tank-b", "tank-c"
HOSTS = (A, B, C)


def vertex(name: str, role: Role, *hosts: str, join: Join | None = None) -> Vertex:
    """Its product is called as it is."""
    ring = (0, 0) if role is Role.SINK else (1 << 20, 1024)
    return Vertex(name, role, name, hosts, {}, *ring, join)


SURVEY = StreamGraph(
    "survey",
    "tank",
    (
        vertex("north", Role.SOURCE, A),
        vertex("south", Role.SOURCE, A),
        vertex("beam", Role.PAIR, B, C, join=Join(JoinBy.SEQUENCE)),
        vertex("archive", Role.SINK, C),
        vertex("display", Role.SINK, B),
    ),
    (
        Edge("north", "beam"),
        Edge("south", "beam", Policy.LOSSY),
        Edge("beam", "archive"),
        Edge("beam", "display", Policy.SAMPLE, Sample(rate_per_s=10), placement=Place.TARGET),
    ),
)
CHAIN = StreamGraph(
    "chain",
    "tank",
    (
        vertex("source", Role.SOURCE, A),
        vertex("first", Role.PAIR, A, B),
        vertex("second", Role.PAIR, B, C),
        vertex("sink", Role.SINK, C),
    ),
    (Edge("source", "first"), Edge("first", "second"), Edge("second", "sink")),
)
LONE = StreamGraph(
    "lone",
    "tank",
    (vertex("source", Role.SOURCE, A), vertex("twins", Role.PAIR, A), vertex("sink", Role.SINK, A)),
    (Edge("source", "twins"), Edge("twins", "sink")),
)
ALONE = StreamGraph(
    "alone",
    "tank",
    (vertex("source", Role.SOURCE, A), vertex("filter", Role.SINGLE, B), vertex("sink", Role.SINK, A)),
    (Edge("source", "filter"), Edge("filter", "sink")),
)
DRAWN = {graph.name: graph for graph in (SURVEY, CHAIN, LONE, ALONE)}


def world(graph: StreamGraph, enrolled: frozenset[str] = frozenset(HOSTS)) -> World:
    """One environment of three hosts and one graph, nothing published yet."""
    made = World()
    made.environments["tank"] = Environment("tank", {}, "stable")
    made.hosts = {name: host(name, enrolled=name in enrolled) for name in HOSTS}
    made.graphs.append(graph)
    return made


def running(graph: StreamGraph) -> World:
    """The same, all of it running 1.0.0."""
    made = world(graph)
    for product in dict.fromkeys(each.product for each in graph.vertices):
        made.publish(release(product, "1.0.0"))
    made.settle()
    for name in made.held:
        made.accept(name)
    made.settle()
    return made


@st.composite
def graphs(draw: st.DrawFn) -> StreamGraph:
    """Any graph that can be deployed on the three hosts."""
    count = draw(st.integers(1, 3))
    vertices = [vertex(f"s{n}", Role.SOURCE, draw(st.sampled_from(HOSTS))) for n in range(count)]
    edges: list[Edge] = []
    for n in range(draw(st.integers(0, 4))):
        role = draw(st.sampled_from([Role.SINGLE, Role.PAIR, Role.PAIR]))
        _grow(draw, vertices, edges, f"v{n}", role)
    for n in range(draw(st.integers(1, 3))):
        _grow(draw, vertices, edges, f"end{n}", Role.SINK)
    heard = {edge.source for edge in edges}
    for mute in [each for each in vertices if each.role is not Role.SINK and each.name not in heard]:
        vertices.append(vertex(f"of-{mute.name}", Role.SINK, draw(st.sampled_from(HOSTS))))
        edges.append(Edge(mute.name, f"of-{mute.name}"))
    return StreamGraph("any", "tank", tuple(vertices), tuple(edges))


def _grow(draw: st.DrawFn, vertices: list[Vertex], edges: list[Edge], name: str, role: Role) -> None:
    hosts = draw(st.permutations(HOSTS))[: draw(st.integers(1, 2)) if role is Role.PAIR else 1]
    feeders = [each.name for each in vertices if each.role is not Role.SINK]
    inputs = draw(st.lists(st.sampled_from(feeders), min_size=1, max_size=3, unique=True))
    by = draw(st.sampled_from(JoinBy))
    join = Join(by, 10 if by is JoinBy.TIME else 0) if len(inputs) > 1 else None
    aligned = join is not None and by in (JoinBy.SEQUENCE, JoinBy.UNION)
    mine = [draw(_edge(source, name, aligned, _heard(edges, source))) for source in inputs]
    if any(not edge.plain for edge in mine) or len(mine) > 1:
        mine[0] = replace(
            mine[0],
            placement=draw(st.none() | st.sampled_from([Place.TARGET] if any(e.spool for e in mine) else Place)),
        )
    vertices.append(vertex(name, role, *hosts, join=join))
    edges += mine


def _heard(edges: list[Edge], source: str) -> int:
    return sum(edge.source == source for edge in edges)


def _edge(source: str, target: str, aligned: bool, part: int) -> st.SearchStrategy[Edge]:
    """`part` is nobody else's: a union that gets one part two ways would be refused."""
    picked = st.just(Sample(every=3)) if aligned else st.sampled_from([Sample(every=3), Sample(latest=True)])
    return st.one_of(
        st.just(Edge(source, target)),
        st.just(Edge(source, target)),
        st.just(Edge(source, target, Policy.LOSSY, replay_ms=1000)),
        st.just(Edge(source, target, credit_bytes=1 << 17, evict_after_ms=100)),
        picked.map(lambda sample: Edge(source, target, Policy.SAMPLE, sample)),
        st.just(Edge(source, target, spool=Spool(4 << 20, 1000, Full.DROP_OLDEST))),
        st.integers(8, 10).map(lambda of: Edge(source, target, partition=Partition(0, 8, of, (part,)))),
    )
