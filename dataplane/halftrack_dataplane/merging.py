"""The merge's loop: looks at the rings, asks `merge.decide`, has that one run carried out, and asks again.

Owns the readers of all input rings, which come and go during a swap. Decides nothing, and touches no frame: `merge_runs.pyx` does.
"""

import os
import time
from dataclasses import astuple, dataclass
from pathlib import Path

from halftrack_dataplane.comparing import Comparison
from halftrack_dataplane.frames import Cut, Evicted, RingError, RingFull, reader_name
from halftrack_dataplane.merge import Apply, Drop, Lose, Offer, Pass, Steady, Wait, decide, owner_of, steady
from halftrack_dataplane.merge_flow import Flow
from halftrack_dataplane.merge_runs import Runs
from halftrack_dataplane.ring import Reader, Ring, Writer
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import TICK_S, Stop, open_ring, ring_writer
from halftrack_dataplane.status import Compared, Diverged, Losses, Status, StatusFile

RESCAN_S = 0.02  # a ring that is new waits so long at most; nothing else is looked for by the clock
LIVE_GRACE_S = 3.0  # a dead writer counts as living for so long: its agent starts it again in a fraction of that


@dataclass(slots=True)
class Input:
    """One input ring, its reader, and what it has offered last."""

    name: str
    inode: int
    ring: Ring
    reader: Reader
    alive_at: float
    last: Offer
    generation: int

    def offer(self, runs: Runs, now: float) -> Offer:
        """As `decide` wants it; the same object while nothing has changed."""
        seq, end, gap = runs.look(self.reader)
        live = end > 0 or self.lives(now)
        last = self.last
        if last.end != end or last.seq != seq or last.gap is not gap or last.live is not live:
            last = self.last = Offer(self.name, self.generation, seq, end, gap, live)
        return last

    def lives(self, now: float) -> bool:
        """Does its writer live, or did it a moment ago?"""
        # Asked at most ten times a second: between that, what was true a moment ago is true enough for a grace of seconds.
        if now - self.alive_at > 0.1 and _running(self.ring.stats().writer_pid):
            self.alive_at = now
        return now - self.alive_at < LIVE_GRACE_S


