"""Placement: where the parts of a stream graph stand, and what they are called. The only place that spells those names. Pure.

The merge of a pair runs beside one of its members, since the leader of a swap must see both the merged ring and a seat; where the
pair's first consumer is, if it can. Consumers that come later move nothing: the stream is where its ring is. A ring that is read on another host than the one that writes it has a replica there, written by
a bridge receiver.
"""

from halftrack_model import graph_rules
from halftrack_model.graph import Place, Role, StreamGraph, Vertex

BRIDGE = "bridge"
MEMBERS = ("a", "b")
SINGLE_MEMBER = MEMBERS[0]  # what a vertex without a twin calls itself, in its snapshots too


def problems(graph: StreamGraph) -> tuple[str, ...]:
    """Everything that keeps `graph` from being deployed, each in a sentence that says what to write."""
    return graph_rules.problems(graph)


def merge_host(graph: StreamGraph, vertex: Vertex) -> str:
    """The host where a pair's merge runs: one of its own that is also its first consumer's, else its first.

    In a live graph always its first, since who consumes it may change, and its stream stays.
    """
    if graph.live:
        return vertex.hosts[0]
    wanted = next((consumer.hosts for consumer in graph.consumers(vertex.name)), ())
    return next((host for host in wanted if host in vertex.hosts), vertex.hosts[0])


def home(graph: StreamGraph, vertex: Vertex) -> str:
    """The host where what a vertex produces is written."""
    return merge_host(graph, vertex) if vertex.role is Role.PAIR else vertex.hosts[0]


def inlet_host(graph: StreamGraph, vertex: Vertex) -> str:
    """The host where a vertex's inlet runs: its own if an edge says so, else where most of its inputs are made.

    Of equals the one that is also the vertex's own, then the first input's: what is joined there need not cross a link again.
    In a live graph always its own, since its inputs may change; and with a spool, which is for who consumes.
    """
    if graph.live or any(edge.placement is Place.TARGET or edge.spool for edge in graph.into(vertex.name)):
        return home(graph, vertex)
    made = [home(graph, graph.vertex(name)) for name in graph.inputs(vertex.name)]
    return max(made, key=lambda host: (made.count(host), host in vertex.hosts))


def input_ring_name(graph: StreamGraph, vertex: Vertex) -> str:
    """The one ring that a vertex reads: its input's own, or its inlet's. Empty for a source."""
    if graph.has_inlet(vertex.name):
        return inlet_ring_name(graph.name, vertex.name)
    return next((ring_name(graph.name, name) for name in graph.inputs(vertex.name)), "")


def input_home(graph: StreamGraph, vertex: Vertex) -> str:
    """The host where the ring that a vertex reads is written. Only for a vertex with an input."""
    if graph.has_inlet(vertex.name):
        return inlet_host(graph, vertex)
    return home(graph, graph.vertex(graph.inputs(vertex.name)[0]))


def seats(graph: StreamGraph, vertex: Vertex) -> tuple[tuple[str, str], ...]:
    """`(member, host)` of both seats of a pair, one on the merge's host first. Both may be on one host."""
    hosts = vertex.hosts * 2 if len(vertex.hosts) == 1 else vertex.hosts
    pairs = tuple(zip(MEMBERS, hosts, strict=True))
    leader = merge_host(graph, vertex)
    return tuple(sorted(pairs, key=lambda seat: seat[1] != leader))


def ring_name(graph: str, vertex: str) -> str:
    """The ring that a vertex's consumers read."""
    return f"{graph}/{vertex}"


def inlet_ring_name(graph: str, vertex: str) -> str:
    """The ring that a vertex reads when something is done to its inputs first. No member's ring is called so: it has no `@`."""
    return f"{graph}/{vertex}.in"


def member_ring_name(graph: str, vertex: str, member: str, version: str) -> str:
    """The ring that one member of a pair writes."""
    return f"{graph}/{vertex}.{member}@{version}"


def workload_name(graph: str, vertex: str) -> str:
    """A source, a sink or a vertex without a twin."""
    return f"{graph}.{vertex}"


def member_name(graph: str, vertex: str, member: str, version: str) -> str:
    """A member of a pair."""
    return f"{graph}.{vertex}.{member}@{version}"


def inlet_name(graph: str, vertex: str) -> str:
    """The inlet of a vertex."""
    return f"{graph}.{vertex}.in"


def spool_name(graph: str, source: str, target: str) -> str:
    """What puts an edge's stream on the disk for its target's inlet, and the folder there."""
    return f"{graph}.{target}.spool-{source}"


def keeper_name(graph: str, vertex: str) -> str:
    """The keeper of a source's sockets."""
    return f"{graph}.{vertex}.feeds"


def merge_name(graph: str, vertex: str) -> str:
    """The merge of a pair."""
    return f"{graph}.{vertex}.merge"


def judge_name(graph: str, vertex: str, version: str) -> str:
    """What judges the green of that version."""
    return f"{graph}.{vertex}.judge@{version}"


def receiver_name(ring: str, from_host: str) -> str:
    """The receiver that writes the replica of `ring`."""
    return f"{ring.replace('/', '.')}.from-{from_host}"
