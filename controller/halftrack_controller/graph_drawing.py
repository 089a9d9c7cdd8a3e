"""A graph as a page of text, as Graphviz's DOT, and as an SVG picture. Pure: strings out; says nothing that its view does not.

Lengths in a picture are in pixels. Colours are never alone: what they say stands there in words, too.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from xml.sax.saxutils import escape, quoteattr

from halftrack_controller import placement
from halftrack_controller.graph_layout import Layout, Point, laid_out
from halftrack_controller.graph_readers import drops_text
from halftrack_controller.quantities import size_text, times_text
from halftrack_model.graph import Edge, Full, Role, StreamGraph, Vertex
from halftrack_model.observed import Health
from halftrack_model.rewiring import carried
from halftrack_model.workload import Runs
from halftrack_proto.gauges import RingRow
from halftrack_proto.graph_messages import NOT_STARTED, EdgeReader, GraphPart, GraphView, VertexStanding

_WORST_FIRST = (Health.UNHEALTHY.value, Health.UNKNOWN.value, Health.HEALTHY.value)
_COLOURS = {
    "healthy": "#2e7d32",
    "unhealthy": "#c62828",
    "unknown": "#8d6e00",
    "not started": "#8d6e00",
    "not planned": "#757575",
}
_WIDTH, _HEIGHT, _ACROSS, _DOWN, _MARGIN = 210, 74, 330, 104, 24
_DASHED = ' stroke-dasharray="6 4"'  # what leaves
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
    'font-family="sans-serif" font-size="12">'
)
_ARROW = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0 L8 4 L0 8 z" fill="#455a64"/></marker></defs>'
)
assert _WIDTH < _ACROSS  # noqa: S101 - edges and their words go between
assert _HEIGHT < _DOWN  # noqa: S101


def edge_text(edge: Edge) -> str:
    """What an edge carries, in a few words; empty for all of a stream, read without loss."""
    words: list[str] = []
    if (sample := edge.sample) is not None:
        rate = f"at most {sample.rate_per_s}/s" if sample.rate_per_s else "the newest"
        words.append(f"every {sample.every}" if sample.every else rate)
    elif not edge.plain:
        words.append(edge.policy.value)
    if (cut := edge.partition) is not None:
        words.append(f"parts {', '.join(map(str, cut.take))} of {cut.of}")
    words += [f"from {edge.replay_ms} ms ago"] if edge.replay_ms else []
    words += [f"credit {size_text(edge.credit_bytes)}"] if edge.credit_bytes else []
    words += [f"evicted after {edge.evict_after_ms} ms"] if edge.evict_after_ms else []
    if (spool := edge.spool) is not None:
        words.append(f"spool {size_text(spool.size_bytes)}{', drop-oldest' if spool.full is Full.DROP_OLDEST else ''}")
    words += [f"{edge.retain_ms} ms retained"] if edge.retain_ms else []
    return ", ".join(words)


def release_text(standing: VertexStanding) -> str:
    """What is in force, and what is on its way."""
    if not standing.next_version:
        return standing.version or "no release"
    way = f"{standing.version} → {standing.next_version}" if standing.version else f"→ {standing.next_version}"
    return f"{way} ({'; '.join(text for text in (standing.phase, standing.swap) if text)})"


def health_text(view: GraphView, vertex: str) -> str:
    """The worst of what runs for the vertex; a green that waits for its turn is no trouble."""
    parts = _parts(view, vertex)
    found = {part.health for part in parts if part.phase != NOT_STARTED}
    return next((health for health in _WORST_FIRST if health in found), "not started" if parts else "not planned")


def join_text(graph: StreamGraph, vertex: Vertex) -> str:
    """What the vertex's inlet does, and where; empty without one."""
    if not graph.has_inlet(vertex.name):
        return ""
    join = vertex.join
    how = (
        f"joined by {join.by.value}{f' of {join.width_ms} ms' if join.width_ms else ''}"
        if join
        else _alone(graph, vertex)
    )
    return f"{how} on {placement.inlet_host(graph, vertex)}"


