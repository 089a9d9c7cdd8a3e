from libc.string cimport memcpy

from halftrack_dataplane.native cimport ht_copy, ht_ring, int64_t, uint64_t

cdef enum:
    # From here on a copy takes longer than handing the interpreter lock over and back (0.1-1 us; 64 KiB at 15 GB/s: 4 us).
    NOGIL_BYTES = 65536
    SLICE_NS = 100000000  # signals are looked at this often while waiting, as in native/ring_wait.h


cdef class Mapping:
    cdef ht_ring ring


cdef class Span:
    cdef Mapping mapping
    cdef char *start
    cdef Py_ssize_t length
    cdef bint locked


cdef const int *forks_word() noexcept
cdef object forked()
cdef object export(Mapping mapping, char *start, uint64_t length, bint locked)
cdef object copy_out(const char *at, uint64_t length)
cdef int retire(object view) except -1
cdef str text_of(const char *at, size_t room)
cdef bytes name_of(str text)
cdef bytes label_of(str text, size_t room)
cdef int64_t deadline_of(object timeout_s) except? -1
cdef bint slept_until(int64_t moment) except -1
cdef object damaged(seq)


cdef inline int copy_in(char *into, const char *at, uint64_t length) except -1:
    if length < NOGIL_BYTES:
        ht_copy(into, at, length)
    else:
        with nogil:
            memcpy(into, at, length)
    return 0
