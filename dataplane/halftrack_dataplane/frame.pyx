"""What a reader is given: one frame, or many at once. Both are values: immutable, equal by content.

In Cython because a frozen dataclass costs more to make than 64 bytes cost to move; numbers become Python's when they are looked at.
"""

import cython

__all__ = ["Batch", "Frame"]


@cython.freelist(64)
@cython.no_gc  # it holds bytes or a view of the ring: no cycle leads back to it
cdef class Frame:
    """One record of a stream. With `gap` > 0 it declares [seq, seq + gap) as lost, and its payload is empty."""

    __match_args__ = ("seq", "epoch", "timestamp_ns", "payload", "gap")

    def __init__(self, uint64_t seq, uint64_t epoch, int64_t timestamp_ns, payload, uint64_t gap=0):
        self.seq, self.epoch, self.timestamp_ns, self.payload, self.gap = seq, epoch, timestamp_ns, payload, gap

    def _values(self):
        return self.seq, self.epoch, self.timestamp_ns, self.payload, self.gap

    def __eq__(self, other):
        return self._values() == other._values() if type(other) is Frame else NotImplemented

    def __hash__(self):
        return hash(self._values())

    def __repr__(self):
        return (
            f"Frame(seq={self.seq}, epoch={self.epoch}, timestamp_ns={self.timestamp_ns}, payload={self.payload!r}, gap={self.gap})"
        )

    def __reduce__(self):
        return Frame, self._values()


@cython.freelist(16)
cdef class Batch:
    """Consecutive frames of one epoch, from `seq` on; `timestamp_ns` is the first one's.

    `payload` is what was asked for: a list of bytes, or one block of `count` times `frame_bytes` bytes, or nothing where the
    caller gave the room. With `gap` > 0 there are no frames: [seq, seq + gap) is declared as lost.
    """

    __match_args__ = ("seq", "count", "epoch", "timestamp_ns", "frame_bytes", "payload", "gap")

    def __init__(
        self, uint64_t seq, uint64_t count, uint64_t epoch, int64_t timestamp_ns, uint64_t frame_bytes, payload, uint64_t gap=0
    ):
        self.seq, self.count, self.epoch, self.timestamp_ns = seq, count, epoch, timestamp_ns
        self.frame_bytes, self.payload, self.gap = frame_bytes, payload, gap

    def _values(self):
        return self.seq, self.count, self.epoch, self.timestamp_ns, self.frame_bytes, self.payload, self.gap

    def __len__(self):
        return self.count

    def __eq__(self, other):
        return self._values() == other._values() if type(other) is Batch else NotImplemented

    def __repr__(self):
        return (
            f"Batch(seq={self.seq}, count={self.count}, epoch={self.epoch}, timestamp_ns={self.timestamp_ns}, "
            f"frame_bytes={self.frame_bytes}, payload={self.payload!r}, gap={self.gap})"
        )

    __hash__ = None
