"""The play: sets up the galaxy, lets the stream flow, upgrades it twice, breaks what the seed says, and stops in order.

One thread, one loop: every wait goes through `until`, which looks at the world twenty times a second, carries out the faults
that are due, restarts daemons that died, and draws. Counts nothing about the stream: that is the judge's.
"""

import heapq
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from examples.demo import evidence, pictures
from examples.demo.display import Display
from examples.demo.evidence import Life
from examples.demo.faults import HOST_LINK, Faults, planned
from examples.demo.world import CONTROLLER, CONTROLLER_LINKS, LEADER, DemoFailed, World
from examples.lab.wire import Fault
from halftrack_model.swap import Phase, SwapRecord

SPECTRA = Path(__file__).resolve().parents[1] / "spectra"
FRAME_BYTES = 65536
RING_S = 16  # of the stream in the source's ring, as in the manifest, whatever the rate
LOOK_S = 0.05
DRAW_S = 0.25
STEP_S = 150.0  # longer than a leg of a swap may take: what takes longer is a fault of the demo or of Halftrack
SOURCE_RING, MERGED_RING = "spectra/source", "spectra/spectrometer"
SOURCE, SINK = "spectra.source", "spectra.sink"
GOOD, CUT = Fault(), Fault(cut=True)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a person may vary."""

    seed: int
    seconds: float
    rate_bytes_per_s: int


@dataclass
class Happened:
    """What the director did and saw, for the report."""

    link_cuts: int = 0
    killed: list[Life] = field(default_factory=list)
    agents_killed: int = 0
    controllers_killed: int = 0
    rollouts: dict[str, tuple[str, str]] = field(default_factory=dict)  # version -> phase, reason
    frames_in: int = 0
    seconds: float = 0.0
    startup_s: float = 0.0
    swap_seconds: dict[str, float] = field(default_factory=dict)


class Director:
    """One run."""

    def __init__(self, settings: Settings, world: World, display: Display) -> None:
        self.settings = settings
        self.world = world
        self.display = display
        self.faults: Faults = planned(settings.seed)
        self.happened = Happened()
        self.step = "setting up"
        self.seen: dict[str, Any] = {}  # the controller's view, as the observer last told it
        self._began = time.monotonic()
        self._flowing: float | None = None
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._observer: subprocess.Popen[bytes] | None = None
        self._heard = b""
        self._drawn = 0.0
        self._pictures = pictures.Painter(world)

    # ---------------------------------------------------------------------------------------------------- the play

    def play(self) -> Happened:
        """All of it; leaves the world with a stream that has stopped and a sink that has everything."""
        self._set_up()
        self._let_flow()
        self._upgrade()
        self._break()
        self._step("letting the stream run on")
        self.until(
            "the time to be over", lambda: self._flowed() >= self.settings.seconds, self.settings.seconds + STEP_S
        )
        self._stop()
        return self.happened

    def _set_up(self) -> None:
        world = self.world
        self._run((CONTROLLER, world.galaxy_init()))
        manifests = self._manifests()
        world.start_controller()
        self.until("the controller to listen", world.controller_ready)
        first = [str(manifests / f"{name}-1.0.0.yaml") for name in ("player", "recorder", "spectrometer")]
        self._run(
            (CONTROLLER, world.operator("apply", "-f", str(manifests / "tank.yaml"))),
            (CONTROLLER, world.operator("release", "publish", *first)),
        )
        hosts = tuple(world.evidence)
        asked = self._run(*((CONTROLLER, world.operator("host", "token", host, "-o", "json")) for host in hosts))
        tokens = [json.loads(output)["token"] for output in asked]
        self._run(*((host, world.enrolment(host, token)) for host, token in zip(hosts, tokens, strict=True)))
        for host in hosts:
            world.start_agent(host)

    def _watch(self) -> None:
        self._observer = self.world.observer()
        if self._observer.stdout:
            os.set_blocking(self._observer.stdout.fileno(), False)

    def _let_flow(self) -> None:
        self._step("waiting for the first output")
        self.until("the first output", lambda: self._head(MERGED_RING) > 0)
        self._flowing = time.monotonic()
        self.happened.startup_s = round(self._flowing - self._began, 2)
        self.tell(f"the stream flows, {self.happened.startup_s} s after the start")
        self._watch()
        self._plan_link_troubles()
        self._step("spectrometer 1.0.0 at work")
        self._pause(self.faults.publish_after_s)

    def _upgrade(self) -> None:
        self._publish("1.1.0")
        for kill in self.faults.members:
            self._later(kill.after_s, lambda pick=kill.pick: self._kill_member(pick))  # type: ignore[misc]
        if not self.faults.agent_in_second:
            self._plan_agent_kill()
        if self.faults.controller_killed:
            self._later(1.0, self._kill_controller)
        self._await_swap("1.1.0", Phase.DONE, "succeeded")

    def _break(self) -> None:
        self._step("spectrometer 1.1.0 at work")
        self._pause(self.faults.pause_before_broken_s)
        self._publish("1.2.0")
        if self.faults.agent_in_second:
            self._plan_agent_kill()
        self._await_swap("1.2.0", Phase.UNDONE, "failed")

    def _publish(self, version: str) -> None:
        self._step(f"publishing spectrometer {version}")
        self.until("the controller's view", lambda: self.seen)
        hosts = len(self.world.evidence)
        self.until("the controller to know both hosts", lambda: len(self.seen.get("hosts", ())) == hosts)
        before = {host["name"]: host["accepted_revision"] for host in self.seen["hosts"]}
        manifest = self.world.folder / "spectra" / "manifests" / f"spectrometer-{version}.yaml"
        self._run((CONTROLLER, self.world.operator("release", "publish", str(manifest))))
        self.tell(f"published spectrometer {version}")

        def accepted() -> bool:
            hosts = self.seen.get("hosts", ())
            return len(hosts) == len(before) and all(
                host["accepted_revision"] == host["revision"] > before[host["name"]] for host in hosts
            )

        def begun() -> bool:  # no host begins before it has every artifact that it needs to finish or to undo
            record = self._swap_record(version)
            return record is not None and record.phase is not Phase.PENDING

        self.until(f"both hosts to accept the plan with {version}", accepted)
        self.until(f"the hosts to begin the swap to {version}", begun)
        self.tell("cut: both links to the controller; the hosts have all they need")
        self.happened.link_cuts += len(CONTROLLER_LINKS)
        self.world.set_faults(dict.fromkeys(CONTROLLER_LINKS, CUT))

    def _await_swap(self, version: str, end: Phase, outcome: str) -> None:
        self._step(f"the hosts take spectrometer to {version} by themselves")
        began = time.monotonic()
        record = self._swap_record(version)
        self.until(
            f"the swap to {version} to end", lambda: (found := self._swap_record(version)) and found.phase.terminal
        )
        record = self._swap_record(version)
        self.happened.swap_seconds[version] = round(time.monotonic() - began, 2)
        self.tell(
            f"the swap to {version} is {record.phase.value if record else 'lost'}; restoring the controller's links"
        )
        self.world.set_faults(dict.fromkeys(CONTROLLER_LINKS, GOOD))
        self._step(f"the hosts report {version}")
        self.until(
            f"the rollout of {version} to end", lambda: self._rollout(version) in ("succeeded", "failed", "aborted")
        )
        self.tell(f"rollout of {version}: {' '.join(self.happened.rollouts[version])}")
        if record is None or record.phase is not end or self._rollout(version) != outcome:
            raise DemoFailed(f"the rollout of {version} should have {outcome}, but: {self.happened.rollouts[version]}")

    def _stop(self) -> None:
        self._step("stopping the source, draining the stream")
        self._due.clear()
        self.world.set_faults({HOST_LINK: GOOD})
        host = self.world.evidence[LEADER]
        evidence.kill(
            host.running()[SOURCE], signal.SIGSTOP
        )  # not killed: that would be a death, and it would come back
        self.happened.seconds = round(self._flowed(), 2)
        self._pause(0.3)
        self.happened.frames_in = self._head(SOURCE_RING)
        outputs = self.happened.frames_in // 4
        self.until("the sink to have everything", lambda: self._sink_next() >= outputs, 30.0, fatal=False)
        self._pause(0.5)  # whatever comes too much has to come now

    # ------------------------------------------------------------------------------------------------------- faults

    def _plan_link_troubles(self) -> None:
        troubles = self.faults.link()

        def next_one() -> None:
            trouble = next(troubles)
            start = (self._flowing or 0.0) + trouble.at_s
            self._at(start, lambda: self._trouble(trouble.fault))
            self._at(start + trouble.until_s - trouble.at_s, mend)

        def mend() -> None:
            self.world.set_faults({HOST_LINK: GOOD})
            next_one()

        next_one()

    def _trouble(self, fault: Fault) -> None:
        self.world.set_faults({HOST_LINK: fault})
        if fault.cut:
            self.happened.link_cuts += 1
        self.tell(f"{'cut: ' if fault.cut else ''}the link between the hosts {pictures.in_words(fault)}")

    def _kill_member(self, pick: float) -> None:
        lives = sorted(
            (host, name, pid)
            for host, found in self.world.evidence.items()
            for name, pid in found.running().items()
            if name.startswith("spectra.spectrometer.") and "@" in name and ".from-" not in name
        )
        if not lives:
            return
        host, name, pid = lives[int(pick * len(lives))]
        life = next(life for life in reversed(self.world.evidence[host].lives) if life.pid == pid)
        if evidence.kill(pid, signal.SIGKILL):
            self.happened.killed.append(life)
            self.tell(f"killed {name} on {host} (SIGKILL)")

    def _plan_agent_kill(self) -> None:
        if self.faults.agent:
            self._later(self.faults.agent_kill.after_s, lambda: self._kill_agent(self.faults.agent))

    def _kill_agent(self, host: str) -> None:
        self.world.daemons[f"agent {host}"].kill()
        self.happened.agents_killed += 1
        self.tell(f"killed the agent of {host} (SIGKILL)")

    def _kill_controller(self) -> None:
        self.world.daemons["controller"].kill()
        self.happened.controllers_killed += 1
        self.tell("killed the controller (SIGKILL)")

    # ------------------------------------------------------------------------------------------------------ the loop

    def tell(self, text: str) -> None:
        """Something that a person should see."""
        self.display.tell(time.monotonic() - self._began, text)

    def until(self, what: str, condition: Callable[[], object], seconds: float = STEP_S, *, fatal: bool = True) -> None:
        """Let the world go on until `condition`."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                if fatal:
                    raise DemoFailed(f"waited {seconds:.0f} s for {what}")
                self.tell(f"waited {seconds:.0f} s for {what}")
                return
            self._turn()
            time.sleep(LOOK_S)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until("a pause to end", lambda: time.monotonic() >= end)

    def _turn(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()
        for daemon in self.world.daemons.values():
            if daemon.tend():
                self.tell(f"{daemon.name} starts again")
        for host in self.world.evidence.values():
            for text in host.look():
                self.tell(text)
        self._listen()
        if now >= self._drawn + DRAW_S:
            self._drawn = now
            elapsed = self._flowed() if self._flowing else 0.0
            self.display.show(self._pictures.picture(elapsed, self.settings.seconds, self.step))

    def _listen(self) -> None:
        if self._observer is None or self._observer.stdout is None:
            return
        try:
            self._heard += os.read(self._observer.stdout.fileno(), 1 << 20)
        except BlockingIOError:
            return
        *lines, self._heard = self._heard.split(b"\n")
        if lines and (seen := json.loads(lines[-1])):
            self.seen = seen

    def _at(self, moment: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (moment, next(self._order), act))

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._at(time.monotonic() + seconds, act)

    def _step(self, text: str) -> None:
        self.step = text
        self.tell(f"— {text}")

    def _run(self, *commands: tuple[str, Sequence[str]]) -> list[str]:
        """Run commands side by side, each on its host; their outputs."""
        running = [self.world.command(host, argv) for host, argv in commands]
        self.until("a command to end", lambda: all(command.done() for command in running), 30.0)
        return [command.output() for command in running]

    # ------------------------------------------------------------------------------------------------------- looking

    def _flowed(self) -> float:
        return time.monotonic() - self._flowing if self._flowing else 0.0

    def _head(self, ring: str) -> int:
        found = self.world.evidence[LEADER].ring(ring)
        return found.head if found else 0

    def _sink_next(self) -> int:
        return int(self.world.evidence[LEADER].status(SINK).get("seq_in", 0))

    def _swap_record(self, version: str) -> SwapRecord | None:
        """What the leader last decided about the swap to `version`."""
        ids = [rollout["rollout_id"] for rollout in self.seen.get("rollouts", ()) if rollout["to_version"] == version]
        for swap_id, records in reversed(self.world.evidence[LEADER].swaps.items()):
            if swap_id in ids or swap_id.endswith(version):
                return records[-1]
        return None

    def _rollout(self, version: str) -> str:
        for rollout in self.seen.get("rollouts", ()):
            if rollout["to_version"] == version and rollout["product"] == "spectrometer":
                self.happened.rollouts[version] = (str(rollout["phase"]), str(rollout["reason"]))
                return str(rollout["phase"])
        return ""

    # ----------------------------------------------------------------------------------------------------- manifests

    def _manifests(self) -> Path:
        """The manifests that ship, with this run's rate, and with the place where the broken release breaks."""
        shutil.copytree(SPECTRA, self.world.folder / "spectra", ignore=shutil.ignore_patterns("__pycache__"))
        folder = self.world.folder / "spectra" / "manifests"
        yaml, rate = YAML(), self.settings.rate_bytes_per_s

        def changed(name: str, change: Callable[[list[Any]], None]) -> None:
            documents = list(yaml.load_all((folder / name).read_text()))
            change(documents)
            with (folder / name).open("w") as file:
                yaml.dump_all(documents, file)

        def at_rate(documents: list[Any]) -> None:
            source = documents[-1]["spec"]["steps"][0]
            source["params"]["rate_bytes_per_s"] = rate
            held = max(1024, RING_S * rate // FRAME_BYTES)
            source["ring"] |= {"size": f"{held * FRAME_BYTES >> 20}MiB", "slots": 1 << (held - 1).bit_length()}

        def breaking(documents: list[Any]) -> None:
            documents[0]["spec"]["params"]["raise_after"] = int(self.faults.raise_after_s * rate / FRAME_BYTES)

        changed("tank.yaml", at_rate)
        changed("spectrometer-1.2.0.yaml", breaking)
        return folder
