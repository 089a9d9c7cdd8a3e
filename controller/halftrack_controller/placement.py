"""Placement: where the parts of a stream graph stand, and what they are called. The only place that spells those names. Pure.

The merge of a pair runs where the pair's consumers run, which is also where one member runs: the leader of a swap must see
both the merged ring and a seat. A ring that is read on another host than the one that writes it has a replica there, written by
a bridge receiver.
"""

from halftrack_model import graph as model
from halftrack_model.graph import Role, StreamGraph, Vertex

BRIDGE = "bridge"
MEMBERS = ("a", "b")


def problems(graph: StreamGraph) -> tuple[str, ...]:
    """Everything that keeps `graph` from being deployed, each in a sentence that says what to write."""
    found = model.problems(graph)
    names = [vertex.name for vertex in graph.vertices]
    if len(set(names)) < len(names) or any({edge.source, edge.target} - set(names) for edge in graph.edges):
        return found  # what follows needs every name to mean one vertex
    return found + tuple(
        f"vertex {vertex.name!r}: its consumers run on {merge_host(graph, vertex)}, where no member of the pair runs; "
        f"let one of its hosts ({', '.join(vertex.hosts)}) be theirs, because the merge needs a member beside it"
        for vertex in graph.vertices
        if vertex.role is Role.PAIR and graph.consumers(vertex.name) and merge_host(graph, vertex) not in vertex.hosts
    )


def merge_host(graph: StreamGraph, vertex: Vertex) -> str:
    """The host where a pair's merge runs: its consumers'."""
    return graph.consumers(vertex.name)[0].hosts[0]


def seats(graph: StreamGraph, vertex: Vertex) -> tuple[tuple[str, str], ...]:
    """`(member, host)` of both seats of a pair, the one on the merge's host first."""
    pairs = tuple(zip(MEMBERS, vertex.hosts, strict=True))
    leader = merge_host(graph, vertex)
    return tuple(sorted(pairs, key=lambda seat: seat[1] != leader))


def ring_name(graph: str, vertex: str) -> str:
    """The ring that a vertex's consumers read."""
    return f"{graph}/{vertex}"


def member_ring_name(graph: str, vertex: str, member: str, version: str) -> str:
    """The ring that one member of a pair writes."""
    return f"{graph}/{vertex}.{member}@{version}"


def workload_name(graph: str, vertex: str) -> str:
    """A source or sink."""
    return f"{graph}.{vertex}"


def member_name(graph: str, vertex: str, member: str, version: str) -> str:
    """A member of a pair."""
    return f"{graph}.{vertex}.{member}@{version}"


def merge_name(graph: str, vertex: str) -> str:
    """The merge of a pair."""
    return f"{graph}.{vertex}.merge"


def receiver_name(ring: str, from_host: str) -> str:
    """The receiver that writes the replica of `ring`."""
    return f"{ring.replace('/', '.')}.from-{from_host}"
