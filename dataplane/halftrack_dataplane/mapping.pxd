from halftrack_dataplane.ring_layout cimport ht_header, int64_t, uint64_t

cdef enum:
    # From here on a copy takes longer than handing the interpreter lock over and back (0.1-1 us; 64 KiB at 15 GB/s: 4 us).
    NOGIL_BYTES = 65536


cdef class Mapping:
    cdef ht_header *header
    cdef size_t size
    cdef readonly bint readonly


cdef class Span:
    cdef Mapping mapping
    cdef char *start
    cdef Py_ssize_t length
    cdef bint locked


cdef Mapping map_file(int fd, size_t size, bint readonly)
cdef object export(Mapping mapping, uint64_t offset, uint64_t length, bint locked)
cdef object copy_out(ht_header *h, uint64_t offset, uint64_t length)
cdef int retire(object view) except -1
cdef str text_of(const char *at, size_t room)
cdef int put_text(char *at, Py_ssize_t room, str text, bint exact) except -1
cdef int64_t deadline_of(object timeout_s) except? -1
cdef int64_t slice_of(int64_t deadline) noexcept nogil
cdef object damaged(seq)
