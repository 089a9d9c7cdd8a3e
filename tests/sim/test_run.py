"""What a run of many hours is made of, and when it says that it has shown nothing."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sim import run
from tests.sim.absences import SHORTEST_RUN_DAYS


@given(st.integers(1, 60).map(lambda n: 2 * n), st.floats(0.1, 9_000), st.integers(0, 99))
def test_pieces_fill_the_hours_and_little_more(hosts: int, hours: float, first: int) -> None:
    pieces = list(run.pieces(first, hosts, hours))
    asked, last = hours * hosts, max(each.hours for each in pieces)
    assert asked - 1e-6 <= sum(each.hours for each in pieces) <= asked + last + 1, "but for what sums of fractions lose"
    assert len({each.seed for each in pieces}) == len(pieces), "each seed once"
    assert any(each.seed.isdecimal() for each in pieces), "streams among them"


def test_a_year_of_a_hundred_hosts_has_pieces_of_months_and_one_galaxy_of_all() -> None:
    pieces = list(run.pieces(0, 100, 8_760))
    assert sum(each.days >= run.LONG_DAYS for each in pieces) >= 20
    assert [each.days for each in pieces if each.hosts == 100] == [run.GALAXY_DAYS]
    assert run.GALAXY_DAYS >= SHORTEST_RUN_DAYS


@pytest.mark.parametrize("name", [*run.EXERCISED, *run.SIGHTS, run.MONTHS])
def test_a_long_run_that_has_exercised_nothing_of_a_kind_says_so(name: str) -> None:
    proofs = Counter(dict.fromkeys((*run.EXERCISED, *run.SIGHTS, run.MONTHS), 1))
    hours, galaxies = run.MANY_HOST_HOURS, run.MANY_GALAXIES
    assert run.idle(proofs, hours, galaxies, long=True) == []
    del proofs[name]
    assert run.idle(proofs, hours, galaxies, long=True) == [name]
    assert run.idle(proofs, hours, galaxies, long=False) == [name] * (name != run.MONTHS)
    assert run.idle(proofs, hours - 1, galaxies, long=True) == [name] * (name in run.SIGHTS)
    assert run.idle(proofs, hours, galaxies - 1, long=True) == [name] * (name not in run.SIGHTS)


def test_a_report_sums_up_what_each_run_has_exercised() -> None:
    one = run.Ran("1", 7_200_000, Counter({"cut": 2}), Counter({"swaps done": 1}), 0, 3, "", "")
    two = run.Ran(
        "services 1", 36_000_000, Counter({"cut": 1}), Counter({"sessions": 4}), 31 * 86_400_000, 0, "R1: x", ""
    )
    report = run.reported([one, two], 2, 1, 5.04)
    assert report["simulated_hours"] == 6.0
    assert report["faults_by_class"] == {"cut": 3}
    assert (report["exercised"]["swaps done"], report["exercised"]["sessions"]) == (1, 4)
    assert report["exercised"][run.MONTHS] == 0
    assert report["longest_absence_days"] == 31.0
    assert report["violations"] == [{"seed": "services 1", "text": "R1: x"}]
