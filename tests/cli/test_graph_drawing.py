"""A graph's drawing: what it shows is what is declared and known, in words, in DOT, and in a picture in which nothing overlaps."""

import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_controller import graph_drawing
from halftrack_controller.graph_layout import laid_out
from halftrack_controller.graph_views import graph_view
from halftrack_dataplane.frames import reader_name
from halftrack_model.errors import Refused
from halftrack_model.graph import Edge, Full, Partition, Policy, Role, Sample, Spool, StreamGraph, Vertex
from halftrack_model.observed import Health
from halftrack_model.swap import Phase
from halftrack_proto.gauges import FlowRow, RingRow
from halftrack_proto.graph_messages import GraphQuery, GraphView
from tests.planner.graphs import CHAIN, SURVEY, A, B, C, graphs, running, world
from tests.planner.world import World, release

RINGS = (
    RingRow(A, "survey/beam.in", 1000, 488, 1024, {"survey.beam.in": 3, "bridge": 0}, 999_500, 100),
    RingRow(C, "survey/beam", 0, 0, 1024, {}, -1, 100),
    RingRow(A, "other/beam", 9, 0, 16, {}, -1, 100),
    RingRow("mars", "survey/beam", 9, 0, 16, {}, -1, 100),
)
SVG = "{http://www.w3.org/2000/svg}"


def seen(made: World, graph: StreamGraph = SURVEY) -> GraphView:
    return graph_view(made.snapshot(), GraphQuery("", graph.name), RINGS)


def bare(graph: StreamGraph) -> GraphView:
    return GraphView(graph, (), (), ())


@given(graphs())
def test_every_edge_leads_to_the_right_and_nothing_shares_a_place(graph: StreamGraph) -> None:
    layout = laid_out(graph)
    bends = [point for way in layout.ways for point in way[1:-1]]
    taken = [*layout.places.values(), *bends]
    assert len(set(taken)) == len(taken)
    assert set(layout.places) == {vertex.name for vertex in graph.vertices}
    for edge, way in zip(graph.edges, layout.ways, strict=True):
        assert (way[0], way[-1]) == (layout.places[edge.source], layout.places[edge.target])
        assert all(one[0] + 1 == other[0] for one, other in pairwise(way))
    assert all(0 <= column < layout.columns and 0 <= row < layout.half_rows for column, row in taken)


def test_edges_that_need_not_cross_do_not() -> None:
    """Two lines side by side, declared crosswise."""
    vertices = [Vertex(name, Role.SOURCE, name, ("a",), {}, 1, 1) for name in ("s0", "s1", "e1", "e0")]
    layout = laid_out(StreamGraph("g", "t", tuple(vertices), (Edge("s0", "e0"), Edge("s1", "e1"))))
    rows = {name: row for name, (_, row) in layout.places.items()}
    assert (rows["s0"] < rows["s1"]) == (rows["e0"] < rows["e1"])


@given(graphs())
@settings(max_examples=30)
def test_all_forms_name_every_vertex_and_every_edge(graph: StreamGraph) -> None:
    view = bare(graph)
    text = "\n".join(graph_drawing.drawn(view, "text"))
    (dot,) = graph_drawing.drawn(view, "dot")
    (picture,) = graph_drawing.drawn(view, "svg")
    root = ElementTree.fromstring(picture)  # noqa: S314 - our own
    titles = [node.text for node in root.iter(f"{SVG}text")]
    for vertex in graph.vertices:
        assert f"\n{vertex.name}  {vertex.role.value}  no release" in text
        assert f"{vertex.name} ({vertex.role.value})" in titles
        assert f'"{vertex.name}" [label=' in dot
        assert (f'"{vertex.name}.in" -> "{vertex.name}"' in dot) == graph.has_inlet(vertex.name)
    assert sum(line.lstrip().startswith(("├─▶", "└─▶")) for line in text.splitlines()) == len(graph.edges)
    assert len([node for node in root.iter(f"{SVG}path") if "marker-end" in node.attrib]) == len(graph.edges)
    assert dot.count(" -> ") == len(graph.edges) + sum(graph.has_inlet(vertex.name) for vertex in graph.vertices)


@given(graphs())
@settings(max_examples=30)
def test_boxes_of_a_picture_lie_in_it_and_apart(graph: StreamGraph) -> None:
    (picture,) = graph_drawing.drawn(bare(graph), "svg")
    root = ElementTree.fromstring(picture)  # noqa: S314 - our own
    _, *boxes = [
        tuple(int(node.attrib.get(key, 0)) for key in ("x", "y", "width", "height")) for node in root.iter(f"{SVG}rect")
    ]
    width, height = int(root.attrib["width"]), int(root.attrib["height"])
    for number, (x, y, wide, high) in enumerate(boxes):
        assert x >= 0
        assert y >= 0
        assert x + wide <= width
        assert y + high <= height
        for other_x, other_y, _, _ in boxes[number + 1 :]:
            assert abs(x - other_x) >= wide or abs(y - other_y) >= high


