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


cdef inline Frame new_frame(uint64_t seq, uint64_t epoch, int64_t timestamp_ns, object payload, uint64_t gap):
    cdef Frame frame = Frame.__new__(Frame)
    frame.seq, frame.epoch, frame.timestamp_ns, frame.payload, frame.gap = seq, epoch, timestamp_ns, payload, gap
    return frame


cdef inline Batch new_batch(
    uint64_t seq, uint64_t count, uint64_t epoch, int64_t timestamp_ns, uint64_t frame_bytes, object payload, uint64_t gap
):
    cdef Batch batch = Batch.__new__(Batch)
    batch.seq, batch.count, batch.epoch, batch.timestamp_ns = seq, count, epoch, timestamp_ns
    batch.frame_bytes, batch.payload, batch.gap = frame_bytes, payload, gap
    return batch