def _alone(graph: StreamGraph, vertex: Vertex) -> str:
    return "passed on" if all(edge.plain for edge in graph.into(vertex.name)) else "picked"


def inputs_text(view: GraphView, vertex: str) -> str:
    """Which of its inputs the vertex reads, where an edit has changed them; empty where none has."""
    each = next((each for each in view.inputs if each.vertex == vertex), None)
    if each is None:
        return ""
    if each.waits:
        return f"not read yet: {each.waits}"
    return f"read from number {each.first} on" if each.first >= 0 else ""


def leaves(view: GraphView, vertex: Vertex) -> bool:
    """Has an edit taken it out, and something still reads it?"""
    return all(each.name != vertex.name for each in view.graph.vertices)


def _drawn(view: GraphView) -> tuple[StreamGraph, frozenset[int]]:
    """All that is to be drawn, and the numbers of the edges that leave. Of an edge that is only read in another way, the new one is drawn."""
    graph, kept = view.graph, {(edge.source, edge.target) for edge in view.graph.edges}
    old = [edge for edge in graph.leaving.edges if (edge.source, edge.target) not in kept]
    old = list({(edge.source, edge.target): edge for edge in old}.values())
    edges = (*graph.edges, *old)
    return replace(carried(graph), edges=edges), frozenset(range(len(graph.edges), len(edges)))


def _parts(view: GraphView, vertex: str) -> list[GraphPart]:
    """What runs for the vertex itself; receivers are the way of its stream to elsewhere."""
    return [p for p in view.parts if p.vertex == vertex and p.runs != Runs.BRIDGE_RECEIVER.value]


def _standing(view: GraphView, vertex: str) -> VertexStanding:
    return next((each for each in view.vertices if each.vertex == vertex), VertexStanding(vertex, "", "", "", ""))


def _left_to_right(graph: StreamGraph) -> list[Vertex]:
    places = laid_out(graph).places
    return sorted(graph.vertices, key=lambda vertex: places[vertex.name])


# ------------------------------------------------------------------------------------------------------------------ text


def text_lines(view: GraphView) -> list[str]:
    """Each vertex from the sources on: what it runs, where and how it is, its ring, and who is fed."""
    graph, old = _drawn(view)
    left = f", {len(graph.vertices) - len(view.graph.vertices)} and {len(old)} leaving" if old else ""
    lines = [
        f"{graph.name} in {graph.environment}: {len(view.graph.vertices)} vertices, {len(view.graph.edges)} edges{left}"
    ]
    for vertex in _left_to_right(graph):
        standing = release_text(_standing(view, vertex.name))
        going = "  leaving" if leaves(view, vertex) else ""
        lines += ["", f"{vertex.name}  {vertex.role.value}  {standing}  {health_text(view, vertex.name)}{going}"]
        if joined := join_text(graph, vertex):
            lines.append(f"  inputs {joined}")
        if vertex.reach:
            lines.append(f"  may reach {', '.join(vertex.reach)}")
        if told := inputs_text(view, vertex.name):
            lines.append(f"  new inputs {told}")
        lines += [f"  {_part_text(part)}" for part in _parts(view, vertex.name)]
        if not _parts(view, vertex.name):
            lines.append(f"  shall run on {' and '.join(vertex.hosts)}")
        lines += [f"  {_ring_text(row)}" for row in _rings(view, vertex)]
        edges = [(edge, number in old) for number, edge in enumerate(graph.edges) if edge.source == vertex.name]
        for number, (edge, going_away) in enumerate(edges, 1):
            branch = ("└┄▶" if going_away else "└─▶") if number == len(edges) else "├┄▶" if going_away else "├─▶"
            words = "  ".join(text for text in (edge_text(edge), "leaving" if going_away else "") if text)
            lines.append(f"  {branch} {edge.target}{f'  {words}' if words else ''}")
            below = " " if number == len(edges) else "│"
            lines += [f"  {below}     {_reader_text(reader)}" for reader in _readers(view, edge)]
    return lines


