"""A sink: the frames of a ring, in order and once each, into the user's durable place.

Owns the order between frames and cuts, and the patience with a place that is away. Never decides what is lost: it hands declared
gaps on, and makes one of what the ring no longer holds.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Literal

from halftrack_dataplane.beginning import begins_at
from halftrack_dataplane.frames import Evicted, Frame, reader_name
from halftrack_dataplane.ring import Reader, Ring
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import TICK_S, Stop, load_program, open_ring
from halftrack_dataplane.sdk import Away, Counting, Cut, Sink
from halftrack_dataplane.status import BEYOND, Losses, Status, StatusFile

FLUSH_S = 0.1
ASK_AGAIN_S = 0.05  # a sink that is away: short, since it paces its own attempts


class Feed:
    """One sink and its ring."""

    def __init__(self, spec: RunSpec, ring: Ring, sink: Sink, stop: Stop) -> None:
        self._spec = spec
        self._ring = ring
        self._sink = sink
        self._stop = stop
        self._file = StatusFile(spec.status_path)
        self._message = ""
        self._next = 0
        self._cuts: tuple[Cut, ...] | None = None
        self._epoch = -1
        self._flush_due = 0.0
        self._gap_frames = 0
        self._missed = 0
        self._losses = Losses()
        self._rejoined = 0
        self._away = 0
        self._lag_frames = 0

    def run(self) -> None:
        """Until asked to stop; what was consumed is flushed then."""
        with self._join(
            "oldest"
        ):  # what is there stays there until the sink's place is found and has said what it lacks
            if not self._done(self._begin):
                return
            reader = self._join(self._next)
        try:
            self._tell_cuts()
            while not self._stop.asked:
                try:
                    frame = reader.read(TICK_S / 2)
                except Evicted:
                    reader.close()
                    reader = self._join(self._next)
                    self._rejoined += 1
                    continue
                self._lag_frames = reader.lag_frames
                if frame is not None and not self._take(frame):
                    break
                self._flush_if_due()
                self._file.offer(self._status)
        finally:
            with contextlib.suppress(Away):  # what is not durable will be asked for again
                self._sink.flush()
            self._file.offer(self._status, last=True)
            reader.close()

    def _begin(self) -> None:
        self._next = self._sink.next_seq()

    def _done(self, act: Callable[[], None]) -> bool:
        """Has the sink do it, as often as it takes; False when asked to stop before."""
        while True:
            try:
                act()
            except Away as error:
                self._message = str(error)
                self._away += 1
            else:
                self._message = ""
                return True
            self._file.offer(self._status)
            if self._stop.asked:
                return False
            self._stop.sleep(ASK_AGAIN_S)

    def _join(self, start: int | Literal["oldest"]) -> Reader:
        return self._ring.reader(policy="lossless", name=reader_name(self._spec.name), start=start)

    def _take(self, frame: Frame) -> bool:
        """False when asked to stop before the sink could take it."""
        if frame.seq > self._next:
            lost = Frame(self._next, frame.epoch, frame.timestamp_ns, b"", frame.seq - self._next)
            if not self._lose(lost):
                return False
        if frame.epoch != self._epoch:  # who owns this frame is in the table by now: the merge applies, then passes
            self._tell_cuts()
            self._epoch = frame.epoch
        if frame.gap:
            return self._lose(frame)
        if not self._done(lambda: self._sink.consume(frame)):
            return False
        self._next = frame.seq + 1
        return True

    def _lose(self, gap: Frame) -> bool:
        if not self._done(lambda: self._sink.consume(gap)):
            return False
        end = gap.seq + gap.gap
        if self._next and end == begins_at(
            self._ring
        ):  # the stream was made anew: what we lack of the one before, nobody else knows
            self._missed += end - self._next
            self._losses.add(self._next, end)
        self._next = end
        self._gap_frames += gap.gap
        return True

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
            self._done(self._sink.flush)

    def _status(self) -> Status:
        own = {"gap_frames": self._gap_frames, "missed": self._missed, "rejoined": self._rejoined, "away": self._away}
        own[BEYOND] = self._next if self._ring.head < self._next else 0
        counters = own | (self._sink.counters() if isinstance(self._sink, Counting) else {})
        name, role = self._spec.name, self._spec.role
        message, lost = self._message, self._losses.ranges
        return Status(name, role, self._next, self._next, self._lag_frames, counters, message=message, lost=lost)


def run(spec: RunSpec, stop: Stop) -> None:
    """The role's loop."""
    ring = open_ring(spec.input_ring, stop)
    sink: Sink = load_program(spec.program, spec.entry)(spec.params, spec.data_dir)
    Feed(spec, ring, sink, stop).run()
