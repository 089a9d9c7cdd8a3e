"""The spool's benchmark runs, nothing is lost, and its lines have the form of the ring's."""

import json
import subprocess
import sys
from pathlib import Path

from tests.house.source import ROOT


def test_every_case_of_the_spool_runs_and_nothing_is_lost(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/spool.py", "--json", "--quick", "--folder", str(tmp_path)]
    seen = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert seen.returncode == 0, seen.stderr
    lines = [json.loads(line) for line in seen.stdout.splitlines()]
    assert len(lines) == 5
    for line in lines:
        assert set(line) == {"case", "unit", "ours", "peers", "ratio", "bar", "ok", "placement"}
        assert line["ours"] > 0
        assert 0 not in line["peers"].values()
    assert not list(tmp_path.iterdir())
