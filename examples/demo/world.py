"""The demo's machines: one controller, two hosts, their links, and the daemons on them, as a site would run them.

Owns processes and folders inside the lab's private world, and the command lines of Halftrack's own programs. Restarts a daemon
that died, as systemd's `Restart=always` does; decides neither what to deploy nor what to break.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from examples.demo.evidence import HostEvidence
from examples.lab.network import Link, Network
from examples.lab.wire import Carried, Control, Fault

ROOT = Path(__file__).resolve().parents[2]
CONTROLLER = "ctl"
LEADER, FOLLOWER = "tank-a", "tank-b"
ADDRESSES = {CONTROLLER: "10.77.0.1", LEADER: "10.77.0.2", FOLLOWER: "10.77.0.3"}
LINKS = (Link("ctl-a", CONTROLLER, LEADER), Link("ctl-b", CONTROLLER, FOLLOWER), Link("a-b", LEADER, FOLLOWER))
CONTROLLER_LINKS = ("ctl-a", "ctl-b")
RESTART_S = 0.3
WAIT_S = 10.0


class DemoFailed(Exception):  # noqa: N818
    """The demo cannot go on; the message says at which step, and what was seen."""


class Daemon:
    """One daemon that shall always run."""

    def __init__(self, name: str, begin: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.name = name
        self._begin = begin
        self._process = begin()
        self._again_at = 0.0
        self.killed = 0
        self.restarts = 0

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def up(self) -> bool:
        """Does it run?"""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, as the kernel's OOM killer or a power switch would."""
        self._process.kill()
        self.killed += 1

    def tend(self) -> bool:
        """Start it again if it died; True when that was done."""
        if self.up:
            return False
        now = time.monotonic()
        if not self._again_at:
            self._again_at = now + RESTART_S
            return False
        if now < self._again_at:
            return False
        self._again_at = 0.0
        self._process = self._begin()
        self.restarts += 1
        return True


class World:
    """All machines of the demo. Must be made inside `jail.run_isolated`."""

    def __init__(self, folder: Path, seed: int, cgroup: str) -> None:
        """Namespaces, links and the wire; no daemon yet."""
        self.folder = folder
        self.logs = folder / "logs"
        self.galaxy = folder / "galaxy"
        self.daemons: dict[str, Daemon] = {}
        self._cgroup = cgroup
        self._programs = Path(sys.executable).parent
        (folder / "home").mkdir(parents=True)
        self.logs.mkdir()
        self.network = Network(ADDRESSES, LINKS)
        self._wire_socket = folder / "wire.sock"
        ends = [f"{link.name}={','.join(link.ends)}" for link in LINKS]
        wire = [sys.executable, "-m", "examples.lab.wire", str(self._wire_socket), str(seed), *ends]
        self.wire = subprocess.Popen(wire, cwd=ROOT, env=self.environment(), start_new_session=True)
        waited("the wire to begin", self._wire_socket.exists)
        self._control = Control(self._wire_socket)
        self.faults = {link.name: Fault() for link in LINKS}
        self.evidence = {
            host: HostEvidence(host, folder / host / "run", folder / host / "state", self.logs / f"agent-{host}.log")
            for host in (LEADER, FOLLOWER)
        }

    def environment(self) -> dict[str, str]:
        """What every process of the demo gets: nothing of the person's own settings."""
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.folder / "home"),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
        }

    # ------------------------------------------------------------------------------------------------------ links

    def set_faults(self, faults: Mapping[str, Fault]) -> None:
        """Make the named links so."""
        self._control.set(faults)
        self.faults |= faults

    def carried(self) -> dict[str, Carried]:
        """The links' counters."""
        return self._control.carried()

    # ----------------------------------------------------------------------------------------------------- daemons

    def start_controller(self) -> None:
        """The controller, from the galaxy that `galaxy_init` made."""
        self._daemon(
            "controller",
            CONTROLLER,
            self._program("halftrack-controller", "serve", "--state", str(self.galaxy / "controller")),
        )

    def controller_ready(self) -> bool:
        """Has it said that it listens?"""
        log = self.logs / "controller.log"
        return any(line.startswith("ready ") for line in log.read_text(errors="replace").splitlines())

    def start_agent(self, host: str) -> None:
        """An enrolled host's agent."""
        evidence = self.evidence[host]
        options = ("--state", str(evidence.state), "--run", str(evidence.run), "--cgroup", f"{self._cgroup}/{host}")
        self._daemon(f"agent {host}", host, self._program("halftrack-agent", "run", *options))

    def _daemon(self, name: str, host: str, argv: Sequence[str]) -> None:
        log = self.logs / f"{name.replace(' ', '-')}.log"

        def begin() -> subprocess.Popen[bytes]:
            with log.open("ab") as out:
                return self.network.start(
                    host, argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=self.environment()
                )

        self.daemons[name] = Daemon(name, begin)

    # ---------------------------------------------------------------------------------------------------- commands

    def galaxy_init(self) -> list[str]:
        """The command that makes the galaxy."""
        return self._program(
            "halftrack", "galaxy", "init", str(self.galaxy), "--name", "demo", "--address", ADDRESSES[CONTROLLER]
        )

    def operator(self, *arguments: str) -> list[str]:
        """An operator's command."""
        return self._program("halftrack", "--config", str(self.galaxy / "operator"), *arguments)

    def enrolment(self, host: str, token: str) -> list[str]:
        """The command that enrols a host."""
        return self._program("halftrack-agent", "enrol", "--state", str(self.evidence[host].state), "--token", token)

    def observer(self) -> subprocess.Popen[bytes]:
        """An operator's terminal on the controller's host."""
        argv = [sys.executable, "-m", "examples.demo.observer", str(self.galaxy / "operator")]
        with (self.logs / "observer.log").open("ab") as log:
            return self.network.start(
                CONTROLLER, argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, env=self.environment()
            )

    def command(self, host: str, argv: Sequence[str]) -> "Command":
        """Start a command on a host."""
        return Command(argv, self.network, host, self.environment())

    def _program(self, name: str, *arguments: str) -> list[str]:
        return [str(self._programs / name), *arguments]


class Command:
    """A command that was started, and its output once it has ended."""

    def __init__(self, argv: Sequence[str], network: Network, host: str, environment: Mapping[str, str]) -> None:
        self.argv = argv
        self._process = network.start(
            host, argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        )

    def done(self) -> bool:
        """Has it ended?"""
        return self._process.poll() is not None

    def ended(self) -> tuple[int, str]:
        """Its exit status, and what it said."""
        out: IO[bytes] | None = self._process.stdout
        text = out.read().decode(errors="replace") if out else ""
        return self._process.wait(), text

    def output(self) -> str:
        """What it said; DemoFailed when it failed."""
        status, text = self.ended()
        if status != 0:
            raise DemoFailed(f"`{self.name} …` ended with {status}:\n{text[-3000:]}")
        return text

    @property
    def name(self) -> str:
        """How it was called, for people."""
        return " ".join(Path(part).name if part.startswith("/") else part for part in self.argv[:6])


def waited(what: str, condition: Callable[[], object], seconds: float = WAIT_S) -> None:
    """Wait for `condition`, looking often; DemoFailed when it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise DemoFailed(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.01)
