"""A reader of the ring: one cursor and its policy.

Owns the cursor, its slot until it is closed or learns that it was evicted, and the wait for frames; the orderings are in
ring_layout.h. Never moves anybody else's cursor.
"""

import cython

from halftrack_dataplane.frames import Evicted, Frame, RingError

from cpython.exc cimport PyErr_CheckSignals

from halftrack_dataplane.identity cimport forked, forks
from halftrack_dataplane.mapping cimport copy_out, damaged, deadline_of, export, retire, slice_of
from halftrack_dataplane.ring_layout cimport *

__all__ = ["Reader"]


@cython.no_gc_clear  # __dealloc__ needs the mapping to give the slot back
cdef class Reader:
    """One reader's cursor. Lossless: the writer waits for it. Lossy: it may be overrun, and counts what it missed."""

    def __init__(self):
        raise TypeError("use Ring.reader()")

    cdef int _enter(self) except -1:
        if self.evicted:
            raise Evicted(f"reader {self.name!r} was evicted at sequence {self.position}; join again to go on")
        if self.closing or self.mapping is None:
            raise RingError("this Reader is closed")
        if self.forks != forks():
            raise forked()
        if self.busy:
            raise RingError("this Reader is in use by another thread; give each thread its own")
        try:
            self._still_owner()
        except Evicted:
            self._let_go()
            raise
        self.busy = True
        return 0

    cdef int _leave(self) except -1:
        self.busy = False
        if self.closing or self.evicted:
            self._let_go()
        return 0

    cdef int _still_owner(self) except -1:
        if ht_load(&self.shared.owner) == self.owner:  # SYNC: slot owned
            return 0
        self.evicted = True
        raise Evicted(f"reader {self.name!r} was evicted at sequence {self.position}; join again to go on")

    cdef int _overrun(self, bint again) except -1:
        """Goes on at the oldest retained sequence; half way to the head when that was overrun during the copy, too."""
        cdef ht_header *h = self.mapping.header
        cdef uint64_t to = ht_load(&h.tail)
        if again:
            to += (ht_load(&h.head) - to) // 2
        ht_store(&self.shared.overruns, self.shared.overruns + 1)
        ht_store(&self.shared.missed, self.shared.missed + (to - self.position))
        self.position = to
        ht_store(&self.shared.cursor, to)
        return 0

    cdef bint _await(self, int64_t deadline) except -1:
        """Makes self.found the record at the cursor; False if there was none until the deadline."""
        cdef ht_header *h = self.mapping.header
        cdef uint32_t event
        cdef bint armed = False, spun = False
        cdef int rc
        try:
            while True:
                event = ht_event(&h.data_event)
                rc = ht_locate(h, self.position, &self.found)
                self._still_owner()
                if rc == HT_OK:
                    return True
                if rc == HT_DAMAGED or (rc == HT_BEHIND and self.lossless):
                    raise damaged(self.position)
                if rc == HT_BEHIND:
                    self._overrun(False)
                    continue
                if deadline >= 0 and ht_now_ns() >= deadline:
                    return False
                if not spun:
                    with nogil:
                        ht_spin_for_frame(h, self.position)
                    spun = True
                    continue
                if not armed:
                    ht_arm_reader(h, self.slot)
                    armed = True
                    continue  # SYNC: frame wake-up: having announced, look again
                with nogil:
                    ht_sleep(&h.data_event, event, slice_of(deadline))
                PyErr_CheckSignals()
                if self.closing:
                    raise RingError("this Reader was closed while it waited")
        finally:
            if armed:
                ht_disarm_reader(h, self.slot)

    def read(self, timeout_s=None):
        """The next frame or gap record, copied; None if there is none within `timeout_s` (None: wait, 0: only look)."""
        cdef int64_t deadline = deadline_of(timeout_s)
        cdef ht_header *h
        cdef bint torn = False
        self._enter()
        try:
            self._end_view(True)
            h = self.mapping.header
            while True:
                if not self._await(deadline):
                    return None
                payload = copy_out(h, self.found.offset, self.found.length)
                if ht_intact(h, self.found.seq):
                    break
                self._still_owner()
                self._overrun(torn)
                torn = True
            self.position = self.found.next
            ht_advance(h, self.shared, self.position, self.lossless)
            return Frame(self.found.seq, self.found.epoch, self.found.timestamp_ns, payload, self.found.gap)
        finally:
            self._leave()

    def view(self, timeout_s=None):
        """Like `read`, but the payload is the ring's memory, valid until the next view, read, seek, release or close."""
        cdef int64_t deadline = deadline_of(timeout_s)
        self._enter()
        try:
            if not self.lossless:
                raise RingError("only a lossless reader can view: a lossy one's frames may be overwritten meanwhile")
            self._end_view(True)
            if not self._await(deadline):
                return None
            self.exported = export(self.mapping, self.found.offset, self.found.length, True)
            self.viewing = True
            return Frame(self.found.seq, self.found.epoch, self.found.timestamp_ns, self.exported, self.found.gap)
        finally:
            self._leave()

    cdef int _end_view(self, bint advance) except -1:
        if self.viewing:
            retire(self.exported)
            self.viewing, self.exported = False, None
            if advance:
                self.position = self.found.next
                ht_advance(self.mapping.header, self.shared, self.position, self.lossless)
        return 0

    def release(self):
        """Done with the current view: it ends, and the cursor moves on. Without a view it does nothing."""
        self._enter()
        try:
            self._end_view(True)
        finally:
            self._leave()

    def seek(self, seq):
        """Moves the cursor; below the oldest retained it is clamped and the difference counted, above the head it waits."""
        cdef uint64_t wanted = seq
        cdef ht_header *h
        self._enter()
        try:
            self._end_view(False)
            h = self.mapping.header
            self.position = ht_pin(h, self.shared, wanted)
            if self.lossless:
                ht_wake_writer(h)
            if self.position > wanted:
                ht_store(&self.shared.overruns, self.shared.overruns + 1)
                ht_store(&self.shared.missed, self.shared.missed + (self.position - wanted))
        finally:
            self._leave()

    @property
    def cursor(self):
        """The next sequence that this reader wants; while it views one, that one."""
        return self.position

    @property
    def lag_frames(self):
        """Sequences published and not yet consumed."""
        if self.mapping is None:
            return 0
        cdef uint64_t head = ht_load(&self.mapping.header.head)
        return head - self.position if head > self.position else 0

    @property
    def overruns(self):
        """How often it was overrun."""
        return ht_load(&self.shared.overruns) if self.mapping is not None else self.last_overruns

    @property
    def missed(self):
        """Sequences that it lost by being overrun or by joining too late."""
        return ht_load(&self.shared.missed) if self.mapping is not None else self.last_missed

    cdef int _let_go(self) except -1:
        if self.mapping is not None:
            self._end_view(False)
            self.last_overruns, self.last_missed = self.overruns, self.missed
            _free_slot(self)
            self.mapping = None
        return 0

    def close(self):
        """Gives the slot back. Ends a wait in another thread."""
        self.closing = True
        if not self.busy:
            self._let_go()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __dealloc__(self):
        if self.mapping is not None:
            _free_slot(self)


cdef int _free_slot(Reader reader) noexcept:
    """Whether ours or evicted, the slot is ours to free: only now can we no longer store a cursor into it."""
    cdef uint64_t evicted = (reader.owner & ~HT_STATE_MASK) | HT_EVICTED
    cdef ht_header *h = reader.mapping.header
    if reader.forks == forks() and not ht_take_slot(h, reader.slot, reader.owner, HT_FREE):
        ht_take_slot(h, reader.slot, evicted, HT_FREE)
    return 0
