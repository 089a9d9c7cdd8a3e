"""Whatever graph is declared: every host can obey its plan, and every frame has exactly one way to whoever reads it."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_agent import inbox
from halftrack_controller import inlets, placement
from halftrack_model.graph import Edge, Policy, Role, StreamGraph, Vertex
from halftrack_model.plan import Plan
from halftrack_model.workload import Runs, SpoolLimits, Workload
from tests.planner.graphs import ALONE, CHAIN, HOSTS, LONE, SURVEY, A, B, C, graphs, running, world
from tests.planner.world import World, release

TRUST = {
    name: inbox.Trust("north", name, {"plan-key": b""}, {"release-key": b""}, 1, lambda *_: True) for name in HOSTS
}

FEW = settings(max_examples=40, deadline=None)  # each is a whole galaxy, planned and judged


def _plans(made: World) -> dict[str, Plan]:
    return {name: held.plan for name, held in made.held.items()}


def _workloads(made: World) -> dict[tuple[str, str], Workload]:
    return {(host, w.name): w for host, plan in _plans(made).items() for w in plan.workloads}


def _writers(made: World, ring: str) -> list[tuple[str, Workload]]:
    """Who writes that ring where it is made, rather than a replica of it."""
    return [
        (host, w)
        for (host, _), w in sorted(_workloads(made).items())
        if w.writes_ring == ring and w.runs is not Runs.BRIDGE_RECEIVER
    ]


@FEW
@given(graphs())
def test_any_graph_is_good_and_every_host_can_obey_its_plan(graph: StreamGraph) -> None:
    assert placement.problems(graph) == ()
    made = running(graph)
    assert made.settle() == []  # invariant: R1
    for name, held in made.held.items():
        assert inbox.judged(held.sealed, TRUST[name], None) is not None
    placed = {host for each in graph.vertices for host in each.hosts}
    assert placed <= set(made.held)


@FEW
@given(graphs())
def test_each_ring_has_one_writer_where_it_is_made_and_one_on_every_host_that_has_a_replica(graph: StreamGraph) -> None:
    made = running(graph)
    for host, plan in _plans(made).items():
        written = Counter(w.writes_ring for w in plan.workloads if w.writes_ring)
        assert written == Counter(ring.name for ring in plan.rings)
        for workload in plan.workloads:
            if workload.runs is Runs.BRIDGE_RECEIVER:
                ((home, _),) = _writers(made, workload.reads_ring)
                assert home == workload.from_host != host, "a replica is fetched from where the ring is made"


@FEW
@given(graphs())
def test_both_members_read_one_stream_and_all_that_is_picked_is_picked_once(graph: StreamGraph) -> None:
    made = running(graph)
    readers: dict[str, set[str]] = {}
    for workload in _workloads(made).values():
        if workload.runs in (Runs.MEMBER, Runs.SINK):
            readers.setdefault(workload.name.split(".")[1], set()).add(workload.reads_ring)
    assert all(len(rings) == 1 for rings in readers.values())  # invariant: S1
    for each in graph.vertices:
        joined = [w for w in _workloads(made).values() if w.name == placement.inlet_name(graph.name, each.name)]
        assert len(joined) == graph.has_inlet(each.name)
        for workload in joined:
            assert workload.inlet is not None
            assert tuple(one.name for one in workload.inlet.inputs) == graph.inputs(each.name)
            assert readers[each.name] == {workload.writes_ring}


@FEW
@given(graphs())
def test_an_edge_with_a_spool_is_kept_beside_its_inlet_from_the_ring_that_the_inlet_reads(graph: StreamGraph) -> None:
    plans = _plans(running(graph))
    wanted = {placement.spool_name(graph.name, e.source, e.target): e for e in graph.edges if e.spool is not None}
    assert Counter(w.name for p in plans.values() for w in p.workloads if w.runs is Runs.SPOOL) == Counter(list(wanted))
    for name, edge in wanted.items():
        host = placement.home(graph, graph.vertex(edge.target))
        at = {w.name: w for w in plans[host].workloads}
        inlet, spool = at[placement.inlet_name(graph.name, edge.target)], at[name]
        assert inlet.inlet is not None
        assert (name, spool.reads_ring) in [(each.spool, each.ring) for each in inlet.inlet.inputs]
        assert spool.spool == SpoolLimits(4 << 20, 1000, "drop-oldest")


@FEW
@given(graphs(), st.data())
def test_what_cannot_be_fed_is_left_out_with_a_reason_and_the_rest_goes_on(
    graph: StreamGraph, data: st.DataObject
) -> None:
    lost = data.draw(st.sampled_from(HOSTS))
    made = world(graph, frozenset(HOSTS) - {lost})
    for each in graph.vertices:
        made.publish(release(each.product, "1.0.0"))
    made.settle()
    runs = {w.name.split(".")[1] for w in _workloads(made).values() if w.name.startswith("any.")}
    told = {reason.subject.partition("/")[2] for reason in made.planning.reasons}
    assert {each.name for each in graph.vertices} <= runs | told  # invariant: O2
    for name, held in made.held.items():
        assert inbox.judged(held.sealed, TRUST[name], None) is not None
    for each in graph.vertices:
        if each.role is Role.SOURCE and each.hosts != (lost,):
            assert each.name in runs


@FEW
@given(graphs(), st.data())
def test_another_branch_changes_no_workload_that_it_does_not_touch(graph: StreamGraph, data: st.DataObject) -> None:
    """A sink more, wherever it stands: whoever ran goes on byte by byte, merges and inlets included."""
    before = _workloads(running(graph))
    source = data.draw(st.sampled_from([each.name for each in graph.vertices if each.role is not Role.SINK]))
    tap = Vertex("tap", Role.SINK, "tap", (data.draw(st.sampled_from(HOSTS)),), {}, 0, 0)
    grown = replace(graph, vertices=(*graph.vertices, tap), edges=(*graph.edges, Edge(source, "tap", Policy.LOSSY)))
    after = _workloads(running(grown))
    for key, workload in before.items():
        assert after[key].digest() == workload.digest()  # invariant: R2


def test_a_survey_joins_where_its_inputs_are_made_and_carries_the_joined_stream() -> None:
    made = running(SURVEY)
    ((host, inlet),) = _writers(made, "survey/beam.in")
    assert (host, inlet.runs) == (A, Runs.INLET)
    assert {(h, w.from_host) for (h, n), w in _workloads(made).items() if n == "survey.beam.in.from-tank-a"} == {
        (B, A),
        (C, A),
    }
    ring = inlets.ring_of(SURVEY, SURVEY.vertex("beam"))
    assert (ring.capacity_bytes, ring.slots) == (2 << 20, 1024)
    ((merge_host, _),) = _writers(made, "survey/beam")
    assert merge_host == C, "its first consumer's"
    assert (B, "survey.beam.from-tank-c") in _workloads(made)
    ((display, _),) = _writers(made, "survey/display.in")
    assert display == B


@pytest.mark.parametrize("bound_ms", [None, 0, 7000])
def test_all_that_runs_for_a_vertex_may_be_still_for_as_long_as_it_says(bound_ms: int | None) -> None:
    vertices = tuple(replace(each, hang_after_ms=bound_ms) if each.name == "beam" else each for each in SURVEY.vertices)
    found = {w.name.partition(".")[2]: w for w in _workloads(running(replace(SURVEY, vertices=vertices))).values()}
    mine = {name for name, w in found.items() if name.startswith("beam") and w.runs is not Runs.BRIDGE_RECEIVER}
    assert mine >= {"beam.in", "beam.merge", "beam.a@1.0.0", "beam.b@1.0.0"}
    assert {found[name].hang_after_ms for name in mine} == {bound_ms}
    assert {w.hang_after_ms for name, w in found.items() if name not in mine} == {None}


def test_pairs_in_a_row_and_a_pair_on_one_host() -> None:
    chain = _workloads(running(CHAIN))
    members = {(host, name): w.reads_ring for (host, name), w in chain.items() if w.runs is Runs.MEMBER}
    assert members == {
        (A, "chain.first.a@1.0.0"): "chain/source",
        (B, "chain.first.b@1.0.0"): "chain/source",
        (B, "chain.second.a@1.0.0"): "chain/first",
        (C, "chain.second.b@1.0.0"): "chain/first",
    }
    assert {host for host, name in chain if name == "chain.first.merge"} == {B}, "where its first consumer is, too"
    lone = _workloads(running(LONE))
    assert {(host, name) for (host, name), w in lone.items() if w.runs in (Runs.MEMBER, Runs.MERGE)} == {
        (A, "lone.twins.a@1.0.0"),
        (A, "lone.twins.b@1.0.0"),
        (A, "lone.twins.merge"),
    }
    assert (A, placement.BRIDGE) not in lone, "nothing leaves the host"


def test_a_swap_of_a_pair_on_one_host_names_both_seats_there() -> None:
    made = running(LONE)
    made.publish(release("twins", "1.1.0"))
    made.settle()
    (swap,) = made.held[A].plan.swaps
    assert [(seat.host, seat.blue.member, seat.green.version) for seat in swap.seats] == [
        (A, "a", "1.1.0"),
        (A, "b", "1.1.0"),
    ]
    assert inbox.judged(made.held[A].sealed, TRUST[A], None) is not None


def test_a_single_writes_its_ring_itself_under_one_name_for_all_releases() -> None:
    made = running(ALONE)
    old = _workloads(made)[B, "alone.filter"]
    assert (old.runs, old.writes_ring, old.reads_ring) == (Runs.MEMBER, "alone/filter", "alone/source")
    assert old.member is not None
    assert (old.member.member, old.member.generation) == ("a", 1)
    made.publish(release("filter", "1.1.0"))
    made.settle()
    new = _workloads(made)[B, "alone.filter"]
    assert (new.version, new.writes_ring) == ("1.1.0", "alone/filter")
    assert made.held[B].plan.swaps == ()
