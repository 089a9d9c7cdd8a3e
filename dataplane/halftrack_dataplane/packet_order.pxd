from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef enum Verdict:
    NEXT, AHEAD, BEYOND, DUPLICATE, LATE, STRAY, AGAIN


cdef class Order:
    cdef uint8_t *state
    cdef bint started
    cdef uint64_t stray_last
    cdef int stray_run
    cdef readonly uint64_t expected
    cdef readonly uint64_t window
    cdef readonly uint64_t group
    cdef readonly uint64_t waiting
    cdef readonly uint64_t delivered
    cdef readonly uint64_t lost
    cdef readonly uint64_t late
    cdef readonly uint64_t duplicates
    cdef readonly uint64_t strays
    cdef readonly uint64_t restarts
    cdef Verdict look(self, uint64_t seq) noexcept nogil
    cdef Verdict _stray(self, uint64_t seq) noexcept nogil
    cdef void put(self, uint64_t count) noexcept nogil
    cdef void hold(self, uint64_t seq) noexcept nogil
    cdef bint is_due(self) noexcept nogil
    cdef uint64_t hole(self, uint64_t most) noexcept nogil
    cdef void give_up(self, uint64_t count) noexcept nogil
    cdef void begin(self, uint64_t seq) noexcept nogil
