cimport cython

from halftrack_dataplane.mapping cimport Mapping
from halftrack_dataplane.native cimport ht_reader, int64_t, uint64_t
from halftrack_dataplane.reuse cimport ht_kept
from halftrack_dataplane.ring_sampler cimport Sampler
from halftrack_dataplane.ring_waker cimport Waker


@cython.final
cdef class Reader:
    cdef Mapping mapping
    cdef ht_reader r
    cdef uint64_t position
    cdef uint64_t known_end  # up to here the record that was found can be copied from without a look at anything else
    cdef ht_kept kept[3]  # what the last two lists had in them, and the last two Frames that were handed out
    cdef int turn
    cdef uint64_t last_overruns
    cdef uint64_t last_missed
    cdef Sampler sampler
    cdef int forks
    cdef bint busy
    cdef bint closing
    cdef bint evicted
    cdef object exported
    cdef Waker waker
    cdef uint64_t view_end
    cdef readonly int slot
    cdef readonly str name
    cdef readonly str policy
    cdef int _enter(self) except -1
    cdef int _enter_batch(self) except -1
    cdef int _leave(self) except -1
    cdef object _gone(self)
    cdef bint _await(self, object timeout_s) except -1
    cdef bint _in_time(self, int64_t deadline) except -1
    cdef int _wait(self, int64_t deadline) except -1
    cdef int _still_wanted(self) except -1
    cdef int _pick(self) except -1
    cdef bint _torn(self, bint again) except -1
    cpdef object read(self, timeout_s=*)
    cdef object _awaited(self, object timeout_s)
    cdef int64_t _lend(self, uint64_t most, object timeout_s) except -2
    cdef int _end_view(self, bint advance) except -1
    cdef int _end_waker(self) except -1
    cdef int _let_go(self) except -1
