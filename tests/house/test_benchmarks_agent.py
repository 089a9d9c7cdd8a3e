"""The agent's benchmark runs, and its lines have the form of the ring's."""

import json
import subprocess
import sys

from tests.house.source import ROOT


def test_a_service_serves_after_apply_and_after_a_boot() -> None:
    command = [sys.executable, "benchmarks/agent.py", "--json", "--quick"]
    seen = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert seen.returncode == 0, seen.stderr
    lines = [json.loads(line) for line in seen.stdout.splitlines()]
    assert [line["unit"] for line in lines] == ["ms", "ms", "MB", "% of a core", "% of a core"]
    for line in lines:
        assert set(line) == {"case", "unit", "ours", "peers", "ratio", "bar", "ok"}
        assert line["ours"] > 0 or line["unit"] == "% of a core"
