"""Stream graphs: sources, pairs and sinks, and the edges between them; validated as a whole, all errors at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from halftrack_model.release import Param


class Role(Enum):
    """What a vertex does with streams: begins one, transforms one, or ends one."""

    SOURCE = "source"
    PAIR = "pair"
    SINK = "sink"


@dataclass(frozen=True, slots=True)
class Vertex:
    """A step of a graph. `hosts` has one host for a source or sink, two for a pair (member `a` on the first, `b` on the second)."""

    name: str
    role: Role
    product: str
    hosts: tuple[str, ...]
    params: Mapping[str, Param]
    ring_bytes: int  # of the ring that it writes; 0 for a sink
    ring_slots: int


@dataclass(frozen=True, slots=True)
class Edge:
    """A stream from one vertex to another."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class StreamGraph:
    """A graph in one environment."""

    name: str
    environment: str
    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]

    def vertex(self, name: str) -> Vertex:
        """The vertex of that name; KeyError when there is none."""
        return {vertex.name: vertex for vertex in self.vertices}[name]

    def inputs(self, name: str) -> tuple[str, ...]:
        """Names of the vertices whose streams `name` consumes."""
        return tuple(edge.source for edge in self.edges if edge.target == name)

    def consumers(self, name: str) -> tuple[Vertex, ...]:
        """The vertices that consume what `name` produces."""
        return tuple(self.vertex(edge.target) for edge in self.edges if edge.source == name)


def problems(graph: StreamGraph) -> tuple[str, ...]:
    """Everything that is wrong with `graph`, each in a sentence; empty when it can be deployed."""
    names = [vertex.name for vertex in graph.vertices]
    found = [f"vertex {name!r} is defined twice" for name in sorted(set(names)) if names.count(name) > 1]
    for edge in graph.edges:
        found += [
            f"edge {edge.source} → {edge.target}: no vertex {end!r}"
            for end in (edge.source, edge.target)
            if end not in names
        ]
    if found:
        return tuple(found)  # what follows needs every name to mean one vertex
    for vertex in graph.vertices:
        found += _vertex_problems(graph, vertex)
    if cycle := _cycle(graph):
        found.append(f"the edges form a cycle: {' → '.join(cycle)}")
    return tuple(found)


def _vertex_problems(graph: StreamGraph, vertex: Vertex) -> list[str]:
    inputs, outputs = len(graph.inputs(vertex.name)), len(graph.consumers(vertex.name))
    wanted_hosts = 2 if vertex.role is Role.PAIR else 1
    rules = (
        (
            len(vertex.hosts) == wanted_hosts,
            f"a {vertex.role.value} names {wanted_hosts} host(s), this one {len(vertex.hosts)}",
        ),
        (len(set(vertex.hosts)) == len(vertex.hosts), "the members of a pair need different hosts"),
        (vertex.role is not Role.SOURCE or inputs == 0, "a source has no input"),
        (vertex.role is Role.SOURCE or inputs == 1, f"needs exactly one input, has {inputs}"),
        (vertex.role is not Role.SINK or outputs == 0, "a sink has no output"),
        (vertex.role is Role.SINK or outputs >= 1, "nobody consumes what it produces"),
        (vertex.role is Role.SINK or vertex.ring_bytes >= 1 << 16, "its ring needs at least 65536 bytes"),
        (
            vertex.role is Role.SINK or _power_of_two(vertex.ring_slots),
            "its ring's slots must be a power of two from 2 on",
        ),
        (
            vertex.role is not Role.PAIR or _one_host(graph, vertex),
            "the consumers of a pair must share one host, where the merge runs",
        ),
    )
    return [f"vertex {vertex.name!r}: {message}" for holds, message in rules if not holds]


def _power_of_two(number: int) -> bool:
    return number > 1 and number & (number - 1) == 0


def _one_host(graph: StreamGraph, vertex: Vertex) -> bool:
    return len({host for consumer in graph.consumers(vertex.name) for host in consumer.hosts}) <= 1


def _cycle(graph: StreamGraph) -> list[str]:
    """One cycle, as the names along it, or nothing. Depth-first; graphs are small and validated before anything runs."""
    done: set[str] = set()

    def search(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for edge in graph.edges:
            if edge.source == name and (found := search(edge.target, [*path, name])):
                return found
        done.add(name)
        return []

    for vertex in graph.vertices:
        if found := search(vertex.name, []):
            return found
    return []
