from halftrack_dataplane.native cimport int64_t, uint64_t


cdef class Frame:
    cdef readonly uint64_t seq
    cdef readonly uint64_t epoch
    cdef readonly int64_t timestamp_ns
    cdef readonly object payload
    cdef readonly uint64_t gap


cdef class Batch:
    cdef readonly uint64_t seq
    cdef readonly uint64_t count
    cdef readonly uint64_t epoch
    cdef readonly int64_t timestamp_ns
    cdef readonly uint64_t frame_bytes
    cdef readonly object payload
    cdef readonly uint64_t gap


cdef Frame new_frame(uint64_t seq, uint64_t epoch, int64_t timestamp_ns, object payload, uint64_t gap)
cdef Batch new_batch(uint64_t seq, uint64_t count, uint64_t epoch, int64_t timestamp_ns, uint64_t frame_bytes, object payload, uint64_t gap)
