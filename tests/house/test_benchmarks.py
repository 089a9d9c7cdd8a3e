"""The benchmarks run, and what they print is what their readers parse."""

import json
import subprocess
import sys

from tests.house.source import ROOT


def test_the_ring_is_held_against_its_peers() -> None:
    seen = subprocess.run(
        [sys.executable, "benchmarks/ring.py", "--json", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert seen.returncode == 0, seen.stderr
    lines = [json.loads(line) for line in seen.stdout.splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert set(line) == {"case", "unit", "ours", "peers", "ratio"}
        assert line["ours"] > 0
        assert set(line["peers"]) == {"pipe", "zmq-ipc"}
