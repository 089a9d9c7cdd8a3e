"""A host: its disk, rings, processes and driver. Crashes of the agent (agent.py) leave all of it as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from halftrack_agent.events import BeatSeen, CutSeen, HostView, InstanceSeen, RingSeen, ShadowSeen
from halftrack_dataplane.status import STARTING, STEADY
from halftrack_model.workload import RingSpec, Runs, Workload
from tests.sim.disk import Disk
from tests.sim.judging import Judging
from tests.sim.merging import Merging
from tests.sim.processes import Ended, Member, Process, Receiver, Sink, Snapshot, Source
from tests.sim.rings import SimRing

if TYPE_CHECKING:
    from tests.sim.world import World

ROLES: dict[Runs, type[Process]] = {
    Runs.SOURCE: Source,
    Runs.SINK: Sink,
    Runs.MEMBER: Member,
    Runs.MERGE: Merging,
    Runs.JUDGE: Judging,
    Runs.BRIDGE_RECEIVER: Receiver,
    Runs.BRIDGE_SERVER: Process,
}
SNAPSHOTS_KEPT = 2  # of each instance
START_MS = (30, 400)
GRACE_MS = (5, 150)


@dataclass(slots=True)
class Instance:
    """What the driver knows of one start. `life` is None once it has ended."""

    workload: Workload
    digest: str
    started_ms: int
    awake_ms: int
    life: Process | None
    exit_code: int | None = None
    signal: int | None = None
    detail: str = ""
    leaves_ms: int = -1
    frozen_ms: float = 0  # until when it does nothing
    beat_ms: int = -1  # when its loop has turned last


class SimHost:
    """One host; `name` is also its address."""

    def __init__(self, world: World, name: str, rate: int) -> None:
        self.world, self.name, self.rate, self.story = world, name, rate, world.story
        self.disk = Disk(world.rng(f"disk {name}"))
        self.rings: dict[str, SimRing] = {}
        self.all_rings: list[SimRing] = []  # also those that were removed while somebody had them mapped
        self.instances: dict[str, Instance] = {}
        self.artifacts: set[str] = set()
        self._rng = world.rng(f"host {name}")

    # ---- the driver -------------------------------------------------------------------------------------------------

    def start(self, workload: Workload) -> None:
        """A process begins; it is seen at once and useful after a while."""
        now_ms = self.world.now_ms
        awake_ms = now_ms + self._rng.randint(*START_MS)
        life = ROLES[workload.runs](self, workload)
        self.instances[workload.name] = Instance(workload, workload.digest(), now_ms, awake_ms, life)

    def reorder(self, workload: Workload) -> None:
        """It goes on with other orders."""
        instance = self.instances.get(workload.name)
        if instance is not None and instance.life is not None:
            instance.workload, instance.digest = workload, workload.digest()

    def stop(self, name: str) -> None:
        """Ask it to end."""
        instance = self.instances.get(name)
        if instance is not None and instance.life is not None and instance.leaves_ms < 0:
            instance.leaves_ms = self.world.now_ms + self._rng.randint(*GRACE_MS)

    def forget(self, name: str) -> None:
        """Drop what is left of an ended instance."""
        if name in self.instances and self.instances[name].life is None:
            del self.instances[name]

    def kill(self, name: str, unseen: bool = False) -> bool:
        """SIGKILL; `unseen` when even its shim died, so that nobody can tell how."""
        instance = self.instances.get(name)
        if instance is None or instance.life is None:
            return False
        self._end(instance, None, 9, "")
        if unseen:
            del self.instances[name]
        return True

    def create_ring(self, ring: RingSpec) -> None:
        """A no-op when it is there."""
        if ring.name not in self.rings:
            made = SimRing(ring)
            self.rings[ring.name] = made
            self.all_rings.append(made)

    def remove_ring(self, name: str) -> None:
        """Whoever has it mapped keeps it."""
        self.rings.pop(name, None)
        self.all_rings = [
            ring for ring in self.all_rings if ring.writer or ring.cursors or ring.spec.name in self.rings
        ]

    def reboot(self) -> None:
        """Power is gone and back: processes and shared memory are no more, the disk is."""
        for instance in self.instances.values():
            if instance.life is not None:
                self._end(instance, None, 9, "")
        self.instances, self.rings, self.all_rings = {}, {}, []

    # ---- time -------------------------------------------------------------------------------------------------------

    def step(self, now_ms: int) -> None:
        """A slice of time for all processes that are awake; the merge last, as it reads what the others wrote."""
        for instance in list(self.instances.values()):
            if instance.life is None:
                continue
            if 0 <= instance.leaves_ms <= now_ms:
                self._end(instance, 0, None, "", orderly=True)
                continue
            if now_ms < max(instance.awake_ms, instance.frozen_ms):
                continue
            instance.beat_ms = now_ms
            try:
                instance.life.step(now_ms)
            except Ended as end:
                self._end(instance, end.code, None, end.detail)

    def _end(
        self, instance: Instance, exit_code: int | None, signal: int | None, detail: str, orderly: bool = False
    ) -> None:
        assert instance.life is not None
        instance.life.leave(self.world.now_ms, orderly)
        instance.life, instance.exit_code, instance.signal, instance.detail = None, exit_code, signal, detail
        how = f"signal {signal}" if signal is not None else f"exit status {exit_code}"
        self.story.tell(self.name, f"{instance.workload.name} ends: {how} {detail}".rstrip())

    # ---- what others see --------------------------------------------------------------------------------------------

    def runs(self, role: Runs) -> bool:
        """Does a process of that role run and is awake?"""
        now_ms = self.world.now_ms
        return any(
            i.life is not None and i.workload.runs is role and i.awake_ms <= now_ms for i in self.instances.values()
        )

    def running(self, name: str) -> bool:
        """Does it?"""
        return name in self.instances and self.instances[name].life is not None

    def view(self, clock_ms: int) -> HostView:
        """One look, as the agent's shell takes it."""
        offset = clock_ms - self.world.now_ms
        merges = [i.life for i in self.instances.values() if isinstance(i.life, Merging)]
        shadows = {ring: ShadowSeen(*counts) for life in merges for ring, counts in life.comparison.counts.items()}
        instances = {
            name: InstanceSeen(
                name,
                i.digest,
                i.life is not None,
                i.exit_code,
                i.signal,
                i.started_ms + offset,
                i.detail,
                leaving=i.life is not None and i.leaves_ms >= 0,
            )
            for name, i in self.instances.items()
        }
        rings = {name: self._ring_seen(name, ring) for name, ring in self.rings.items()}
        judges = [i.life for i in self.instances.values() if isinstance(i.life, Judging)]
        judged = {ring: docket.evidence() for life in judges for ring, docket in life.dockets.items()}
        beats = {name: self._beat_seen(i, offset) for name, i in self.instances.items()}
        return HostView(instances, rings, shadows, frozenset(self.artifacts), judged, beats=beats)

    @staticmethod
    def _beat_seen(instance: Instance, offset: int) -> BeatSeen:
        begun = instance.beat_ms >= 0
        beats = STEADY if begun else STARTING
        return BeatSeen(str(instance.beat_ms), beats, instance.started_ms + offset if begun else 0)

    @staticmethod
    def _ring_seen(name: str, ring: SimRing) -> RingSeen:
        lags = {reader: ring.head - cursor for reader, cursor in ring.cursors.items()}
        cuts = tuple(CutSeen(c.epoch, c.generation, c.fence, c.applied_at) for c in ring.owners.cuts())
        return RingSeen(name, ring.head, ring.floor, ring.spec.slots, lags, cuts)

    def save_snapshot(self, vertex: str, snapshot: Snapshot) -> bool:
        """Atomically, or on a full disk not at all; the newest few of each instance are kept."""
        if self.disk.full:
            return False
        kept = self.disk.snapshots.setdefault(vertex, [])
        kept.append(snapshot)
        mine = [s for s in kept if s.instance == snapshot.instance]
        for old in sorted(mine, key=lambda s: s.next_in)[:-SNAPSHOTS_KEPT]:
            kept.remove(old)
        return True

    def snapshots_of(self, vertex: str) -> list[Snapshot]:
        """All of all members here."""
        return self.disk.snapshots.get(vertex, [])

    def peer_snapshots(self, vertex: str) -> list[Snapshot]:
        """What other hosts would answer now."""
        peers = [host for host in self.world.hosts.values() if host is not self]
        return [
            snapshot
            for peer in peers
            if self.world.net.both_ways(self.name, peer.name) and peer.runs(Runs.BRIDGE_SERVER)
            for snapshot in peer.snapshots_of(vertex)
        ]
