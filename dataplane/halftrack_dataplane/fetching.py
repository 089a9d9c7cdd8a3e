"""A source whose frames have numbers of their own outside: they are fetched from where the ring ends, and nothing is taken twice or left out.

Owns the way of fetched frames into the ring and the patience with a place that is away. Never invents a number: what its source
declares lost is a gap, and a frame that is not the next is the source's mistake.
"""

import time
from collections.abc import Callable, Sequence

from halftrack_dataplane.arrivals import Stamp
from halftrack_dataplane.frames import Frame, RingError, RingFull
from halftrack_dataplane.ring import Ring, Writer
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import TICK_S, Stop, ring_writer
from halftrack_dataplane.sdk import Away, Counting, Fetched
from halftrack_dataplane.status import Status, StatusFile

ASK_AGAIN_S = 0.05  # a source that is away: short, since it paces its own attempts


class Fetch:
    """One source and its ring."""

    def __init__(self, spec: RunSpec, ring: Ring, writer: Writer, source: Fetched, stop: Stop) -> None:
        self._spec = spec
        self._ring = ring
        self._writer = writer
        self._source = source
        self._stop = stop
        self._file = StatusFile(spec.status_path)
        self._message = ""
        self._fresh = True  # as far as this process knows; the ring knows better
        self._bytes = 0
        self._gap_frames = 0
        self._away = 0

    def run(self, wait_s: Callable[[float, int], float]) -> None:
        """Until asked to stop. `wait_s` is the pace: how long a frame of so many bytes has to wait now."""
        try:
            while not self._stop.asked:
                for frame in self._fetched():
                    self._stop.sleep(wait_s(time.monotonic(), len(frame.payload)), self._beat)
                    if not self._put(frame):
                        break
                    self._beat()
                self._beat()
        finally:
            self._file.offer(self._status, last=True)

    def _fetched(self) -> Sequence[Frame]:
        try:
            frames = self._source.fetch(self._ring.head, TICK_S)
        except Away as error:
            self._message = str(error)
            self._away += 1
            self._stop.sleep(ASK_AGAIN_S)
            return ()
        self._message = ""
        return frames

    def _put(self, frame: Frame) -> bool:
        """False when asked to stop before there was room."""
        if frame.seq != self._ring.head:
            raise ValueError(f"the source has fetched frame {frame.seq} where {self._ring.head} comes next")
        fresh, self._fresh = self._fresh, False
        if fresh and frame.gap and self._begins_at(frame.seq + frame.gap):
            return True
        while not self._stop.asked:
            if self._written(frame):
                self._bytes += len(frame.payload)
                self._gap_frames += frame.gap
                return True
            self._beat()
        return False

    def _written(self, frame: Frame) -> bool:
        stamp: Stamp = {
            "epoch": frame.epoch,
            "timestamp_ns": frame.timestamp_ns or time.time_ns(),
            "timeout_s": TICK_S,
        }
        try:
            if frame.gap:
                self._writer.gap(frame.gap, **stamp)
            else:
                self._writer.write(frame.payload, **stamp)
        except RingFull:
            return False
        return True

    def _begins_at(self, seq: int) -> bool:
        """What was gone before a ring's first frame is no loss: the stream begins behind it. False for a ring that has held any."""
        try:
            self._writer.start_at(seq)
        except RingError:
            return False
        return True

    def _beat(self) -> None:
        self._file.offer(self._status)

    def _status(self) -> Status:
        own = {"bytes": self._bytes, "gap_frames": self._gap_frames, "away": self._away}
        counters = own | (self._source.counters() if isinstance(self._source, Counting) else {})
        return Status(
            self._spec.name, self._spec.role, seq_out=self._ring.head, counters=counters, message=self._message
        )


def run(spec: RunSpec, source: Fetched, ring: Ring, stop: Stop, wait_s: Callable[[float, int], float]) -> None:
    """The role's loop, for such a source."""
    with ring_writer(ring, spec.name, stop) as writer:
        Fetch(spec, ring, writer, source, stop).run(wait_s)
