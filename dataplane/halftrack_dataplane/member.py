"""A member of a pair: frames in, the user's vertex, numbered frames out; begins again after any death without a trace in
its output.

Owns the numbering: an output's number depends only on the inputs, so both members, and every life of each, agree on it.
A vertex without state (no `state_writes`) answers each frame by itself, and its output bears the input's number.
"""

import contextlib
from dataclasses import dataclass

from halftrack_dataplane import restoring
from halftrack_dataplane.frames import Evicted, Frame, RingError, RingFull
from halftrack_dataplane.ring import Reader, Ring, Writer
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import EXIT_GAP, EXIT_RING, TICK_S, Stop, Unable, load_program, open_ring, ring_writer
from halftrack_dataplane.sdk import Counting, Vertex
from halftrack_dataplane.snapshots import Snapshot, SnapshotFolder
from halftrack_dataplane.status import Status, StatusFile

SNAPSHOT_EVERY = 128  # inputs; the param `snapshot_every` says otherwise. It bounds what a restart has to recompute


@dataclass(slots=True)
class Progress:
    """A vertex and where it stands: its next input, its next output, and how many outputs it still keeps to itself."""

    vertex: Vertex
    next_in: int
    next_out: int
    suppress: int = 0

    def take(self, frame: Frame) -> tuple[int, bytes] | None:
        """Process frame `next_in`; the output with its number, if there is one that anybody may see."""
        output = self.vertex.process(frame)
        self.next_in += 1
        if output is None:
            return None
        number = self.next_out
        self.next_out += 1
        if self.suppress:
            self.suppress -= 1
            return None
        return number, output

    def pass_alone(self, frame: Frame) -> tuple[int, bytes] | None:
        """The same for a vertex without state: its output bears the input's number."""
        self.next_in, self.next_out = frame.seq + 1, frame.seq + 1
        output = self.vertex.process(frame)
        return None if output is None else (frame.seq, output)

    def snapshot(self, schema: str, release: str) -> Snapshot:
        """All that a successor needs to go on from here. Not while `suppress` > 0: that state is half another release's."""
        return Snapshot(schema, release, self.next_in, self.next_out, bytes(self.vertex.snapshot()))


class Outlet:
    """The output ring: takes numbered outputs, drops what a former life has published, declares what nobody computes."""

    def __init__(self, ring: Ring, writer: Writer, stop: Stop) -> None:
        self._ring = ring
        self._writer = writer
        self._stop = stop
        self.recomputed = 0
        self.gap_frames = 0

    def put(self, number: int, output: bytes, timestamp_ns: int) -> bool:
        """Publish output `number`; False when asked to stop before there was room."""
        if not self.advance(number):
            return False
        if number < self._ring.head:
            self.recomputed += 1
            return True
        while True:
            try:
                self._writer.write(output, timestamp_ns=timestamp_ns, timeout_s=TICK_S)
            except RingFull:
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
                if self._stop.asked:
                    return False
            else:
                self.gap_frames += number - head
                return True


class Member:
    """One life of a member."""

    def __init__(
        self, spec: RunSpec, begin: restoring.Begin, reader: Reader, outlet: Outlet, folder: SnapshotFolder
    ) -> None:
        self._spec = spec
        self._progress = Progress(begin.vertex, begin.next_in, begin.next_out, begin.suppress)
        self._reader = reader
        self._outlet = outlet
        self._folder = folder
        self._instance = restoring.instance_of(spec)
        self._every = restoring.positive(spec, "snapshot_every", SNAPSHOT_EVERY)
        self._foreign = begin.foreign  # until the first snapshot of our own, a death would throw us back on blue's
        self._message = begin.message
        self._snapshots = 0
        self._snapshots_failed = 0
        self._no_room = False

    def run(self, stop: Stop) -> None:
        """Until asked to stop; leaves a snapshot so that the next life has nothing to recompute."""
        file = StatusFile(self._spec.status_path)
        if self._foreign and self._spec.state_writes and not self._progress.suppress:
            self._save()  # before the first output: whatever ends this life, the next one begins where this one did
        try:
            while not stop.asked:
                frame = self._reader.read(TICK_S)
                if frame is not None and not self._take(frame):
                    break
                file.offer(self._status)
            else:
                if self._spec.state_writes and not self._progress.suppress:
                    self._save()
        except Evicted as error:
            raise Unable(EXIT_RING, f"{error}: it lagged too far behind, or its agent took it for dead") from None
        finally:
            file.offer(self._status, last=True)

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
            return self._outlet.advance(end)
        found = progress.take(frame) if self._spec.state_writes else progress.pass_alone(frame)
        if found is not None and not self._outlet.put(*found, frame.timestamp_ns):
            return False
        if self._spec.state_writes:
            self._save_if_due()
            return True
        return self._outlet.advance(frame.seq + 1)

    def _refuse_gap(self, first: int, end: int) -> None:
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
        """Without room on the disk the stream goes on: it needs snapshots only after a death, and an older one may still serve."""
        snapshot = self._progress.snapshot(self._spec.state_writes, self._spec.release)
        try:
            self._folder.write(self._instance, snapshot)
        except OSError as error:
            self._no_room = True
            self._snapshots_failed += 1
            self._message = f"no snapshot could be written at input {snapshot.next_in}: {error.strerror}"
            return
        self._foreign = self._no_room = False
        self._snapshots += 1

    def _status(self) -> Status:
        vertex = self._progress.vertex
        own = {
            "recomputed": self._outlet.recomputed,
            "gap_frames": self._outlet.gap_frames,
            "snapshots": self._snapshots,
            "snapshots_failed": self._snapshots_failed,
            "snapshots_damaged": self._folder.damaged,
        }
        counters = own | (vertex.counters() if isinstance(vertex, Counting) else {})
        return Status(
            self._spec.name,
            self._spec.role,
            self._progress.next_in,
            self._progress.next_out,
            self._reader.lag_frames,
            counters,
            message=self._message,
        )


def run(spec: RunSpec, stop: Stop) -> None:
    """The role's loop."""
    source, target = open_ring(spec.input_ring, stop), open_ring(spec.output_ring, stop)
    with ring_writer(target, spec.name, stop) as writer:
        make = load_program(spec.program, spec.entry)
        folder = SnapshotFolder(spec.snapshot_dir)
        reader, begin = restoring.begin(spec, make, source, target, folder, stop)
        with reader:
            Member(spec, begin, reader, Outlet(target, writer, stop), folder).run(stop)
