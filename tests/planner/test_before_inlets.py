"""What was planned, stored and signed before graphs had inlets, single vertices and joins means the same now, byte by byte.

`fixtures/before-inlets.json` was written by the release before: the graph and the plans of `world.deployed`, at rest and in a swap, and
the demo's graph.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from halftrack_controller import manifests
from halftrack_model import canonical
from halftrack_model.graph import StreamGraph
from halftrack_model.plan import Plan
from tests.planner.world import deployed, release

ROOT = Path(__file__).parents[2]
BEFORE: dict[str, Any] = json.loads((Path(__file__).parent / "fixtures/before-inlets.json").read_text())


@pytest.mark.parametrize("host", ["tank-a", "tank-b"])
def test_plans_of_before_are_made_again_byte_by_byte(host: str) -> None:
    world = deployed()
    resting = canonical.encode(world.held[host].plan).decode()
    world.publish(release("spectrometer", "1.1.0"))
    world.settle()
    swapping = canonical.encode(world.held[host].plan).decode()
    assert (resting, swapping) == (BEFORE["plans"][host], BEFORE["swapping"][host])


@pytest.mark.parametrize("when", ["plans", "swapping"])
@pytest.mark.parametrize("host", ["tank-a", "tank-b"])
def test_plans_that_hosts_hold_from_before_still_load(host: str, when: str) -> None:
    plan = canonical.decode(Plan, BEFORE[when][host].encode())
    assert canonical.encode(plan).decode() == BEFORE[when][host]  # invariant: R2
    world = deployed()
    if when == "swapping":
        world.publish(release("spectrometer", "1.1.0"))
        world.settle()
    now = {workload.name: workload.digest() for workload in world.held[host].plan.workloads}
    assert {workload.name: workload.digest() for workload in plan.workloads} == now  # invariant: R2


def test_graphs_of_before_still_load_and_are_declared_the_same() -> None:
    for name in ("graph", "demo"):
        assert canonical.encode(canonical.decode(StreamGraph, BEFORE[name].encode())).decode() == BEFORE[name]
    (demo,) = manifests.read([str(ROOT / "examples/spectra/manifests/tank.yaml")]).graphs
    assert canonical.encode(demo).decode() == BEFORE["demo"]
