"""A short form of the power cuts, and whether what must not be is seen."""

from pathlib import Path

import pytest

from tests.soak.power_run import Row, Verdict, judged
from tests.soak.short_form import short_form


@pytest.mark.timeout(300)  # twenty seconds on a machine of one's own
def test_a_live_stream_comes_back_from_power_cuts_of_either_host_and_of_both(tmp_path: Path) -> None:
    # invariant: S1 S2 R1 D1
    found = short_form("tests.soak.power_run", "power-cuts.json", tmp_path, CUTS=3)
    assert (found["of_leader"], found["of_follower"], found["of_both"]) == (1, 1, 1)
    assert found["made_anew"] == 1, "by the cut of both; either alone leaves a member that goes on"
    assert found["declared"] > 0
    assert found["rows"] > 900


GOOD: list[Row] = [(0, 0, 5, 1), (1, 0, 7, 2), (2, 3, 0, 0), (5, 0, 9, 3), (6, 0, 11, 4)]


@pytest.mark.parametrize(
    ("at", "row", "wrong"),
    [
        (1, (0, 0, 7, 2), "repeated"),
        (1, (1, 0, 5, 2), "repeated"),
        (3, (4, 0, 9, 3), "repeated"),
        (3, (6, 0, 9, 3), "missing"),
        (3, (5, 0, 9, 1), "states_lost"),
        (4, (6, 0, 11, 3), "states_lost"),
    ],
)
def test_anything_that_must_not_be_makes_it_fail(at: int, row: Row, wrong: str) -> None:
    found = Verdict(1)
    judged(GOOD, set(), found)
    assert not found.wrong
    assert (found.rows, found.declared) == (5, 3)
    judged([*GOOD[:at], row, *GOOD[at + 1 :]], set(), found)
    assert getattr(found, wrong)
    assert found.wrong


def test_a_state_may_be_made_anew_once_for_each_cut_of_both_hosts() -> None:
    rows = [*GOOD, (7, 2, 0, 0), (9, 0, 13, 1), (10, 0, 15, 2)]
    found = Verdict(1)
    judged(rows, {5}, found)
    assert (found.made_anew, found.states_lost, found.wrong) == (1, 0, False)
    judged([*rows, (11, 0, 17, 1)], {5}, found)
    assert found.states_lost == 1


def test_a_stream_that_does_not_come_back_fails() -> None:
    assert Verdict(1, stuck="waited 90 s for the stream to come back").wrong
