"""An agent at its host, with the real programs on loopback: how soon does a service serve, and what does the agent cost while nothing happens?

    python benchmarks/agent.py [--json] [--quick] [--rounds N] [--write FILE]

A controller and one agent, a page of `examples/services`. *apply*: from the start of `halftrack apply` (a Python program that has to be imported first) to the first answer
of 200. *boot*: from the start of an agent whose workload is gone, with its RUN folder, and whose controller does not answer, to the same. The floor of both is the page by itself: from its
start to its first answer. *idle*: the agent's PSS and processor time, over some seconds in which nothing happens, with one such service and with one of each round. Rounds take turns. Exit status 1 when something
did not come about in time.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "examples/services/page.py"
RELEASE = ROOT / "examples/services/manifests/page-1.0.0.yaml"
ROUNDS, QUICK_ROUNDS = 7, 1
IDLE_S, QUICK_IDLE_S = 30.0, 3.0
PATIENCE_S = 60.0
APPLY_BAR_MS = 600.0  # Ankaios 1.0 publishes 624
PSS_BAR_MB, CPU_BAR_PERCENT = 60.0, 0.5
SITE = """
apiVersion: halftrack/v1
kind: Environment
metadata: {name: tank}
---
apiVersion: halftrack/v1
kind: Host
metadata: {name: tank-a}
spec: {environment: tank, address: 127.0.0.1}
"""
SERVICE = """
apiVersion: halftrack/v1
kind: Service
metadata: {name: page-%d}
spec: {environment: tank, product: page, hosts: [tank-a], network: host, params: {port: %d, site: the bench}}
"""


class TooLate(Exception):  # noqa: N818
    """Something has not come about."""


@dataclass(frozen=True)
class Round:
    """Milliseconds until the page answered."""

    apply: float
    boot: float
    alone: float


def free_port() -> int:
    """One that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answered(port: int, began_s: float, what: str) -> float:
    """Milliseconds since `began_s` when the page at `port` has answered."""
    while time.monotonic() - began_s < PATIENCE_S:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1) as answer:
                if answer.status == 200:
                    return (time.monotonic() - began_s) * 1000
        except OSError:
            time.sleep(0.001)
    raise TooLate(f"{what}: no answer within {PATIENCE_S:g} s")


