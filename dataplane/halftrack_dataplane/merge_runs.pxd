cimport cython

from halftrack_dataplane.native cimport ht_reader, int64_t, uint32_t, uint64_t
from halftrack_dataplane.ring_reader cimport Reader
from halftrack_dataplane.ring_writer cimport Writer

cdef extern from "merge_wait.h" nogil:
    enum:
        HT_INPUTS
    void ht_await_likely(ht_reader **readers, int count, ht_reader *likely, uint32_t *table, uint32_t seen, int64_t deadline_ns)

cdef enum:
    SHOWN = 8  # of the frames that differ in one run, how many are told by number


@cython.final
cdef class Runs:
    cdef Writer writer
    cdef uint64_t *kept   # by sequence modulo HISTORY: the sequence's low half and the digest of what passed
    cdef uint64_t equal, different
    cdef uint64_t shown[3 * SHOWN]  # of those that differ: sequence, digest, and the digest of what passed
    cdef uint64_t _stamp(self) noexcept nogil
    cdef uint64_t _run_end(self, ht_reader *r) noexcept nogil
    cdef int _pass(self, ht_reader *r, uint64_t end, uint64_t epoch, uint64_t stamp, int64_t deadline) noexcept nogil
    cdef int _drop(self, ht_reader *r, uint64_t end) noexcept nogil
    cdef bint _compare(self, ht_reader *r, uint64_t count) noexcept nogil
    cdef void _keep(self, ht_reader *r, uint64_t count) noexcept nogil
    cdef int _raise(self, Reader reader, int rc) except -1
