"""Probing: looks at running instances at the pace that their releases ask for, and keeps how they went. Decides nothing; `health` does.

One task an instance and probe, for one life; what is kept ends with the life. Looks begin at random within their period, so that a host that boots does not
look at everything in one instant, and no more than `AT_ONCE` go on together.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from halftrack_agent import files, together
from halftrack_agent.drivers import probes
from halftrack_agent.drivers.probes import Blind, Where
from halftrack_agent.events import InstanceSeen, ProbeSeen
from halftrack_model.errors import HalftrackError
from halftrack_model.probes import Probe, ProbeKind
from halftrack_model.workload import Workload

log = logging.getLogger("halftrack.agent")

AT_ONCE = 16
GIVE = 0.1  # of a period: what a look may be early or late by
QUICK_S = 0.25  # between looks until the first good one: a start should not seem longer than it is


@dataclass(frozen=True, slots=True)
class StreamLook:
    """A stream as its counters have it: how far behind, half of what its ring retains, and how many frames have been missing so far."""

    lag: int
    half: int
    missing: int


class Prober:
    """All probes of one host. `where` knows a running instance's processes and surroundings, `stream` its counters."""

    def __init__(
        self,
        folder: Path,
        where: Callable[[Workload, Probe, Path], Where | None],
        stream: Callable[[Workload], StreamLook | None],
        woken: Callable[[], None],
    ) -> None:
        self._folder, self._where, self._stream, self._woken = folder, where, stream, woken
        self._workloads: dict[str, Workload] = {}  # by digest
        self._lives: dict[str, tuple[int, list[asyncio.Task[None]]]] = {}
        self._seen: dict[str, dict[str, ProbeSeen]] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._random = random.Random()  # noqa: S311 - jitter, not a secret

    def use(self, workloads: Sequence[Workload]) -> None:
        """These are what the plan has."""
        self._workloads = {each.digest(): each for each in workloads if each.checks is not None}

    def follow(self, instances: Mapping[str, InstanceSeen]) -> Mapping[str, Mapping[str, ProbeSeen]]:
        """These run now; what was seen of them so far."""
        wanted = {
            name: self._workloads[seen.digest]
            for name, seen in instances.items()
            if seen.running and not seen.leaving and seen.digest in self._workloads
        }
        for name in list(self._lives):
            if name not in wanted or self._lives[name][0] != instances[name].started_ms:
                self._end(name)
        for name in wanted.keys() - self._lives.keys():
            self._begin(wanted[name], instances[name].started_ms)
        return {name: dict(seen) for name, seen in self._seen.items()}

    async def close(self) -> None:
        """Look no more."""
        tasks = [task for _, tasks in self._lives.values() for task in tasks]
        for name in list(self._lives):
            self._end(name)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, workload: Workload, started_ms: int) -> None:
        assert workload.checks is not None  # noqa: S101 - only those are kept
        self._seen[workload.name] = {}
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._watch(workload, probe)) for probe in workload.checks.probes]
        self._lives[workload.name] = started_ms, tasks

    def _end(self, name: str) -> None:
        for task in self._lives.pop(name)[1]:
            task.cancel()
        self._seen.pop(name, None)

    async def _watch(self, workload: Workload, probe: Probe) -> None:
        period_s, kept = probe.period_ms / 1000, self._seen[workload.name]
        missing: int | None = None
        loop = asyncio.get_running_loop()
        await asyncio.sleep(min(QUICK_S, period_s) * self._random.random())
        while True:
            async with self._room:
                text, missing = await self._look(workload, probe, missing)
            before = kept.get(probe.name)
            kept[probe.name] = now = counted(before, text)
            if tells(probe, before, now):
                self._woken()
            pause_s = min(QUICK_S, period_s) if not now.good and before is None else period_s
            if before is not None and not before.good and not now.good and now.in_a_row < probe.failures:
                pause_s = min(QUICK_S * now.in_a_row, period_s)  # still starting, perhaps
            await asyncio.sleep(self._next_s(probe, loop.time(), pause_s) - loop.time())

    def _next_s(self, probe: Probe, now_s: float, pause_s: float) -> float:
        """When to look again. What runs a program costs far more than to wake up for it, so those keep apart."""
        if probe.kind is ProbeKind.EXEC:
            return now_s + pause_s * self._random.uniform(1 - GIVE, 1 + GIVE)
        return together.after(now_s, pause_s, GIVE, GIVE)

    async def _look(self, workload: Workload, probe: Probe, missing: int | None) -> tuple[str | None, int | None]:
        """What was wrong, None when nobody could tell; and the count that the next look goes on from."""
        if probe.kind is ProbeKind.STREAM:
            look = self._stream(workload)
            if look is None:
                return None, missing
            return _of_stream(probe, look, missing), look.missing
        try:
            if probe.kind is ProbeKind.GRPC:  # the others need no relay
                files.make_folder(self._folder)
            where = self._where(workload, probe, self._folder / f"{abs(hash((workload.name, probe.name))):x}")
            return (None if where is None else await probes.looked(probe, workload.params, where)), None
        except (Blind, HalftrackError, OSError):
            return None, None
        except Exception:  # no thread left, say: looked at no more, it would be for ever as it was seen last
            log.exception("probe %s of %s", probe.name, workload.name)
            return None, None


def _of_stream(probe: Probe, look: StreamLook, missing: int | None) -> str:
    bound = probe.lag_frames or look.half
    if look.lag > bound:
        return (
            f"it is more than {bound} frames behind"
            if probe.lag_frames
            else "it is behind by half of what its ring retains"
        )
    if probe.gaps >= 0 and missing is not None and look.missing - missing > probe.gaps:
        return f"more than {probe.gaps} frames were missing between two looks"
    return ""


def tells(probe: Probe, before: ProbeSeen | None, now: ProbeSeen) -> bool:
    """Can it change what anybody thinks? One more of what there were enough of cannot: a host that is well is left alone."""
    enough = probe.successes if now.good else probe.failures
    return before is None or (before.good, before.text) != (now.good, now.text) or now.in_a_row <= enough


def counted(before: ProbeSeen | None, text: str | None) -> ProbeSeen:
    good = None if text is None else not text
    in_a_row = before.in_a_row + 1 if before is not None and before.good is good else 1
    return ProbeSeen(good, in_a_row, text or "")
