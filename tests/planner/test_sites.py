"""Hosts of one site are named to each other, and to nobody else; a host without a site has the plan that it always had."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_controller import documents, manifests, sites
from halftrack_controller.manifests import BadManifests
from halftrack_controller.operator_client import document_of
from halftrack_controller.snapshot import Environment
from halftrack_model import canonical
from halftrack_model.errors import InvalidInput
from tests.controller_shell.shell_harness import ENVIRONMENT
from tests.controller_shell.test_store import opened
from tests.planner.world import World, deployed, host

MANIFEST = """
apiVersion: halftrack/v1
kind: Host
metadata: {name: tank-a}
spec: {environment: home, address: 10.0.0.1, site: SITE}
"""
places = st.lists(st.tuples(st.sampled_from(["tank", "dish"]), st.sampled_from(["", "ridge", "valley"])), max_size=80)


@settings(max_examples=25)
@given(places)
def test_groups_are_of_one_site_and_the_same_for_all_in_them(where: list[tuple[str, str]]) -> None:
    world = World()
    for number, (environment, site) in enumerate(where):
        world.environments[environment] = Environment(environment, {}, "stable")
        world.hosts[f"h{number:02}"] = replace(host(f"h{number:02}", environment), site=site)
    snapshot = world.snapshot()
    groups = {name: frozenset((name, *sites.siblings(snapshot, name))) for name in world.hosts}
    for name, group in groups.items():
        assert len(group) <= sites.GROUP
        assert all(groups[other] == group for other in group)
        assert {(world.hosts[other].environment, world.hosts[other].site) for other in group} == {
            (world.hosts[name].environment, world.hosts[name].site)
        }
        if not world.hosts[name].site:
            assert group == {name}
    for place in set(where):
        if place[1]:
            assert len({groups[f"h{n:02}"] for n, at in enumerate(where) if at == place}) == -(
                -where.count(place) // sites.GROUP
            )


# invariant: R1 R2
def test_a_site_changes_its_hosts_plans_by_nothing_else() -> None:
    world = deployed()
    before = {name: held.plan for name, held in world.held.items()}
    assert all(b"siblings" not in canonical.encode(plan) for plan in before.values())
    world.hosts = {name: replace(one, site="ridge") for name, one in world.hosts.items()}
    world.hosts["idle"] = replace(host("idle"), site="ridge")
    world.settle()
    for name, other in (("tank-a", "tank-b"), ("tank-b", "tank-a")):
        plan = world.held[name].plan
        assert [peer.host for peer in plan.siblings] == [other], "a host with no plan admits nobody"
        assert replace(plan, siblings=(), revision=before[name].revision) == before[name]
    world.hosts["tank-b"] = replace(world.hosts["tank-b"], curve_public="")  # between two enrolments
    kept = world.held["tank-a"].plan.siblings
    world.settle()
    assert world.held["tank-a"].plan.siblings == kept
    world.hosts["tank-a"] = replace(world.hosts["tank-a"], site="valley")
    world.settle()
    assert world.held["tank-a"].plan.siblings == ()


def test_a_site_is_declared_stored_and_a_store_of_before_has_none(tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    path.write_text(MANIFEST.replace("SITE", "ridge"))
    (found,) = manifests.read([str(path)]).hosts
    assert found.site == "ridge"
    assert documents.declared(document_of(found)) == found
    path.write_text(MANIFEST.replace("SITE", "The Ridge"))
    with pytest.raises(BadManifests):
        manifests.read([str(path)])
    world = deployed()
    with pytest.raises(InvalidInput, match="site"):
        documents.checked(world.snapshot(), [replace(world.hosts["tank-a"], site="../x")])

    store = opened(tmp_path)
    store.apply([ENVIRONMENT, found])
    store.close()
    store = opened(tmp_path)
    assert store.snapshot(0, {}).hosts["tank-a"].site == "ridge"
    with store.transaction() as conn:
        assert isinstance(conn, sqlite3.Connection)
        conn.execute("alter table hosts drop column site")
        conn.execute("delete from _sqlite_migrations where name = '0006-sites'")
    store.close()
    store = opened(tmp_path)
    assert store.snapshot(0, {}).hosts["tank-a"].site == ""
    store.close()
