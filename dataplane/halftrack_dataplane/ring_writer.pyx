"""The ring's one writer: finds room by its policy, fills it, publishes.

Owns the claim to write and the wait for space; the orderings are in ring_layout.h. Never judges who is dead.
"""

import cython

from halftrack_dataplane.frames import FrameTooLarge, RingError, RingFull

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libc.string cimport memcpy

from halftrack_dataplane.identity cimport forked, forks
from halftrack_dataplane.mapping cimport NOGIL_BYTES, deadline_of, export, retire, slice_of
from halftrack_dataplane.ring_layout cimport *

__all__ = ["Writer"]


@cython.no_gc_clear  # __dealloc__ needs the mapping to give the claim back
cdef class Writer:
    """The ring's one writer."""

    def __init__(self):
        raise TypeError("use Ring.writer()")

    cdef int _enter(self) except -1:
        if self.closing or self.mapping is None:
            raise RingError("this Writer is closed")
        if self.forks != forks():
            raise forked()
        if self.busy:
            raise RingError("this Writer is in use by another thread; a ring has one writer at a time")
        self.busy = True
        return 0

    cdef int _leave(self) except -1:
        self.busy = False
        if self.closing:
            self._let_go()
        return 0

    cdef bint _reserve(self, uint64_t length, object timeout_s) except -1:
        """Makes self.place good for `length` bytes; False if the policy is to drop and there is no room."""
        cdef ht_header *h = self.mapping.header
        cdef int64_t deadline = -1
        cdef uint32_t event
        cdef bint armed = False
        if length > h.capacity_bytes // 2:
            raise FrameTooLarge(f"a frame of {length} bytes; this ring of {h.capacity_bytes} takes half of that at most")
        if ht_reserve(h, length, &self.place) == HT_OK:
            return True
        if self.policy == FULL_DROP:
            return False
        deadline = deadline_of(timeout_s)
        try:
            while True:
                event = ht_event(&h.space_event)
                if ht_reserve(h, length, &self.place) == HT_OK:
                    return True
                if self.policy == FULL_OVERWRITE:
                    self._evict_laggards()
                    continue
                if deadline >= 0 and ht_now_ns() >= deadline:
                    raise RingFull(f"no room for {length} bytes after {timeout_s} s: a lossless reader lags or is dead")
                if not armed:
                    ht_arm_writer(h)
                    armed = True
                    continue  # SYNC: space wake-up: having announced, look again
                with nogil:
                    ht_sleep(&h.space_event, event, slice_of(deadline))
                PyErr_CheckSignals()
                if self.closing:
                    raise RingError("this Writer was closed while it waited")
        finally:
            if armed:
                ht_disarm_writer(h)

    cdef int _evict_laggards(self) except -1:
        """Overwrite means that the newest frames win: lossless readers in the way lose their place, loudly."""
        cdef ht_header *h = self.mapping.header
        cdef uint64_t owner
        cdef int slot, limit = h.reader_limit
        for slot in range(limit):
            owner = ht_load(&h.readers[slot].owner)
            if owner & HT_STATE_MASK == HT_LOSSLESS and ht_load(&h.readers[slot].cursor) < self.place.needed:
                if ht_take_slot(h, slot, owner, HT_EVICTED):
                    ht_add(&h.evicted, 1)
        return 0

    def write(self, data, *, epoch=0, timestamp_ns=0, timeout_s=None):
        """Publishes a copy of `data` and returns its sequence; -1 if it was dropped (policy "drop"), which is counted."""
        cdef Py_buffer source
        cdef char *into
        cdef ht_header *h
        cdef uint64_t number = epoch
        cdef int64_t stamp = timestamp_ns
        self._enter()
        try:
            if self.claimed:
                raise RingError("a frame is claimed: commit or abort it before writing another")
            h = self.mapping.header
            try:
                PyObject_GetBuffer(data, &source, PyBUF_C_CONTIGUOUS)
            except BufferError:  # strided: put it in order first
                PyObject_GetBuffer(memoryview(data).tobytes(), &source, PyBUF_C_CONTIGUOUS)
            try:
                if not self._reserve(source.len, timeout_s):
                    ht_store(&h.dropped, h.dropped + 1)
                    return -1
                into = ht_bytes(h, self.place.offset)
                if source.len < NOGIL_BYTES:
                    memcpy(into, source.buf, source.len)
                else:
                    with nogil:
                        memcpy(into, source.buf, source.len)
                ht_publish(h, &self.place, 0, number, stamp)
                return self.place.seq
            finally:
                PyBuffer_Release(&source)
        finally:
            self._leave()

    def claim(self, nbytes, timeout_s=None):
        """A writable view of `nbytes` in the ring, visible to nobody until `commit`. RingFull if it would be dropped."""
        cdef uint64_t length = nbytes
        self._enter()
        try:
            if self.claimed:
                raise RingError("a frame is claimed already: commit or abort it first")
            if not self._reserve(length, timeout_s):
                ht_store(&self.mapping.header.dropped, self.mapping.header.dropped + 1)
                raise RingFull(f"no room for {length} bytes, and the writer's policy is to drop; counted as dropped")
            self.claim_view = export(self.mapping, self.place.offset, length, False)
            self.claimed = True
            return self.claim_view
        finally:
            self._leave()

    def commit(self, *, epoch=0, timestamp_ns=0):
        """Publishes the claimed frame; its view ends. Returns the sequence."""
        cdef uint64_t number = epoch
        cdef int64_t stamp = timestamp_ns
        self._enter()
        try:
            if not self.claimed:
                raise RingError("nothing is claimed")
            self._end_claim()
            ht_publish(self.mapping.header, &self.place, 0, number, stamp)
            return self.place.seq
        finally:
            self._leave()

    def abort(self):
        """Gives a claim up; no sequence is used. Without a claim it does nothing."""
        self._enter()
        try:
            if self.claimed:
                self._end_claim()
        finally:
            self._leave()

    def gap(self, count, *, epoch=0, timestamp_ns=0, timeout_s=None):
        """Declares the next `count` sequences as lost and returns the first; -1 if that had to be dropped."""
        cdef uint64_t number = epoch
        cdef int64_t stamp = timestamp_ns
        if not 1 <= count < 1 << 62:
            raise ValueError(f"a gap covers at least one sequence, not {count}")
        self._enter()
        try:
            if self.claimed:
                raise RingError("a frame is claimed: commit or abort it before declaring a gap")
            if not self._reserve(0, timeout_s):
                ht_store(&self.mapping.header.dropped, self.mapping.header.dropped + <uint64_t>count)
                return -1
            ht_publish(self.mapping.header, &self.place, count, number, stamp)
            return self.place.seq
        finally:
            self._leave()

    def start_at(self, seq):
        """Makes `seq` the first sequence of a ring that never held a frame. What readers find below is a gap record, as they
        may have joined already; but nothing was lost, so it is not counted."""
        cdef ht_header *h
        if not 0 <= seq < 1 << 62:
            raise ValueError(f"a sequence must be in [0, 2**62), not {seq}")
        self._enter()
        try:
            h = self.mapping.header
            if self.claimed:
                raise RingError("a frame is claimed: commit or abort it before saying where the ring starts")
            if h.head != h.base_seq or seq < h.head:
                raise RingError(f"this ring goes on at {h.head}, so it cannot start at {seq}; declare a gap instead")
            if seq > h.head:
                self._reserve(0, 0)  # there is room: it is empty
                ht_publish(h, &self.place, seq - h.head, 0, 0)
                ht_store(&h.gap_frames, 0)
        finally:
            self._leave()

    def _end_claim(self):
        retire(self.claim_view)
        self.claim_view, self.claimed = None, False

    cdef int _let_go(self) except -1:
        if self.mapping is not None:
            if self.claimed:
                self._end_claim()
            if self.forks == forks():
                ht_swap_if(&self.mapping.header.writer, self.identity, HT_FREE)  # SYNC: slot owned
            self.mapping = None
        return 0

    def close(self):
        """Lets the ring have another writer; an uncommitted claim vanishes. Ends a wait in another thread."""
        self.closing = True
        if not self.busy:
            self._let_go()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __dealloc__(self):
        if self.mapping is not None and self.forks == forks():
            ht_swap_if(&self.mapping.header.writer, self.identity, HT_FREE)