def test_what_runs_is_told_with_its_health_rings_and_readers() -> None:
    made = running(SURVEY)
    text = "\n".join(graph_drawing.drawn(seen(made), "text"))
    for line in (
        "beam  pair  1.0.0  healthy",
        "  inputs joined by sequence on tank-a",
        "  beam.a@1.0.0 on tank-b: healthy, running",
        "  beam.merge on tank-c: healthy, running",
        "  ring survey/beam.in on tank-a: at 1000, 50% full, 999.5 frames/s; behind: bridge 0, survey.beam.in 3",
        "  ring survey/beam on tank-c: at 0, 0% full",
        "  ├─▶ archive",
        "  └─▶ display  at most 10/s",
        "  └─▶ beam  lossy",
    ):
        assert line in text.splitlines(), line
    assert "mars" not in text
    assert "other" not in text


def test_whom_a_vertex_may_speak_to_is_told() -> None:
    reach = ("db.example=10.0.0.5:5432", "127.0.0.1:4222")
    reaching = tuple(replace(each, reach=reach) if each.name == "archive" else each for each in SURVEY.vertices)
    view = bare(replace(SURVEY, vertices=reaching))
    lines = graph_drawing.drawn(view, "text")
    assert (
        lines[lines.index(next(each for each in lines if each.startswith("archive"))) + 1]
        == f"  may reach {', '.join(reach)}"
    )
    assert len([line for line in lines if "may reach" in line]) == 1
    (node,) = [line for line in graph_drawing.drawn(view, "dot") if "may reach" in line]
    assert all(f"may reach {each}" in node for each in reach)


FLOWS = (
    FlowRow(A, "survey.beam.in", "south", {"missed": 12, "left_out": 1}),
    FlowRow(B, "survey.display.in", "beam", {"late": 2}),
    FlowRow(B, "survey.beam.from-tank-c", "", {"lost": 5}),
    FlowRow(C, "survey.archive", "", {"lost": 7}),
    FlowRow("mars", "survey.archive", "", {"lost": 999}),
)


def test_every_edge_names_its_readers_and_what_they_did_not_get() -> None:
    rings = (
        RingRow(A, "survey/south", 40, 8, 32, {"survey.beam.in": 0}, 10_000, 100),
        RingRow(C, "survey/beam", 90, 0, 128, {"survey.archive": 4}, 1000, 100, 7, 3, {"survey.archive": 1}),
    )
    view = graph_view(running(SURVEY).snapshot(), GraphQuery("", "survey"), rings, FLOWS)
    lines = list(graph_drawing.drawn(view, "text"))
    for edge, told in (
        ("  └─▶ beam  lossy", "        read by beam.in on tank-a: 0 behind, 12 missed, 1 times left out"),
        ("  ├─▶ archive", "  │     read by archive on tank-c: 4 behind, 7 lost before, 1 missed"),
        ("  └─▶ display  at most 10/s", "        read by display.in on tank-b: 2 late, 5 lost on the way"),
    ):
        assert lines[lines.index(edge) + 1] == told
    assert (
        "  ring survey/beam on tank-c: at 90, 70% full, 1.0 frames/s, 7 lost, 3 dropped; behind: survey.archive 4"
        in lines
    )
    (dot,) = graph_drawing.drawn(view, "dot")
    assert '"beam" -> "archive" [label="tank-c: 7 lost before, 1 missed"];' in dot
    (picture,) = graph_drawing.drawn(view, "svg")
    words = [node.text for node in ElementTree.fromstring(picture).iter(f"{SVG}text")]  # noqa: S314 - our own
    assert {
        "tank-a: 12 missed, 1 times left out",
        "tank-c: 7 lost before, 1 missed",
        "tank-b: 2 late, 5 lost on the way",
    } <= set(words)
    assert "999" not in "".join([*lines, dot, picture])


def test_a_reader_is_found_by_what_the_ring_keeps_of_a_long_name() -> None:
    vertex_name = "a-vertex-whose-name-is-so-long-that-no-ring-keeps-it-whole"
    chain = StreamGraph(
        "chain",
        "tank",
        (
            Vertex("source", Role.SOURCE, "first", (A,), {}, 1 << 20, 1024),
            Vertex(vertex_name, Role.SINK, "second", (A,), {}, 0, 0),
        ),
        (Edge("source", vertex_name),),
    )
    name = reader_name(f"chain.{vertex_name}")
    rows = (RingRow(A, "chain/source", 9, 0, 16, {name: 5}, -1, 100, 0, 0, {name: 2}),)
    (reader,) = graph_view(running(chain).snapshot(), GraphQuery("", "chain"), rows).readers
    assert name != f"chain.{vertex_name}"
    assert (reader.lag_frames, dict(reader.drops)) == (5, {"missed": 2})


