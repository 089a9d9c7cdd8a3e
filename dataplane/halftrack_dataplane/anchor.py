"""An anchor: a reader that holds a ring for those who are away, so that its writer waits for them instead of passing over them.

A reader that dies loses its slot, and with it its hold on the ring. Where what waits may wait on a disk, there is no reason to lose it then: the
anchor stays where the slowest of those who read without loss was last, a quarter of the ring behind, since who is killed begins again a little
before the place that it had got to. Where nothing has come for a while, or could, it stands at the place itself: a gap is one record of many numbers,
so that a share of the numbers may be all of the room. Owns one reader of the ring; reads nothing.
"""

import time

from halftrack_dataplane.frames import Evicted
from halftrack_dataplane.ring import Ring

BEHIND = 4  # a quarter of what the ring holds: more than a sink has not flushed, unless the ring is tiny
LOOK_S = 0.002  # between two looks at the readers
STANDING_S = 0.25  # a sink has flushed what it took by then, more than twice over


class Anchor:
    """One ring's. It follows as often as it is asked to."""

    def __init__(self, ring: Ring, name: str) -> None:
        self._ring, self._name = ring, name
        self._reader = ring.reader(policy="lossless", name=name, start="oldest")
        self._look_at = self._moved_at = 0.0
        self._head = -1

    def follow(self) -> None:
        """Move up behind the slowest reader; without any, stay."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        stats = self._ring.stats()
        slot = self._reader.slot
        places = [each.cursor for each in stats.readers if each.policy == "lossless" and each.slot != slot]
        if stats.head != self._head:
            self._head, self._moved_at = stats.head, now
        behind = min(stats.head - stats.tail, stats.slots) // BEHIND if now - self._moved_at < STANDING_S else 0
        to = min(places, default=0) - behind
        try:
            if to > self._reader.cursor:
                self._reader.seek(to)
        except Evicted:
            self.close()
            self._reader = self._ring.reader(policy="lossless", name=self._name, start="oldest")

    @property
    def place(self) -> int:
        """What is below is with all who read without loss, as far as is known."""
        return self._reader.cursor

    def close(self) -> None:
        """Hold nothing any more."""
        self._reader.close()
