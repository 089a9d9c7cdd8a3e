cimport cython

from halftrack_dataplane.mapping cimport Mapping
from halftrack_dataplane.native cimport ht_header, ht_output, int64_t, uint64_t


@cython.final
cdef class Writer:
    cdef Mapping mapping
    cdef ht_output out
    cdef int forks
    cdef bint busy
    cdef bint closing
    cdef object claim_view
    cdef uint64_t claim_bytes
    cdef bint claim_grows
    cdef readonly str name
    cdef readonly str full
    cdef int _enter(self) except -1
    cdef int _leave(self) except -1
    cdef int _check(self, uint64_t length, bint batch) except -1
    cdef bint _joins(self, const char *at, uint64_t length, uint64_t epoch, int64_t time) noexcept
    cdef list _checked(self, frames)
    cdef int _still_wanted(self) except -1
    cdef bint _turn(self, object timeout_s) except -1
    cdef bint _room(self, uint64_t bytes, object timeout_s) except -1
    cdef int _copy(self, const char *at, uint64_t length) except -1
    cdef bint _put(self, const char *at, uint64_t count, uint64_t length, uint64_t epoch, int64_t time, object timeout_s) except -1
    cdef uint64_t _put_all(self, const char *at, uint64_t count, uint64_t length, uint64_t epoch, int64_t time, object timeout_s) except? 0
    cdef int _end_claim(self) except -1
    cdef int _let_go(self) except -1
