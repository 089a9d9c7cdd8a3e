"""A graph that somebody deletes ends on all of its hosts; one that is merely not known any more ends on none.

invariant: R3
invariant: R1
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_controller.snapshot import RolloutPhase
from halftrack_model.errors import Refused
from halftrack_model.swap import Phase
from halftrack_proto.graph_messages import HostEnding
from tests.planner.test_emptied_hosts import everywhere, some_hosts, workloads
from tests.planner.test_services import HOSTS, Fleet, page
from tests.planner.world import deployed, release, spectra, tank

NAMES = ("page", "other")


def names(fleet: Fleet) -> dict[str, set[str]]:
    return {host: {w.name for w in workloads(fleet, host)} for host in HOSTS}


def ran(hosts: "dict[str, tuple[str, ...]]") -> "dict[str, set[str]]":
    """What runs where, if these graphs run on these hosts."""
    return {host: {f"{name}.{name}" for name in hosts if host in hosts[name]} for host in HOSTS}


acts = st.lists(
    st.tuples(st.sampled_from(["delete", "lose", "declare"]), st.sampled_from(NAMES), some_hosts), max_size=6
)


@settings(max_examples=60)
@given(some_hosts, some_hosts, acts)
def test_what_is_deleted_ends_and_what_is_lost_stays(
    first: tuple[str, ...], second: tuple[str, ...], todo: list[tuple[str, str, tuple[str, ...]]]
) -> None:
    """The model: a graph runs where it was declared last, until somebody deletes it; that a store knows nothing of it is no such word."""
    fleet, runs = Fleet(everywhere("page", first)), {"page": first}
    fleet.world.declare(everywhere("other", second))
    runs["other"] = second
    fleet.settle()
    for act, name, hosts in todo:
        match act:
            case "delete" if name in runs:
                ends = fleet.world.delete(name).hosts
                assert ends == tuple(HostEnding(host, (f"{name}.{name}",), 0) for host in sorted(runs[name]))
                del runs[name]
            case "lose":
                fleet.world.graphs = [graph for graph in fleet.world.graphs if graph.name != name]
            case "declare":
                fleet.world.declare(everywhere(name, hosts))
                runs[name] = hosts
        fleet.settle()
        assert names(fleet) == ran(runs)
        for host, held in fleet.world.held.items():
            assert held.plan.decommission == (not ran(runs)[host])
    before = dict(fleet.world.held)
    fleet.settle()
    assert fleet.world.held == before, "once is enough"


def test_a_host_that_is_away_hears_it_when_it_is_back() -> None:
    fleet = Fleet(everywhere("page", HOSTS))
    fleet.lose("tank-b", 10_000_000)
    ends = {each.host: each.last_seen_age_ms for each in fleet.world.delete("page").hosts}
    assert ends == {**dict.fromkeys(HOSTS, 0), "tank-b": 10_000_000}
    fleet.settle()
    assert names(fleet) == ran({})
    assert fleet.world.held["tank-b"].plan.decommission


def test_a_graph_of_which_a_host_still_runs_something_can_be_deleted_although_nobody_knows_it_any_more() -> None:
    fleet = Fleet(everywhere("page", ("tank-a",)))
    fleet.world.graphs = []
    fleet.settle()
    assert "`halftrack delete`" in " ".join(reason.text for reason in fleet.world.planning.reasons)
    fleet.world.delete("page")
    fleet.settle()
    assert names(fleet) == ran({})
    with pytest.raises(Refused, match="there is none"):
        fleet.world.delete("page")


@pytest.mark.parametrize("versions", [("1.0.0",), ("1.0.0", "1.1.0"), ("1.1.0", "1.0.0")])
def test_what_is_declared_again_runs_the_newest_release(versions: tuple[str, ...]) -> None:
    graph = everywhere("page", HOSTS)
    fleet = Fleet(graph)
    fleet.world.delete("page")
    fleet.settle()
    for version in versions:
        if version != "1.0.0":
            fleet.world.publish(page(version))
    fleet.world.declare(graph)
    fleet.settle()
    newest = max(versions)
    assert {w.version for host in HOSTS for w in workloads(fleet, host)} == {newest}
    assert {rollout.phase for rollout in fleet.world.rollouts.values()} == {RolloutPhase.SUCCEEDED}


def test_a_graph_whose_first_release_was_never_in_force_begins_again_too() -> None:
    world = tank()
    for product in ("spectra-source", "spectra-sink", "spectrometer"):
        world.publish(release(product, "1.0.0"))
    world.delete("spectra")
    world.settle()
    assert {rollout.reason for rollout in world.rollouts.values()} == {"its graph was deleted"}
    assert not any(held.plan.workloads for held in world.held.values())
    world.declare(spectra())
    world.settle()
    assert any(w.name == "spectra.source" for w in world.held["tank-a"].plan.workloads)


def test_a_swap_is_finished_or_undone_before_its_graph_goes() -> None:
    world = deployed()
    world.publish(release("spectrometer", "1.1.0"))
    world.settle()
    (swap,) = world.held["tank-a"].plan.swaps
    with pytest.raises(Refused, match="let it end, or abort it"):
        world.delete("spectra")
    for host in ("tank-a", "tank-b"):
        world.accept(host)
    world.tell_swap(swap.swap_id, Phase.DONE, 1)
    world.settle()
    world.delete("spectra")
    world.settle()
    assert all(
        held.plan.decommission and not held.plan.workloads and not held.plan.rings for held in world.held.values()
    )


def test_only_its_editors_delete_a_graph() -> None:
    world = deployed()
    world.graphs = [replace(world.graphs[0], editors=("bert",))]
    with pytest.raises(Refused, match="is changed by bert, and you are anna"):
        world.delete("spectra")
    world.delete("spectra", operator="bert")


def test_which_graph_is_meant_has_to_be_plain() -> None:
    world = deployed()
    world.environments["ship"] = replace(world.environments["tank"], name="ship")
    world.graphs.append(replace(spectra(), environment="ship"))
    with pytest.raises(Refused, match="runs in ship, tank: say which with --environment"):
        world.delete("spectra")
    with pytest.raises(Refused, match="no graph 'spektra'; there is ship/spectra, tank/spectra"):
        world.delete("spektra")
    with pytest.raises(Refused, match="no environment 'car'"):
        world.delete("spectra", "car")
    assert world.delete("spectra", "ship").hosts == ()
