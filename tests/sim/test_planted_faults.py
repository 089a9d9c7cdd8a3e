"""Mutation sanity: faults planted into the agent's core are found by the simulation within a few dozen seeds."""

import pytest

from tests.sim.faults import Fault
from tests.sim.planted import PLANTED, RARE, SEEDS, Plant, first_violation


@pytest.mark.parametrize(("broken", "plant", "plan"), PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_found(
    broken: str, plant: Plant, plan: list[Fault] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    violation, _ = first_violation(plan, RARE.get(plant, 0))
    assert violation.partition(":")[0] in broken.split(), violation or f"{SEEDS} seeds found nothing"
