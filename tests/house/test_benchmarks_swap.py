"""The benchmark of swaps runs, its lines have the form of the ring's, and nobody is left behind."""

import json
import subprocess
import sys

import psutil

from tests.house.source import ROOT


def test_an_upgrade_is_measured_beside_what_people_do_today() -> None:
    command = [sys.executable, "benchmarks/swap.py", "--json", "--quick", "--only", "upgrade"]
    seen = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert seen.returncode == 0, seen.stderr
    pauses, arrived = (json.loads(line) for line in seen.stdout.splitlines())
    for line in (pauses, arrived):
        assert set(line) == {"case", "unit", "ours", "peers", "ratio", "bar", "ok", "placement"}
        assert set(line["peers"]) == {"PyZMQ, stopped and started", "JetStream consumer, attached again"}
        assert 0 not in (line["ours"], *line["peers"].values())
    assert (arrived["ours"], arrived["peers"]["PyZMQ, stopped and started"] < 100) == (100.0, True)
    left = [
        each.pid for each in psutil.process_iter(["cmdline"]) if "swap_peers.py" in " ".join(each.info["cmdline"] or ())
    ]
    assert not left
