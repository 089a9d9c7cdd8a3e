from halftrack_dataplane.native cimport uint64_t
from halftrack_dataplane.ring_reader cimport Reader


cdef class Pin:
    cdef Reader reader
    cdef readonly object first
    cdef readonly object end
    cdef list views
