"""Sight: one look at the host, from the driver, the rings, the store and what data-plane processes say about themselves.

Owns the reading of status files and the rule by which growing counters become reports. Never acts on what it sees.
"""

import contextlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from halftrack_agent import clock, files
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.cutoff import IN_STEP, ContactSeen
from halftrack_agent.drivers.exec import ExecDriver
from halftrack_agent.events import (
    BeatSeen,
    DifferenceSeen,
    Emit,
    HostView,
    InstanceSeen,
    JudgedSeen,
    ProbeSeen,
    ShadowSeen,
    UsageSeen,
)
from halftrack_agent.flows import Flows
from halftrack_agent.rings import Rings
from halftrack_agent.spools import Spools
from halftrack_dataplane import status
from halftrack_dataplane.judging import Judged
from halftrack_dataplane.status import BEYOND, MAX_COUNT, Diverged, Status
from halftrack_model import canonical
from halftrack_model.errors import HostFault, InvalidInput
from halftrack_model.report import Happened
from halftrack_proto.gauges import FlowGauge

MAX_STATUS_BYTES = 1 << 20
MAX_COUNTS = 4096  # counters of workloads that are long gone go first
MEASURE_EVERY_MS = 200  # of members in a swap that asks for it: windows are a second long
SAMPLE_EVERY_MS = 5_000  # a burst becomes one report with a sum, not one report a frame

