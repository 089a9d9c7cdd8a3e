"""Where the vertices of a graph go in a drawing: columns from the sources on, few crossings, and the way of each edge. Pure.

The usual layers (Sugiyama, Tagawa and Toda, 1981): a vertex stands right of all that feed it; an edge over several columns gets a bend in
each; columns are put in order by the middle of their neighbours, back and forth a few times. Graphs have at most some hundred vertices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from halftrack_model.graph import StreamGraph

SWEEPS = 8  # the order hardly changes after four; it is cheap
Point = tuple[int, int]  # column, and half rows from the top


@dataclass(frozen=True, slots=True)
class Layout:
    """Places of vertices by name, and of each edge, in the graph's order, the points from its source to its target."""

    places: Mapping[str, Point]
    ways: tuple[tuple[Point, ...], ...]
    columns: int
    half_rows: int


def laid_out(graph: StreamGraph) -> Layout:
    """The drawing's grid. The graph is one that could be applied, so it has no cycle."""
    layers = _layers(graph)
    chains = [_chain(number, edge.source, edge.target, layers) for number, edge in enumerate(graph.edges)]
    columns: list[list[str]] = [[] for _ in range(max(layers.values(), default=-1) + 1)]
    for name in sorted(layers, key=lambda name: (layers[name], [v.name for v in graph.vertices].index(name))):
        columns[layers[name]].append(name)
    for chain in chains:
        for step, name in enumerate(chain[1:-1], layers[chain[0]] + 1):
            columns[step].append(name)
    _ordered(columns, chains)
    most = max((len(column) for column in columns), default=0)
    at = {
        name: (column, 2 * row + most - len(names))
        for column, names in enumerate(columns)
        for row, name in enumerate(names)
    }
    ways = tuple(tuple(at[name] for name in chain) for chain in chains)
    return Layout({name: at[name] for name in layers}, ways, len(columns), 2 * most)


def _layers(graph: StreamGraph) -> dict[str, int]:
    found: dict[str, int] = {}

    def layer(name: str) -> int:
        if name not in found:
            found[name] = 1 + max((layer(source) for source in graph.inputs(name)), default=-1)
        return found[name]

    for vertex in graph.vertices:
        layer(vertex.name)
    return found


def _chain(number: int, source: str, target: str, layers: Mapping[str, int]) -> tuple[str, ...]:
    """The edge with a bend in each column between its ends; no vertex can be called as a bend is."""
    bends = (f"{number}/{step}" for step in range(layers[source] + 1, layers[target]))
    return (source, *bends, target)


def _ordered(columns: list[list[str]], chains: Sequence[Sequence[str]]) -> None:
    left: dict[str, list[str]] = {}
    right: dict[str, list[str]] = {}
    for chain in chains:
        for one, other in pairwise(chain):
            right.setdefault(one, []).append(other)
            left.setdefault(other, []).append(one)
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        for number in range(1, len(columns)) if forth else range(len(columns) - 2, -1, -1):
            _by_neighbours(columns, number, columns[number - 1 if forth else number + 1], left if forth else right)


def _by_neighbours(columns: list[list[str]], number: int, fixed: Sequence[str], of: Mapping[str, list[str]]) -> None:
    """The column in the order of the middles of its neighbours; who has none stays about where it is."""
    row = {name: place for place, name in enumerate(fixed)}

    def middle(name: str, own: int) -> float:
        places = sorted(row[each] for each in of.get(name, ()))
        return places[len(places) // 2] if places else own

    keyed = [(middle(name, own), own, name) for own, name in enumerate(columns[number])]
    columns[number] = [name for _, _, name in sorted(keyed)]
