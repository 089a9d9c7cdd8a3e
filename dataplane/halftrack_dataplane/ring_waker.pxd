from halftrack_dataplane.mapping cimport Mapping
from halftrack_dataplane.native cimport int64_t, uint64_t


cdef class Waker:
    cdef Mapping mapping
    cdef int slot
    cdef uint64_t wanted
    cdef bint ending
    cdef object thread
    cdef readonly int ready_fd
    cdef int again_fd
    cdef int forks
    cdef bint waited(self, uint64_t wanted, int64_t deadline) except -1
    cdef bint _published(self) noexcept
