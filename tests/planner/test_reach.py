"""What a vertex may reach stands in the plan of whatever runs its program, and of nothing else; an agent takes no other."""

from dataclasses import replace

import pytest

from halftrack_agent import fitting, inbox
from halftrack_model import canonical
from halftrack_model.release import SwapStrategy
from halftrack_model.verdict import Check, Verdict
from halftrack_model.workload import Runs, Workload
from tests.planner.graphs import ALONE, CHAIN, A, running
from tests.planner.world import World, release

REACH = ("10.0.0.5:5432", "127.0.0.1:4222")
TRUST = inbox.Trust("north", A, {"plan-key": b""}, {"release-key": b""}, 1, lambda *_: True)
OWN = {Runs.COMMAND, Runs.SOURCE, Runs.MEMBER, Runs.SINK}


def workloads(made: World) -> dict[str, Workload]:
    return {workload.name: workload for host in made.held.values() for workload in host.plan.workloads}


def test_each_vertex_has_its_own_and_who_has_none_keeps_its_bytes() -> None:
    reaching = ALONE.vertices[-1].name
    made = running(replace(ALONE, vertices=(*ALONE.vertices[:-1], replace(ALONE.vertices[-1], reach=REACH))))
    assert inbox.judged(made.held[A].sealed, TRUST, None) is not None
    plain, reached = workloads(running(ALONE)), workloads(made)
    assert reached.keys() == plain.keys()
    changed = {name for name in plain if plain[name].digest() != reached[name].digest()}  # invariant: R2
    assert changed == {f"{ALONE.name}.{reaching}"}
    assert reached[f"{ALONE.name}.{reaching}"] == replace(plain[f"{ALONE.name}.{reaching}"], reach=REACH)


def test_in_a_swap_both_releases_reach_it_and_what_is_halftracks_own_does_not() -> None:
    reaching = tuple(replace(each, reach=REACH) if each.name == "first" else each for each in CHAIN.vertices)
    made = running(replace(CHAIN, vertices=reaching))
    judged = SwapStrategy(verdict=Verdict(Check.EQUAL))
    made.publish(replace(release("first", "1.1.0"), strategy=judged))
    made.settle()
    found = workloads(made)
    assert {name for name, each in found.items() if each.reach} == {
        f"chain.first.{member}@{version}" for member in "ab" for version in ("1.0.0", "1.1.0")
    }
    assert {Runs.JUDGE, Runs.MERGE, Runs.BRIDGE_RECEIVER, Runs.BRIDGE_SERVER} <= {each.runs for each in found.values()}


@pytest.mark.parametrize("runs", Runs)
def test_an_agent_takes_it_only_for_a_users_program(runs: Runs) -> None:
    plan = running(ALONE).held[A].plan
    asked = replace(plan.workloads[0], runs=runs, reach=REACH, name="asked")
    found = [text for text in fitting.misfits(replace(plan, workloads=(asked,))) if "reach" in text]
    assert found == (
        [] if runs in OWN else [f"asked cannot be run: it runs {runs.value}, which reaches nothing outside"]
    )
    wild = replace(asked, reach=("10.0.0.5:80", "10.0.0.5:80", "db.example:80"))
    told = " ".join(fitting.misfits(replace(plan, workloads=(wild,))))
    assert "'10.0.0.5:80' stands twice" in told
    assert "'db.example:80' is a name" in told


def test_a_signed_plan_of_it_is_read_back() -> None:
    workload = replace(running(ALONE).held[A].plan.workloads[0], reach=REACH)
    assert canonical.decode(Workload, canonical.encode(workload)) == workload
