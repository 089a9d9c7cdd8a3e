"""A short form of the verdicts on two hosts: a green that is wrong on the other host only never counts, and one within its tolerance does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.verdict_run import CASES, Verdicts

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)  # fifteen seconds on a machine of one's own
def test_a_green_is_judged_on_both_hosts(tmp_path: Path) -> None:
    # invariant: S1
    environment = {**os.environ, "CASES": "2", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak.verdict_run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    found = json.loads((tmp_path / "verdict-run.json").read_text())
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
