"""The input behind a member's newest snapshot, kept so that whoever begins from that snapshot still finds what follows it.

In a ring that is full, nothing is retained behind the slowest reader, and a snapshot is older than its writer's next frame: without this, a
member that starts beside a busy one could begin only by luck. It is what a replication slot's `restart_lsn` is to PostgreSQL. Owns a second
reader of the input, which reads nothing. It never holds more than a share of the ring: so much of what it holds back its own member has still to
read, and reads; it lets go rather than stop the stream, and a snapshot too old for the ring is then as useless as it was.
"""

from halftrack_dataplane.frames import Evicted, reader_name
from halftrack_dataplane.ring import Reader, Ring

SHARE = 4  # of the ring's slots and bytes, a quarter at most
RECORD_BYTES = 64  # what a frame takes beside its payload, and more


def kept_name(member: str) -> str:
    """The name of the reader that keeps a member's input."""
    return reader_name(f"{member}/kept")


class Kept:
    """Of one life. It counts what has been read since, and so needs no look at the ring."""

    def __init__(self, ring: Ring, name: str) -> None:
        self._ring, self._name = ring, kept_name(name)
        stats = ring.stats()
        self._most_frames, self._most_bytes = stats.slots // SHARE, stats.capacity_bytes // SHARE
        self._reader: Reader | None = None
        self._first = self._bytes = 0

    def since(self, next_in: int) -> None:
        """Keep the inputs from `next_in` on, the place of the reader that calls or one before it, and let go of those before."""
        self._first, self._bytes = next_in, 0
        try:
            if self._reader is None:
                self._reader = self._ring.reader(policy="lossless", name=self._name, start=next_in)
            else:
                self._reader.seek(next_in)
        except Evicted:
            self.let_go()

    def passed(self, next_in: int, payload_bytes: int) -> None:
        """One more frame has been read, and `next_in` is the next."""
        if self._reader is None:
            return
        self._bytes += payload_bytes + RECORD_BYTES
        if next_in - self._first > self._most_frames or self._bytes > self._most_bytes:
            self.let_go()

    def let_go(self) -> None:
        """Keep nothing, until there is a snapshot again."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
