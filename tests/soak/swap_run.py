"""`python -m tests.soak.swap_run`: FRAMES frames through SWAPS swaps of a pair on two hosts, while members, merges, bridges, agents and the link between
the hosts are killed and cut by SEED (TROUBLES=0: they are not); swap-soak.json says what came of it. Exit status 1 when a frame was lost, doubled, out of order or wrong.

A real controller publishes releases in turn to real agents in namespaces, joined by the lab's wire. Owns the order of things and the report;
breaks nothing (`swap_breaker`), and counts no frame: that is `swap_check`'s, which sees the files of source and sink only.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from examples.demo import evidence
from examples.demo.world import CONTROLLER, FOLLOWER, LEADER, ROOT, DemoFailed, World
from tests.soak.swap_breaker import Breaker
from tests.soak.two_hosts import HOSTS, isolated

RATE = int(os.environ.get("RATE") or 16000)  # frames a second
BURST_US = 1000
TROUBLES = os.environ.get("TROUBLES") != "0"  # 0: swaps alone, nothing is killed or cut
SURGE = int(os.environ.get("SURGE") or 1)  # how many members a swap replaces at once
LOOK_S = 0.02
PATIENCE_S = 180.0  # for one swap, with all that is killed in it
DRAIN_S = 60.0  # for the sink to have what the source has published
FOLDER = Path("/run/halftrack-demo")
GRAPH = (
    HOSTS
    + """apiVersion: halftrack/v1
kind: Stream
metadata: {name: soak}
spec:
  environment: soak
  steps:
    - {name: numbers, product: numbers, hosts: [tank-a], params: {rate: %d, burst_us: %d}, ring: {size: 64MiB, slots: 524288}}
    - {name: sums, product: sums, hosts: [tank-a, tank-b], ring: {size: 16MiB, slots: 131072}}
    - {name: marks, product: marks, hosts: [tank-a]}
"""
)


@dataclass
class Report:
    """swap-soak.json. Counts of frames are the judge's, `gap_us` are pauses of the output at cuts; `cuts` are of the link."""

    seed: int
    frames: int = 0
    swaps: int = 0
    kills: int = 0
    cuts: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    mismatched: int = 0
    gap_us_p50: float = 0.0
    gap_us_p99: float = 0.0
    kill_gap_us_p50: float = 0.0
    kill_gap_us_p99: float = 0.0
    steady_gap_us_p999: float = 0.0
    swap_s_p50: float = (
        0.0  # from the release's publication to the rollout's end, by an operator who looks ten times a second
    )
    undone: int = 0
    output_cuts: int = 0
    surge: int = 1
    rate: int = 0
    seconds: float = 0.0
    killed: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    missing: str = ""  # why it ended before its time

    @property
    def wrong(self) -> bool:
        """Is anything there that must not be?"""
        return bool(self.lost or self.duplicated or self.reordered or self.mismatched or self.undone or self.missing)

    def text(self) -> str:
        """In one line."""
        return (
            f"{self.frames / 1e6:.2f} M frames, {self.swaps} swaps ({self.swap_s_p50:.1f} s each), {self.kills} kills, {self.cuts} cuts of the link in {self.seconds:.0f} s; lost {self.lost}, "
            f"duplicated {self.duplicated}, reordered {self.reordered}, mismatched {self.mismatched}; the output's pauses: {self.gap_us_p50:.0f} µs at a cut "
            f"(p99 {self.gap_us_p99:.0f}), {self.kill_gap_us_p50:.0f} after a member's death, steady p99.9 {self.steady_gap_us_p999:.0f}"
        )


