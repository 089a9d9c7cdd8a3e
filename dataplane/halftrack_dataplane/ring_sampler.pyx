"""What a sampling reader picks: every so many sequences, so many a second at most, or the latest only. For cimport.

Decides by numbers and the clock; never waits, nor touches a ring.
"""

from halftrack_dataplane.native cimport ht_now_ns, int64_t, uint64_t


cdef class Sampler:
    """The choice of one reader. `next_ns` is when it may take its next frame; 0: at any time."""

    def __init__(self, every, per_s, latest):
        self.every, self.latest = every, latest
        self.pause_ns = 0 if per_s is None else int(1e9 / per_s)

    cdef uint64_t pick(self, uint64_t cursor, uint64_t head) noexcept:
        """The sequence that it wants next, not below `cursor`."""
        if self.latest and head > cursor + 1:
            cursor = head - 1
        return (cursor + self.every - 1) // self.every * self.every

    cdef void took(self) noexcept:
        """It has been given a frame."""
        if self.pause_ns:
            self.next_ns = max(self.next_ns, ht_now_ns()) + self.pause_ns
