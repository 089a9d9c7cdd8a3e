"""One receiver of a ring, and the messages that go to it: made out of batches, and handed to libzmq. Without the GIL.

Owns the order of messages and what becomes of them when libzmq does not take one. What they mean is bridge_data's, how long their bytes
live native/bridge_flight.h's. Never chooses what goes next.
"""

import cython

from libc.errno cimport EAGAIN
from libc.string cimport memcpy

from halftrack_dataplane.bridge_native cimport *
from halftrack_dataplane.libzmq cimport DONTWAIT, SNDMORE

__all__ = ["Lane"]


@cython.no_gc_clear
cdef class Lane:
    """One receiver of an outlet. Its counts are read by whoever owns the session."""

    def __init__(self):
        raise TypeError("use Outlet.join()")

    def __dealloc__(self):
        ht_lane_drop(self.s.flight)

    def grant(self, more_bytes):
        """The receiver takes so many bytes more."""
        self.s.credit = min(self.s.credit + <int64_t>more_bytes, <int64_t>1 << 40)  # beyond reason, and far from wrapping

    @property
    def frames(self):
        """Frames that went out."""
        return self.s.frames

    @property
    def bytes(self):
        """Their payload."""
        return self.s.bytes

    @property
    def missed(self):
        """Sequences that the receiver was told it will not get."""
        return self.s.missed

    @property
    def next_seq(self):
        """The next sequence for it; -1 before the first of one that takes what there is."""
        return self.s.next if self.s.known else -1

    @property
    def trouble(self):
        """Why nothing goes out any more: "evicted", "damaged", "too large", "unreachable"; None if it does."""
        return {EVICTED: "evicted", DAMAGED: "damaged", TOO_LARGE: "too large", UNREACHABLE: "unreachable"}.get(self.s.state)

    @property
    def wrong_bytes(self):
        """The length of the frame that is too large."""
        return self.s.wrong_bytes


cdef int make(const Calls *zmq, zmq_msg_t *messages, lane_t *lane, const ht_header *h, uint64_t first, const batch_t *batch) noexcept nogil:
    """The messages of a batch, and how many they are; 0 if there is no memory."""
    cdef ht_parcel *parcel
    if batch.bundle == NULL:
        return make_late(zmq, messages, lane, h, first, batch)
    parcel = ht_parcel_new(lane.flight, batch.bundle, h, first, batch.bytes)
    if parcel == NULL:
        return 0
    if zmq.init_data(messages, <void *>batch.at, batch.message_bytes, ht_payload_back, parcel) != 0:
        ht_payload_back(NULL, parcel)
        return 0
    return 1


cdef int make_late(const Calls *zmq, zmq_msg_t *messages, lane_t *lane, const ht_header *h, uint64_t first, const batch_t *batch) noexcept nogil:
    cdef char *header
    cdef ht_parcel *parcel
    cdef size_t records = batch.records * sizeof(ht_wire_record)
    if zmq.init_size(messages, sizeof(ht_wire_header) + records) != 0:
        return 0
    header = <char *>zmq.data(messages)
    ht_wire_write(header, HT_WIRE_LATE, first, batch.bytes, batch.records)
    memcpy(header + sizeof(ht_wire_header), batch.entries, records)
    parcel = ht_parcel_new(lane.flight, NULL, h, first, batch.bytes)
    if parcel == NULL:
        zmq.close(messages)
        return 0
    if zmq.init_data(messages + 1, <void *>batch.at, batch.bytes, ht_payload_back, parcel) != 0:
        ht_payload_back(NULL, parcel)
        ht_verdict_back(NULL, parcel)
        zmq.close(messages)
        return 0
    if zmq.init_data(messages + 2, &parcel.verdict, 1, ht_verdict_back, parcel) != 0:
        ht_verdict_back(NULL, parcel)
        zmq.close(messages)
        zmq.close(messages + 1)
        return 0
    return 3


cdef bint make_gap(const Calls *zmq, zmq_msg_t *message, uint64_t first, uint64_t count) noexcept nogil:
    if zmq.init_size(message, sizeof(ht_wire_header)) != 0:
        return False
    ht_wire_write(zmq.data(message), HT_WIRE_GAP, first, count, 0)
    return True


cdef bint send(const Calls *zmq, void *socket, lane_t *lane, zmq_msg_t *messages, int count) noexcept nogil:
    """All messages or none. One that follows what has gone always goes too, as the socket has room for all that may be in flight; if
    not, this receiver is given up: it would take what comes next for a payload, and connects anew."""
    cdef int number, left
    for number in range(count):
        if send_one(zmq, socket, lane, &messages[number], number == 0):
            continue
        for left in range(number, count):
            zmq.close(&messages[left])
        return 0
    return 1


cdef bint send_one(const Calls *zmq, void *socket, lane_t *lane, zmq_msg_t *message, bint may_wait) noexcept nogil:
    cdef zmq_msg_t routing
    if zmq.init_size(&routing, lane.routing_bytes) != 0:
        lane.state = UNREACHABLE
        return False
    memcpy(zmq.data(&routing), lane.routing, lane.routing_bytes)
    if zmq.send(&routing, socket, DONTWAIT | SNDMORE) < 0:
        if not may_wait or zmq.error() != EAGAIN:
            lane.state = UNREACHABLE
        zmq.close(&routing)
        return False
    if zmq.send(message, socket, DONTWAIT) < 0:
        lane.state = UNREACHABLE  # only when the context ends
        return False
    return True