class Site:
    """A galaxy in a folder, its controller and its one agent, as their own processes; what the agent does not keep is in `run`."""

    def __init__(self, folder: Path, run: Path) -> None:
        self.folder, self._ports = folder, (free_port(), free_port())
        bin_folder = Path(sys.executable).parent
        self._halftrack = [str(bin_folder / "halftrack")]
        self._agent_program = [str(bin_folder / "halftrack-agent")]
        self.state, self.run = folder / "agent", run
        self.controller: subprocess.Popen[str] | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        self._log = (folder / "log").open("ab")
        ports = ["--session-port", str(self._ports[0]), "--enrolment-port", str(self._ports[1])]
        self.verb("galaxy", "init", str(folder / "galaxy"), "--name", "bench", "--address", "127.0.0.1", *ports)
        self.start_controller()
        self.apply(SITE)
        self.verb("release", "publish", str(RELEASE))
        token = json.loads(self.verb("host", "token", "tank-a", "-o", "json"))
        (folder / "token").write_text(token["token"])
        enrol = [*self._agent_program, "enrol", "--state", str(self.state), "--token-file", str(folder / "token")]
        subprocess.run(enrol, check=True, stdout=self._log, stderr=self._log)

    def verb(self, *words: str) -> str:
        """One of the operator's."""
        environment = {**os.environ, "HALFTRACK_CONFIG": str(self.folder / "galaxy/operator")}
        done = subprocess.run([*self._halftrack, *words], env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 2):
            raise TooLate(f"halftrack {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, text: str) -> None:
        """A manifest."""
        (self.folder / "manifest.yaml").write_text(text)
        self.verb("apply", "-f", str(self.folder / "manifest.yaml"))

    def start_controller(self) -> None:
        """The controller, once it listens."""
        program = [*self._halftrack, "controller", "serve", "--state", str(self.folder / "galaxy/controller")]
        self.controller = subprocess.Popen(
            [*program, "--listen", "127.0.0.1"], stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self.controller.stdout is not None
        if not self.controller.stdout.readline():
            raise TooLate("the controller has not started: see the log")

    def start_agent(self) -> None:
        """The agent, at once."""
        places = ["--state", str(self.state), "--run", str(self.run), "--cgroup", f"halftrack-bench/{os.getpid()}"]
        listening = ["--listen", "127.0.0.1", "--agent-port", "0", "--bridge-port", "0"]
        self.agent = subprocess.Popen([*self._agent_program, "run", *places, *listening], stderr=self._log)

    def power_off(self) -> None:
        """As after a power cut: the agent, its workloads, and what was in memory are gone."""
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait()
        for record in self.state.glob("instances/*/instance.json"):
            who = json.loads(record.read_bytes())
            for pid in (who["shim_pid"], who["pid"]):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        shutil.rmtree(self.run, ignore_errors=True)

    def close(self) -> None:
        """Leave nothing."""
        self.power_off()
        if self.controller is not None:
            self.controller.terminate()
            self.controller.wait()
        self._log.close()
        for own in Path("/sys/fs/cgroup").glob(f"*/halftrack-bench/{os.getpid()}"):
            for group in sorted((path for path in own.rglob("*") if path.is_dir()), reverse=True):
                _removed(group)
            _removed(own)
            with contextlib.suppress(OSError):  # another run's are in there
                own.parent.rmdir()


def _removed(group: Path) -> None:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            return group.rmdir()
        except FileNotFoundError:
            return None
        except OSError:
            time.sleep(0.01)
    return None


def alone() -> float:
    """The floor: the page as its author starts it."""
    port, began_s = free_port(), time.monotonic()
    page = subprocess.Popen(["python3", str(PAGE), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return answered(port, began_s, "the page alone")
    finally:
        page.kill()
        page.wait()


def played(site: Site, number: int) -> Round:
    """One round: a service applied, the host booted without a controller, the page alone."""
    port, began_s = free_port(), time.monotonic()
    site.apply(SERVICE % (number, port))
    applied = answered(port, began_s, "apply")
    site.power_off()
    assert site.controller is not None
    site.controller.send_signal(signal.SIGSTOP)  # there, and says nothing: the worst of links
    try:
        began_s = time.monotonic()
        site.start_agent()
        booted = answered(port, began_s, "boot")
    finally:
        site.controller.send_signal(signal.SIGCONT)
    return Round(applied, booted, alone())


def idle(pid: int, seconds: float) -> tuple[float, float]:
    """The PSS in MB, and the percentage of a core."""
    clock = ~pid << 3 | 2  # clock_getcpuclockid(3): to the nanosecond, where /proc counts hundredths of a second
    before = time.clock_gettime(clock)
    time.sleep(seconds)
    cpu = 100 * (time.clock_gettime(clock) - before) / seconds
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    pss_kb = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return pss_kb * 1024 / 1e6, cpu


def measured(rounds: int, idle_s: float) -> list[dict[str, Any]]:
    """The lines."""
    memory = "/dev/shm"  # noqa: S108 - where /run is on an agent's host
    with (
        tempfile.TemporaryDirectory(prefix="halftrack-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="halftrack-bench-", dir=memory) as run,
    ):
        site = Site(Path(folder), Path(run))
        try:
            site.start_agent()
            seen = [played(site, 0)]
            _, cpu_of_one = _rested(site, rounds, idle_s)
            seen += [played(site, number) for number in range(1, rounds)]
            pss, cpu = _rested(site, rounds, idle_s)
        finally:
            site.close()
    floor = statistics.median(each.alone for each in seen)
    applied, booted = (statistics.median(getattr(each, name) for each in seen) for name in ("apply", "boot"))
    return [
        _line("from `halftrack apply` to 200", "ms", applied, {"the page alone": floor}, APPLY_BAR_MS),
        _line("from a cold boot without a link to 200", "ms", booted, {"the page alone": floor}, None),
        _line(f"memory (PSS), idle, {rounds} services", "MB", pss, {}, PSS_BAR_MB),
        _line("processor, idle, 1 service", "% of a core", cpu_of_one, {}, CPU_BAR_PERCENT),
        _line(f"processor, idle, {rounds} services", "% of a core", cpu, {}, CPU_BAR_PERCENT),
    ]


def _rested(site: Site, rounds: int, idle_s: float) -> tuple[float, float]:
    """As `idle`, once the last round's zeal is over."""
    time.sleep(1 if rounds <= QUICK_ROUNDS else 15)
    assert site.agent is not None
    return idle(site.agent.pid, idle_s)


def _line(case: str, unit: str, ours: float, peers: dict[str, float], bar: float | None) -> dict[str, Any]:
    ratio = {name: round(ours / figure, 2) for name, figure in peers.items()}
    shown = {name: round(figure, 1) for name, figure in peers.items()}
    ok = bar is None or ours <= bar
    return {"case": case, "unit": unit, "ours": round(ours, 2), "peers": shown, "ratio": ratio, "bar": bar, "ok": ok}


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="lines of JSON")
    parser.add_argument("--quick", action="store_true", help="few rounds: does it run at all?")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--write", type=Path, default=None, metavar="FILE")
    options = parser.parse_args()
    try:
        lines = measured(
            options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS), QUICK_IDLE_S if options.quick else IDLE_S
        )
    except TooLate as error:
        print(f"bench-agent: {error}", file=sys.stderr)
        return 1
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if options.write:
        options.write.write_text(text)
    if options.json:
        print(text, end="")
        return 0
    for line in lines:
        against = "".join(f", {ratio:g} x {name} ({line['peers'][name]:g})" for name, ratio in line["ratio"].items())
        bar = "" if line["bar"] is None else f" (bar {line['bar']:g}{'' if line['ok'] else ', missed'})"
        print(f"{line['case']:50} {line['ours']:9.2f} {line['unit']}{bar}{against}")
    missed = sum(not line["ok"] for line in lines)
    print(f"bench-agent: {len(lines)} figures, {missed} beyond their bars")
    return 0


if __name__ == "__main__":
    sys.exit(main())