@given(graphs())
@settings(max_examples=20, deadline=None)
def test_every_edge_of_a_running_graph_has_its_readers(graph: StreamGraph) -> None:
    """One inlet, or each member that runs for the target; each reads the source's ring on its own host."""
    view = graph_view(running(graph).snapshot(), GraphQuery("", graph.name), ())
    for edge in graph.edges:
        mine = [reader for reader in view.readers if (reader.source, reader.target) == (edge.source, edge.target)]
        members = 2 if graph.vertex(edge.target).role is Role.PAIR else 1
        assert len(mine) == (1 if graph.has_inlet(edge.target) else members)
        for reader in mine:
            assert reader.ring == f"{graph.name}/{edge.source}"
            assert (reader.host, reader.workload) in {(part.host, part.workload) for part in view.parts}
            assert reader.lag_frames == -1


def test_a_swap_is_told_with_its_phase() -> None:
    made = running(CHAIN)
    made.publish(release("first", "1.1.0"))
    made.settle()
    assert "first  pair  1.0.0 → 1.1.0 (running)  healthy" in graph_drawing.drawn(seen(made, CHAIN), "text")
    for name in (A, B, C):
        made.accept(name)
    assert "  first.a@1.1.0 on tank-a: unknown, not started" in graph_drawing.drawn(seen(made, CHAIN), "text")
    made.tell_swap("tank.chain.first.2", Phase.SHADOWING)
    told = graph_drawing.drawn(seen(made, CHAIN), "text")
    assert any(line.startswith("first  pair  1.0.0 → 1.1.0 (running; seat 1 shadowing)") for line in told)


def test_the_worst_is_told_and_what_is_not_seen_is_unknown() -> None:
    made = running(SURVEY)
    made.shows(B, "survey.beam.a@1.0.0", "resting", Health.UNHEALTHY, 3, "exit status 1")
    assert graph_drawing.health_text(seen(made), "beam") == "unhealthy"
    made.silent(B, 90 * 60_000)
    assert graph_drawing.health_text(seen(made), "beam") == "unknown"  # invariant: O1
    told = [line for line in graph_drawing.drawn(seen(made), "text") if "beam.a@1.0.0" in line]
    assert told == ["  beam.a@1.0.0 on tank-b: unknown (tank-b was last seen at least 1 h ago)"]
    assert graph_drawing.health_text(seen(made), "north") == "healthy"


def test_a_graph_that_is_not_there_or_there_twice_is_refused() -> None:
    made = world(SURVEY)
    with pytest.raises(Refused, match="no graph 'moon'; there is tank/survey"):
        graph_view(made.snapshot(), GraphQuery("", "moon"), ())
    made.environments["mars"] = replace(made.environments["tank"], name="mars")
    made.graphs.append(replace(SURVEY, environment="mars"))
    with pytest.raises(Refused, match="runs in mars, tank: say which"):
        graph_view(made.snapshot(), GraphQuery("", "survey"), ())
    assert graph_view(made.snapshot(), GraphQuery("mars", "survey"), ()).graph.environment == "mars"


@pytest.mark.parametrize(
    ("edge", "words"),
    [
        (Edge("a", "b"), ""),
        (Edge("a", "b", retain_ms=5), "5 ms retained"),
        (Edge("a", "b", Policy.SAMPLE, Sample(every=3)), "every 3"),
        (Edge("a", "b", Policy.SAMPLE, Sample(latest=True), replay_ms=9), "the newest, from 9 ms ago"),
        (Edge("a", "b", partition=Partition(0, 8, 4, (0, 2))), "lossless, parts 0, 2 of 4"),
        (
            Edge("a", "b", credit_bytes=1 << 20, evict_after_ms=5),
            "lossless, credit 1MiB, evicted after 5 ms",
        ),
        (Edge("a", "b", spool=Spool(20 << 30)), "lossless, spool 20GiB"),
        (Edge("a", "b", spool=Spool(1 << 20, 5, Full.DROP_OLDEST)), "lossless, spool 1MiB, drop-oldest"),
    ],
)
def test_an_edge_says_in_words_what_it_carries(edge: Edge, words: str) -> None:
    assert graph_drawing.edge_text(edge) == words


def test_how_often_a_process_hung_is_said_where_it_stands() -> None:
    view = seen(running(CHAIN), CHAIN)
    for hangs, words in ((1, "healthy, running, hung once"), (3, "healthy, running, hung 3 times")):
        hung = replace(view, parts=tuple(replace(part, hangs=hangs) for part in view.parts))
        lines = list(graph_drawing.drawn(hung, "text"))
        drawn = [part for part in view.parts if part.runs != "bridge-receiver"]
        assert sum(line.endswith(words) for line in lines) == len(drawn) > 0
    assert not any("hung" in line for line in graph_drawing.drawn(view, "text"))


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20))
def test_nothing_that_hosts_say_breaks_a_form(detail: str) -> None:
    """Versions are checked long before; here it is shown that nothing depends on that."""
    made = running(CHAIN)
    view = seen(made, CHAIN)
    hostile = replace(view, vertices=tuple(replace(each, version=detail) for each in view.vertices))
    (picture,) = graph_drawing.drawn(hostile, "svg")
    ElementTree.fromstring(picture)  # noqa: S314 - our own
    (dot,) = graph_drawing.drawn(hostile, "dot")
    assert re.sub(r'"(\\.|[^"\\])*"', "", dot).count('"') == 0
