"""The agent's own updates: brings a new version to where it may take over, and, in the new version, says when it stays.

A version takes over only after it has read a copy of this host's state and found the same plan in it (`checking`), run beside the agent that it is to
replace. Then the record says that it is on trial, and the process begins anew (`launching`). It stays when it has been well for long enough, and has
lost no workload that ran. Every other end of a trial is a return to the version before, which no plan and no controller is needed for.

Owns STATE/slots.json while the agent runs. Brings nothing over the link: artifacts of the plan's releases come as all others do.
"""

import asyncio
import contextlib
import importlib.metadata
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from halftrack_agent import checking, clock, files, launching, slots, together
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.children import asked
from halftrack_agent.drivers.procfs import start_ticks
from halftrack_agent.launching import Launched
from halftrack_agent.notes import Notes
from halftrack_agent.outbox import Outbox
from halftrack_agent.places import Places
from halftrack_agent.slots import Running, Slot, Slots
from halftrack_model.errors import HalftrackError, HostFault, InvalidInput
from halftrack_model.observed import AgentSeen
from halftrack_model.params import filled
from halftrack_model.plan import Plan, agent_of
from halftrack_model.release import Release
from halftrack_model.report import Happened

LOOK_S = 1.0
CHECK_S = 120.0
CHECK_AGAIN_MS = 60_000
MAX_CHECKS = 3
MAX_SAID = 64 << 10
_COPY = "check."
_TIED = Path(__file__).parent / "drivers" / "tied.py"

log = logging.getLogger("halftrack.agent.updating")


@dataclass(frozen=True, slots=True)
class Trialling:
    """How this process came to be, for how long a new version must be well before it stays, and what begins the process anew."""

    own: Launched
    stable_s: float
    again: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Around:
    """`pids` are the processes of running workloads, `calm` says that nothing is under way that should not be disturbed, `stays` is told once it does.

    `must` does a write that must succeed on a full disk. `notes` are put into the form that every version reads before another one takes over.
    """

    pids: Callable[[], Mapping[str, int]]
    calm: Callable[[], bool]
    stays: Callable[[], None]
    must: Callable[[Callable[[], object]], object]
    notes: Notes


NO_TRIAL = Trialling(Launched("", (), ""), slots.STABLE_S, lambda: None)
"""An agent that nobody launched: inside a test, or a benchmark."""


