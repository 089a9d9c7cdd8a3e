"""The demo's stream on one machine without controller and agents: real processes, a death, a cut, and the judge's zeros."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from examples.demo.check import judged
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec, dump

SPECTRA = Path(__file__).parents[2] / "examples/spectra"
PATIENCE_S = 30.0


class Host:
    """Starts the data plane's processes as an agent would."""

    def __init__(self, folder):
        self.folder = folder
        self.rings = folder / "rings"
        self.processes = {}
        self.snapshots = folder / "snapshots/spectra/spectrometer"
        self.snapshots.mkdir(parents=True)
        (self.rings / "spectra").mkdir(parents=True)

    def ring(self, name, generation=0, label="", capacity=64 << 20):
        path = self.rings / f"{name}.ring"
        Ring.create(path, capacity_bytes=capacity, slots=4096, generation=generation, label=label).close()
        return str(path)

    def start(self, name, role, **fields):
        if "program" in fields:
            fields["program"] = str(SPECTRA / fields["program"])
        spec = RunSpec(role=role, name=name, status_path=str(self.folder / f"{name}.status.json"), **fields)
        path = self.folder / f"{name}.spec.json"
        path.write_bytes(dump(spec))
        self.again(name)

    def again(self, name):
        command = [sys.executable, "-m", "halftrack_dataplane.run", str(self.folder / f"{name}.spec.json")]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def member(self, name, version, generation):
        number = version.replace(".", "_")
        self.start(
            f"spectra.spectrometer.{name}@{version}",
            "member",
            program=f"spectrometer_{number}.py",
            entry=f"spectrometer_{number}:Spectrometer",
            input_ring=str(self.rings / "spectra/source.ring"),
            output_ring=self.ring(f"spectra/spectrometer.{name}@{version}", generation, version, 8 << 20),
            release=version,
            generation=generation,
            state_writes="spectra/1",
            state_reads=("spectra/1",),
            snapshot_dir=str(self.snapshots),
        )

    def status(self, name):
        try:
            return json.loads((self.folder / f"{name}.status.json").read_bytes())
        except (OSError, ValueError):
            return {"seq_in": 0, "seq_out": 0, "counters": {}}

    def until(self, condition, what):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            for name, process in self.processes.items():
                code = process.poll()
                assert code in (None, 0, -signal.SIGKILL), (
                    name,
                    code,
                    (self.folder / f"{name}.log").read_text()[-2000:],
                )
            assert time.monotonic() < end, what
            time.sleep(0.02)

    def stop(self, *names):
        for name in names:
            self.processes[name].terminate()
        for name in names:
            assert self.processes.pop(name).wait(10) == 0

    def end(self):
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def host(tmp_path):
    made = Host(tmp_path)
    yield made
    made.end()


def test_the_whole_chain_loses_nothing_through_a_death_and_a_cut(host, tmp_path):  # invariant: S1
    source = host.ring("spectra/source", capacity=128 << 20)
    merged = host.ring("spectra/spectrometer", capacity=8 << 20)
    with Ring.open(merged) as ring:
        ring.propose_cut(1, 1, None, "1.0.0")
    rate = {"rate_bytes_per_s": 32_000_000}
    sink_folder = tmp_path / "sink"
    host.member("a", "1.0.0", 1)
    host.member("b", "1.0.0", 1)
    host.start("merge", "merge", output_ring=merged, rings_dir=str(host.rings), merge_prefix="spectra/spectrometer")
    host.start(
        "sink", "sink", program="recorder.py", entry="recorder:Recorder", input_ring=merged, data_dir=str(sink_folder)
    )
    host.until(lambda: len(list(host.folder.glob("*.status.json"))) == 4, "all wait for the stream")
    host.start("source", "source", program="player.py", entry="player:Player", output_ring=source, params=rate)
    host.until(lambda: host.status("sink")["seq_in"] > 60, "the stream flows")

    victim = "spectra.spectrometer.a@1.0.0"
    host.processes.pop(victim).kill()
    with Ring.open(source) as ring:
        ring.reap()
    before = host.status(victim)["seq_in"]
    host.again(victim)
    host.until(lambda: host.status(victim)["seq_in"] > before + 100, "the member is back")

    host.member("b", "1.1.0", 2)
    green = "spectra.spectrometer.b@1.1.0"
    host.until(lambda: host.status(green)["seq_out"] > host.status("sink")["seq_in"] - 16, "green has caught up")
    with Ring.open(merged) as ring:
        fence = ring.head + 24
        ring.propose_cut(2, 2, fence, "1.1.0")
    host.until(lambda: host.status("sink")["seq_in"] > fence + 60, "the stream has passed the cut")

    host.stop("source")
    with Ring.open(source) as ring:
        produced = ring.head
    host.until(lambda: host.status("sink")["seq_in"] == produced // 4, "the sink has everything")
    host.stop("sink")
    verdict = judged(sink_folder, produced)
    assert (verdict.lost, verdict.duplicated, verdict.reordered, verdict.mismatched) == (0, 0, 0, 0), verdict
    assert verdict.releases == {"1.0.0": fence, "1.1.0": produced // 4 - fence}
    assert verdict.cuts == 1
