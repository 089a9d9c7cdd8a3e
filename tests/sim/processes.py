"""The processes of the data plane as small exact models, stepped in time slices: source, bridge receiver, member, sink.

A member keeps state: it weighs and sums `BLOCK` inputs for one output, begins from snapshots as `halftrack_dataplane.restoring`
does, and suppresses an output that would mix two releases. The merge is in merging.py, and decides by the real merge's core.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from halftrack_dataplane.kept import SHARE
from halftrack_model.release import OnStateLoss
from halftrack_model.workload import Runs, Workload
from tests.sim import resuming
from tests.sim.rings import SimRing

if TYPE_CHECKING:
    from tests.sim.host import SimHost

SLICE_MS = 20
BLOCK = 2  # inputs for one output
SNAPSHOT_EVERY = 15  # inputs; odd, so that half of the snapshots are taken in mid-block
PEER_WAIT_MS = 10_000
RESUMED = "what was left"  # the state of who goes on without some inputs


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A member's state on its host's disk."""

    instance: str
    version: str
    next_in: int
    next_out: int
    total: int


@cache
def weight(version: str) -> int:
    """What distinguishes the outputs of two releases."""
    major, minor, patch = version.split(".")
    return int(major) * 10_000 + int(minor) * 100 + int(patch)


def reading(seq: int) -> int:
    """The instrument's frame `seq`."""
    return seq * 7 + 3


@cache
def right_output(version: str, seq: int) -> int:
    """What output `seq` must be in that release."""
    return weight(version) * sum(reading(seq * BLOCK + n) for n in range(BLOCK))


