"""A member of a pair: frames in, the user's vertex, numbered frames out; begins again after any death without a trace in
its output.

Owns the numbering: an output's number depends only on the inputs, so both members, and every life of each, agree on it.
A vertex without state (no `state_writes`) answers each frame by itself, and its output bears the input's number. One with
state may answer a frame with several outputs: they get the next numbers, and since snapshots are taken between frames, a life
that ended among them computes all of them again and drops those that are published.
A frame that says "none here" (an inlet's, of a part that is not this vertex's) is counted and never processed: no loss, no output of its own.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from halftrack_dataplane import replaying, restarting, restoring
from halftrack_dataplane.frames import Evicted, Frame, RingError, RingFull
from halftrack_dataplane.kept import Kept
from halftrack_dataplane.numbering import Numbering
from halftrack_dataplane.parts import NONE, is_none
from halftrack_dataplane.ring import Reader, Ring, Writer
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import EXIT_GAP, EXIT_RING, TICK_S, Stop, Unable, load_program, open_ring, ring_writer
from halftrack_dataplane.sdk import Counting, Vertex
from halftrack_dataplane.snapshots import Snapshot, SnapshotFolder
from halftrack_dataplane.status import STARTING, Losses, Status, StatusFile

SNAPSHOT_EVERY = 128  # inputs; the param `snapshot_every` says otherwise. It bounds what a restart has to recompute


@dataclass(slots=True)
class Progress:
    """A vertex and where it stands: its next input, its next output, and how many outputs it still keeps to itself."""

    vertex: Vertex
    next_in: int
    next_out: int
    suppress: int = 0

    def take(self, frame: Frame) -> list[tuple[int, bytes]]:
        """Process frame `next_in`; the outputs that anybody may see, with their numbers."""
        outputs = _listed(self.vertex.process(frame))
        self.next_in += 1
        hidden = min(self.suppress, len(outputs))
        numbered = list(enumerate(outputs, self.next_out))[hidden:]
        self.suppress -= hidden
        self.next_out += len(outputs)
        return numbered

    def pass_alone(self, frame: Frame) -> list[tuple[int, bytes]]:
        """The same for a vertex without state: its output bears the input's number, so there can be one only."""
        self.next_in, self.next_out = frame.seq + 1, frame.seq + 1
        outputs = _listed(self.vertex.process(frame))
        if len(outputs) > 1:
            raise TypeError(
                f"process returned {len(outputs)} outputs for frame {frame.seq}: a vertex without state has one number a frame; "
                "return at most one, or give its release a state (`state: writes`), so that its outputs are counted"
            )
        return [(frame.seq, output) for output in outputs]

    def pass_none(self, frame: Frame, counted: bool) -> list[tuple[int, bytes]]:
        """The same for a frame that says "none here": so does its output, unless outputs are `counted` by themselves."""
        self.next_in = frame.seq + 1
        if counted:
            return []
        self.next_out = self.next_in
        return [(frame.seq, NONE)]

    def snapshot(self, schema: str, release: str) -> Snapshot:
        """All that a successor needs to go on from here. Not while `suppress` > 0: that state is half another release's."""
        return Snapshot(schema, release, self.next_in, self.next_out, self.vertex.snapshot())


def _listed(output: bytes | Sequence[bytes] | None) -> Sequence[bytes]:
    if output is None:
        return ()
    return output if isinstance(output, (list, tuple)) else (output,)


class Outlet:
    """The output ring: takes numbered outputs, drops what a former life has published, declares what nobody computes."""

    def __init__(self, ring: Ring, writer: Writer, stop: Stop, numbering: Numbering | None = None) -> None:
        self._ring = ring
        self._writer = writer
        self._stop = stop
        self.numbering = numbering or Numbering("")
        self.recomputed = 0
        self.gap_frames = 0
        self.losses = Losses()
        self.beat: Callable[[], None] = lambda: None  # said while there is no room: to wait is not to hang

    @property
    def fresh(self) -> bool:
        """Has nobody ever published anything here? Then the ring may begin wherever there is a first output."""
        return self._ring.head == 0

    def put(self, number: int, output: bytes, timestamp_ns: int) -> bool:
        """Publish output `number`; False when asked to stop before there was room."""
        if not self.advance(number):
            return False
        if number < self._ring.head:
            self.recomputed += 1
            return True
        self.numbering.give(number)
        while True:
            try:
                self._writer.write(output, timestamp_ns=timestamp_ns, timeout_s=TICK_S)
            except RingFull:
                self.beat()
                if self._stop.asked:
                    return False
            else:
                return True

    def advance(self, number: int) -> bool:
        """Make `number` the next one that the ring takes, unless it is past it already; False when asked to stop before."""
        head = self._ring.head
        if number <= head:
            return True
        if head == self._ring.tail:
            with contextlib.suppress(RingError):  # not new, but emptied for a frame that a death has interrupted
                self._writer.start_at(number)
                return True
        while True:
            try:
                self._writer.gap(number - head, timeout_s=TICK_S)
            except RingFull:
                self.beat()
                if self._stop.asked:
                    return False
            else:
                self.gap_frames += number - head
                self.losses.add(head, number)
                return True


