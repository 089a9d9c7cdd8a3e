"""Who reads an edge, from which ring on which host, how far behind, and what it did not get. Pure; decides nothing.

Every count is a process's own or a ring's, as its host has told it last; none is made up of others'.
"""

import hashlib
from collections.abc import Iterator

from halftrack_controller import placement
from halftrack_model.graph import Edge, StreamGraph
from halftrack_model.workload import Runs
from halftrack_proto.gauges import FlowRow, RingRow
from halftrack_proto.graph_messages import EdgeReader, GraphPart

ON_THE_WAY = "on_the_way"
READING = {
    Runs.MEMBER.value,
    Runs.SINK.value,
}  # of those that run for a vertex; a merge reads members, a receiver nothing
WORDS = {
    "lost": "lost before",
    "missed": "missed",
    "late": "late",
    "duplicates": "duplicates",
    ON_THE_WAY: "lost on the way",
    "left_out": "times left out",
}  # in the order in which they are shown


def readers(
    graph: StreamGraph, parts: tuple[GraphPart, ...], rings: tuple[RingRow, ...], flows: tuple[FlowRow, ...]
) -> tuple[EdgeReader, ...]:
    """The readers of all edges, in the order of the edges."""
    known = _Known(graph, {(row.host, row.ring): row for row in rings}, flows)
    return tuple(reader for edge in graph.edges for reader in known.readers(edge, parts))


def drops_text(reader: EdgeReader) -> str:
    """What it did not get, in words; empty if nothing."""
    return ", ".join(f"{reader.drops[key]} {word}" for key, word in WORDS.items() if reader.drops.get(key))


class _Known:
    """What hosts have told, by where to look it up."""

    def __init__(self, graph: StreamGraph, rings: dict[tuple[str, str], RingRow], flows: tuple[FlowRow, ...]) -> None:
        self._graph, self._rings = graph, rings
        self._flows = {(flow.host, flow.workload, flow.input): flow.counts for flow in flows}

    def readers(self, edge: Edge, parts: tuple[GraphPart, ...]) -> Iterator[EdgeReader]:
        graph = self._graph
        ring = placement.ring_name(graph.name, edge.source)
        joined = graph.has_inlet(edge.target)
        inlet = placement.inlet_name(graph.name, edge.target)
        for part in parts:
            reads = part.workload == inlet if joined else part.vertex == edge.target and part.runs in READING
            if reads:
                yield self._reader(edge, ring, part, edge.source if joined else "")

    def _reader(self, edge: Edge, ring: str, part: GraphPart, which: str) -> EdgeReader:
        row = self._rings.get((part.host, ring))
        drops = self._counted(part, which)
        if row is not None and not which and (missed := row.missed.get(_read_as(row, part.workload), 0)):
            drops["missed"] = missed
        home = placement.home(self._graph, self._graph.vertex(edge.source))
        brought = self._flows.get((part.host, placement.receiver_name(ring, home), ""), {})
        if lost := brought.get("lost", 0):
            drops[ON_THE_WAY] = lost
        lag = -1 if row is None else row.lags.get(_read_as(row, part.workload), -1)
        return EdgeReader(edge.source, edge.target, part.host, part.workload, ring, lag, drops)

    def _counted(self, part: GraphPart, which: str) -> dict[str, int]:
        """Of one input, whose name has a generation behind it once the graph was edited."""
        found: dict[str, int] = {}
        for (host, workload, name), counts in self._flows.items():
            if (host, workload, name.partition("@")[0]) == (part.host, part.workload, which):
                found = {word: found.get(word, 0) + counts.get(word, 0) for word in {*found, *counts}}
        return found


def _read_as(row: RingRow, workload: str) -> str:
    """The name under which it reads: its own, or what a ring keeps of a long one, which ends in a mark (`frames.reader_name`)."""
    if workload in row.lags:
        return workload
    mark = f"~{hashlib.sha256(workload.encode()).hexdigest()[:12]}"
    return next((name for name in row.lags if name.endswith(mark)), workload)
