"""A sink: the frames of a ring, in order and once each, into the user's durable place.

Owns the order between frames and cuts. Never decides what is lost: it hands declared gaps on, and makes one of what the ring
no longer holds.
"""

import time

from halftrack_dataplane.frames import Evicted, Frame, reader_name
from halftrack_dataplane.ring import Reader, Ring
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import TICK_S, Stop, load_program, open_ring
from halftrack_dataplane.sdk import Counting, Cut, Sink
from halftrack_dataplane.status import Status, StatusFile

FLUSH_S = 0.1


class Feed:
    """One sink and its ring."""

    def __init__(self, spec: RunSpec, ring: Ring, sink: Sink) -> None:
        self._spec = spec
        self._ring = ring
        self._sink = sink
        self._next = sink.next_seq()
        self._cuts: tuple[Cut, ...] | None = None
        self._epoch = -1
        self._flush_due = 0.0
        self._gap_frames = 0
        self._rejoined = 0
        self._reader = self._join()

    def run(self, stop: Stop) -> None:
        """Until asked to stop; what was consumed is flushed then."""
        file = StatusFile(self._spec.status_path)
        self._tell_cuts()
        try:
            while not stop.asked:
                try:
                    frame = self._reader.read(TICK_S / 2)
                except Evicted:
                    self._reader.close()
                    self._reader = self._join()
                    self._rejoined += 1
                    continue
                if frame is not None:
                    self._take(frame)
                self._flush_if_due()
                file.offer(self._status)
        finally:
            self._sink.flush()
            file.offer(self._status, last=True)
            self._reader.close()

    def _join(self) -> Reader:
        return self._ring.reader(policy="lossless", name=reader_name(self._spec.name), start=self._next)

    def _take(self, frame: Frame) -> None:
        if frame.seq > self._next:
            self._lose(Frame(self._next, frame.epoch, frame.timestamp_ns, b"", frame.seq - self._next))
        if frame.epoch != self._epoch:  # who owns this frame is in the table by now: the merge applies, then passes
            self._tell_cuts()
            self._epoch = frame.epoch
        if frame.gap:
            self._lose(frame)
            return
        self._sink.consume(frame)
        self._next = frame.seq + 1

    def _lose(self, gap: Frame) -> None:
        self._sink.consume(gap)
        self._next = gap.seq + gap.gap
        self._gap_frames += gap.gap

    def _tell_cuts(self) -> None:
        cuts = self._ring.cuts()
        if cuts != self._cuts:
            self._cuts = cuts
            self._sink.cuts(cuts)

    def _flush_if_due(self) -> None:
        now = time.monotonic()
        if now >= self._flush_due:
            self._flush_due = now + FLUSH_S / 2  # half, so that a long `consume` or wait still keeps the promise
            self._tell_cuts()
            self._sink.flush()

    def _status(self) -> Status:
        own = {"gap_frames": self._gap_frames, "rejoined": self._rejoined}
        counters = own | (self._sink.counters() if isinstance(self._sink, Counting) else {})
        return Status(self._spec.name, self._spec.role, self._next, self._next, self._reader.lag_frames, counters)


def run(spec: RunSpec, stop: Stop) -> None:
    """The role's loop."""
    ring = open_ring(spec.input_ring, stop)
    sink: Sink = load_program(spec.program, spec.entry)(spec.params, spec.data_dir)
    Feed(spec, ring, sink).run(stop)
