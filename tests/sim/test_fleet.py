"""Galaxies of services in simulation: hosts that are cut off for long, replaced, and come back; disks, clocks and controllers that fail meanwhile."""

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from halftrack_agent import cutoff, renewal, timekeeping
from halftrack_controller import services
from halftrack_model.disconnect import ColdBoot
from tests.sim import absences, certificates
from tests.sim.fleet import Fleet
from tests.sim.run import told

BUDGET_S = 2.5  # on a machine that is busy with other things, fewer seeds are tried, but never less than ENOUGH
ENOUGH = 6
PLANTED_SEEDS = 40
MONTHS = ("months 5", "months 1")  # one is replaced meanwhile; one is switched off, with a certificate for a day


# invariants: O1, O2, C1, C2, D1, P1, P2, P3, R1, R2, R3
def test_no_seed_breaks_an_invariant() -> None:
    replaced, began = 0, time.monotonic()
    for seed in range(60):
        outcome = Fleet(f"test {seed}", hosts=5, days=0.4).run()
        assert not outcome.violation, told(outcome)
        replaced += outcome.proofs["hosts replaced"]
        if seed >= ENOUGH and time.monotonic() - began > BUDGET_S:
            break
    assert replaced, "faults must not be harmless"


def test_a_seed_replays_to_the_last_event() -> None:
    assert Fleet("replay", days=0.2).run() == Fleet("replay", days=0.2).run()


# invariant: C1
def test_clocks_that_are_years_wrong_and_jump_move_nothing() -> None:
    jumps = ("clock jumps", "controller's clock jumps")
    fleet = Fleet("clocks", days=0.4, only=jumps)
    outcome = fleet.run()
    assert not outcome.violation, told(outcome)
    assert set(outcome.faults) == set(jumps)
    instances = sum(graph.vertices[0].instances for graph in fleet.graphs)
    newer = len(outcome.rollouts) // len(fleet.graphs) - 1
    assert newer > 0
    assert fleet.watch.deeds == instances + newer * 2 * instances, "each release is started once, and nothing else"


# invariants: C2, O2, R2
def test_hosts_that_were_away_for_months_are_where_all_others_are() -> None:
    over = Counter[str]()
    for seed in MONTHS:
        outcome = Fleet(seed, days=absences.SHORTEST_RUN_DAYS, only=()).run()
        assert not outcome.violation, told(outcome)
        assert outcome.longest_away_ms >= absences.DAYS[0] * absences.DAY_MS
        over += outcome.proofs
    assert over["absences of months"] == len(MONTHS)
    assert over["certificates renewed after their end"], "of some the certificate has ended meanwhile"
    assert over["hosts replaced"], "and some were replaced"


# invariant: C2
def test_months_in_which_a_certificate_ends_show_who_renews_in_sessions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    _asks_in_sessions_only(monkeypatch)
    assert Fleet(MONTHS[1], days=absences.SHORTEST_RUN_DAYS, only=()).run().violation.startswith("C2")


def _forgets_the_last_minute(patch: pytest.MonkeyPatch) -> None:
    real = cutoff.recovered
    patch.setattr(cutoff, "recovered", lambda *args, beat=None, obeys=False: real(*args, obeys=obeys))


def _takes_a_restart_for_contact(patch: pytest.MonkeyPatch) -> None:
    real = cutoff.recovered

    def hopeful(noted: Any, boot_id: str, now_ms: int, **rest: Any) -> Any:
        return replace(real(noted, boot_id, now_ms, **rest), in_step_ms=now_ms, before_ms=0)

    patch.setattr(cutoff, "recovered", hopeful)


def _never_stops_itself(patch: pytest.MonkeyPatch) -> None:
    real = cutoff._reason
    never = {"stop_after_ms": 0, "cold_boot": ColdBoot.RUN}

    def deaf(holding: Any, contact: Any) -> str:
        rule = holding.disconnect
        return real(replace(holding, disconnect=replace(rule, **never)) if rule else holding, contact)

    patch.setattr(cutoff, "_reason", deaf)


def _believes_each_clock(patch: pytest.MonkeyPatch) -> None:
    real = timekeeping.raised

    def credulous(floor: Any, told: Any, boot_id: str, boot_ms: int) -> Any:
        found = real(floor, told, boot_id, boot_ms)
        return replace(found, wall_ms=told.wall_ms) if told else found

    patch.setattr(timekeeping, "raised", credulous)


def _gives_up_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(services, "is_lost", lambda snapshot, host, _: not snapshot.seen[host].connected)


def _never_doubts_itself(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(services, "blind", lambda *_: False)


def _asks_in_sessions_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(renewal, "unanswered", lambda state: state)


def _refuses_to_renew_what_is_over(patch: pytest.MonkeyPatch) -> None:
    real = certificates.Certificate._proved
    patch.setattr(certificates.Certificate, "_proved", lambda self: self.good() and real(self))


def _renews_when_it_is_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(renewal, "_by_term", lambda state: state.term and state.term.said_ms + state.term.left_ms)


@pytest.mark.parametrize(
    ("plant", "broken"),
    [
        (_forgets_the_last_minute, "R2"),
        (_takes_a_restart_for_contact, "O2"),
        (_never_stops_itself, "O2"),
        (_believes_each_clock, "C1"),
        (_gives_up_at_once, "O1"),
        (_never_doubts_itself, "O1"),
        (_asks_in_sessions_only, "C2"),
        (_refuses_to_renew_what_is_over, "C2"),
        (_renews_when_it_is_over, "C2"),
    ],
)
def test_a_planted_fault_is_found(plant: Any, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in range(PLANTED_SEEDS):
        violation = Fleet(f"planted {seed}", days=0.3).run().violation
        if violation:
            break
    assert violation.partition(":")[0] == broken, violation or f"{PLANTED_SEEDS} seeds found nothing"
