"""What stands in the way of rewiring a graph that runs, each in a sentence that says what to do instead. Pure.

An inlet goes over at a number: it passes the old inputs up to there and the new ones from there on. So both must have the same numbers, which
is the case while every vertex between gives frame n for frame n. *Whose* numbers a stream has is followed here from its sources on.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from halftrack_model import rewiring
from halftrack_model.graph import Edge, JoinBy, Role, StreamGraph
from halftrack_model.graph_rules import cycle

NUMBERED = (JoinBy.SEQUENCE, JoinBy.UNION)


@dataclass(frozen=True, slots=True, order=True)
class Numbers:
    """Numbers that began with `root`'s, of which every `every`th was taken, and divided by it."""

    root: str
    every: int = 1

    def __str__(self) -> str:
        return self.root if self.every == 1 else f"every {self.every} of {self.root}"


def refusals(
    live: StreamGraph, wanted: StreamGraph, at_work: Collection[str], counting: Collection[str]
) -> Iterator[str]:
    """Why `live` cannot become `wanted`; nothing when it can. `counting` are the vertices that count their outputs by themselves.

    Both are valid by `graph_rules`; where things stand is the controller's to look after.
    """
    changed = [name for name in rewiring.changed(live, wanted) if name in at_work]
    for vertex in wanted.vertices:
        left = next((each for each in live.leaving.vertices if each.name == vertex.name), None)
        if left is not None and replace(left, join=None) != replace(vertex, join=None):
            yield f"another vertex {vertex.name!r} is still leaving: wait until it has left (`halftrack stream graph`), or give this one another name"
    if live.live != wanted.live:
        if running := sorted({vertex.name for vertex in live.vertices} & set(at_work)):
            yield (
                f"it was declared live: {_truth(live.live)}, and {running[0]} reads accordingly: leave that, or give the graph another "
                "name, which begins new streams"
            )
        return
    if not changed:
        return
    if not live.live:
        yield (
            f"{live.name} was not declared live, so {', '.join(changed)} would lose its place in what it reads: a graph that says live: true "
            "when it is first applied can be changed in this way"
        )
        return
    for name in changed:
        yield from _of_inputs(live, wanted, name)
        yield from _of_numbers(live, wanted, name, counting)
    generation = 1 + max((edge.generation for edge in (*live.edges, *live.leaving.edges)), default=0)
    after = rewiring.rewired(live, wanted, generation, at_work)
    yield from _of_generations(after, changed)
    if way := cycle(rewiring.carried(after)):
        yield (
            f"while it is carried out, old and new edges would form a cycle: {' → '.join(way)}; do it in steps, each once the one before "
            "counts"
        )


def numbers(graph: StreamGraph, counting: Collection[str]) -> Mapping[str, frozenset[Numbers]]:
    """Whose numbers the outputs of each vertex have."""
    known: dict[str, frozenset[Numbers]] = {}
    for vertex in graph.vertices:
        _outputs(graph, vertex.name, counting, known)
    return known


def _outputs(
    graph: StreamGraph, name: str, counting: Collection[str], known: dict[str, frozenset[Numbers]]
) -> frozenset[Numbers]:
    if name not in known:
        own = graph.vertex(name).role is Role.SOURCE or name in counting
        known[name] = frozenset({Numbers(name)}) if own else _inputs(graph, name, counting, known)
    return known[name]


def _inputs(
    graph: StreamGraph, name: str, counting: Collection[str], known: dict[str, frozenset[Numbers]]
) -> frozenset[Numbers]:
    """Whose numbers the frames have that a vertex is given."""
    join, edges = graph.vertex(name).join, graph.into(name)
    if (join is not None and join.by not in NUMBERED) or any(map(_loose, edges)):
        return frozenset({Numbers(f"{name}'s inlet")})
    return frozenset(
        Numbers(each.root, each.every * _every(edge))
        for edge in edges
        for each in _outputs(graph, edge.source, counting, known)
    )


def _loose(edge: Edge) -> bool:
    """Does it take frames by the clock or by need, so that their old numbers mean nothing?"""
    return edge.sample is not None and not edge.sample.every


def _every(edge: Edge) -> int:
    return edge.sample.every if edge.sample is not None and edge.sample.every else 1


def _of_inputs(live: StreamGraph, wanted: StreamGraph, name: str) -> Iterator[str]:
    joins = [rewiring.carried(live).vertex(name).join, wanted.vertex(name).join]
    for join in dict.fromkeys(each for each in joins if each is not None and each.by not in NUMBERED):
        yield (
            f"{name} joins by {join.by.value}, which numbers its frames by itself, so there is no number at which its inputs could change: "
            "add another vertex beside it"
        )
    if all(joins) and joins[0] != joins[1]:
        yield f"{name} would join in another way than it does: only what it joins can change while it runs"
    for edge in wanted.into(name):
        if _loose(edge):
            yield f"{edge}: it would take frames by the clock, whose numbers mean nothing to who has read others: sample every so many"


def _of_numbers(live: StreamGraph, wanted: StreamGraph, name: str, counting: Collection[str]) -> Iterator[str]:
    before = _inputs(rewiring.carried(live), name, counting, {})
    after = _inputs(wanted, name, counting, {})
    if before & after:
        return
    yield (
        f"{name} reads the numbers of {_told(before, counting)}, and would read those of {_told(after, counting)}: only what keeps the "
        "numbers can be changed in mid-stream; add another vertex beside it, which begins a new stream"
    )


def _told(found: Collection[Numbers], counting: Collection[str]) -> str:
    why = {each: ", which keeps a state and so counts its outputs itself" for each in found if each.root in counting}
    return " and ".join(f"{each}{why.get(each, '')}" for each in sorted(found))


def _of_generations(after: StreamGraph, changed: Collection[str]) -> Iterator[str]:
    for each in rewiring.going(after):
        if each.vertex not in changed:
            continue
        if len(each.old) >= rewiring.MAX_GENERATIONS:
            yield f"{each.vertex} has still to go over to what it was told last, and to what before: wait for it (`halftrack stream graph`)"


def _truth(value: bool) -> str:
    return "true" if value else "false"
