from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from halftrack_dataplane.bridge_native cimport ht_bundle, ht_lane, ht_wire_record
from halftrack_dataplane.libzmq cimport Calls, zmq_msg_t
from halftrack_dataplane.native cimport ht_header, ht_reader
from halftrack_dataplane.ring_reader cimport Reader

cdef enum lane_state:
    LIVE, EVICTED, DAMAGED, TOO_LARGE, UNREACHABLE

# One receiver, without Python.
cdef struct lane_t:
    ht_lane *flight
    ht_reader *reader
    uint64_t next
    int64_t credit
    int64_t noticed_ns  # when frames at `next` were first seen to wait; 0: not yet
    uint64_t frames, bytes, missed, wrong_bytes
    lane_state state
    bint known          # `next` is a sequence, not yet "the oldest"
    bint starved        # there was nothing for it
    uint8_t routing_bytes
    uint8_t routing[255]

# Frames that were read for somebody: a whole message in a bundle; or, without one, records here and the payload in the ring's memory.
cdef struct batch_t:
    uint64_t bytes, frames, offset
    const char *at      # the message, or the payload
    uint64_t message_bytes
    ht_bundle *bundle
    uint32_t records
    ht_wire_record entries[1024]


cdef class Lane:
    cdef lane_t s
    cdef Reader reader

cdef int make(const Calls *zmq, zmq_msg_t *messages, lane_t *lane, const ht_header *h, uint64_t first, const batch_t *batch) noexcept nogil
cdef bint make_gap(const Calls *zmq, zmq_msg_t *message, uint64_t first, uint64_t count) noexcept nogil
cdef bint send(const Calls *zmq, void *socket, lane_t *lane, zmq_msg_t *messages, int count) noexcept nogil
