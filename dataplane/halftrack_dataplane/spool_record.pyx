"""A record in a spool's segment: frames of one length, epoch and time, one behind the other, or a gap. Its form, and is it whole?

Decides from bytes alone; reads no file and no ring. Numbers are little-endian; a record begins on a 64-byte boundary of its file, so that a
view of its frames is as aligned as one of a ring:

    0   "HTRS"
    4   u32 CRC-32C of the 56 bytes that follow
    8   u64 salt: the spool's own, so that a record of another spool that lies inside of a payload is never taken for one of this
    16  u64 seq, u64 count (frames, or sequences of a gap), u64 epoch, i64 timestamp_ns, u64 bytes of each frame
    56  u32 CRC-32C of the frames, u32 flags
    64  the frames, and zeros up to the next boundary
"""

import cython

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef extern from "ring_protocol.h" nogil:
    uint32_t ht_crc32c(const void *bytes, uint64_t count)

__all__ = ["ALIGN", "CORRUPT", "FIELDS_BYTES", "GAP", "MAGIC", "MISSED", "Entry", "crc32c", "entry_at", "record"]

MAGIC = b"HTRS"
ALIGN = FIELDS_BYTES = 64
GAP = 1  # no frames: [seq, seq + count) is lost
MISSED = 2  # a gap of the spooler's: the ring had reclaimed these when it came (back)
CORRUPT = 4  # a gap of the spooler's: these did not match the ring's checksum

cdef struct Fields:
    char magic[4]
    uint32_t fields_crc
    uint64_t salt
    uint64_t seq
    uint64_t count
    uint64_t epoch
    int64_t timestamp_ns
    uint64_t length
    uint32_t crc
    uint32_t flags

assert sizeof(Fields) == FIELDS_BYTES


cdef uint32_t checksum(const void *bytes, uint64_t count) noexcept nogil:
    return ht_crc32c(bytes, count)


cdef uint64_t padded(uint64_t size) noexcept nogil:
    """`size` and the zeros up to the next boundary."""
    return (size + 63) & ~<uint64_t>63


cdef void put_fields(
    char *into, uint64_t salt, uint64_t seq, uint64_t count, uint64_t epoch, int64_t timestamp_ns, uint64_t length, uint32_t crc,
    uint32_t flags,
) noexcept nogil:
    cdef Fields fields
    memcpy(fields.magic, b"HTRS", 4)
    fields.salt, fields.seq, fields.count, fields.epoch, fields.timestamp_ns = salt, seq, count, epoch, timestamp_ns
    fields.length, fields.crc, fields.flags = length, crc, flags
    fields.fields_crc = ht_crc32c(&fields.salt, sizeof(Fields) - 8)
    memcpy(into, &fields, sizeof(Fields))


@cython.no_gc
cdef class Entry:
    """One record as it lies in a segment: `at` is its first frame's offset, `end` where the next record begins."""

    @property
    def gap(self):
        """Sequences that it declares as lost; 0 for frames."""
        return self.count if self.flags & 1 else 0

    @property
    def end_seq(self):
        """The sequence behind its last."""
        return self.seq + self.count

    def __repr__(self):
        return f"<Entry {self.seq} + {self.count}{' gap' if self.flags & 1 else ''}, {self.frame_bytes} B each, up to {self.end}>"


def crc32c(data):
    """CRC-32C of bytes, by the processor's instruction where it has one."""
    cdef Py_buffer given
    PyObject_GetBuffer(data, &given, PyBUF_C_CONTIGUOUS)
    try:
        return ht_crc32c(given.buf, given.len)
    finally:
        PyBuffer_Release(&given)


def record(salt, seq, *, frames=b"", frame_bytes=0, count=0, epoch=0, timestamp_ns=0, flags=0):
    """The bytes of a record: of `count` frames that lie in `frames`, or a gap of `count`."""
    cdef Py_buffer given
    cdef bytes made
    cdef char *into
    cdef uint64_t size
    PyObject_GetBuffer(frames, &given, PyBUF_C_CONTIGUOUS)
    try:
        size = given.len
        if size != (0 if flags & 1 else count * frame_bytes) or count < 1:
            raise ValueError(f"{count} frames of {frame_bytes} bytes (flags {flags}) are not {size} bytes")
        made = PyBytes_FromStringAndSize(NULL, sizeof(Fields) + padded(size))
        into = PyBytes_AS_STRING(made)
        put_fields(into, salt, seq, count, epoch, timestamp_ns, frame_bytes, ht_crc32c(given.buf, size), flags)
        memcpy(into + sizeof(Fields), given.buf, size)
        memset(into + sizeof(Fields) + size, 0, padded(size) - size)
        return made
    finally:
        PyBuffer_Release(&given)


def entry_at(data, at, salt, *, bint frames=True):
    """The record at offset `at` of a segment's bytes; None if none lies there whole. `frames`: compare their checksum, too."""
    cdef Py_buffer given
    cdef uint64_t offset = at, wanted = salt
    PyObject_GetBuffer(data, &given, PyBUF_C_CONTIGUOUS)
    try:
        return _entry(<const char *>given.buf, given.len, offset, wanted, frames)
    finally:
        PyBuffer_Release(&given)


cdef object _entry(const char *data, uint64_t size, uint64_t at, uint64_t salt, bint frames):
    cdef Fields fields
    cdef uint64_t bytes
    cdef uint32_t crc
    if at > size or size - at < sizeof(Fields):
        return None
    memcpy(&fields, data + at, sizeof(Fields))
    if memcmp(fields.magic, b"HTRS", 4) != 0 or fields.salt != salt:
        return None
    if fields.fields_crc != ht_crc32c(&fields.salt, sizeof(Fields) - 8) or not fields.count:
        return None
    at += sizeof(Fields)
    bytes = 0
    if not fields.flags & 1 and fields.length:
        if fields.count > (size - at) // fields.length:
            return None
        bytes = fields.count * fields.length
    if size - at < padded(bytes):
        return None
    if frames and bytes:
        if bytes < 65536:  # below, handing the interpreter's lock over and back costs more than the sum
            crc = ht_crc32c(data + at, bytes)
        else:
            with nogil:
                crc = ht_crc32c(data + at, bytes)
        if crc != fields.crc:
            return None
    cdef Entry entry = Entry.__new__(Entry)
    entry.seq, entry.count, entry.epoch, entry.timestamp_ns = fields.seq, fields.count, fields.epoch, fields.timestamp_ns
    entry.frame_bytes, entry.flags, entry.at, entry.end = fields.length, fields.flags, at, at + padded(bytes)
    return entry