class Updating:
    """One agent's."""

    def __init__(self, places: Places, trial: Trialling, store: ArtifactStore, outbox: Outbox, around: Around) -> None:
        self._places, self._own, self._store, self._outbox = places, trial.own, store, outbox
        self._version = importlib.metadata.version("halftrack")
        self._pids, self._calm, self._stays, self._must = around.pids, around.calm, around.stays, around.must
        self._notes = around.notes
        self._stable_s, self._again, own = trial.stable_s, trial.again, trial.own
        self._slots = launching.load(places, own.installed)
        self._wanted: tuple[Release, int] | None = None
        self._checks: dict[str, int] = {}
        self._not_before_ms = 0
        self.problems: tuple[str, ...] = ()
        for left in places.run.glob(f"{_COPY}*"):  # of an agent that was killed at it: there is a key in it
            shutil.rmtree(left, ignore_errors=True)

    @property
    def on_trial(self) -> bool:
        """Is this process a version that is not trusted yet?"""
        return slots.on_trial(self._slots, self._own.digest)

    @property
    def keeps(self) -> frozenset[str]:
        """Artifacts that must stay."""
        return self._slots.digests | {self._own.digest} - {""}

    def seen(self) -> AgentSeen:
        """What the controller shall know of it."""
        failed = {each.digest: each.reason for each in self._slots.failed}
        return AgentSeen(self._version, self._own.digest, self.on_trial, failed)

    def use(self, plan: Plan) -> None:
        """This plan, which `inbox` has judged, is in force."""
        release = agent_of(plan)
        self._wanted = None if release is None else (release, plan.revision)

    async def run(self) -> None:
        """For ever; `again` is called when the process is to begin anew."""
        self._tell()
        if self.on_trial:
            await asyncio.sleep(self._stable_s)
            await self._stay()
        loop = asyncio.get_running_loop()
        while True:
            try:
                if self._wanted is not None:
                    await self._update(*self._wanted)
            except HalftrackError as error:
                self._later(f"the agent's update waits: {error.message}")
            await asyncio.sleep(together.next_second(loop.time()) - loop.time())

    # ------------------------------------------------------------------------------------------------- the version before

    async def _update(self, release: Release, revision: int) -> None:
        digest = release.artifact.digest
        if not slots.wants(self._slots, digest, self._own.digest):
            self.problems = self._why_not(release)
            return
        if digest not in self._store.ready or not self._calm() or clock.boot_ms() < self._not_before_ms:
            return
        slot = Slot(digest, release.version, self._words(release))
        log.info("agent %s is here: it is checked", slot.version)
        if against := await self._checked(slot, revision):
            self._check_failed(slot, against)
            return
        if not self._calm() or self._wanted is None or self._wanted[0] != release:
            return  # looked at once more when it is
        running = tuple(
            Running(name, pid, start)
            for name, pid in sorted(self._pids().items())
            if (start := start_ticks(pid)) is not None
        )
        self._hand_over(slots.tried(self._slots, slot, running))
        log.warning("agent %s takes over from %s", slot.version, self._version)
        self._again()

    def _hand_over(self, record: Slots) -> None:
        """Another version is to begin, which may be older, and reads all that is on the disk."""
        try:
            self._notes.settle(sums=False)
            self._write(record)
        except HostFault:
            self._notes.settled(sums=True)
            raise

    def _words(self, release: Release) -> tuple[str, ...]:
        folder = str(self._store.program(release.artifact.digest, unpacked=True))
        try:
            return tuple(
                folder.join(filled(part, release.params) for part in word.split("{artifact}"))
                for word in release.command
            )
        except ValueError as error:
            raise InvalidInput("bad-command", f"agent {release.version} cannot be run: {error}") from None

    async def _checked(self, slot: Slot, revision: int) -> str:
        """What speaks against it, by its own word on a copy of our state; empty when nothing does."""
        copy = Path(tempfile.mkdtemp(prefix=_COPY, dir=self._places.run))
        try:
            checking.copied(self._places, copy)  # not in a thread: nothing is appended to a file meanwhile
            answer = await answered(slot, copy)
        except OSError as error:
            raise files.fault(error, copy) from error
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        return trouble(answer, slot, revision, self._version)

    def _check_failed(self, slot: Slot, trouble: str) -> None:
        count = self._checks[slot.digest] = self._checks.get(slot.digest, 0) + 1
        log.error("agent %s does not take over (%d of %d): %s", slot.version, count, MAX_CHECKS, trouble)
        self._later(f"agent {slot.version} does not take over: {trouble}")
        if count >= MAX_CHECKS:
            self._write(slots.failed(self._slots, slot.digest, slot.version, trouble))
            self._tell()

    def _later(self, problem: str) -> None:
        self._not_before_ms = clock.boot_ms() + CHECK_AGAIN_MS
        self.problems = (problem,)

    def _why_not(self, release: Release) -> tuple[str, ...]:
        reasons = [each.reason for each in self._slots.failed if each.digest == release.artifact.digest]
        return tuple(f"agent {release.version} was given up: {reason}" for reason in reasons)

    # -------------------------------------------------------------------------------------------------- the version on trial

    def adopted(self) -> None:
        """What runs was looked for. A version on trial that has not found all of it goes back, before it starts anything a second time (R2)."""
        trial = self._slots.trial
        if trial is None or not self.on_trial:
            return
        if missing := [each.workload for each in trial.running if self._lost(each)]:
            self._write(slots.gone_back(self._slots, f"it did not find {', '.join(missing)}, which ran on"))
            log.error("this version goes back: it has lost %s", ", ".join(missing))
            self._again()

    async def _stay(self) -> None:
        while True:
            try:
                self._write(slots.stayed(self._slots))
                break
            except HostFault as error:  # it is well; the disk is not
                self.problems = (f"agent {self._version} cannot come to stay: {error.message}",)
                await asyncio.sleep(LOOK_S)
        self.problems = ()
        self._notes.settled(sums=True)
        log.warning("agent %s stays", self._version)
        self._outbox.add(Happened.AGENT_UPDATED, self._version, "", clock.wall_ms())
        self._stays()

    def _lost(self, before: Running) -> bool:
        return start_ticks(before.pid) == before.start and self._pids().get(before.workload) != before.pid

    # ---------------------------------------------------------------------------------------------------------- the record

    def _write(self, record: Slots) -> None:
        self._must(lambda: launching.store(self._places, record))
        self._slots = record

    def _tell(self) -> None:
        """The reports have what was given up, each once; on a full disk, twice."""
        for each in self._slots.failed:
            if not each.told:
                log.error("agent %s was given up: %s", each.version, each.reason)
                self._outbox.add(Happened.AGENT_WENT_BACK, each.version, each.reason, clock.wall_ms())
        told = slots.all_told(self._slots)
        if told != self._slots:
            with contextlib.suppress(HostFault):
                self._write(told)


def trouble(answer: "checking.Answer | str", slot: Slot, revision: int, own_version: str) -> str:
    """What speaks against a version that has answered so; empty when nothing does."""
    if isinstance(answer, str):
        return answer
    if answer.version != slot.version:
        return f"it calls itself {answer.version}"
    if not set(answer.formats) & set(slots.FORMATS):
        return f"it cannot keep this host's state in a form that {own_version} can read"
    if answer.revision != revision:
        return f"it finds plan {answer.revision} where {own_version} has {revision}"
    return ""


async def answered(slot: Slot, copy: Path) -> "checking.Answer | str":
    """What the new version says of the copy, or why it says nothing."""
    own = (sys.executable, "-I", "-S", str(_TIED), str(os.getpid()))  # it reads a copy that the next agent removes
    argv = (*own, *slot.argv, "check", "--state", str(copy / "state"), "--run", str(copy / "run"))
    try:
        status, said, told = await asked(argv, CHECK_S, MAX_SAID)
    except TimeoutError:
        return f"it did not answer within {CHECK_S:.0f} s"
    except (OSError, ValueError) as error:  # a word that no program can be given
        return f"it cannot be started: {error}"
    if status:
        lines = told.decode("utf-8", "replace").strip().splitlines() or ["not a word"]
        return f"its check ended with status {status}: {lines[-1]}"
    try:
        tree = json.loads(said)
        return checking.Answer(str(tree["version"]), tuple(map(int, tree["formats"])), int(tree["revision"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "its answer is none"
