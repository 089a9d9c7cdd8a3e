"""Takes records out of a ring in the form in which a spool holds them, and lets go of them only when it is told that they are durable.

Owns how far a lossless reader has read beyond its own cursor. Small records are copied behind their fields, large ones are lent from the
ring's memory, to be written from there. Never writes a file.
"""

from halftrack_dataplane.frames import FrameCorrupt, RingError

from libc.string cimport memcpy, memset

from halftrack_dataplane.mapping cimport export
from halftrack_dataplane.native cimport *
from halftrack_dataplane.ring_reader cimport Reader
from halftrack_dataplane.spool_record cimport checksum, padded, put_fields

cdef extern from "fcntl.h" nogil:
    int sync_file_range(int fd, int64_t offset, int64_t count, unsigned int flags)
    const unsigned int SYNC_FILE_RANGE_WRITE

__all__ = ["Packed", "Packer", "start_writing"]

cdef enum:
    COPY_BYTES = 32768  # below, a copy costs less than a view of its own and the kernel's look at one more part
    ROOM_BYTES = 1 << 20  # of fields and of copies in one go
    PARTS = 1000  # the kernel takes 1024 in one go
    FIELDS = 64
    GAP_FLAG = 1
    CORRUPT_FLAG = 4


def start_writing(int fd, int64_t offset, int64_t count):
    """Lets the disk begin with these bytes of a file while we go on. Promises nothing: only a sync does, which then has less to wait for."""
    with nogil:
        sync_file_range(fd, offset, count, SYNC_FILE_RANGE_WRITE)  # whatever it says, the sync says it again


cdef class Packed:
    """What is to be written next: `parts`, one behind the other, `bytes` in all. They are good until the next `pack`.

    With `needed` there are no parts: the next record needs so many bytes, more than there is room for.
    """

    cdef readonly list parts
    cdef readonly uint64_t bytes
    cdef readonly uint64_t frames
    cdef readonly uint64_t corrupt
    cdef readonly uint64_t end_seq
    cdef readonly uint64_t needed


cdef class Packer:
    """Reads ahead of a lossless reader that nobody else uses. A reader that was evicted raises Evicted, as it does itself."""

    cdef Reader reader
    cdef uint64_t salt
    cdef bytearray room
    cdef object lent
    cdef char *at
    cdef uint64_t filled, begun  # of `room`: bytes in use, and from where on they are in no part yet

    def __init__(self, Reader reader, salt):
        if reader.policy != "lossless":
            raise RingError("only a lossless reader can hold what is not durable yet")
        self.reader, self.salt, self.room = reader, salt, bytearray(ROOM_BYTES)
        self.lent = memoryview(self.room)
        self.at = self.room

    @property
    def next_seq(self):
        """The next sequence that will be packed."""
        return self.reader.r.cursor

    def pack(self, room, most, timeout_s):
        """All records that are there, up to `most` bytes or one frame, into `room` bytes; None if there are none in `timeout_s`."""
        cdef Packed packed = Packed.__new__(Packed)
        cdef uint64_t limit = room, wanted = most
        packed.parts = []
        self.filled = self.begun = 0
        self.reader._enter()
        try:
            try:
                if not self.reader._await(timeout_s):
                    return None
            except FrameCorrupt:
                if limit < FIELDS:
                    packed.needed = FIELDS
                else:
                    packed.corrupt = self.reader.r.found.end - self.reader.r.cursor
                    self._gap(packed, CORRUPT_FLAG)
                    self._flush(packed)
                return packed
            while self._one(packed, limit, wanted) and ht_look(&self.reader.r) == HT_OK:
                pass
            if not ht_held(&self.reader.r):  # what was summed up may be something else: it must not be written
                self.reader.evicted = True
                raise self.reader._gone()
            self._flush(packed)
            return packed
        finally:
            packed.end_seq = self.reader.r.cursor
            self.reader._leave()

    cdef bint _one(self, Packed packed, uint64_t room, uint64_t most) except -1:
        """Packs the record at the cursor, or as many of its frames as fit. False: that was all for now."""
        cdef uint64_t seq = self.reader.r.cursor, length = self.reader.r.found.length, count, size = 0
        if len(packed.parts) >= PARTS or self.filled + COPY_BYTES + 2 * FIELDS > ROOM_BYTES or packed.bytes >= most:
            return False
        if packed.bytes + FIELDS > room:
            packed.needed = 0 if packed.bytes else FIELDS
            return False
        if self.reader.r.found.flags & HT_GAP:
            self._gap(packed, 0)
            return True
        count = self.reader.r.found.end - seq
        if length:
            count = min(count, max(<uint64_t>1, (most - packed.bytes) // length))
            if packed.bytes + FIELDS + padded(length) > room:
                packed.needed = 0 if packed.bytes else FIELDS + padded(length)
                return False
            count = min(count, (room - packed.bytes - FIELDS) // length)
            size = count * length
        self._frames(packed, seq, count, size)
        self.reader.r.cursor = seq + count
        return True

    cdef int _gap(self, Packed packed, uint32_t flags) except -1:
        cdef uint64_t seq = self.reader.r.cursor, end = self.reader.r.found.end
        put_fields(
            self.at + self.filled, self.salt, seq, end - seq, self.reader.r.found.epoch, self.reader.r.found.timestamp_ns, 0,
            checksum(NULL, 0), GAP_FLAG | flags,
        )
        self.filled += FIELDS
        packed.bytes += FIELDS
        self.reader.r.cursor = end
        return 0

    cdef int _frames(self, Packed packed, uint64_t seq, uint64_t count, uint64_t size) except -1:
        cdef const char *frames = ht_frame_at(&self.reader.r.found, seq)
        cdef uint64_t pad = padded(size) - size
        cdef uint32_t crc
        with nogil:
            crc = checksum(frames, size)
        put_fields(
            self.at + self.filled, self.salt, seq, count, self.reader.r.found.epoch, self.reader.r.found.timestamp_ns,
            self.reader.r.found.length, crc, 0,
        )
        self.filled += FIELDS
        if size < COPY_BYTES:
            memcpy(self.at + self.filled, frames, size)
            self.filled += size
        else:
            self._flush(packed)
            packed.parts.append(export(self.reader.mapping, <char *>frames, size, True))
        memset(self.at + self.filled, 0, pad)
        self.filled += pad
        packed.bytes += FIELDS + size + pad
        packed.frames += count
        return 0

    cdef int _flush(self, Packed packed) except -1:
        if self.filled > self.begun:
            packed.parts.append(self.lent[self.begun:self.filled])
            self.begun = self.filled
        return 0

    def check(self):
        """Raises Evicted if the ring no longer held what was packed last: parts in the ring's memory may be something else by now."""
        self.reader._enter()
        self.reader._leave()

    def release(self, seq):
        """Everything below `seq` is durable: the ring need not hold it any more."""
        cdef uint64_t end = seq, ahead
        self.reader._enter()
        try:
            ahead = self.reader.r.cursor
            if end > ahead:
                raise ValueError(f"sequence {seq} has not been packed yet; the next one is {ahead}")
            self.reader.position = end
            ht_done(&self.reader.r, end)
            self.reader.r.cursor = ahead
        finally:
            self.reader._leave()
