"""The merge's loop over model rings; what passes is decided by the real merge's core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halftrack_dataplane import merge
from halftrack_dataplane.comparing import Comparison
from halftrack_dataplane.frames import Cut, StaleCut
from halftrack_dataplane.merge import Apply, Drop, Lose, Offer, Pass
from tests.sim.processes import Process
from tests.sim.rings import SimRing

if TYPE_CHECKING:
    from tests.sim.host import SimHost

STEPS = 2_000  # in one slice; far above what a slice can bring
RUN = 64  # sequences that are offered at once
LIVE_GRACE_MS = 3_000  # as merging.LIVE_GRACE_S


class Merging(Process):
    """One life of a merge: it remembers nothing that its rings do not say."""

    def __init__(self, host: SimHost, workload: object) -> None:
        super().__init__(host, workload)  # type: ignore[arg-type]
        self._target: SimRing | None = None
        self._inputs: dict[str, SimRing] = {}
        self._cuts: tuple[Cut, ...] = ()  # nobody else writes them within a slice
        self.comparison = Comparison()

    def step(self, now_ms: int) -> None:
        self._target = self._target or self.written()
        if self._target is None:
            return
        self._rescan(self._target)
        offers = {name: self._offer(name, ring, now_ms) for name, ring in self._inputs.items()}
        self._cuts = self._target.owners.cuts()
        for _ in range(STEPS):
            touched = self._once(self._target, list(offers.values()))
            if touched is None:
                break
            if touched:
                offers[touched] = self._offer(touched, self._inputs[touched], now_ms)

    def _once(self, target: SimRing, offers: list[Offer]) -> str | None:
        """One decision; the ring whose offer has changed, or None when there is nothing more to do."""
        decision = merge.decide(target.head, self._cuts, offers)
        watch = self.host.world.watch
        match decision:
            case Pass(ring, epoch, end):
                source, first = self._inputs[ring], target.head
                for seq in range(first, end):
                    if not target.room():
                        return None if seq == first else ring
                    value = source.values[seq]
                    watch.passed(self.host, target, source, seq, value, epoch)
                    target.put(value)
                    self.comparison.passed(ring, seq, seq + 1)
                    source.cursors[self.name] = seq + 1
                return ring
            case Drop(ring, end):
                source = self._inputs[ring]
                for seq in range(source.cursors[self.name], end):
                    self._compare(target, ring, source, seq)
                source.cursors[self.name] = end
                return ring
            case Lose(count, epoch):
                watch.lost(self.host, target, count, epoch)
                target.gap(target.head + count)
                return ""
            case Apply(epoch, at_seq):
                try:
                    target.owners.apply(epoch, at_seq)
                except StaleCut:
                    return None
                watch.applied(self.host, target, epoch, at_seq)
                self._cuts = target.owners.cuts()
                return ""
            case _:
                return None

    def _compare(self, target: SimRing, ring: str, source: SimRing, seq: int) -> None:
        """By value, where the real one has digests; what the output no longer holds is not compared there either."""
        if seq not in source.values or seq not in target.values:
            return
        own, passed = source.values[seq], target.values[seq]
        owner = merge.owner_of(seq, self._cuts)
        twins = owner is not None and owner.generation == source.generation
        counted, differing = ((1, 0), ()) if own == passed else ((0, 1), ((seq, hash(own), hash(passed)),))
        self.comparison.dropped(ring, seq, seq + 1, counted, differing, twins=twins)

    def _rescan(self, target: SimRing) -> None:
        prefix = f"{self.workload.writes_ring}."
        found = {name: ring for name, ring in self.host.rings.items() if name.startswith(prefix) and "@" in name}
        for name, ring in list(self._inputs.items()):
            if found.get(name) is not ring:
                ring.cursors.pop(self.name, None)
                self._inputs.pop(name)
                self.comparison.forget(name)
        for name, ring in sorted(found.items()):
            if name not in self._inputs:
                self._inputs[name] = ring
                ring.cursors[self.name] = min(max(target.head, ring.floor), ring.head)

    def _offer(self, name: str, ring: SimRing, now_ms: int) -> Offer:
        seq = ring.cursors[self.name] = max(ring.cursors[self.name], ring.floor)
        if seq >= ring.head:
            live = ring.writer is not None or now_ms - ring.left_ms < LIVE_GRACE_MS
            return Offer(name, ring.generation, 0, 0, False, live)
        frames = seq in ring.values
        end = seq + 1
        while end < min(ring.head, seq + RUN) and (end in ring.values) is frames:
            end += 1
        return Offer(name, ring.generation, seq, end, not frames, True)
