"""Rewiring: what becomes of a live graph when what running vertices read is changed, and when the old may go. Pure.

Three graphs are told apart. What is *asked* for is what people write. What is *stored* is the same, its edges numbered by generation, and
what leaves beside it. What is *carried* is all of it: hosts run the old until the new is in force.

* An edit gives all inputs of a vertex whose inputs it changes its own generation. The older ones stay, as leaving, and so do vertices
  that only they lead to.
* Which generation is in force is for the vertex's inlet to find, at a number of its own, and for its host to tell. What is older than that is
  dropped then, and never sooner: nothing that may be in force is ever taken away.
* Generations only rise. To go back is an edit like any other.
* A vertex may be edited again before it has gone over, so that an edit which cannot come into force can be taken back; not endlessly.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from halftrack_model.graph import NOTHING, Edge, Join, JoinBy, Leaving, StreamGraph, Vertex

# In force, on its way, and one that takes the latter back. More would be edits of what nobody has seen run.
MAX_GENERATIONS = 3


@dataclass(frozen=True, slots=True)
class Going:
    """A vertex that has not gone over yet, as far as is known: from any of the generations `old` to `new`."""

    vertex: str
    old: tuple[int, ...]
    new: int


def asked(graph: StreamGraph) -> StreamGraph:
    """The graph as people write it: no generations, nothing that leaves."""
    return replace(graph, edges=tuple(replace(edge, generation=0) for edge in graph.edges), leaving=NOTHING)


def carried(graph: StreamGraph) -> StreamGraph:
    """The graph that hosts run: with what leaves, older inputs first."""
    leaving = graph.leaving
    if leaving == NOTHING:
        return graph
    vertices = tuple(replace(v, join=v.join or leaving.joins.get(v.name)) for v in (*graph.vertices, *leaving.vertices))
    return replace(graph, vertices=vertices, edges=(*leaving.edges, *graph.edges), leaving=NOTHING)


def going(graph: StreamGraph) -> tuple[Going, ...]:
    """Who has still to go over, in the order of the vertices; of those that leave, nobody waits for any."""
    found = []
    for vertex in graph.vertices:
        if old := {edge.generation for edge in graph.leaving.edges if edge.target == vertex.name}:
            found.append(Going(vertex.name, tuple(sorted(old)), newest(graph, vertex.name)))
    return tuple(found)


def newest(graph: StreamGraph, vertex: str) -> int:
    """The generation of the inputs that `vertex` shall have; 0 when it reads nothing."""
    return max((edge.generation for edge in graph.into(vertex)), default=0)


def rewired(live: StreamGraph, wanted: StreamGraph, generation: int, at_work: Collection[str]) -> StreamGraph:
    """What is stored once `live` shall become `wanted`. `generation` is above all before it; `at_work` are the vertices that hosts run.

    Who does not run yet has nothing to go over from, and reads what is asked at once.
    """
    if not wanted.live:
        return asked(wanted)
    before, names = carried(live), {vertex.name for vertex in wanted.vertices}
    old = list(live.leaving.edges)
    joins = dict(live.leaving.joins)
    edges: dict[str, Iterator[Edge]] = {}
    for vertex in wanted.vertices:
        its, current = wanted.into(vertex.name), _current(live, vertex.name)
        if _unchanged(live, vertex, current, its):
            edges[vertex.name] = iter(current)
            old = [edge for edge in old if edge not in current]  # of a vertex that comes back
            continue
        edges[vertex.name] = iter([replace(edge, generation=generation) for edge in its])
        if vertex.name not in at_work:
            old = [edge for edge in old if edge.target != vertex.name]
            continue
        old += [edge for edge in current if edge not in old]
        if (join := _join_of(before, vertex.name)) is not None and vertex.join is None:
            joins[vertex.name] = join
    vanished = [v for v in (*live.vertices, *live.leaving.vertices) if v.name not in names]
    old += [edge for vertex in vanished for edge in live.into(vertex.name)]
    leaving = _pruned(Leaving(tuple(vanished), tuple(old), joins), names)
    return replace(wanted, edges=tuple(next(edges[edge.target]) for edge in wanted.edges), leaving=leaving)


def settled(graph: StreamGraph, in_force: Mapping[str, int]) -> StreamGraph:
    """The graph without what is not in force any more; `in_force` is what hosts have told, by vertex."""
    leaving = graph.leaving
    edges = tuple(edge for edge in leaving.edges if edge.generation >= in_force.get(edge.target, 0))
    if edges == leaving.edges:
        return graph
    names = {vertex.name for vertex in graph.vertices}
    return replace(graph, leaving=_pruned(replace(leaving, edges=edges), names))


def changed(live: StreamGraph, wanted: StreamGraph) -> tuple[str, ...]:
    """The vertices of both graphs, or that come back, which would read something else."""
    known = {vertex.name for vertex in (*live.vertices, *live.leaving.vertices)}
    return tuple(
        vertex.name
        for vertex in wanted.vertices
        if vertex.name in known and not _unchanged(live, vertex, _current(live, vertex.name), wanted.into(vertex.name))
    )


def _current(live: StreamGraph, name: str) -> tuple[Edge, ...]:
    """The newest inputs of a vertex that stays, or leaves."""
    if edges := live.into(name):
        return edges
    if all(vertex.name != name for vertex in live.leaving.vertices):
        return ()
    edges = tuple(edge for edge in live.leaving.edges if edge.target == name)
    last = max((edge.generation for edge in edges), default=0)
    return tuple(edge for edge in edges if edge.generation == last)


def _unchanged(live: StreamGraph, vertex: Vertex, current: tuple[Edge, ...], its: tuple[Edge, ...]) -> bool:
    """Does the vertex read, and join, what it did? In a union, and nowhere else, the order of inputs means nothing."""
    here = next((v for v in (*live.vertices, *live.leaving.vertices) if v.name == vertex.name), None)
    if here is None or here.join != vertex.join:
        return False
    was, now = [[replace(edge, generation=0) for edge in edges] for edges in (current, its)]
    if vertex.join is not None and vertex.join.by is JoinBy.UNION:
        was, now = (sorted(edges, key=lambda edge: edge.source) for edges in (was, now))
    return was == now


def _join_of(before: StreamGraph, name: str) -> Join | None:
    return next((vertex.join for vertex in before.vertices if vertex.name == name), None)


def _pruned(leaving: Leaving, staying: Collection[str]) -> Leaving:
    """Without the vertices that nobody reads any more, and what leads to these only."""
    vertices, edges = leaving.vertices, leaving.edges
    while True:
        heard = {edge.source for edge in edges}
        vertices = tuple(vertex for vertex in vertices if vertex.name in heard)
        kept = {vertex.name for vertex in vertices} | set(staying)
        found = tuple(edge for edge in edges if edge.target in kept)
        if found == edges:
            break
        edges = found
    targets = {edge.target for edge in edges}
    return Leaving(vertices, edges, {name: join for name, join in leaving.joins.items() if name in targets})