# A gap that a member or a sink meets is either covered by the other member or told by the merge: counted there, reported here once.
# A member without a twin tells of its own, an inlet of what it was to get without loss and did not find, and a spool of what it could not keep.
# What a source counts as lost is a capture's: packets that network or kernel dropped, by number.
_LOST = {"merge": ("gap_frames", "lost"), "bridge-receiver": ("lost",), "member": ("lost",), "source": ("lost",),
         "spool": ("lost", "missed", "corrupt"), "inlet": ("lost",), "sink": ("missed",)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Count:
    """A counter: which process (by its start) had which last value, the sum over all processes, and what was reported of it."""

    started_ms: int
    last: int
    total: int
    told: int
    told_ms: int


@dataclass(frozen=True, slots=True)
class _Counts:
    """The form of the file; keys are `HAPPENED WORKLOAD`."""

    counts: Mapping[str, _Count]


def diverged_text(row: Diverged) -> str:
    """What is known beside the number, for a person who looks for the cause."""
    first = ", ".join(map(str, row.first))
    where = f"; it differs from what its twin gave, first at {first}" if first else ""
    return where + (f"; a third copy names it as the odd one of {row.odd}" if row.odd else "")


def lost_text(ranges: Sequence[tuple[int, int]]) -> str:
    """Which they were, the newest of them."""
    told = (str(first) if end - first == 1 else f"{first} to {end - 1}" for first, end in ranges)
    return f"; the newest: {', '.join(told)}" if ranges else ""


def _judged(row: Judged) -> JudgedSeen:
    return JudgedSeen(
        row.generation,
        row.compared,
        row.different,
        row.timed,
        row.blue_us_p99,
        row.green_us_p99,
        row.look_us,
        tuple(DifferenceSeen(each.seq, each.text) for each in row.first),
        row.lost,
        row.unbroken,
    )


class Sight:
    """The eyes of one agent. What was reported stands in `counted`, so that an agent that comes back does not report it again."""

    def __init__(
        self,
        driver: ExecDriver,
        rings: Rings,
        spools: Spools,
        store: ArtifactStore,
        folder: Path,
        counted: Path,
        probes: Callable[[Mapping[str, InstanceSeen]], Mapping[str, Mapping[str, ProbeSeen]]] = lambda _: {},
    ) -> None:
        self._probes = probes
        self._driver, self._rings, self._store, self._folder = driver, rings, store, folder
        self._spools = spools
        self._counted = counted
        self._statuses: dict[str, tuple[str, Status]] = {}
        self._counts: dict[str, _Count] = {}
        self._judged: dict[str, dict[str, JudgedSeen]] = {}  # by judge, what the process that runs now has found
        self._usages: dict[str, UsageSeen] = {}
        self._measured_ms = -MEASURE_EVERY_MS
        self._flows = Flows()
        self._marks: dict[str, str] = {}
        self._details: dict[str, str] = {}  # of what is counted, as the process last put it
        with contextlib.suppress(OSError, InvalidInput):
            self._counts = dict(canonical.decode(_Counts, counted.read_bytes()).counts)

    def look(self, measured: Collection[str] = (), contact: ContactSeen = IN_STEP) -> HostView:
        """The host as it is now, and what the workloads that are to be `measured` have used."""
        instances = self._driver.seen()
        self._read_statuses(instances)
        shadows = {
            ring: ShadowSeen(row.equal, row.different)
            for _, found in self._statuses.values()
            for ring, row in found.shadow.items()
        }
        judged = {ring: row for found in self._judged.values() for ring, row in found.items()}
        self._measure(measured, instances)
        rings, spools, digests = self._rings.seen(), self._spools.seen(), self._store.ready
        beats = {name: self._beat(name, mark) for name, mark in self._marks.items()}
        usages, probes = dict(self._usages), self._probes(instances)
        return HostView(instances, rings, shadows, digests, judged, usages, spools, beats, probes, contact)

    def _beat(self, name: str, mark: str) -> BeatSeen:
        """A file that no process has written yet is a sign of one that has yet to begin."""
        found = self._statuses[name][1] if name in self._statuses else None
        return BeatSeen(mark, status.STARTING, 0) if found is None else BeatSeen(mark, found.beats, found.began_ms)

    def _measure(self, names: Collection[str], instances: Mapping[str, InstanceSeen]) -> None:
        now_ms = clock.boot_ms()
        if now_ms - self._measured_ms < MEASURE_EVERY_MS and self._usages.keys() <= set(names):
            return
        self._measured_ms = now_ms
        running = [name for name in names if name in instances and instances[name].running]
        found = {name: self._driver.used(name) for name in running}
        self._usages = {name: UsageSeen(now_ms, row.cpu_ms, row.memory_bytes) for name, row in found.items() if row}

    @property
    def problems(self) -> tuple[str, ...]:
        """Sinks that take what comes for what they have: their stream has begun anew, and its numbers with it."""
        found = ((name, held.counters.get(BEYOND, 0)) for name, (_, held) in sorted(self._statuses.items()))
        return tuple(
            f"{name} has all frames below {place}; its stream has begun anew, and nothing is written until that number comes"
            for name, place in found
            if place
        )

    def missing(self, workload: str) -> int:
        """Frames of its inputs that a running process has counted as not had."""
        counts = (each.counts for each in self._flows.gauges() if each.workload == workload)
        return sum(found.get("lost", 0) + found.get("missed", 0) for found in counts)

    def flows(self) -> tuple[FlowGauge, ...]:
        """What processes have counted of their inputs, as of the last look."""
        return self._flows.gauges()

    def samples(self, now_ms: int) -> tuple[Emit, ...]:
        """Reports about counters that have grown since the last one, at most one in five seconds for each."""
        emits = []
        for key, count in self._counts.items():
            # A time told that lies ahead of us is from before a reboot.
            if count.total > count.told and not 0 <= now_ms - count.told_ms < SAMPLE_EVERY_MS:
                happened, _, workload = key.partition(" ")
                unit = "losses" if happened == Happened.STATE_LOST.value else "frames"
                text = f"{count.total - count.told} {unit}, {count.total} in all{self._details.get(key, '')}"
                emits.append(Emit(Happened(happened), workload, text))
                self._counts[key] = replace(count, told=count.total, told_ms=now_ms)
        if emits:
            with contextlib.suppress(HostFault):  # costs a repetition after the next restart, nothing else
                files.replace(self._counted, canonical.encode(_Counts(self._counts)), durable=False)
        return tuple(emits)

    def _read_statuses(self, instances: Mapping[str, InstanceSeen]) -> None:
        for name in self._statuses.keys() - instances.keys():
            del self._statuses[name]
            self._judged.pop(name, None)
        self._marks = {}  # a file that cannot be seen says nothing, neither that its process lives nor that it hangs (O1)
        self._flows.keep(instances)
        for name, seen in instances.items():
            with contextlib.suppress(
                OSError, ValueError
            ):  # not written yet, or half understood: the next look may do better
                self._read(seen, f"{self._folder}/{name}.json")  # no Path: most have none, and are asked every second
        if len(self._counts) > MAX_COUNTS:
            self._counts = {key: count for key, count in self._counts.items() if key.partition(" ")[2] in instances}
            self._details = {key: text for key, text in self._details.items() if key in self._counts}

    def _read(self, seen: InstanceSeen, path: str) -> None:
        stat = os.stat(path)
        mark = f"{stat.st_ino}.{stat.st_mtime_ns}"  # its last word may follow the one before within a tick of the clock
        self._marks[seen.workload] = mark  # whether its content is understood or not
        held = self._statuses.get(seen.workload)
        if (held is not None and held[0] == mark) or stat.st_size > MAX_STATUS_BYTES:
            return
        found = status.load(Path(path).read_bytes())
        self._statuses[seen.workload] = mark, found
        mine = (
            found.began_ms >= seen.started_ms
        )  # else the file is from an earlier life, which may have judged another green
        self._judged[seen.workload] = {ring: _judged(row) for ring, row in found.judged.items()} if mine else {}
        written_ms = clock.boot_ms() - (clock.wall_ms() - stat.st_mtime_ns // 1_000_000)
        if written_ms >= seen.started_ms:  # the last word of an earlier life was counted as that one's
            self._flows.note(seen.workload, seen.started_ms, found)
        self._count(seen, Happened.FRAMES_REFUSED, found.counters.get("refused", 0))
        lost = sum(found.counters.get(counter, 0) for counter in _LOST.get(found.role, ()))
        self._count(seen, Happened.FRAMES_LOST, lost, lost_text(found.lost))
        self._count_states(seen, found.counters.get("young_from", 0), f": {found.message}")
        for ring, row in found.diverged.items():
            member = replace(seen, workload=ring.replace("/", "."))  # the merge tells it, and it is about the member
            self._count(member, Happened.OUTPUTS_DIVERGED, max(row.frames, row.odd), diverged_text(row))

    def _count_states(self, seen: InstanceSeen, young_from: int, detail: str) -> None:
        """A state that was made anew is one that begins with another output. Later processes say the same of it, and that is no news."""
        key = f"{Happened.STATE_LOST.value} {seen.workload}"
        held = self._counts.get(key, _Count(seen.started_ms, 0, 0, 0, -SAMPLE_EVERY_MS))
        if young_from not in (0, held.last):
            self._counts[key] = replace(held, last=young_from, total=held.total + 1)
            self._details[key] = detail

    def _count(self, seen: InstanceSeen, happened: Happened, value: int, detail: str = "") -> None:
        key = f"{happened.value} {seen.workload}"
        held = self._counts.get(key, _Count(seen.started_ms, 0, 0, 0, -SAMPLE_EVERY_MS))
        anew = held.started_ms != seen.started_ms or value < held.last  # another process counts from nothing
        total = min(held.total + value - (0 if anew else held.last), MAX_COUNT)
        self._counts[key] = replace(held, started_ms=seen.started_ms, last=value, total=total)
        if detail:
            self._details[key] = detail
