"""A short form of the verdicts on two hosts: a green that is wrong on the other host only never counts, and one within its tolerance does."""

from pathlib import Path

import pytest

from tests.soak.short_form import short_form
from tests.soak.verdict_run import CASES, Verdicts


@pytest.mark.timeout(300)  # fifteen seconds on a machine of one's own
def test_a_green_is_judged_on_both_hosts(tmp_path: Path) -> None:
    # invariant: S1
    found = short_form("tests.soak.verdict_run", "swap-verdict.json", tmp_path, CASES=2)
    assert {name: ended for name, (ended, _) in found["ended"].items()} == {
        CASES[0].name: "failed",
        CASES[-1].name: "succeeded",
    }
    why = found["ended"][CASES[0].name][1]
    assert "on tank-b" in why
    assert "sum: " in why


@pytest.mark.parametrize("name", ["lost", "duplicated", "reordered", "mismatched", "missing", "wrong_ends"])
def test_anything_that_must_not_be_makes_it_fail(name: str) -> None:
    report = Verdicts(output_cuts=1)
    assert not report.wrong
    setattr(report, name, {"missing": "why", "wrong_ends": ["this one"]}.get(name, 1))
    assert report.wrong
