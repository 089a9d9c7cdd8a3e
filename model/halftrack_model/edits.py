"""Edits of a graph that runs: what may be asked for, what it makes of the graph, and how two graphs differ. Pure.

An edit is small and names what it touches, so that two people's edits can be told one after the other in words. It never carries
a whole graph: whoever sends one would overwrite what others have done meanwhile.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from halftrack_model.errors import InvalidInput
from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.graph_rules import problems


@dataclass(frozen=True, slots=True)
class Tap:
    """One more sink on what `source` produces. Nobody else's input changes, so nobody else is touched."""

    source: str
    vertex: Vertex


@dataclass(frozen=True, slots=True)
class Remove:
    """Take a sink away, with the edge that feeds it. Its data folder stays on its host."""

    vertex: str


Edit = Tap | Remove
Part = TypeVar("Part", Vertex, Edge)


@dataclass(frozen=True, slots=True)
class GraphChange:
    """One entry of a graph's history. `operator` is who did it, by their certificate."""

    revision: int
    operator: str
    at_ms: int  # the controller's own clock, for people
    what: str


@dataclass(frozen=True, slots=True)
class GraphRecord:
    """A graph as it stands: what was declared last, what is live after the edits since, and the revision that an edit must name.

    The revision rises by one with each declaration and each edit, so that whoever edits what they saw is told when it has moved on.
    """

    environment: str
    name: str
    revision: int
    declared: StreamGraph
    live: StreamGraph
    changes: tuple[GraphChange, ...]  # the latest, oldest first

    @property
    def drifted(self) -> bool:
        """Is something live that was not declared, or the other way round?"""
        return not same(self.declared, self.live)


def edited(graph: StreamGraph, edit: Edit) -> StreamGraph:
    """`graph` after `edit`; InvalidInput with everything that stands in the way, and then nothing has changed."""
    found = tuple(_refusals(graph, edit))
    if found:
        raise InvalidInput("bad-edit", "\n".join([*found, "nothing was changed"]))
    after = _after(graph, edit)
    if found := problems(after):
        raise InvalidInput("bad-edit", "\n".join([*found, "nothing was changed"]))
    return after


def told(edit: Edit) -> str:
    """The edit in words, for people who look at what happened to their graph."""
    match edit:
        case Tap(source, vertex):
            return f"tapped {source} with {vertex.name} ({vertex.product} on {', '.join(vertex.hosts)})"
        case Remove(vertex):
            return f"removed {vertex}"


def differences(declared: StreamGraph, live: StreamGraph) -> tuple[str, ...]:
    """How `live` has drifted from `declared`, a line for each vertex and edge; empty when it has not."""
    lines = [*_differences("vertex", _by_name(declared.vertices), _by_name(live.vertices))]
    lines += _differences("edge", _by_ends(declared.edges), _by_ends(live.edges))
    return tuple(lines)


def same(one: StreamGraph, other: StreamGraph) -> bool:
    """Do they mean the same? The order in which vertices and edges are written down means nothing."""
    return _sorted(one) == _sorted(other)


def _refusals(graph: StreamGraph, edit: Edit) -> Iterator[str]:
    names = {vertex.name: vertex for vertex in graph.vertices}
    match edit:
        case Tap(source, vertex):
            if source not in names:
                yield f"there is no vertex {source!r}: {graph.name} has {', '.join(sorted(names))}"
            elif names[source].role is Role.SINK:
                yield f"{source} is a sink: it produces nothing that could be tapped"
            if vertex.name in names:
                yield f"there is a vertex {vertex.name!r} already: give the tap another name"
            if vertex.role is not Role.SINK:
                yield f"a tap is a sink, and {vertex.name} is a {vertex.role.value}"
        case Remove(name):
            if name not in names:
                yield f"there is no vertex {name!r}: {graph.name} has {', '.join(sorted(names))}"
            elif names[name].role is not Role.SINK:
                yield (
                    f"{name} is a {names[name].role.value}, and others read what it produces: a graph that runs gives up sinks only; "
                    "declare the graph without it (`halftrack apply`)"
                )


def _after(graph: StreamGraph, edit: Edit) -> StreamGraph:
    match edit:
        case Tap(source, vertex):
            return replace(graph, vertices=(*graph.vertices, vertex), edges=(*graph.edges, Edge(source, vertex.name)))
        case Remove(name):
            return replace(
                graph,
                vertices=tuple(vertex for vertex in graph.vertices if vertex.name != name),
                edges=tuple(edge for edge in graph.edges if name not in (edge.source, edge.target)),
            )


def _by_name(vertices: Iterable[Vertex]) -> dict[str, Vertex]:
    return {vertex.name: vertex for vertex in vertices}


def _by_ends(edges: Iterable[Edge]) -> dict[str, Edge]:
    return {f"{edge.source} → {edge.target}": edge for edge in edges}


def _differences(what: str, declared: dict[str, Part], live: dict[str, Part]) -> Iterator[str]:
    for name in sorted(live.keys() - declared.keys()):
        yield f"+ {what} {name}"
    for name in sorted(declared.keys() - live.keys()):
        yield f"- {what} {name}"
    for name in sorted(declared.keys() & live.keys()):
        if declared[name] != live[name]:
            changed = [
                f.name for f in fields(live[name]) if getattr(declared[name], f.name) != getattr(live[name], f.name)
            ]
            yield f"~ {what} {name}: {', '.join(changed)}"


def _sorted(graph: StreamGraph) -> StreamGraph:
    vertices = tuple(sorted(graph.vertices, key=lambda vertex: vertex.name))
    return replace(graph, vertices=vertices, edges=tuple(sorted(graph.edges, key=lambda e: (e.source, e.target))))
