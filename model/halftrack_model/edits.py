"""Edits of a graph that runs: what may be asked for, a graph's history, and how two graphs differ. Pure; `edit_rules` carries them out.

An edit is small and names what it touches, so that two people's edits can be told one after the other in words. It never carries
a whole graph: whoever sends one would overwrite what others have done meanwhile.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from halftrack_model.graph import Edge, Policy, StreamGraph, Vertex
from halftrack_model.rewiring import asked


@dataclass(frozen=True, slots=True)
class Tap:
    """One more sink on what `source` produces. Nobody else's input changes, so nobody else is touched."""

    source: str
    vertex: Vertex


@dataclass(frozen=True, slots=True)
class Remove:
    """Take a vertex away: a sink with the edge that feeds it, or one with one input, whose readers read that from then on.

    A sink's data folder stays on its host.
    """

    vertex: str


@dataclass(frozen=True, slots=True)
class Insert:
    """Put `vertex` into the edge from `source` to `target`: it reads what the edge carries, and is what the target reads."""

    source: str
    target: str
    vertex: Vertex


@dataclass(frozen=True, slots=True)
class Replace:
    """Put `by` in the place of `vertex`: it reads what that reads, and is read by whom that is read by."""

    vertex: str
    by: Vertex


@dataclass(frozen=True, slots=True)
class Reroute:
    """Let `target` read `other` where it has read `source`, in the same way."""

    source: str
    target: str
    other: str


@dataclass(frozen=True, slots=True)
class Split:
    """Let `into` vertices do what `vertex` does, each for the frames whose key falls to it; who reads it reads all of them.

    The key is `key_bytes` from `offset` on. Part i runs on host i of `hosts`, beginning again at the first; where the vertex runs if empty.
    """

    vertex: str
    into: int
    offset: int
    key_bytes: int
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """Read an edge in another way; None leaves a thing as it is, 0 takes it away."""

    source: str
    target: str
    policy: Policy | None = None
    every: int | None = None
    credit_bytes: int | None = None
    evict_after_ms: int | None = None


Edit = Tap | Remove | Insert | Replace | Reroute | Split | SetPolicy
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


def differences(declared: StreamGraph, live: StreamGraph) -> tuple[str, ...]:
    """How `live` has drifted from `declared`, a line for each vertex and edge; empty when it has not. What leaves has gone already."""
    declared, live = asked(declared), asked(live)
    lines = [*_differences("vertex", _by_name(declared.vertices), _by_name(live.vertices))]
    lines += _differences("edge", _by_ends(declared.edges), _by_ends(live.edges))
    return tuple(lines)


def same(one: StreamGraph, other: StreamGraph) -> bool:
    """Do they mean the same? The order in which vertices and edges are written down means nothing, and how far hosts are with it neither."""
    return _sorted(asked(one)) == _sorted(asked(other))


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
