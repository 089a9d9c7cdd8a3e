"""What an edit makes of a graph, and what is refused of it, in words."""

from dataclasses import replace

import pytest

from halftrack_model import edit_rules, edits, rewiring_rules
from halftrack_model.edits import Edit, Insert, Remove, Replace, Reroute, SetPolicy, Split
from halftrack_model.errors import InvalidInput
from halftrack_model.graph import Edge, Join, JoinBy, Policy, Role, Sample, StreamGraph
from tests.model.test_rewiring import LINE, vertex

SAMPLED = replace(
    LINE,
    edges=tuple(
        replace(edge, policy=Policy.SAMPLE, sample=Sample(every=10)) if edge.target == "display" else edge
        for edge in LINE.edges
    ),
)
ORDERED = StreamGraph(
    "ordered",
    "home",
    (
        vertex("north", Role.SOURCE),
        vertex("south", Role.SOURCE),
        vertex("all", Role.SINK, Join(JoinBy.ORDER)),
        vertex("pairs", Role.SINK, Join(JoinBy.SEQUENCE)),
    ),
    (Edge("north", "all"), Edge("south", "all"), Edge("north", "pairs"), Edge("south", "pairs")),
    live=True,
)


@pytest.mark.parametrize(
    ("graph", "counting", "edit", "told"),
    [
        (replace(LINE, live=False), (), Remove("clean"), "line was not declared live"),
        (LINE, ("clean",), Remove("clean"), "clean, which keeps a state and so counts its outputs itself"),
        (LINE, ("flag",), Insert("clean", "spectra", vertex("flag")), "flag, which keeps a state and so counts"),
        (
            SAMPLED,
            (),
            SetPolicy("clean", "display", every=5),
            "reads the numbers of every 10 of source, and would read those of",
        ),
        (SAMPLED, (), Reroute("clean", "display", "spectra"), ""),
        (ORDERED, (), Insert("north", "all", vertex("flag")), "all joins by order, which numbers its frames by itself"),
        (ORDERED, (), Insert("north", "pairs", vertex("flag")), ""),
    ],
)
def test_what_does_not_keep_the_numbers_is_refused(
    graph: StreamGraph, counting: tuple[str, ...], edit: Edit, told: str
) -> None:
    # invariant: S1
    names = {each.name for each in graph.vertices}
    found = "\n".join(rewiring_rules.refusals(graph, edit_rules.edited(graph, edit), names, counting))
    assert (told in found) if told else found == ""


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (
            Insert("clean", "sink", vertex("flag")),
            "no edge leads from 'clean' to 'sink': line has source:clean, clean:spectra",
        ),
        (Insert("clean", "spectra", vertex("sink")), "there is a vertex 'sink' already: give the new one another name"),
        (Insert("clean", "spectra", vertex("flag", Role.SINK)), "only a single or a pair can stand between others"),
        (Replace("sink", vertex("flag")), "only a single or a pair, between others, can be replaced"),
        (Remove("source"), "let them read another vertex first"),
        (Reroute("clean", "display", "sink"), "sink is a sink"),
        (Reroute("clean", "display", "clean"), "display reads clean already"),
        (Reroute("spectra", "sink", "clean"), "nobody else reads spectra, and nobody would then"),
        (Reroute("source", "clean", "spectra"), "nobody else reads source"),
        (Split("sink", 2, 0, 8), "can be split"),
        (Split("clean", 1, 0, 8), "a vertex is split into 2 to 32, not 1"),
        (SetPolicy("clean", "display"), "nothing of the edge is to be set"),
        (SetPolicy("clean", "display", Policy.SAMPLE), "samples, so it must say which frames"),
        (SetPolicy("clean", "display", Policy.LOSSY, evict_after_ms=5), "is never evicted: leave evictAfter out"),
    ],
)
def test_an_edit_that_makes_no_graph_is_refused_in_words(edit: Edit, told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        edit_rules.edited(LINE, edit)
    assert told in caught.value.message
    assert caught.value.message.endswith("nothing was changed")


def test_an_inserted_vertex_reads_what_the_edge_carried_and_removing_it_gives_the_edge_back() -> None:
    edge = Edge("clean", "display", credit_bytes=1 << 20, retain_ms=1000)
    graph = replace(LINE, edges=(*LINE.edges[:3], edge))
    put = edit_rules.edited(graph, Insert("clean", "display", vertex("flag")))
    assert put.into("flag") == (replace(edge, target="flag"),)
    assert put.into("display") == (Edge("flag", "display"),)
    assert edits.same(edit_rules.edited(put, Remove("flag")), graph)
    both = replace(put, edges=tuple(replace(e, policy=Policy.LOSSY) if e.target == "display" else e for e in put.edges))
    with pytest.raises(InvalidInput) as caught:
        edit_rules.edited(both, Remove("flag"))
    assert "one edge cannot say both" in caught.value.message
