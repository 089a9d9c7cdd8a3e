"""A ring's memory: the mapping and what it lends out, its texts, and how long to wait for it. For cimport.

Owns the lifetime of the mapping: it ends with its last user, exported views included. Never looks at what frames mean.
"""

from halftrack_dataplane.frames import RingDamaged

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcpy, memset

from halftrack_dataplane.ring_layout cimport ht_bytes, ht_header, ht_now_ns, int64_t, uint64_t

cdef extern from "sys/mman.h" nogil:
    enum:
        PROT_READ, PROT_WRITE, MAP_SHARED
    void *MAP_FAILED
    void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset)
    int munmap(void *addr, size_t length)

# Signals are looked at this often while waiting, and it bounds what a lost wake-up (there is none known) could cost.
cdef int64_t SLICE_NS = 100_000_000


cdef class Mapping:
    """The mapped file. Lives as long as any ring, writer, reader or exported view needs it."""

    def __dealloc__(self):
        if self.header is not NULL:
            munmap(self.header, self.size)


cdef Mapping map_file(int fd, size_t size, bint readonly):
    cdef Mapping mapping = Mapping.__new__(Mapping)
    cdef void *at = mmap(NULL, size, PROT_READ if readonly else PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
    if at == MAP_FAILED:
        raise OSError("cannot map the ring: out of address space or over the memory limit")
    mapping.header = <ht_header *>at
    mapping.size = size
    mapping.readonly = readonly
    return mapping


cdef class Span:
    """Some bytes of a mapping; exists to export them as a memoryview that keeps the mapping."""

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.start, self.length, self.locked, flags)

    def __releasebuffer__(self, Py_buffer *buffer):
        pass


cdef object export(Mapping mapping, uint64_t offset, uint64_t length, bint locked):
    cdef Span span = Span.__new__(Span)
    span.mapping = mapping
    span.start = ht_bytes(mapping.header, offset)
    span.length = length
    span.locked = locked
    return memoryview(span)


cdef object copy_out(ht_header *h, uint64_t offset, uint64_t length):
    cdef bytes payload = PyBytes_FromStringAndSize(NULL, length)
    cdef char *into = PyBytes_AS_STRING(payload)
    cdef const char *at = ht_bytes(h, offset)
    if <Py_ssize_t>length < NOGIL_BYTES:
        memcpy(into, at, length)
    else:
        with nogil:
            memcpy(into, at, length)
    return payload


cdef int retire(object view) except -1:
    """Ends a view we handed out. Arrays made from it keep it alive; they are then the caller's risk, as documented."""
    try:
        view.release()
    except BufferError:
        pass
    return 0


cdef str text_of(const char *at, size_t room):
    return at[:room].partition(b"\0")[0].decode("utf-8", "replace")


cdef int put_text(char *at, Py_ssize_t room, str text, bint exact) except -1:
    """Names are for people and cut to fit; labels carry meaning and are refused instead."""
    cdef bytes data = text.encode()
    if len(data) >= room:
        if exact:
            raise ValueError(f"a label may have at most {room - 1} bytes, this one has {len(data)}: {text!r}")
        data = data[:room - 1].decode("utf-8", "ignore").encode()
    memset(at, 0, room)
    memcpy(at, <const char *>data, len(data))
    return 0


cdef int64_t deadline_of(object timeout_s) except? -1:
    """-1: wait for ever."""
    if timeout_s is None:
        return -1
    return ht_now_ns() + <int64_t>(min(max(timeout_s, 0), 1e9) * 1e9)


cdef int64_t slice_of(int64_t deadline) noexcept nogil:
    cdef int64_t left
    if deadline < 0:
        return SLICE_NS
    left = deadline - ht_now_ns()
    return 0 if left < 0 else left if left < SLICE_NS else SLICE_NS


cdef object damaged(seq):
    return RingDamaged(
        f"the ring's descriptor for sequence {seq} is not valid: something wrote over the ring's memory. "
        "Stop its writer and readers, remove the file and create the stream anew."
    )