def _readers(view: GraphView, edge: Edge) -> list[EdgeReader]:
    return [reader for reader in view.readers if (reader.source, reader.target) == (edge.source, edge.target)]


def _reader_text(reader: EdgeReader) -> str:
    name = reader.workload.partition(".")[2]
    lag = f"{reader.lag_frames} behind" if reader.lag_frames >= 0 else ""
    told = ", ".join(filter(None, (lag, drops_text(reader))))
    return f"read by {name} on {reader.host}{f': {told}' if told else ''}"


def _drop_lines(view: GraphView, edge: Edge) -> list[str]:
    """What readers of the edge did not get, each that lacks something."""
    lacking = [(reader, drops_text(reader)) for reader in _readers(view, edge)]
    return [f"{reader.host}: {text}" for reader, text in lacking if text]


def _part_text(part: GraphPart) -> str:
    name = part.workload.partition(".")[2]
    words = dict.fromkeys((part.health, part.phase.replace("-", " ")) if part.phase else (part.health,))
    told = ", ".join([*words, *([f"hung {times_text(part.hangs)}"] if part.hangs else [])])
    return f"{name} on {part.host}: {told}{f' ({part.detail})' if part.detail else ''}"


def _rings(view: GraphView, vertex: Vertex) -> list[RingRow]:
    """The vertex's stream and its inlet's, with every replica."""
    graph = view.graph.name
    mine = (placement.inlet_ring_name(graph, vertex.name), placement.ring_name(graph, vertex.name))
    return sorted((row for row in view.rings if row.ring in mine), key=lambda row: (mine.index(row.ring), row.host))


def _ring_text(row: RingRow) -> str:
    fill = f"{100 * (row.head - row.tail) // row.slots}% full" if row.slots else "empty"
    rate = "" if row.frames_per_1000_s < 0 else f", {row.frames_per_1000_s / 1000:.1f} frames/s"
    gone = "".join(f", {count} {word}" for count, word in ((row.lost, "lost"), (row.dropped, "dropped")) if count)
    lags = ", ".join(f"{name} {lag}" for name, lag in sorted(row.lags.items()))
    return f"ring {row.ring} on {row.host}: at {row.head}, {fill}{rate}{gone}{f'; behind: {lags}' if lags else ''}"


# ------------------------------------------------------------------------------------------------------------------- DOT


def dot(view: GraphView) -> str:
    """For Graphviz; an inlet is a node of its own."""
    graph, old = _drawn(view)
    lines = [f"digraph {_quoted(f'{graph.environment}/{graph.name}')} {{", "  rankdir=LR;", "  node [shape=box];"]
    for vertex in graph.vertices:
        health = health_text(view, vertex.name)
        label = "\n".join((*_node_lines(view, vertex, health), *(f"may reach {each}" for each in vertex.reach)))
        dashed = ", style=dashed" if leaves(view, vertex) else ""
        lines.append(f"  {_quoted(vertex.name)} [label={_quoted(label)}, color={_quoted(_COLOURS[health])}{dashed}];")
        if joined := join_text(graph, vertex):
            inlet = f"{vertex.name}.in"
            lines.append(f"  {_quoted(inlet)} [label={_quoted(joined)}, shape=ellipse];")
            lines.append(f"  {_quoted(inlet)} -> {_quoted(vertex.name)};")
    for number, edge in enumerate(graph.edges):
        target = f"{edge.target}.in" if graph.has_inlet(edge.target) else edge.target
        dashed = ", style=dashed" if number in old else ""
        label = "\n".join(filter(None, (edge_text(edge), *_drop_lines(view, edge))))
        lines.append(f"  {_quoted(edge.source)} -> {_quoted(target)} [label={_quoted(label)}{dashed}];")
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _node_lines(view: GraphView, vertex: Vertex, health: str) -> list[str]:
    hosts = (
        list(dict.fromkeys(host for _, host in placement.seats(view.graph, vertex)))
        if vertex.role is Role.PAIR
        else vertex.hosts
    )
    told = inputs_text(view, vertex.name)
    return [
        f"{vertex.name} ({vertex.role.value}{', leaving' if leaves(view, vertex) else ''})",
        release_text(_standing(view, vertex.name)),
        f"{' and '.join(hosts)}: {health}",
        *([f"new inputs {told}"] if told else []),
    ]