class Member:
    """One life of a member. `run` is all of it; who rehearses lives calls `arrive`, `step` and `depart` in its place."""

    def __init__(
        self,
        spec: RunSpec,
        begin: restoring.Begin,
        source: Ring,
        reader: Reader,
        outlet: Outlet,
        folder: SnapshotFolder,
    ) -> None:
        self._spec = spec
        self._progress = Progress(begin.vertex, begin.next_in, begin.next_out, begin.suppress)
        self._reader = reader
        self._kept = Kept(source, spec.name)
        self._outlet = outlet
        self._folder = folder
        self._instance = restoring.instance_of(spec)
        self._every = restoring.positive(spec, "snapshot_every", SNAPSHOT_EVERY)
        self._foreign = begin.foreign  # until the first snapshot of our own, a death would throw us back on blue's
        self._message = begin.message
        self._young = folder.young(self._instance)
        self._snapshots = 0
        self._snapshots_failed = 0
        self._no_room = False
        self._window = restoring.window_of(spec)
        self._warmth = replaying.Warmth()
        self._cold = 0  # outputs that were computed before the state was complete
        self._pause_ns = self._most_pause_ns = 0  # for which the stream waited, last and at most, for a snapshot

    def run(self, stop: Stop) -> None:
        """Until asked to stop; leaves a snapshot so that the next life has nothing to recompute."""
        file = StatusFile(self._spec.status_path)
        self._outlet.beat = lambda: file.offer(self._status)
        if self._foreign:
            file.offer(self._status)  # whose state it began from, should this life be a short one
        try:
            self.arrive()
            while not stop.asked:
                if not self.step(TICK_S):
                    break
                file.offer(self._status)
            else:
                self.depart()
        except Evicted as error:
            raise Unable(EXIT_RING, f"{error}: it lagged too far behind, or its agent took it for dead") from None
        finally:
            self.close()
            file.offer(self._status, last=True)

    def close(self) -> None:
        """Hold nothing of the input any more."""
        self._kept.let_go()

    def arrive(self) -> None:
        """Before the first output: whatever ends a life that began from another's state, the next begins here."""
        if self._spec.state_writes:
            self._kept.since(self._progress.next_in)  # whoever comes next begins where this life did, until it saves
            if self._foreign and not self._progress.suppress:
                self._save()
        if not self._outlet.fresh and not self._progress.suppress:
            # What this life cannot bring is said at once: the merge waits to hear of a loss from every member.
            self._outlet.advance(self._progress.next_out)

    def step(self, timeout_s: float) -> bool:
        """Take the next frame in if one comes in time; False when asked to stop before there was room for its outputs."""
        frame = self._reader.read(timeout_s)
        return frame is None or self._take(frame)

    def depart(self) -> None:
        """Leave a snapshot in an orderly end."""
        if self._spec.state_writes and not self._progress.suppress:
            self._save()

    def _take(self, frame: Frame) -> bool:
        progress = self._progress
        end = frame.seq + max(frame.gap, 1)
        if end <= progress.next_in:
            return True  # begun from a peer's snapshot that is ahead of this host's replica
        lost = frame.gap or frame.seq > progress.next_in
        if lost and self._spec.state_writes:
            self._refuse_gap(progress.next_in, end if frame.gap else frame.seq)
        if frame.gap:
            progress.next_in, progress.next_out = end, end
            self._warmth = replaying.Warmth()
            return self._outlet.advance(end)
        found = self._processed(frame)
        if found is None:
            return self._outlet.fresh or self._outlet.advance(frame.seq + 1)
        for number, output in found:
            if not self._outlet.put(number, output, frame.timestamp_ns):
                return False
        if self._spec.state_writes:
            self._kept.passed(progress.next_in, len(frame.payload))
            self._save_if_due()
            return True
        return self._outlet.advance(frame.seq + 1)

    def _processed(self, frame: Frame) -> list[tuple[int, bytes]] | None:
        """The outputs of this frame with their numbers; None while the window that its state needs is not complete."""
        progress, none = self._progress, is_none(frame.payload)
        if self._window is not None:
            self._warmth = self._warmth.met(frame.seq, frame.timestamp_ns)
            if not self._warmth.complete(self._window, frame.seq, frame.timestamp_ns):
                progress.pass_none(frame, False) if none else progress.pass_alone(frame)
                self._cold += 1
                return None
        counted = bool(self._spec.state_writes)
        if none:
            return progress.pass_none(frame, counted)
        return progress.take(frame) if counted else progress.pass_alone(frame)

    def _refuse_gap(self, first: int, end: int) -> None:
        if first and not self._progress.suppress:
            self._save()  # should nobody have a state of behind the gap, the next life resumes all that this one knows
        with contextlib.suppress(
            OSError
        ):  # without room for the mark, the next life meets the gap once more, and says so again
            self._folder.mark_gap(self._instance, end)
        raise Unable(
            EXIT_GAP,
            f"input frames {first} to {end - 1} are declared lost, and the state would be wrong from there on; "
            "start again to go on from another member's snapshot of after the gap",
        )

    def _save_if_due(self) -> None:
        progress = self._progress
        at_once = self._foreign and not self._no_room
        if not progress.suppress and (at_once or progress.next_in % self._every == 0):
            self._save()

    def _save(self) -> None:
        """Without room for it the stream goes on: it needs snapshots only after a death, and an older one may still serve."""
        began_ns = time.monotonic_ns()
        snapshot = self._progress.snapshot(self._spec.state_writes, self._spec.release)
        try:
            self._folder.write(self._instance, snapshot)
            for form, way in enumerate(
                self._spec.state_outward, 1
            ):  # whoever goes back to a release before begins from these
                state = restoring.converted(self._spec, way, snapshot.state)
                self._folder.write(self._instance, replace(snapshot, schema=way.schema, state=state), form)
        except OSError as error:
            self._no_room = True
            self._snapshots_failed += 1
            self._message = f"no snapshot could be written at input {snapshot.next_in}: {error.strerror}"
            return
        self._kept.since(snapshot.next_in)
        self._foreign = self._no_room = False
        self._snapshots += 1
        self._pause_ns = time.monotonic_ns() - began_ns
        self._most_pause_ns = max(self._most_pause_ns, self._pause_ns)

    def _status(self) -> Status:
        vertex = self._progress.vertex
        own = {
            "recomputed": self._outlet.recomputed,
            "gap_frames": self._outlet.gap_frames,
            "snapshots": self._snapshots,
            "snapshots_failed": self._snapshots_failed,
            "snapshots_damaged": self._folder.damaged,
            "snapshot_pause_us": self._pause_ns // 1000,
            "snapshot_pause_us_most": self._most_pause_ns // 1000,
            "cold": self._cold,
            "state_lost": self._young.losses,
            "young_from": self._young.first_out,
            "lost": self._outlet.gap_frames if restoring.alone(self._spec) else 0,  # of a pair the merge tells
        }
        counters = own | (vertex.counters() if isinstance(vertex, Counting) else {})
        return Status(
            self._spec.name,
            self._spec.role,
            self._progress.next_in,
            self._progress.next_out,
            self._reader.lag_frames,
            counters,
            message=self._young.text() or self._message or self._outlet.numbering.trouble,
            lost=self._outlet.losses.ranges,
        )


def run(spec: RunSpec, stop: Stop) -> None:
    """The role's loop."""
    source, target = open_ring(spec.input_ring, stop), open_ring(spec.output_ring, stop)
    counted = spec.numbers_path if spec.state_writes else ""
    with ring_writer(target, spec.name, stop) as writer, Numbering(counted, target) as numbering:
        make = load_program(spec.program, spec.entry)
        folder = SnapshotFolder(spec.snapshot_dir)
        outlet, file = Outlet(target, writer, stop, numbering), StatusFile(spec.status_path, STARTING)
        outlet.beat = lambda: file.offer(lambda: Status(spec.name, spec.role, message="it is about to begin"))
        reader, begin = restarting.begin(spec, make, source, target, folder, stop, outlet.advance, numbering)
        with reader:
            Member(spec, begin, source, reader, outlet, folder).run(stop)
