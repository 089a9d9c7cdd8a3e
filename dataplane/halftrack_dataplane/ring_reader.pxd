from halftrack_dataplane.mapping cimport Mapping
from halftrack_dataplane.ring_layout cimport ht_found, ht_reader, int64_t, uint64_t


cdef class Reader:
    cdef Mapping mapping
    cdef ht_reader *shared
    cdef uint64_t owner
    cdef uint64_t position
    cdef ht_found found
    cdef uint64_t last_overruns
    cdef uint64_t last_missed
    cdef int forks
    cdef bint lossless
    cdef bint busy
    cdef bint closing
    cdef bint viewing
    cdef bint evicted
    cdef object exported
    cdef readonly int slot
    cdef readonly str name
    cdef readonly str policy
    cdef int _enter(self) except -1
    cdef int _leave(self) except -1
    cdef int _still_owner(self) except -1
    cdef int _overrun(self, bint again) except -1
    cdef bint _await(self, int64_t deadline) except -1
    cdef int _end_view(self, bint advance) except -1
    cdef int _let_go(self) except -1
