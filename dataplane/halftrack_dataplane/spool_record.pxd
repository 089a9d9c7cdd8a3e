from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef class Entry:
    cdef readonly uint64_t seq
    cdef readonly uint64_t count
    cdef readonly uint64_t epoch
    cdef readonly int64_t timestamp_ns
    cdef readonly uint64_t frame_bytes
    cdef readonly uint32_t flags
    cdef readonly uint64_t at
    cdef readonly uint64_t end


cdef uint32_t checksum(const void *bytes, uint64_t count) noexcept nogil
cdef uint64_t padded(uint64_t size) noexcept nogil
cdef void put_fields(
    char *into, uint64_t salt, uint64_t seq, uint64_t count, uint64_t epoch, int64_t timestamp_ns, uint64_t length, uint32_t crc,
    uint32_t flags,
) noexcept nogil
