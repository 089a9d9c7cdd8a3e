"""What hosts of a site see of each other, in simulation: it is right, few words, and evidence of reachability only. Faults planted into it are found."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from halftrack_agent import watching
from halftrack_controller import rollout, standing, views
from halftrack_controller.lookouts import Lookouts
from halftrack_controller.snapshot import RolloutChange, RolloutPhase
from halftrack_model import disconnect
from halftrack_model.observed import Health
from tests.sim.fleet import Fleet
from tests.sim.fleet_controller import FleetController
from tests.sim.run import told

SEEDS = 40
EXERCISED = ("siblings seen", "siblings seen no more", "losses put off by a sighting", "site split", "host stalls")


# invariants: C1, O1
def test_whatever_siblings_see_and_say_is_right_and_moves_nothing() -> None:
    found = Counter[str]()
    for seed in range(SEEDS):
        outcome = Fleet(f"sights {seed}", days=0.4).run()
        assert not outcome.violation, told(outcome)
        found += outcome.proofs + outcome.faults
        if seed > 3 and all(found[name] for name in EXERCISED):
            break
    assert all(found[name] for name in EXERCISED)


# invariants: O1, R2
def test_siblings_that_lose_sight_of_each_other_while_all_are_heard_do_nothing() -> None:
    faults = ("siblings cut off", "siblings cut one-way", "siblings flap", "site split")
    fleet = Fleet("flaps", days=0.4, only=faults)
    outcome = fleet.run()
    assert not outcome.violation, told(outcome)
    assert len(outcome.faults) >= 3
    assert set(outcome.faults) <= set(faults)
    instances = sum(graph.vertices[0].instances for graph in fleet.graphs)
    newer = len(outcome.rollouts) // len(fleet.graphs) - 1
    assert fleet.watch.deeds == instances + newer * 2 * instances, "each release is started once, and nothing else"


def _takes_a_lost_sight_for_illness(patch: pytest.MonkeyPatch) -> None:
    real = rollout.advance

    def nervous(snapshot: Any, now_ms: int) -> Any:
        unseen = any(seen.sighting.watched and not seen.sighting.by for seen in snapshot.seen.values())
        running = [each for each in snapshot.rollouts if each.phase is RolloutPhase.RUNNING and unseen]
        failed = tuple(RolloutChange(replace(r, phase=RolloutPhase.FAILED, reason="unseen")) for r in running)
        return failed or real(snapshot, now_ms)

    patch.setattr(rollout, "advance", nervous)


def _by_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FleetController, "monotonic_s", lambda self: self.clock_ms() / 1000)


def _takes_a_sighting_for_health(patch: pytest.MonkeyPatch) -> None:
    real = views._health
    patch.setattr(
        views, "_health", lambda known, name: Health.HEALTHY if standing.sighted_by(known, name) else real(known, name)
    )


def _never_loses_sight(patch: pytest.MonkeyPatch) -> None:
    real = watching.looked
    patch.setattr(watching, "looked", lambda before, *, answered: real(before, answered=answered or before.seen))


def _believes_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "SIGHTED_MS", 10**9)


def _forgets_a_word(patch: pytest.MonkeyPatch) -> None:
    real = Lookouts.said
    patch.setattr(Lookouts, "said", lambda self, lookout, hosts, now_s: real(self, lookout, hosts[1:], now_s))


def _loses_who_is_seen_as_soon(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(disconnect, "lost_after_ms", lambda declared, *, sighted: declared.lost_after_ms)


# invariant: O1
@pytest.mark.parametrize(
    "plant",
    [
        _takes_a_lost_sight_for_illness,
        _by_the_wall_clock,
        _takes_a_sighting_for_health,
        _never_loses_sight,
        _believes_for_ever,
        _forgets_a_word,
        _loses_who_is_seen_as_soon,
    ],
)
def test_a_planted_fault_is_found(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in range(SEEDS):
        violation = Fleet(f"planted {seed}", days=0.3).run().violation
        if violation:
            break
    assert violation.partition(":")[0] == "O1", violation or f"{SEEDS} seeds found nothing"
