"""Breaks what a swap soak's seed says, one at a time, and says when: SIGKILL to processes, cuts of the link between the hosts.

Owns the judgement that all stands again, by what the hosts put down themselves. Never looks at a frame.
"""

import json
import signal
import time
from collections.abc import Sequence

from examples.demo import evidence
from examples.demo.world import FOLLOWER, LEADER, World
from examples.lab.wire import Fault
from tests.soak.swap_faults import Kind, Trouble, troubles, victims

SOURCE, MERGED = "soak/numbers", "soak/sums"
SETTLED_S = 0.1  # what stands again has to stand so long before the next trouble's calm begins


class Breaker:
    """Of one run. `faults` is a file with a line of JSON for each trouble, written before it is made."""

    def __init__(self, world: World, seed: int, close_frames: int) -> None:
        """A copy of the output is close behind it when it lacks at most so many frames."""
        self.world = world
        self.faults = world.folder / "faults.jsonl"
        self.killed: dict[str, int] = {}
        self.cuts = 0
        self._close = close_frames
        self._troubles = troubles(seed)
        self._next: Trouble | None = None
        self._calm_since = 0.0
        self._mend_at = 0.0

    def mend(self) -> None:
        """The link is good again."""
        self.world.set_faults({"a-b": Fault()})
        self._mend_at = self._calm_since = 0.0

    def turn(self, now: float) -> None:
        """Breaks what is due, when all that was broken before stands again."""
        if self._mend_at:
            if now >= self._mend_at:
                self.mend()
            return
        if not self._whole():
            self._calm_since = 0.0
            return
        self._calm_since = self._calm_since or now
        self._next = self._next or next(self._troubles)
        if now >= self._calm_since + SETTLED_S + self._next.calm_s:
            self._break(self._next, now)
            self._next, self._calm_since = None, 0.0

    def victims(self, kind: Kind, running: Sequence[str]) -> list[str]:
        """Whom such a trouble may hit."""
        return victims(kind, running)

    def _break(self, trouble: Trouble, now: float) -> None:
        running = {name: pid for host in self.world.evidence.values() for name, pid in host.running().items()}
        if trouble.kind == "cut":
            self._mark(trouble.kind)
            self.world.set_faults({"a-b": Fault(cut=True)})
            self._mend_at = now + trouble.for_s
            self.cuts += 1
        elif trouble.kind == "agent":
            self._mark(trouble.kind)
            host = (LEADER, FOLLOWER)[int(trouble.pick * 2)]
            self.world.daemons[f"agent {host}"].kill()
            self._count("agent")
        elif found := self.victims(trouble.kind, list(running)):
            name = found[int(trouble.pick * len(found))]
            self._mark(trouble.kind)
            if evidence.kill(running[name], signal.SIGKILL):
                self._count(trouble.kind)

    def _mark(self, kind: str) -> None:
        with self.faults.open("a") as file:
            file.write(json.dumps({"at_ns": time.monotonic_ns(), "kind": kind}) + "\n")

    def _count(self, kind: str) -> None:
        self.killed[kind] = self.killed.get(kind, 0) + 1

    def _whole(self) -> bool:
        """Do all daemons and the merge run, and are two copies of the output close behind it, with all that brings them alive?"""
        leader, follower = self.world.evidence[LEADER], self.world.evidence[FOLLOWER]
        here, there, rings = leader.running(), follower.running(), leader.rings()
        if not all(daemon.up for daemon in self.world.daemons.values()) or "soak.sums.merge" not in here:
            return False
        merged = rings[MERGED].head
        copies = 0
        for name, ring in rings.items():
            member = name.replace("/", ".")
            fed = member in here or (member in there and f"{member}.from-{FOLLOWER}" in here)
            copies += "@" in name and fed and abs(merged - ring.head) < self._close
        return copies >= 2 and rings[SOURCE].head - merged < self._close
