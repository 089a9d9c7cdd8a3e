from libc.stdint cimport int64_t, uint64_t

from halftrack_dataplane.bridge_lane cimport batch_t, lane_t
from halftrack_dataplane.libzmq cimport Calls
from halftrack_dataplane.mapping cimport Mapping
from halftrack_dataplane.native cimport ht_header

cdef enum:
    LANES = 64    # as many as a ring has reader slots
    BATCHES = 16  # that are kept for other receivers: more than one turn of them

cdef class Outlet:
    cdef Mapping mapping
    cdef ht_header *h
    cdef const Calls *zmq
    cdef void *socket
    cdef object socket_object
    cdef list lanes
    cdef lane_t *live[64]
    cdef int count
    cdef batch_t *batches
    cdef uint64_t firsts[16]
    cdef uint64_t nexts[16]
    cdef int newest
    cdef int64_t linger_ns
    cdef int64_t spin_ns
    cdef int64_t due_ns
    cdef int wake_fd
    cdef readonly uint64_t reads
    cdef list past
    cdef int _pump(self, int most) noexcept nogil
    cdef uint64_t _wanted(self) noexcept nogil
    cdef bint _published(self, uint64_t seq) noexcept nogil
    cdef void _later(self, int64_t moment) noexcept nogil
    cdef bint _may_send(self, lane_t *lane) noexcept nogil
    cdef int _step(self, lane_t *lane) noexcept nogil
    cdef bint _holds(self, lane_t *lane, int number) noexcept nogil
    cdef uint64_t _behind(self, uint64_t offset) noexcept nogil
    cdef int _read(self, lane_t *lane, uint64_t limit) noexcept nogil
    cdef bint _ripe(self, lane_t *lane, uint64_t pending) noexcept nogil
    cdef void _forget(self, int number) noexcept nogil
    cdef int _fill(self, lane_t *lane, uint64_t first, uint64_t pending, uint64_t limit) noexcept nogil
    cdef int _copy(self, lane_t *lane, uint64_t first, uint64_t pending, uint64_t limit) noexcept nogil
    cdef int _ship(self, lane_t *lane, int number) noexcept nogil
    cdef int _ship_gap(self, lane_t *lane, uint64_t first, uint64_t count) noexcept nogil
