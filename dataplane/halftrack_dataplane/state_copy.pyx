"""A state's bytes into shared memory in one pass, with a checksum for each piece; and do they still match? Without the GIL.

Decides nothing: who calls says where from, where to, and what a mismatch means. Owns mappings of files in memory, by large pages where
the kernel has them: a state of 256 MiB has 65,536 small ones, and whoever maps them again pays for each.
"""

import os

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, intptr_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free

cdef extern from "ring_protocol.h" nogil:
    uint32_t ht_crc32c(const void *bytes, uint64_t count)
    uint32_t ht_copy_crc32c(void *into, const void *bytes, uint64_t count, uint32_t crc)

cdef extern from "<sys/mman.h>" nogil:
    int madvise(void *at, size_t count, int advice)
    void *mmap(void *at, size_t count, int protection, int flags, int fd, long offset)
    int munmap(void *at, size_t count)
    int PROT_NONE, PROT_READ, PROT_WRITE, MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE, MAP_FIXED

from libc.errno cimport errno

# MADV_POPULATE_READ and _WRITE, Linux 5.14; where they are unknown, pages come one by one when they are first touched.
cdef int POPULATE_READ = 22, POPULATE_WRITE = 23
# MADV_COLLAPSE, Linux 6.1: large pages for this range now, whatever the mount and the system say of those that come by themselves.
cdef int COLLAPSE = 25
cdef uint64_t PAGE = 4096, LARGE = 1 << 21


cdef class Room:
    """A file's memory, mapped where large pages can be. Lives as long as any view of it; the descriptor may be closed before."""

    cdef char *at
    cdef uint64_t size
    cdef bint readonly
    cdef void *reserved
    cdef uint64_t reserved_bytes

    def __cinit__(self, int fd, uint64_t size, bint readonly=False):
        self.reserved_bytes = (size + LARGE - 1) // LARGE * LARGE + LARGE
        self.reserved = mmap(NULL, self.reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if <intptr_t>self.reserved == -1:
            self.reserved = NULL
            raise OSError(errno, os.strerror(errno))
        cdef uintptr_t aligned = (<uintptr_t>self.reserved + LARGE - 1) & ~<uintptr_t>(LARGE - 1)
        cdef int protection = PROT_READ if readonly else PROT_READ | PROT_WRITE
        if <intptr_t>mmap(<void *>aligned, size, protection, MAP_SHARED | MAP_FIXED, fd, 0) == -1:
            raise OSError(errno, os.strerror(errno))
        self.at, self.size, self.readonly = <char *>aligned, size, readonly

    def __dealloc__(self):
        if self.reserved != NULL:
            munmap(self.reserved, self.reserved_bytes)

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.at, self.size, self.readonly, flags)

    def enlarge(self):
        """Large pages for all that is not in memory yet, empty ones; False where the kernel has none to give."""
        cdef int result
        with nogil:
            result = madvise(self.at, self.size & ~(LARGE - 1), COLLAPSE)
        return result == 0

    def populate(self):
        """Have all of it in memory, and at hand, before it is used."""
        with nogil:
            madvise(self.at, self.size, POPULATE_READ if self.readonly else POPULATE_WRITE)


def gather(into, parts, uint64_t piece_bytes):
    """Copy `parts`, one behind the other, to the front of `into`; the CRC-32C of each piece, as little-endian words.

    Summed on the way, which costs next to nothing: the copy waits for memory, not for the processor.
    """
    cdef Py_ssize_t count = len(parts), taken = 0
    cdef Py_buffer *given = <Py_buffer *>calloc(count + 1, sizeof(Py_buffer))
    cdef Py_buffer target
    cdef uint64_t size = 0
    cdef bytes sums
    if given == NULL:
        raise MemoryError
    try:
        for part in parts:
            PyObject_GetBuffer(part, &given[taken], PyBUF_C_CONTIGUOUS)
            taken += 1
            size += <uint64_t>given[taken - 1].len
        PyObject_GetBuffer(into, &target, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        try:
            if <uint64_t>target.len < size:
                raise ValueError(f"{size} bytes do not fit into {target.len}")
            sums = PyBytes_FromStringAndSize(NULL, (size + piece_bytes - 1) // piece_bytes * 4)
            _gather(<char *>target.buf, given, size, piece_bytes, <uint32_t *>PyBytes_AS_STRING(sums))
            return sums
        finally:
            PyBuffer_Release(&target)
    finally:
        while taken:
            taken -= 1
            PyBuffer_Release(&given[taken])
        free(given)


cdef void _gather(char *into, const Py_buffer *given, uint64_t size, uint64_t piece_bytes, uint32_t *sums):
    cdef uint64_t at = 0, end, part = 0, used = 0, some
    cdef uint32_t crc
    with nogil:
        while at < size:
            end = min(at + piece_bytes, size)
            crc = 0
            while at < end:
                some = min(<uint64_t>given[part].len - used, end - at)
                crc = ht_copy_crc32c(into + at, <const char *>given[part].buf + used, some, crc)
                at += some
                used += some
                if used == <uint64_t>given[part].len:
                    part += 1
                    used = 0
            sums[0] = crc
            sums += 1


def first_bad(data, sums, uint64_t piece_bytes, uint64_t first=0, uint64_t end=0xFFFFFFFF):
    """The first piece of [first, end) that does not match its sum, or -1. What it reads is in memory afterwards."""
    cdef Py_buffer given, words
    PyObject_GetBuffer(data, &given, PyBUF_C_CONTIGUOUS)
    try:
        PyObject_GetBuffer(sums, &words, PyBUF_C_CONTIGUOUS)
        try:
            if <uint64_t>words.len != (<uint64_t>given.len + piece_bytes - 1) // piece_bytes * 4:
                return 0
            return _first_bad(
                <char *>given.buf, given.len, <const uint32_t *>words.buf, piece_bytes, first, min(end, words.len // 4)
            )
        finally:
            PyBuffer_Release(&words)
    finally:
        PyBuffer_Release(&given)


cdef int64_t _first_bad(
    char *data, uint64_t size, const uint32_t *sums, uint64_t piece_bytes, uint64_t piece, uint64_t end
):
    cdef uint64_t at, some
    cdef uintptr_t page
    with nogil:
        while piece < end:
            at = piece * piece_bytes
            some = min(piece_bytes, size - at)
            page = (<uintptr_t>data + at) & ~<uintptr_t>(PAGE - 1)
            madvise(<void *>page, some + (<uintptr_t>data + at - page), POPULATE_READ)
            if ht_crc32c(data + at, some) != sums[piece]:
                break
            piece += 1
    return <int64_t>piece if piece < end else -1
