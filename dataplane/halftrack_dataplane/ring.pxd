from halftrack_dataplane.mapping cimport Mapping
from halftrack_dataplane.native cimport ht_cut, ht_header, ht_options, uint64_t


cdef class Ring:
    cdef Mapping mapping
    cdef readonly str path
    cdef readonly object capacity_bytes
    cdef readonly object slots
    cdef readonly str label
    cdef readonly object generation
    cdef readonly object frame_bytes
    cdef readonly str schema
    cdef readonly bint checked
    cdef readonly bint shared
    cdef readonly object retain_s
    cdef readonly object base_seq
    cdef int fd
    cdef ht_header *_shared(self) except NULL
    cdef ht_header *_writable(self) except NULL
    cdef int _find_cut(self, uint64_t epoch, ht_cut *copy) except -2
