"""A reader of the ring: one cursor and its policy.

Owns the cursor, its slot until it is closed or learns that it was evicted, the choice of a sampling reader and the wait for frames;
the steps and their orderings are in native/ring_protocol.h. Never moves anybody else's cursor.
"""

import cython

from halftrack_dataplane.frames import Evicted, FrameCorrupt, RingError

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals

from halftrack_dataplane.frame cimport new_batch, new_frame
from halftrack_dataplane.mapping cimport copy_in, copy_out, damaged, deadline_of, export, forked, forks_word, retire, slept_until
from halftrack_dataplane.native cimport *
from halftrack_dataplane.reuse cimport HT_REUSE_BYTES, frame_of, ht_fill, ht_forget, ht_listed

__all__ = ["Reader"]

cdef const int *FORKS = forks_word()


@cython.final
@cython.no_gc_clear  # __dealloc__ needs the mapping to give the slot back
cdef class Reader:
    """One reader's cursor. Lossless: the writer waits for it. Lossy and sampling: it may be overrun, and counts what it missed."""

    def __init__(self):
        raise TypeError("use Ring.reader()")

    cdef int _enter(self) except -1:
        self.known_end = 0
        if self.evicted or self.closing or self.mapping is None or self.busy or self.forks != FORKS[0]:
            if self.evicted:
                raise self._gone()
            if self.closing or self.mapping is None:
                raise RingError("this Reader is closed")
            if self.forks != FORKS[0]:
                raise forked()
            raise RingError("this Reader is in use by another thread; give each thread its own")
        if ht_load(&self.r.slot.owner) != self.r.owner:  # SYNC: slot owned
            self.evicted = True
            self._let_go()
            raise self._gone()
        self.busy = True
        return 0

    cdef int _enter_batch(self) except -1:
        self._enter()
        if self.sampler is not None:
            self._leave()
            raise RingError("a sampling reader picks single frames: use read")
        return 0

    cdef int _leave(self) except -1:
        self.busy = False
        if self.closing or self.evicted:
            self._let_go()
        return 0

    cdef object _gone(self):
        return Evicted(f"reader {self.name!r} was evicted at sequence {self.position}; join again to go on")

    cdef bint _await(self, object timeout_s) except -1:
        """Makes self.r.found the record at the cursor; False if there was none until the deadline."""
        cdef int rc
        cdef int64_t deadline
        if self.sampler is None and ht_look(&self.r) == HT_OK:
            return True
        deadline = deadline_of(timeout_s)  # only here, since it asks the clock
        if self.sampler is not None:
            if self.sampler.next_ns > ht_now_ns() and not self._in_time(deadline):
                return False
            self._pick()
        while True:
            rc = ht_look(&self.r)
            if rc == HT_NOTHING:
                rc = self._wait(deadline)
            if rc == HT_OK:
                if self.sampler is not None:
                    self.sampler.took()
                return True
            if rc == HT_NOTHING:
                return False
            if rc == HT_AGAIN:
                self._still_wanted()
            elif rc == HT_EVICTION:
                self.evicted = True
                raise self._gone()
            elif rc == HT_CORRUPT:
                raise FrameCorrupt(f"sequence {self.r.cursor} does not match its checksum; seek past {self.r.found.end - 1} to go on")
            elif rc == HT_DAMAGED or self.r.lossless:
                raise damaged(self.r.cursor)
            else:
                ht_overrun(&self.r, False)
                self.position = self.r.cursor
                if self.sampler is not None:
                    self._pick()

    cdef int _wait(self, int64_t deadline) except -1:
        """One slice. A reader with a descriptor leaves the sleeping on the ring to its waker."""
        cdef int rc
        if self.waker is not None:
            return HT_AGAIN if self.waker.waited(self.r.cursor, deadline) else HT_NOTHING
        with nogil:
            rc = ht_wait(&self.r, deadline)
        return rc

    cdef int _still_wanted(self) except -1:
        """Between two slices of waiting. Whoever gives up must not stay among the waiters: each publish would be a system call."""
        try:
            PyErr_CheckSignals()
            if self.closing:
                raise RingError("this Reader was closed while it waited")
        except BaseException:
            ht_unwait(&self.r)
            raise
        return 0

    cdef int _pick(self) except -1:
        """On to the next sequence that a sampling reader wants."""
        cdef uint64_t seq = self.sampler.pick(self.r.cursor, ht_load(&self.r.h.head))
        if seq != self.r.cursor:
            self.position = seq
            ht_done(&self.r, seq)
        return 0

    cdef bint _in_time(self, int64_t deadline) except -1:
        """Waits until a sampling reader may take a frame; False if that is not before the deadline."""
        cdef bint early = 0 <= deadline < self.sampler.next_ns
        while not slept_until(deadline if early else self.sampler.next_ns):
            self._still_wanted()
        return not early

    cdef bint _torn(self, bint again) except -1:
        """Were the bytes at the cursor overwritten while they were copied? Then the cursor moves on, and it is counted."""
        if self.r.lossless or ht_intact(self.r.h, self.r.cursor):
            if ht_held(&self.r):
                return False
            self.evicted = True
            raise self._gone()
        ht_overrun(&self.r, again)
        self.position = self.r.cursor
        return True

    cpdef object read(self, timeout_s=None):
        """The next frame or gap record, copied; None if there is none within `timeout_s` (None: wait, 0: only look)."""
        cdef uint64_t seq = self.r.cursor
        if seq < self.known_end and self.forks == FORKS[0]:
            frame = frame_of(&self.kept[2], &self.r.found, seq)
            if ht_held(&self.r) and (self.r.lossless or ht_intact(self.r.h, seq)):
                self.position = seq + 1
                ht_done(&self.r, self.position)
                return frame
        return self._awaited(timeout_s)

    cdef object _awaited(self, object timeout_s):
        """Whatever is next, after waiting for it."""
        cdef bint again = False
        cdef uint64_t seq, gap
        self._enter()
        try:
            self._end_view(True)
            while True:
                if not self._await(timeout_s):
                    return None
                seq = self.r.cursor
                gap = self.r.found.end - seq if self.r.found.flags & HT_GAP else 0
                payload = b"" if gap else copy_out(ht_frame_at(&self.r.found, seq), self.r.found.length)
                if not self._torn(again):
                    break
                again = True
            self.position = seq + gap if gap else seq + 1
            ht_done(&self.r, self.position)
            if not gap and self.sampler is None and not self.r.verify and self.r.found.length <= HT_REUSE_BYTES:
                self.known_end = self.r.found.end
            return new_frame(seq, self.r.found.epoch, self.r.found.timestamp_ns, payload, gap)
        finally:
            self._leave()

    def __iter__(self):
        return self

    def __next__(self):
        """The next frame, for ever: `for frame in reader`."""
        return self.read()

    def read_many(self, limit=1024, timeout_s=None):
        """Up to `limit` frames of one epoch at once, as a Batch with a list of bytes; None if there is none within `timeout_s`.

        It waits for the first only. A gap record comes alone.
        """
        cdef uint64_t first, last, epoch, most = limit, length, some
        cdef int64_t stamp
        if most < 1:
            raise ValueError(f"a batch has at least one frame, not {limit}")
        self._enter_batch()
        try:
            self._end_view(True)
            while True:
                if not self._await(timeout_s):
                    return None
                first, epoch, stamp, length = self.r.cursor, self.r.found.epoch, self.r.found.timestamp_ns, self.r.found.length
                if self.r.found.flags & HT_GAP:
                    self.position = self.r.found.end
                    ht_done(&self.r, self.position)
                    return new_batch(first, 0, epoch, stamp, 0, [], self.position - first)
                self.turn ^= 1
                last = first
                while last - first < most and ht_locate(self.r.h, last, &self.r.found) == HT_OK:
                    if self.r.found.flags & HT_GAP or self.r.found.epoch != epoch or not ht_verified(&self.r):
                        break
                    length, some = self.r.found.length, min(self.r.found.end - last, most - (last - first))
                    ht_fill(&self.kept[self.turn], last - first, some, ht_frame_at(&self.r.found, last), length)
                    last += some
                if not self._torn(True) and last > first:
                    break
            self.position = last
            ht_done(&self.r, last)
            return new_batch(first, last - first, epoch, stamp, length, ht_listed(&self.kept[self.turn], last - first, length), 0)
        finally:
            self._leave()

    def read_into(self, buffer, timeout_s=None):
        """Copies as many whole frames of one record as there are and fit into `buffer`; a Batch without payload, or None."""
        cdef uint64_t first, count
        cdef Py_buffer target
        self._enter_batch()
        try:
            self._end_view(True)
            PyObject_GetBuffer(buffer, &target, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
            try:
                while True:
                    if not self._await(timeout_s):
                        return None
                    first, count = self.r.cursor, 0
                    if not self.r.found.flags & HT_GAP:
                        count = self.r.found.end - first
                        if self.r.found.length:
                            count = min(count, <uint64_t>target.len // self.r.found.length)
                        if not count:
                            raise ValueError(f"a buffer of {target.len} bytes; the next frame has {self.r.found.length}")
                        copy_in(<char *>target.buf, ht_frame_at(&self.r.found, first), count * self.r.found.length)
                    if not self._torn(True):
                        break
            finally:
                PyBuffer_Release(&target)
            self.position = first + count if count else self.r.found.end
            ht_done(&self.r, self.position)
            gap = 0 if count else self.position - first
            return new_batch(first, count, self.r.found.epoch, self.r.found.timestamp_ns, self.r.found.length, None, gap)
        finally:
            self._leave()

    def view(self, timeout_s=None):
        """Like `read`, but the payload is the ring's memory, valid until the next view, read, seek, release or close."""
        cdef int64_t count
        self._enter()
        try:
            count = self._lend(1, timeout_s)
            if count < 0:
                return None
            gap = 0 if count else self.view_end - self.r.cursor
            return new_frame(self.r.cursor, self.r.found.epoch, self.r.found.timestamp_ns, self.exported, gap)
        finally:
            self._leave()

    def view_many(self, limit=1 << 32, timeout_s=None):
        """Up to `limit` frames of one record in the ring's memory: a Batch whose payload is one block. See `view`."""
        cdef uint64_t most = limit
        cdef int64_t count
        if most < 1:
            raise ValueError(f"a batch has at least one frame, not {limit}")
        self._enter()
        try:
            count = self._lend(most, timeout_s)
            if count < 0:
                return None
            gap, length = 0 if count else self.view_end - self.r.cursor, self.r.found.length
            return new_batch(self.r.cursor, count, self.r.found.epoch, self.r.found.timestamp_ns, length, self.exported, gap)
        finally:
            self._leave()

    cdef int64_t _lend(self, uint64_t most, object timeout_s) except -2:
        """Makes self.exported a view of the frames at the cursor; how many, 0: a gap, -1: nothing came."""
        cdef uint64_t count = 0, length
        if not self.r.lossless:
            raise RingError("only a lossless reader can view: a lossy one's frames may be overwritten meanwhile")
        self._end_view(True)
        if not self._await(timeout_s):
            return -1
        if not self.r.found.flags & HT_GAP:
            count = min(self.r.found.end - self.r.cursor, most)
        self.view_end = self.r.cursor + count if count else self.r.found.end
        length = count * self.r.found.length
        at = ht_frame_at(&self.r.found, self.r.cursor) if length else self.r.found.bytes
        self.exported = export(self.mapping, <char *>at, length, True)
        return count

    cdef int _end_view(self, bint advance) except -1:
        if self.exported is not None:
            retire(self.exported)
            self.exported = None
            if advance:
                self.position = self.view_end
                ht_done(&self.r, self.position)
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
        self._enter()
        try:
            self._end_view(False)
            if ht_seek(&self.r, wanted) == HT_EVICTION:
                self.evicted = True
                raise self._gone()
            self.position = self.r.cursor
        finally:
            self._leave()

    def fileno(self):
        """A descriptor that is readable while frames may be there, until a `read(0)` finds none; for select, epoll and asyncio."""
        self._enter()
        try:
            if self.waker is None:
                self.waker = Waker.__new__(Waker)
                self.waker.mapping, self.waker.slot, self.waker.forks = self.mapping, self.r.number, self.forks
                self.waker.begin(self.r.cursor)
            return self.waker.ready_fd
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
        cdef uint64_t head = ht_load(&self.r.h.head)
        return head - self.position if head > self.position else 0

    @property
    def overruns(self):
        """How often it was overrun."""
        return ht_load(&self.r.slot.overruns) if self.mapping is not None else self.last_overruns

    @property
    def missed(self):
        """Sequences that it lost by being overrun or by joining too late."""
        return ht_load(&self.r.slot.missed) if self.mapping is not None else self.last_missed

    cdef int _end_waker(self) except -1:
        if self.waker is not None:
            self.waker.end()
            self.waker = None
        return 0

    cdef int _let_go(self) except -1:
        if self.mapping is not None:
            self._end_view(False)
            self._end_waker()
            self.last_overruns, self.last_missed = self.overruns, self.missed
            if self.forks == FORKS[0]:
                ht_leave(&self.r)
            self.mapping = None
        return 0

    def close(self):
        """Gives the slot back. Ends a wait in another thread."""
        self.closing, self.known_end = True, 0
        if not self.busy:
            self._let_go()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __dealloc__(self):
        ht_forget(self.kept, 3)
        if self.mapping is not None and self.forks == FORKS[0]:
            self._end_waker()
            ht_leave(&self.r)
