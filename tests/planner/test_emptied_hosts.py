"""A host whose last work is ordered elsewhere is emptied; one that nothing speaks of any more keeps what it has.

invariant: R3
invariant: R1
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_model.graph import Role, StreamGraph, Vertex
from tests.planner.test_services import HOSTS, NAME, Fleet
from tests.planner.world import deployed, host, spectra

some_hosts = st.sets(st.sampled_from(HOSTS), min_size=1).map(lambda names: tuple(sorted(names)))


def everywhere(name: str, hosts: tuple[str, ...]) -> StreamGraph:
    """A service that runs once on each of these."""
    return StreamGraph(name, "tank", (Vertex(name, Role.SERVICE, "page", hosts, {}, 0, 0, instances=len(hosts)),), ())


def running(fleet: Fleet, name: str = NAME) -> tuple[str, ...]:
    return tuple(each for each in HOSTS if any(w.name == name for w in workloads(fleet, each)))


def workloads(fleet: Fleet, name: str):  # type: ignore[no-untyped-def]
    held = fleet.world.held.get(name)
    return () if held is None else held.plan.workloads


@settings(max_examples=40)
@given(st.lists(some_hosts, min_size=1, max_size=4), st.sets(st.sampled_from(HOSTS)))
def test_a_service_runs_where_it_is_ordered_and_nowhere_else(
    orders: list[tuple[str, ...]], with_others: set[str]
) -> None:
    fleet = Fleet(everywhere("page", HOSTS))
    others = [everywhere("other", tuple(sorted(with_others)))] if with_others else []
    for hosts in orders:
        fleet.world.graphs = [everywhere("page", hosts), *others]
        fleet.settle()
        assert running(fleet) == hosts
        assert running(fleet, "other.other") == tuple(sorted(with_others))
        for name, held in fleet.world.held.items():
            assert held.plan.decommission == (name not in hosts and name not in with_others), (
                "only who has nothing else"
            )
    before = dict(fleet.world.held)
    fleet.settle()
    assert fleet.world.held == before, "once is enough"


def test_the_only_host_of_a_service_keeps_it_until_the_one_that_shall_have_it_has_enrolled() -> None:
    fleet = Fleet(everywhere("page", ("tank-a",)))
    fleet.world.hosts["tank-x"] = host("tank-x", enrolled=False)
    fleet.world.graphs = [everywhere("page", ("tank-x",))]
    fleet.settle()
    assert running(fleet) == ("tank-a",)
    fleet.world.hosts["tank-x"] = host("tank-x")
    fleet.settle()
    assert running(fleet) == ()
    assert fleet.world.held["tank-a"].plan.decommission


@pytest.mark.parametrize("product", ["spectra-sink", "unpublished"])
def test_a_host_of_a_graph_is_emptied_when_all_of_its_vertices_run_elsewhere_and_not_before(product: str) -> None:
    world = deployed()
    world.hosts["tank-c"] = host("tank-c")
    moved = spectra(a="tank-c")
    *others, sink = moved.vertices
    world.graphs = [replace(moved, vertices=(*others, replace(sink, product=product)))]
    world.settle()
    assert any(w.name == "spectra.source" for w in world.held["tank-c"].plan.workloads)
    runs = {w.name for w in world.held["tank-a"].plan.workloads}
    assert world.held["tank-a"].plan.decommission == (product == "spectra-sink") == (not runs)


@given(some_hosts, st.booleans())
def test_what_no_graph_speaks_of_stays(hosts: tuple[str, ...], lost: bool) -> None:
    """Nor is a graph an order to take anything away while nothing of it can be placed."""
    fleet = Fleet(everywhere("page", hosts))
    before = {name: held.plan.workloads for name, held in fleet.world.held.items()}
    vertex = replace(everywhere("page", HOSTS).vertices[0], product="unpublished")
    fleet.world.graphs = [] if lost else [StreamGraph("page", "tank", (vertex,), ())]
    fleet.settle()
    assert {name: held.plan.workloads for name, held in fleet.world.held.items()} == before
