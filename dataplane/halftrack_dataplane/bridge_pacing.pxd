# What goes to a receiver next, and when. Pure: no socket, no clock, no ring. Inline, for the loops without the GIL.
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    # A message's own cost (some 2 us on both sides) vanishes in so many bytes, and they go out soon: 30 us at 2 GB/s.
    COALESCED_BYTES = 65536
    # From here on a copy costs more than what a payload of its own does: an allocation, a second look, a part of one byte.
    UNCOPIED_BYTES = 32768
    # What may be in flight to one receiver: enough to keep its connection busy. Three messages each are below half of the socket's own mark
    # (bridge_sockets.SERVED), since libzmq counts what has gone in halves of it: so the socket is never full because of frames.
    FLIGHT_MESSAGES = 24
    FLIGHT_BYTES = 4194304

cdef inline uint64_t flight_bytes(uint64_t capacity) noexcept nogil:
    """How many bytes may be in flight out of a ring of `capacity`: what is in flight can be overwritten."""
    return min(<uint64_t>FLIGHT_BYTES, capacity // 4)

cdef inline bint may_send(int64_t credit, uint64_t messages, uint64_t bytes, uint64_t most_bytes) noexcept nogil:
    """May one more message go? Credit and bytes may be overdrawn by one, or a frame larger than them would never travel."""
    return credit > 0 and messages < <uint64_t>FLIGHT_MESSAGES and bytes < most_bytes

cdef inline uint64_t fitting(uint64_t frames, uint64_t length, uint64_t room_bytes, uint64_t room_frames) noexcept nogil:
    """How many of `frames` frames of `length` still fit."""
    return min(frames, room_bytes // length if length else frames, room_frames)

cdef inline bint goes_uncopied(uint64_t bytes, uint64_t behind, uint64_t capacity) noexcept nogil:
    """Is a run of `bytes` sent out of the ring? Not when the writer may soon overwrite it: `behind` bytes follow it already."""
    return bytes >= <uint64_t>UNCOPIED_BYTES and behind <= capacity // 2

cdef inline bint is_ripe(uint64_t pending, int64_t waited_ns, int64_t linger_ns) noexcept nogil:
    """Do `pending` bytes go now, or wait for more to travel with?"""
    return pending >= <uint64_t>COALESCED_BYTES or waited_ns >= linger_ns

cdef inline int whole_batch(const uint64_t *firsts, const uint64_t *nexts, int count, uint64_t seq, uint64_t *limit) noexcept nogil:
    """Which batch that was read for somebody begins at `seq`? If none does (-1), where the next one begins: who ends there can share it."""
    cdef int i
    limit[0] = <uint64_t>-1
    for i in range(count):
        if firsts[i] == seq and nexts[i] > seq:
            return i
        if firsts[i] < seq < nexts[i]:
            limit[0] = min(limit[0], nexts[i])
        elif seq < firsts[i] < nexts[i]:
            limit[0] = min(limit[0], firsts[i])
    return -1