# ------------------------------------------------------------------------------------------------------------------- SVG


def svg(view: GraphView) -> str:
    """A picture that stands by itself: boxes from left to right, edges between, words on both."""
    graph, old = _drawn(view)
    layout = laid_out(graph)
    width = 2 * _MARGIN + (layout.columns - 1) * _ACROSS + _WIDTH
    height = 2 * _MARGIN + (layout.half_rows - 2) * _DOWN // 2 + _HEIGHT
    body = [
        *_edges(view, graph, layout, old),
        *(line for vertex in graph.vertices for line in _box(view, vertex, layout)),
    ]
    lines = (
        _HEAD.format(width=width, height=height),
        f"<title>{escape(f'{graph.environment}/{graph.name}')}</title>",
        _ARROW,
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *body,
        "</svg>",
    )
    return "\n".join(lines)


def _corner(point: Point) -> Point:
    return _MARGIN + point[0] * _ACROSS, _MARGIN + point[1] * _DOWN // 2


def _edges(view: GraphView, graph: StreamGraph, layout: Layout, old: Collection[int]) -> Iterator[str]:
    for index, (edge, way) in enumerate(zip(graph.edges, layout.ways, strict=True)):
        (x, y), *bends = [(_corner(point)[0], _corner(point)[1] + _HEIGHT // 2) for point in way]
        x += _WIDTH
        path, start = f"M{x} {y}", (x, y)
        for number, (next_x, next_y) in enumerate(bends, 1):
            bow = (next_x - x) // 2
            path += f" C{x + bow} {y} {next_x - bow} {next_y} {next_x} {next_y}"
            x, y = next_x, next_y
            if number < len(bends):  # through the column, where a box would be
                x += _WIDTH
                path += f" L{x} {y}"
        dashed = _DASHED if index in old else ""
        yield f'<path d="{path}" fill="none" stroke="#455a64"{dashed} marker-end="url(#tip)"/>'
        middle = (start[0] + bends[0][0]) // 2, (start[1] + bends[0][1]) // 2 - 4
        if words := edge_text(edge):
            yield _words(middle, words, 'text-anchor="middle" fill="#455a64" font-size="10"')
        for number, words in enumerate(_drop_lines(view, edge), 1):
            below = middle[0], middle[1] + 2 + 12 * number
            yield _words(below, words, 'text-anchor="middle" fill="#c62828" font-size="10"')


def _box(view: GraphView, vertex: Vertex, layout: Layout) -> Iterator[str]:
    x, y = _corner(layout.places[vertex.name])
    health = health_text(view, vertex.name)
    colour = _COLOURS[health]
    dashed = _DASHED if leaves(view, vertex) else ""
    yield f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="4" fill="#fafafa" stroke="{colour}"{dashed} stroke-width="2"/>'
    for number, line in enumerate(_node_lines(view, vertex, health)[:3]):
        yield _words((x + 10, y + 20 + 17 * number), line, 'font-weight="bold"' if number == 0 else "")
    told = inputs_text(view, vertex.name)
    if joined := f"new inputs {told}" if told else join_text(view.graph, vertex):
        yield _words((x + 10, y + _HEIGHT - 4), joined, 'fill="#455a64" font-size="10"')


def _words(at: Point, text: str, style: str) -> str:
    fitted = f' textLength={quoteattr(str(_WIDTH - 20))} lengthAdjust="spacingAndGlyphs"' if len(text) > 34 else ""
    return f'<text x="{at[0]}" y="{at[1]}" {style}{fitted}>{escape(text)}</text>'


def drawn(view: GraphView, form: str) -> Iterable[str]:
    """The lines of the graph in one of the forms."""
    return {"dot": lambda: [dot(view)], "svg": lambda: [svg(view)]}.get(form, lambda: text_lines(view))()
