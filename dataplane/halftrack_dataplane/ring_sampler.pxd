from halftrack_dataplane.native cimport int64_t, uint64_t


cdef class Sampler:
    cdef uint64_t every
    cdef bint latest
    cdef int64_t pause_ns
    cdef int64_t next_ns
    cdef uint64_t pick(self, uint64_t cursor, uint64_t head) noexcept
    cdef void took(self) noexcept
