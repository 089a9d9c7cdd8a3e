"""The museum in short: some of its bugs are found, and a bug that is none is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.house.source import ROOT
from tests.museum.exhibits import EXHIBITS, by_property


def shown(folder: Path, only: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ONLY": only, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.museum.run"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_bugs_are_found_and_each_is_put_down_with_what_found_it(tmp_path: Path) -> None:
    seen = shown(tmp_path, "dead host,rotted,expired")
    assert seen.returncode == 0, seen.stderr
    report = json.loads((tmp_path / "museum.json").read_text())
    assert (report["planted"], report["caught"]) == (3, 3)
    for row in report["exhibits"]:
        assert set(row) == {"which", "bug", "by", "after", "caught"}
        assert row["after"] > 0
    assert shown(tmp_path, "no such bug").returncode == 2


def test_what_is_no_bug_is_not_found() -> None:
    nothing = by_property(
        "nothing", "", "tests.agent_shell.test_outbox:test_a_hundred_hosts_do_not_come_back_at_once", lambda _: None
    )
    assert nothing.show() == (False, 1)
    drawn = by_property(
        "nothing", "", "tests.agent_core.test_cutoff:test_away_is_the_time_that_the_machine_was_on_since_it_was_last_in_step",
        lambda _: None,
    )  # fmt: skip
    found, examples = drawn.show()
    assert not found
    assert examples > 1


def test_the_museum_has_what_it_is_for() -> None:
    assert len(EXHIBITS) >= 15
    assert len({each.which for each in EXHIBITS}) == len(EXHIBITS)
    assert all(each.bug for each in EXHIBITS)
