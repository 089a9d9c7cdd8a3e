from halftrack_dataplane.mapping cimport Mapping
from halftrack_dataplane.ring_layout cimport ht_place, uint64_t

cdef enum:
    FULL_BLOCK, FULL_DROP, FULL_OVERWRITE


cdef class Writer:
    cdef Mapping mapping
    cdef uint64_t identity
    cdef int policy
    cdef int forks
    cdef bint busy
    cdef bint closing
    cdef bint claimed
    cdef ht_place place
    cdef object claim_view
    cdef readonly str name
    cdef readonly str full
    cdef int _enter(self) except -1
    cdef int _leave(self) except -1
    cdef bint _reserve(self, uint64_t length, object timeout_s) except -1
    cdef int _evict_laggards(self) except -1
    cdef int _let_go(self) except -1
