cimport cython

from halftrack_dataplane.native cimport ht_found, ht_header, int64_t, uint64_t
from halftrack_dataplane.ring_reader cimport Reader

# A frame at hand: where its bytes lie, and how many sequences before it are declared lost.
ctypedef struct item_t:
    const char *at
    uint64_t length, seq, epoch, lost, lost_seq, late, cost
    int64_t time
    bint none, held  # held: on the disk, not in the ring


@cython.final
cdef class Branch:
    cdef Reader reader
    cdef ht_header *h
    cdef ht_found found
    cdef item_t *items
    cdef Py_ssize_t begin, room
    cdef readonly Py_ssize_t count
    cdef readonly uint64_t cost      # bytes of the ring that the frames at hand take
    cdef readonly uint64_t position  # the next sequence to look at
    cdef uint64_t lost_end           # the numbers from `position` to here are declared lost, and nothing else is at hand
    cdef uint64_t pending, pending_seq
    cdef uint64_t every
    cdef bint folds, latest, torn, begun
    cdef bint awaiting  # a spool that may still come
    cdef object refill  # where to ask for what the ring no longer has; None: nowhere
    cdef list maps      # [memory of the spool that frames at hand lie in, its buffer, the sequence behind the last of them]
    cdef int64_t pause, last
    cdef uint64_t key_offset, key_bytes, key_of
    cdef bytes taken
    cdef readonly object missed, torn_frames
    cdef readonly uint64_t overrun, gone  # numbers passed over: we came too late for them; the stream declares them lost
    cdef uint64_t pending_late            # of `pending`, what we came too late for
    cdef int lost_how                     # of `lost_end`: BEFORE the stream, DECLARED, or LATE
    cdef int _check(self) except -1
    cdef bint _lose(self, uint64_t end, bint before, bint late) noexcept
    cdef int _take(self, const ht_found *found, bint held, Py_ssize_t most, uint64_t cost) except -1
    cdef bint _refilled(self, Py_ssize_t most, uint64_t cost, uint64_t begins) except -1
    cdef int _push(self, const ht_found *found, bint held, uint64_t seq) except -1
    cdef bint _mine(self, const char *at, uint64_t length) noexcept
    cdef uint64_t _place(self) noexcept
    cdef bint _whole(self, Py_ssize_t number) except -1