def _running(pid: int) -> bool:
    if pid == 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Merge:
    """One merge: all rings of one vertex's members in, the vertex's stream out."""

    def __init__(self, spec: RunSpec, ring: Ring, writer: Writer) -> None:
        self._spec = spec
        self._ring = ring
        self._writer = writer
        self._runs = Runs(writer)
        self._flow = Flow(self._runs)
        self._inputs: dict[str, Input] = {}
        self._comparison = Comparison()
        self._cuts: tuple[Cut, ...] = ()
        self._stamp = -1
        self._rescan_due = 0.0
        self._counters = {"passed": 0, "duplicates": 0, "gap_frames": 0, "cuts": 0, "refused_rings": 0, "rejoined": 0}
        self._losses = Losses()
        self._refused: set[tuple[str, int]] = set()
        self._likely = ""

    def run(self, stop: Stop) -> None:
        """Until asked to stop."""
        file = StatusFile(self._spec.status_path)
        try:
            while not stop.asked:
                self._step()
                file.offer(self._status)
        finally:
            file.offer(self._status, last=True)
            for name in list(self._inputs):
                self._leave(name)

    def _step(self) -> None:
        now = time.monotonic()
        if now >= self._rescan_due:
            self._rescan_due = now + RESCAN_S
            self._rescan()
        try:
            stamp = self._runs.stamp()
            if stamp != self._stamp:
                self._cuts, self._stamp = self._ring.cuts(), stamp
            holds = steady(self._runs.head, self._cuts)
            if holds is not None and self._flows(holds, now):
                return
            offers = [source.offer(self._runs, now) for source in self._inputs.values()]
            self._carry_out(decide(self._runs.head, self._cuts, offers))
        except Evicted:
            self._rejoin()

    def _flows(self, holds: Steady, now: float) -> bool:
        """Let flow what needs no decision; False when there is something to decide. So the usual case costs no Python for each frame."""
        sources = list(self._inputs.values())
        owned = [source.generation == holds.generation for source in sources]
        mask = sum(1 << place for place, mine in enumerate(owned) if mine)
        likely = next((place for place, source in enumerate(sources) if source.name == self._likely), -1)
        seconds = max(self._rescan_due - now, 0.0)
        readers = [source.reader for source in sources]
        account, decides = self._flow.run(
            readers, mask, holds.since, holds.until, holds.epoch, self._stamp, likely, seconds
        )
        for place, passed, first, end, equal, different, differing in account:
            name = sources[place].name
            if passed:
                self._count_passed(name, first, end)
            else:
                counted = equal, different
                self._comparison.dropped(name, first, end, counted, differing, twins=owned[place])
                self._counters["duplicates"] += end - first
        for source in sources:
            source.lives(now)  # asked to be remembered: the grace begins when it was last seen alive
        return not decides

    # ---- acting -----------------------------------------------------------------------------------------------------

    def _carry_out(self, decision: Apply | Drop | Pass | Lose | Wait) -> None:
        match decision:
            case Pass(ring, epoch, end):
                self._pass(ring, epoch, end)
            case Drop(ring, end):
                self._drop(self._inputs[ring], end)
            case Lose(count, epoch):
                self._lose(count, epoch)
            case Apply(epoch, at_seq):
                self._apply(epoch, at_seq)
            case Wait(ring):
                self._wait(ring)

    def _pass(self, ring: str, epoch: int, end: int) -> None:
        """What the output has no room for is decided upon again, by what is true then."""
        first = self._runs.head
        try:
            self._runs.pass_run(self._inputs[ring].reader, end, epoch, self._stamp, TICK_S)
        finally:  # also when we were evicted on the way: what has passed has passed
            if self._runs.head != first:
                self._count_passed(ring, first, self._runs.head)

    def _count_passed(self, ring: str, first: int, end: int) -> None:
        self._comparison.passed(ring, first, end)
        self._counters["passed"] += end - first
        self._likely = ring

    def _drop(self, source: Input, end: int) -> None:
        seq, gap = source.last.seq, source.last.gap
        owner = owner_of(seq, self._cuts)
        equal, different, differing = self._runs.drop(source.reader, end)
        if not gap:
            twins = owner is not None and owner.generation == source.generation
            self._comparison.dropped(source.name, seq, end, (equal, different), differing, twins=twins)
            self._counters["duplicates"] += end - seq

    def _lose(self, count: int, epoch: int) -> None:
        first = self._ring.head
        try:
            if (
                first == self._ring.base_seq
            ):  # it begins there: what a power cut took of one before, the sink's place knows
                self._writer.start_at(first + count)
                return
            self._writer.gap(count, epoch=epoch, timeout_s=TICK_S)
        except RingFull:
            return  # decided again on the next step, by what is true then
        self._counters["gap_frames"] += count
        self._losses.add(first, first + count)

    def _apply(self, epoch: int, at_seq: int) -> None:
        try:
            self._ring.apply_cut(epoch, at_seq)
        except RingError:
            return  # withdrawn in this very moment: the table says so on the next look
        self._counters["cuts"] += 1
        self._likely = ""  # whoever passed until now is the likeliest no more

    def _wait(self, ring: str) -> None:
        """Until a ring that has nothing has something, or the table changes; first on the one that passed last, if it may be the next."""
        idle = {name: source.reader for name, source in self._inputs.items() if not source.last.end}
        likely = idle.get(self._likely) or idle.get(ring)
        seconds = max(self._rescan_due - time.monotonic(), 0.0)
        self._runs.wait(list(idle.values()), likely, self._stamp, seconds)

    # ---- rings that come and go -------------------------------------------------------------------------------------

    def _rescan(self) -> None:
        found = self._listed()
        for name, source in list(self._inputs.items()):
            if found.get(name) != source.inode:
                self._leave(name)
                self._comparison.forget(name)
        for name, inode in found.items():
            if name not in self._inputs:
                self._join(name, inode)

    def _listed(self) -> dict[str, int]:
        """The member rings there are, by name, with their files' inodes: a ring made anew is another one."""
        prefix = self._spec.merge_prefix
        folder, _, stem = prefix.rpartition("/")
        try:
            with os.scandir(os.path.join(self._spec.rings_dir, folder)) as entries:
                return {
                    f"{prefix}{entry.name[len(stem) : -5]}": entry.inode()
                    for entry in entries
                    if entry.name.startswith(f"{stem}.") and "@" in entry.name and entry.name.endswith(".ring")
                }
        except FileNotFoundError:
            return {}

    def _join(self, name: str, inode: int) -> None:
        try:
            ring = Ring.open(str(Path(self._spec.rings_dir) / f"{name}.ring"))
            reader = ring.reader(policy="lossless", name=reader_name(self._spec.name), start=self._ring.head)
        except RingError:
            if (name, inode) not in self._refused and len(self._refused) < 1024:
                self._refused.add((name, inode))
                self._counters["refused_rings"] += 1
            return
        nothing = Offer(name, ring.generation, 0, 0, False, True)
        self._inputs[name] = Input(name, inode, ring, reader, time.monotonic(), nothing, ring.generation)

    def _leave(self, name: str) -> None:
        source = self._inputs.pop(name)
        source.reader.close()
        source.ring.close()

    def _rejoin(self) -> None:
        """We were evicted somewhere: join all again at `expected`, which costs nothing where we were not."""
        for name in list(self._inputs):
            self._leave(name)
        self._counters["rejoined"] += 1
        self._rescan_due = 0.0

    def _status(self) -> Status:
        head = self._ring.head
        lag = max((source.reader.lag_frames for source in self._inputs.values()), default=0)
        shadow = {ring: Compared(*counts) for ring, counts in self._comparison.counts.items()}
        diverged = {ring: Diverged(*astuple(row)) for ring, row in self._comparison.diverged.items()}
        return Status(
            self._spec.name,
            self._spec.role,
            head,
            head,
            lag,
            dict(self._counters),
            shadow,
            diverged=diverged,
            lost=self._losses.ranges,
        )


def run(spec: RunSpec, stop: Stop) -> None:
    """The role's loop."""
    ring = open_ring(spec.output_ring, stop)
    with ring_writer(ring, spec.name, stop) as writer:
        Merge(spec, ring, writer).run(stop)
