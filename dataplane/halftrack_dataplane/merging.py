"""The merge's loop: looks at the rings, asks `merge.decide`, does that one thing, and asks again.

Owns the readers of all input rings, which come and go during a swap. Decides nothing.
"""

import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from halftrack_dataplane.frames import Evicted, Frame, RingError, RingFull, reader_name
from halftrack_dataplane.merge import Apply, Comparison, Drop, Lose, Offer, Pass, Wait, decide
from halftrack_dataplane.ring import Reader, Ring, Writer
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import TICK_S, Stop, open_ring, ring_writer
from halftrack_dataplane.status import Compared, Status, StatusFile

RESCAN_S = 0.02
WAIT_S = 0.004  # on the likeliest ring, whose frame wakes us at once; only after its member's death does another wait so long
IDLE_WAIT_S = 0.01  # after a while without a frame, so that a calm stream costs next to nothing
IDLE_AFTER_S = 0.25
LIVE_GRACE_S = 3.0  # a dead writer counts as living for so long: its agent starts it again in a fraction of that


@dataclass(slots=True)
class Input:
    """One input ring, its reader, and the record that is held until it may pass or is behind."""

    name: str
    inode: int
    ring: Ring
    reader: Reader
    held: Frame | None = None
    alive_at: float = 0.0

    def look(self) -> Frame | None:
        """The next record, copied: what we hold must stay whole even if we are evicted meanwhile."""
        if self.held is None:
            self.held = self.reader.read(0)
        return self.held

    def offer(self, now: float) -> Offer:
        """As `decide` wants it."""
        frame = self.look()
        if frame is None:
            return Offer(self.name, self.ring.generation, 0, 0, False, self._live(now))
        end = frame.seq + max(frame.gap, 1)
        return Offer(self.name, self.ring.generation, frame.seq, end, frame.gap > 0, True)

    def _live(self, now: float) -> bool:
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
        self._inputs: dict[str, Input] = {}
        self._comparison = Comparison(zlib.crc32)
        self._rescan_due = 0.0
        self._decide_due = 0.0
        self._passed_at = 0.0
        self._counters = {"passed": 0, "duplicates": 0, "gap_frames": 0, "cuts": 0, "refused_rings": 0, "rejoined": 0}
        self._refused: set[tuple[str, int]] = set()
        self._likely = ""

    def run(self, stop: Stop) -> None:
        """Until asked to stop."""
        file = StatusFile(self._spec.status_path)
        try:
            while not stop.asked:
                self._step(stop)
                file.offer(self._status)
        finally:
            file.offer(self._status, last=True)
            for name in list(self._inputs):
                self._leave(name)

    def _step(self, stop: Stop) -> None:
        now = time.monotonic()
        if now >= self._rescan_due:
            self._rescan_due = now + RESCAN_S
            self._rescan()
        try:
            offers = [source.offer(now) for source in list(self._inputs.values())]
        except Evicted:
            self._rejoin()
            return
        if now < self._decide_due and not any(offer.end for offer in offers):
            self._wait("", now, stop)  # the usual case by far: nothing has come, and the table was read a moment ago
            return
        self._decide_due = now + IDLE_WAIT_S
        decision = decide(self._ring.head, self._ring.cuts(), offers)
        match decision:
            case Pass(ring, epoch):
                if (frame := self._inputs[ring].look()) and self._pass(ring, frame, epoch, stop):
                    self._inputs[ring].held = None
            case Drop(ring):
                if frame := self._inputs[ring].look():
                    self._drop(ring, frame)
                    self._inputs[ring].held = None
            case Lose(count, epoch):
                self._lose(count, epoch)
            case Apply(epoch, at_seq):
                self._apply(epoch, at_seq)
            case Wait(ring):
                self._wait(ring, now, stop)

    # ---- acting -----------------------------------------------------------------------------------------------------

    def _pass(self, ring: str, frame: Frame, epoch: int, stop: Stop) -> bool:
        while not stop.asked:
            try:
                self._writer.write(frame.payload, epoch=epoch, timestamp_ns=frame.timestamp_ns, timeout_s=TICK_S)
            except RingFull:
                continue
            self._comparison.passed(frame.seq, frame.payload)
            self._counters["passed"] += 1
            self._likely, self._passed_at = ring, time.monotonic()
            return True
        return False

    def _drop(self, ring: str, frame: Frame) -> None:
        if not frame.gap:
            self._comparison.compare(ring, frame.seq, frame.payload)
            self._counters["duplicates"] += 1

    def _lose(self, count: int, epoch: int) -> None:
        try:
            self._writer.gap(count, epoch=epoch, timeout_s=TICK_S)
        except RingFull:
            return  # decided again on the next step, by what is true then
        self._counters["gap_frames"] += count

    def _apply(self, epoch: int, at_seq: int) -> None:
        try:
            self._ring.apply_cut(epoch, at_seq)
        except RingError:
            return  # withdrawn in this very moment: the table says so on the next look
        self._counters["cuts"] += 1

    def _wait(self, ring: str, now: float, stop: Stop) -> None:
        """Sleep on one ring's futex, the one that passed last if it may pass next; the others are looked at after."""
        seconds = WAIT_S if now - self._passed_at < IDLE_AFTER_S else IDLE_WAIT_S
        likely = self._inputs.get(self._likely)
        source = likely if likely is not None and likely.held is None else self._inputs.get(ring or self._likely)
        if source is None or source.held is not None:
            stop.sleep(seconds)
            return
        try:
            source.held = source.reader.read(seconds)
        except Evicted:
            self._rejoin()

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
        self._inputs[name] = Input(name, inode, ring, reader, alive_at=time.monotonic())

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
        return Status(self._spec.name, self._spec.role, head, head, lag, dict(self._counters), shadow)


def run(spec: RunSpec, stop: Stop) -> None:
    """The role's loop."""
    ring = open_ring(spec.output_ring, stop)
    with ring_writer(ring, spec.name, stop) as writer:
        Merge(spec, ring, writer).run(stop)