class Ended(Exception):  # noqa: N818 - reads as what it is where it is raised
    """The process ends by itself."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


class Process:
    """One life of a workload. `step` is called for each slice of time while it lives."""

    def __init__(self, host: SimHost, workload: Workload) -> None:
        self.host, self.workload, self.name = host, workload, workload.name

    def step(self, now_ms: int) -> None:
        """Do what fits in one slice."""

    def leave(self, now_ms: int, orderly: bool) -> None:
        """It ends; `orderly` when it was asked to."""
        for ring in self.host.all_rings:
            ring.cursors.pop(self.name, None)
            if ring.writer is self:
                ring.writer, ring.left_ms = None, now_ms

    def written(self) -> SimRing | None:
        """The ring that it writes, once it is there and nobody else does."""
        ring = self.host.rings.get(self.workload.writes_ring)
        if ring is not None and ring.writer is None:
            ring.writer = self
        return ring if ring is not None and ring.writer is self else None


class Source(Process):
    """The instrument: frames at a steady rate; it waits for its slowest lossless reader."""

    _target: SimRing | None = None
    _owed = 0.0

    def step(self, now_ms: int) -> None:
        self._target = self._target or self.written()
        if self._target is None:
            return
        self._owed = min(self._owed + self.host.rate * SLICE_MS / 1000, self.host.rate)
        while self._owed >= 1 and self._target.room():
            self._target.put(reading(self._target.head))
            self._owed -= 1


class Sink(Process):
    """Takes what the merge passed. Its place is durable."""

    def step(self, now_ms: int) -> None:
        ring = self.host.rings.get(self.workload.reads_ring)
        if ring is not None:
            ring.cursors[self.name] = ring.head


class Receiver(Process):
    """Writes the replica of a ring on another host, resuming at its own head after every break."""

    def __init__(self, host: SimHost, workload: Workload) -> None:
        super().__init__(host, workload)
        self._flight: deque[tuple[int, SimRing, int]] = deque()
        self._target: SimRing | None = None

    def step(self, now_ms: int) -> None:
        self._target = self._target or self.written()
        peer = self.host.world.hosts[self.workload.from_host]
        source = peer.rings.get(self.workload.reads_ring)
        target = self._target
        if target is None or source is None or not self._connected(peer):
            self._flight.clear()
            return
        delay_ms = self.host.world.net.condition(peer.name, self.host.name).delay_ms[1]
        self._flight.append((now_ms + delay_ms, source, source.head))
        while self._flight and self._flight[0][0] <= now_ms:
            _, there, end = self._flight.popleft()
            if there is source:
                self._copy(source, target, end)

    def _connected(self, peer: SimHost) -> bool:
        return self.host.world.net.both_ways(self.host.name, peer.name) and peer.runs(Runs.BRIDGE_SERVER)

    @staticmethod
    def _copy(source: SimRing, target: SimRing, end: int) -> None:
        if target.head < source.floor:
            target.gap(source.floor)  # what the buffer no longer has is declared
        while target.head < end and target.room():
            value = source.values.get(target.head)
            if value is None:
                target.gap(target.head + 1)
            else:
                target.put(value)


class Member(Process):
    """A member of a pair."""

    def __init__(self, host: SimHost, workload: Workload) -> None:
        super().__init__(host, workload)
        assert workload.member is not None
        self._instance = f"{workload.member.member}@{workload.version}"
        self._vertex = f"{workload.member.graph}/{workload.member.vertex}"
        self._source: SimRing | None = None
        self._target: SimRing | None = None
        self._state = Snapshot("", "", 0, 0, 0)
        self._weight = weight(workload.version) + (host.world.wrong and workload.member.generation > 1)
        self._suppress = 0
        self._foreign = False
        self._kept: int | None = None  # as kept.py: the input behind the newest snapshot, for whoever begins from that
        self._began_ms = -1
        self.takes = math.ceil(host.rate * SLICE_MS / 1000) * 4  # catches up at four times the rate

    def step(self, now_ms: int) -> None:
        if self._source is None and not self._begin(now_ms):
            return
        assert self._source is not None
        for _ in range(self.takes):
            if not self._take():
                break
        if self._kept is not None and self._state.next_in - self._kept > self._source.spec.slots // SHARE:
            self._kept = None
        held = self._state.next_in if self._kept is None else self._kept
        self._source.cursors[self.name] = max(held, self._source.floor)

    def leave(self, now_ms: int, orderly: bool) -> None:
        if orderly and self._source is not None and not self._suppress:
            self._save()
        super().leave(now_ms, orderly)

    def _begin(self, now_ms: int) -> bool:
        self._began_ms = now_ms if self._began_ms < 0 else self._began_ms
        source, target = self.host.rings.get(self.workload.reads_ring), self.written()
        if source is None or target is None:
            if now_ms - self._began_ms >= PEER_WAIT_MS:
                raise Ended(4, "no ring")
            return False
        found = self._candidates(source, target) or self._resumed(source)
        if not found:
            if now_ms - self._began_ms >= PEER_WAIT_MS:
                raise Ended(3, "nothing to begin from")
            return False
        begin = found[0]
        same = begin.version in ("", self.workload.version)
        self._state, self._foreign = begin, not same or begin.instance == RESUMED
        self._suppress = 0 if same else self._mixed(begin)
        self._source, self._target, self._kept = source, target, begin.next_in
        self.host.story.tell(
            self.host.name, f"{self.name} begins at input {begin.next_in} from {begin.instance or 'nothing'}"
        )
        return True

    def _candidates(self, source: SimRing, target: SimRing) -> list[Snapshot]:
        """As restoring.py has it: own release first; of each kind, those first that leave no gap in our output."""

        def ranked(snapshots: list[Snapshot], ahead: int) -> list[Snapshot]:
            def rank(snapshot: Snapshot) -> tuple[bool, bool, int]:
                same = snapshot.version == self.workload.version
                first = snapshot.next_out + (0 if same else self._mixed(snapshot))
                late = not target.fresh and first > target.head
                return not same, late, -snapshot.next_in

            usable = [s for s in snapshots if source.floor <= s.next_in <= source.head + ahead]
            return sorted(usable, key=rank)

        local = ranked(self.host.snapshots_of(self._vertex), 0)
        peers = [] if local else ranked(self.host.peer_snapshots(self._vertex), source.spec.slots)
        return [*local, *peers, *([Snapshot("", "", 0, 0, 0)] if source.floor == 0 else [])]

    def _resumed(self, source: SimRing) -> list[Snapshot]:
        """Without the inputs that are missing, from the oldest block that is there."""
        if self.workload.state.on_loss is not OnStateLoss.RESUME or resuming.refusal(self.host, self.workload):
            return []
        block = -(-source.floor // BLOCK)
        self.host.world.watch.resumed(self.host, self.workload, block)
        return [Snapshot(RESUMED, self.workload.version, block * BLOCK, block, 0)]

    @property
    def begun(self) -> bool:
        """Has it a state?"""
        return self._source is not None

    @staticmethod
    def _mixed(snapshot: Snapshot) -> int:
        return int(snapshot.next_in % BLOCK != 0)

    def _take(self) -> bool:
        source, target, state = self._source, self._target, self._state
        assert source is not None
        assert target is not None
        seq = state.next_in
        if seq >= source.head or not target.room():
            return False
        value = source.values.get(seq)
        if value is None:
            raise Ended(5, f"input {seq} is lost")
        if self.host.world.breaks(self.workload, seq):
            raise Ended(1, f"ValueError: frame {seq}")
        total, number = state.total + value * self._weight, state.next_out
        if seq % BLOCK == BLOCK - 1:
            if self._suppress:
                self._suppress -= 1
            else:
                self._publish(target, number, total)
            total, number = 0, number + 1
        self._state = Snapshot(self._instance, self.workload.version, seq + 1, number, total)
        if not self._suppress and (self._foreign or (seq + 1) % SNAPSHOT_EVERY == 0):
            self._save()
        return True

    @staticmethod
    def _publish(target: SimRing, number: int, total: int) -> None:
        if number > target.head:
            target.gap(number)
        if number == target.head:
            target.put(total)

    def _save(self) -> None:
        self._foreign = False
        if self.host.save_snapshot(self._vertex, self._state):
            self._kept = self._state.next_in