class Soak:
    """One run, inside its own world."""

    troubles = TROUBLES
    program = Path(__file__).with_name("swap_stream.py")

    def __init__(self, frames: int, swaps: int, seed: int, cgroup: str) -> None:
        self.world = World(FOLDER, seed, cgroup)
        self.report = Report(seed, rate=RATE, surge=SURGE)
        self._frames, self._swaps = frames, swaps
        self._breaker = Breaker(self.world, seed, RATE // 4)
        self._breaking = False
        self._seconds: list[float] = []
        self._heard: dict[str, Any] = {}
        self._rest = b""
        self._publisher: subprocess.Popen[bytes] | None = None

    def play(self) -> Report:
        """All of it."""
        self._set_up()
        began = time.monotonic()
        judge = self._judge()
        try:
            for number in range(1, self._swaps + 1):
                self._swap(number)
            self.until("all frames", lambda: self._head() >= self._frames, self._frames / RATE + PATIENCE_S)
        except DemoFailed as error:
            self.report.missing = str(error)
        self._drain()
        self.report.killed, self.report.cuts = self._breaker.killed, self._breaker.cuts
        self.report.swap_s_p50 = round(statistics.median(self._seconds or [0.0]), 2)
        self.report.kills = sum(self._breaker.killed.values())
        self.report.seconds = round(time.monotonic() - began, 1)
        (self._sink() / "ended").touch()
        if judge.wait(60):
            raise DemoFailed(f"the judge ended with {judge.returncode}")
        for name, value in json.loads((FOLDER / "verdict.json").read_text()).items():
            setattr(self.report, name, value)
        return self.report

    def graph(self) -> str:
        """The manifest."""
        return GRAPH % (RATE, BURST_US)

    def _set_up(self) -> None:
        self._open()
        self._publish("numbers", "1.0.0", "Numbers", {})
        self._publish("marks", "1.0.0", "Marks", {})
        self._release(0)
        self._enrol()
        self.until("the first release at work", lambda: self._phase("1.0.0") == "succeeded", 60.0)

    def _open(self) -> None:
        """A controller with the graph, and somebody who publishes."""
        world = self.world
        self._run(CONTROLLER, world.galaxy_init())
        world.start_controller()
        self.until("the controller", world.controller_ready)
        graph = FOLDER / "soak.yaml"
        graph.write_text(self.graph())
        self._run(CONTROLLER, world.operator("apply", "-f", str(graph)))
        argv = [sys.executable, "-m", "tests.soak.swap_publisher", str(world.galaxy / "operator"), str(self.program)]
        with (world.logs / "publisher.log").open("ab") as log:
            self._publisher = world.network.start(
                CONTROLLER,
                argv,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=world.environment(),
            )
        os.set_blocking(self._publisher.stdout.fileno(), False)  # type: ignore[union-attr]

    def _enrol(self) -> None:
        """Both hosts, one after the other."""
        world = self.world
        for host in (LEADER, FOLLOWER):
            asked = self._run(CONTROLLER, world.operator("host", "token", host, "-o", "json"))
            self._run(host, world.enrolment(host, json.loads(asked)["token"]))
            world.start_agent(host)

    # ---- one swap ---------------------------------------------------------------------------------------------------

    def _release(self, number: int) -> None:
        self._publish("sums", f"1.0.{number}", "Sums", {"release": number, "snapshot_every": 8192}, "sums/1")

    def _swap(self, number: int) -> None:
        """To release `number`; with whatever the seed breaks meanwhile."""
        version = f"1.0.{number}"
        self._release(number)
        began = time.monotonic()
        self.until(f"the rollout of {version}", lambda: self._phase(version) in ("succeeded", "failed", "aborted"))
        done = self._phase(version) == "succeeded"
        self._seconds.append(time.monotonic() - began)
        self.report.swaps += done
        self.report.undone += not done
        print(
            f"swap-soak: {version} {self._phase(version)} after {time.monotonic() - began:.1f} s, {self._head()} frames",
            file=sys.stderr,
            flush=True,
        )

    def _phase(self, version: str) -> str:
        return str(self._heard.get("rollouts", {}).get(f"sums {version}", ""))

    def _publish(
        self, product: str, version: str, kind: str, params: dict[str, Any], state: str = "", **more: Any
    ) -> None:
        asked = {
            "product": product,
            "version": version,
            "entry": f"{self.program.stem}:{kind}",
            "params": params,
            "state": state,
            "surge": SURGE,
            **more,
        }
        if self._publisher is not None and self._publisher.stdin is not None:
            self._publisher.stdin.write(json.dumps(asked).encode() + b"\n")
            self._publisher.stdin.flush()

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def until(self, what: str, condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
        """Let the world go on, with its troubles once the stream flows, until `condition`."""
        end = time.monotonic() + seconds
        while not condition():
            now = time.monotonic()
            if now > end:
                raise DemoFailed(f"waited {seconds:.0f} s for {what}")
            for daemon in self.world.daemons.values():
                daemon.tend()
            for host in self.world.evidence.values():
                for _ in host.look():
                    pass
            self._listen()
            if self._breaking and self.troubles:
                self._breaker.turn(now)
            time.sleep(LOOK_S)

    def _listen(self) -> None:
        if self._publisher is None or self._publisher.stdout is None:
            return
        with contextlib.suppress(BlockingIOError):
            self._rest += os.read(self._publisher.stdout.fileno(), 1 << 20)
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            heard = json.loads(line)
            if "rollouts" in heard:
                self._heard = heard

    def _run(self, host: str, argv: list[str]) -> str:
        command = self.world.command(host, argv)
        self.until("a command to end", command.done, 60.0)
        return command.output()

    def _head(self, ring: str = "soak/numbers") -> int:
        found = self.world.evidence[LEADER].ring(ring)
        return found.head if found else 0

    def _sink(self) -> Path:
        found = [path.parent for path in FOLDER.glob(f"{LEADER}/**/marks-*.bin")]
        if not found:
            raise DemoFailed("the sink has written nothing")
        return found[0]

    def _judge(self) -> subprocess.Popen[bytes]:
        self.until("the sink's first file", lambda: list(FOLDER.glob(f"{LEADER}/**/marks-*.bin")))
        self._breaking = True
        ring = self.world.evidence[LEADER].run / "rings" / "soak" / "numbers.ring"
        argv = [
            sys.executable,
            "-m",
            "tests.soak.swap_check",
            str(self._sink()),
            str(ring),
            str(self._breaker.faults),
            str(FOLDER / "verdict.json"),
        ]
        return subprocess.Popen(argv, cwd=ROOT, env=self.world.environment())

    def _drain(self) -> None:
        """The source is stopped, not killed, which would only start it again; then the sink gets what there is."""
        self._breaking = False
        self._breaker.mend()
        leader = self.world.evidence[LEADER]
        evidence.kill(leader.running()["soak.numbers"], signal.SIGSTOP)
        end = time.monotonic() + DRAIN_S
        with contextlib.suppress(DemoFailed):
            self.until(
                "the sink",
                lambda: int(leader.status("soak.marks").get("seq_in", 0)) >= self._head(),
                end - time.monotonic(),
            )
        time.sleep(0.5)  # whatever comes too much has to come now


def played(frames: int, swaps: int, seed: int, cgroup: str, out: Path) -> int:
    """The part inside the private world."""
    try:
        report = Soak(frames, swaps, seed, cgroup).play()
    except DemoFailed as error:
        print(f"swap-soak: {error}", file=sys.stderr)
        show_logs()
        return 1
    out.write_text(json.dumps(asdict(report), indent=2) + "\n")
    print(f"swap-soak: {report.text()}", flush=True)
    for example in [report.missing, *report.examples]:
        if example:
            print(f"swap-soak: {example}", file=sys.stderr)
    if report.wrong:
        show_logs()
    return int(report.wrong)


def show_logs() -> None:
    """The ends of all logs, on stderr."""
    for log in sorted((FOLDER / "logs").glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-40:]
        print(f"--- {log.name}", *lines, sep="\n", file=sys.stderr)


def main() -> int:
    """As the environment says."""
    frames, swaps, seed = (
        int(os.environ.get(name) or default)
        for name, default in (("FRAMES", "1000000"), ("SWAPS", "20"), ("SEED", "1"))
    )
    return isolated("swap-soak", lambda cgroup, out: played(frames, swaps, seed, cgroup, out))


if __name__ == "__main__":
    sys.exit(main())
