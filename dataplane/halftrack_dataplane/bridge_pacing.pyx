"""What goes to a receiver next, and when, for Python and tests; the decisions are in the `.pxd`, for loops without the GIL. Pure."""

from libc.stdint cimport int64_t, uint64_t

__all__ = ["Pacing"]


class Pacing:
    """The decisions, one by one."""

    @staticmethod
    def flight_bytes(uint64_t capacity):
        """How many bytes may be in flight to one receiver, out of a ring of `capacity` bytes."""
        return flight_bytes(capacity)

    @staticmethod
    def may_send(int64_t credit, uint64_t messages, uint64_t size, uint64_t most):
        """May one more message go, with so many messages and bytes in flight already?"""
        return may_send(credit, messages, size, most)

    @staticmethod
    def fitting(uint64_t frames, uint64_t length, uint64_t room, uint64_t room_frames):
        """How many of `frames` frames of `length` bytes still fit into a batch."""
        return fitting(frames, length, room, room_frames)

    @staticmethod
    def goes_uncopied(uint64_t size, uint64_t behind, uint64_t capacity):
        """Is a run of `size` bytes, with `behind` bytes published behind it, sent out of the ring?"""
        return goes_uncopied(size, behind, capacity)

    @staticmethod
    def is_ripe(uint64_t pending, int64_t waited_ns, int64_t linger_ns):
        """Do `pending` bytes go now?"""
        return is_ripe(pending, waited_ns, linger_ns)

    @staticmethod
    def whole_batch(list batches, uint64_t seq):
        """Of batches [first, next): the index of the one that begins at `seq`, or None; and where a batch from there should end, or None."""
        cdef uint64_t firsts[64]
        cdef uint64_t nexts[64]
        cdef uint64_t limit
        cdef int number, count = min(len(batches), 64)
        for number in range(count):
            firsts[number], nexts[number] = batches[number]
        number = whole_batch(firsts, nexts, count, seq, &limit)
        return (None if number < 0 else number), (None if limit == <uint64_t>-1 else limit)


Pacing.COALESCED_BYTES, Pacing.UNCOPIED_BYTES = COALESCED_BYTES, UNCOPIED_BYTES
Pacing.FLIGHT_MESSAGES, Pacing.FLIGHT_BYTES = FLIGHT_MESSAGES, FLIGHT_BYTES
