"""The ring's one writer: finds room by its policy, fills it, publishes.

Owns the claim to write and the wait for space; the steps and their orderings are in native/ring_protocol.h. Never judges who is dead.
"""

import cython

from halftrack_dataplane.frames import FrameTooLarge, RingError, RingFull, WrongLength

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_ND, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals

from halftrack_dataplane.mapping cimport NOGIL_BYTES, damaged, deadline_of, export, forked, forks_word, retire
from halftrack_dataplane.native cimport *
from halftrack_dataplane.reuse cimport ht_gather, ht_run_of

__all__ = ["Writer"]


cdef const int *FORKS = forks_word()


@cython.final
@cython.no_gc_clear  # __dealloc__ needs the mapping to give the claim back
cdef class Writer:
    """The ring's one writer; in a shared ring one of several, who take turns."""

    def __init__(self):
        raise TypeError("use Ring.writer()")

    cdef int _enter(self) except -1:
        if self.closing or self.mapping is None:
            raise RingError("this Writer is closed")
        if self.forks != FORKS[0]:
            raise forked()
        if self.busy:
            raise RingError("this Writer is in use by another thread; a ring has one writer at a time")
        if self.claim_view is not None:
            raise RingError("a frame is claimed: commit or abort it first")
        self.busy = True
        return 0

    cdef int _leave(self) except -1:
        self.busy = False
        if self.claim_view is None:
            ht_pass_turn(&self.out)
        if self.closing:
            self._let_go()
        return 0

    cdef int _check(self, uint64_t length, bint batch) except -1:
        cdef ht_header *h = self.out.w.h
        if h.frame_bytes and length != h.frame_bytes and not (batch and length and length % h.frame_bytes == 0):
            raise WrongLength(f"every frame of this ring has {h.frame_bytes} bytes, not {length}")
        if length > h.capacity_bytes // 2:
            raise FrameTooLarge(f"a frame of {length} bytes; this ring of {h.capacity_bytes} takes half of that at most")
        return 0

    cdef bint _turn(self, object timeout_s) except -1:
        """In a shared ring: waits for this writer's turn, which ends in `_leave`. False if the policy is not to wait for room, and who has
        the turn does."""
        cdef int rc = HT_AGAIN
        cdef int64_t deadline
        if self.out.held:
            return True
        deadline = deadline_of(timeout_s)
        while rc == HT_AGAIN:
            with nogil:
                rc = ht_take_turn(&self.out, deadline)
            if rc == HT_AGAIN:
                self._still_wanted()
        if rc == HT_DAMAGED:
            raise damaged(ht_load(&self.out.w.h.tail))
        if rc == HT_FULL and self.out.policy != HT_DROP:
            raise RingFull(f"another writer of this ring, process {ht_pid_of(ht_load(&self.out.w.h.writer))}, had the turn for {timeout_s} s")
        return rc == HT_OK

    cdef list _checked(self, frames):
        """A list of bytes whose lengths are right: `frames` itself, if it is one."""
        cdef Py_ssize_t done = 0, count, length
        cdef list items = frames if type(frames) is list else list(frames)
        count = len(items)
        while done < count:
            if not PyBytes_CheckExact(items[done]):
                return self._checked([item if PyBytes_CheckExact(item) else memoryview(item).tobytes() for item in items])
            length = PyBytes_GET_SIZE(items[done])
            self._check(length, False)
            done += ht_run_of(items, done, length, count)
        return items

    cdef bint _room(self, uint64_t bytes, object timeout_s) except -1:
        """Reserves `bytes`; False if the policy is to drop and there is no room."""
        cdef int rc
        cdef int64_t deadline
        if not self._turn(timeout_s):
            return False
        rc = ht_reserve(&self.out.w, bytes)
        if rc == HT_OK:
            return True
        deadline = deadline_of(timeout_s)
        while True:
            with nogil:
                rc = ht_room(&self.out, bytes, deadline)
            if rc == HT_OK:
                return True
            if rc == HT_FULL:
                if self.out.policy == HT_DROP:
                    return False
                raise RingFull(f"no room for {bytes} bytes after {timeout_s} s: a lossless reader lags or is dead")
            self._still_wanted()

    cdef int _still_wanted(self) except -1:
        """Between two slices of waiting. Whoever gives up must not be woken by every reader's every step."""
        try:
            PyErr_CheckSignals()
            if self.closing:
                raise RingError("this Writer was closed while it waited")
        except BaseException:
            ht_unblock(&self.out)
            raise
        return 0

    cdef bint _joins(self, const char *at, uint64_t length, uint64_t epoch, int64_t time) noexcept:
        """Publishes a small frame if it can join the newest record, which is nearly always, and nothing else is to be seen to."""
        cdef ht_writer *w = &self.out.w
        if not self.out.held or length != w.frame_bytes or length >= NOGIL_BYTES or not ht_grows(w, length, epoch, time):
            return False
        if self.busy or self.closing or self.claim_view is not None or self.forks != FORKS[0]:
            return False
        ht_copy(w.at, at, length)
        ht_grow(w, 1, length)
        return True

    cdef int _copy(self, const char *at, uint64_t length) except -1:
        """To where the next bytes go."""
        if length < NOGIL_BYTES:
            ht_copy_in(&self.out.w, at, length)
        else:
            with nogil:
                ht_copy_in(&self.out.w, at, length)
        return 0

    @property
    def stores(self):
        """How large copies are stored at the moment: "cached", or "streamed" past the caches, for readers that share none."""
        return "streamed" if self.out.w.stores.kind == HT_STREAMED else "cached"

    cdef bint _put(self, const char *at, uint64_t count, uint64_t length, uint64_t epoch, int64_t time, object timeout_s) except -1:
        """Publishes frames that lie one behind the other as one record or a part of one; False if they are to be dropped."""
        cdef ht_writer *w = &self.out.w
        if not self.out.held and not self._turn(timeout_s):
            return False
        if ht_grows(w, count * length, epoch, time):
            self._copy(at, count * length)
            ht_grow(w, count, length)
            return True
        if not self._room(count * length, timeout_s):
            return False
        self._copy(at, count * length)
        ht_publish(w, count, length, 0, epoch, time)
        return True

    cdef uint64_t _put_all(self, const char *at, uint64_t count, uint64_t length, uint64_t epoch, int64_t time, object timeout_s) except? 0:
        """The same in as many records as it takes. How many frames were published; the rest had to be dropped."""
        cdef uint64_t run = ht_run_frames(self.out.w.h, length), done = 0, some
        while done < count:
            some = min(run, count - done)
            if not self._put(at + done * length, some, length, epoch, time, timeout_s):
                break
            done += some
        return done

    def write(self, data, *, epoch=0, timestamp_ns=0, timeout_s=None):
        """Publishes a copy of `data` and returns its sequence; -1 if it was dropped (policy "drop"), which is counted."""
        cdef Py_buffer source
        cdef uint64_t number = epoch
        cdef int64_t stamp = timestamp_ns
        cdef bint done
        if PyBytes_CheckExact(data) and self._joins(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), number, stamp):
            return self.out.w.head - 1
        self._enter()
        try:
            if PyBytes_CheckExact(data):
                self._check(PyBytes_GET_SIZE(data), False)
                done = self._put(PyBytes_AS_STRING(data), 1, PyBytes_GET_SIZE(data), number, stamp, timeout_s)
            else:
                try:
                    PyObject_GetBuffer(data, &source, PyBUF_C_CONTIGUOUS)
                except BufferError:  # strided: put it in order first
                    PyObject_GetBuffer(memoryview(data).tobytes(), &source, PyBUF_C_CONTIGUOUS)
                try:
                    self._check(source.len, False)
                    done = self._put(<const char *>source.buf, 1, source.len, number, stamp, timeout_s)
                finally:
                    PyBuffer_Release(&source)
            if done:
                return self.out.w.head - 1
            ht_dropped(&self.out, 1)
            return -1
        finally:
            self._leave()

    def write_many(self, frames, *, epoch=0, timestamp_ns=0, timeout_s=None):
        """Publishes copies of all `frames` (a list of bytes is quickest) and returns their sequences, a range.

        With policy "drop" it may be shorter than `frames`: the rest was dropped, and counted. RingFull, after `timeout_s` for one
        run of frames, says how many were written. What is no bytes object is made one first.
        """
        cdef list items
        cdef uint64_t number = epoch, first, done = 0, some, length, count
        cdef int64_t stamp = timestamp_ns
        cdef ht_writer *w = &self.out.w
        cdef bint grows
        self._enter()
        try:
            items = self._checked(frames)
            count = len(items)
            if not self.out.held and items is frames:
                items = items[:]  # others may change theirs while we wait
            if not self._turn(timeout_s):
                ht_dropped(&self.out, count)
                return range(ht_load(&w.h.head), ht_load(&w.h.head))
            first = w.head
            while done < count:
                length = PyBytes_GET_SIZE(items[done])
                some = ht_run_of(items, done, length, ht_run_frames(w.h, length))
                grows = ht_grows(w, some * length, number, stamp)
                if not grows and ht_reserve(w, some * length) != HT_OK:
                    if items is frames:
                        items = items[:]  # others may change theirs while we wait
                    if not self._room_of_batch(some * length, timeout_s, done):
                        ht_dropped(&self.out, count - done)
                        break
                ht_gather(w.at, items, done, some, length)
                if grows:
                    ht_grow(w, some, length)
                else:
                    ht_publish(w, some, length, 0, number, stamp)
                done += some
            return range(first, first + done)
        finally:
            self._leave()

    def write_array(self, array, *, epoch=0, timestamp_ns=0, timeout_s=None):
        """Publishes the rows of `array` (anything C-contiguous with the buffer protocol) as frames; see `write_many`."""
        cdef Py_buffer source
        cdef uint64_t number = epoch, first, done, count, length
        cdef int64_t stamp = timestamp_ns
        self._enter()
        try:
            PyObject_GetBuffer(array, &source, PyBUF_C_CONTIGUOUS | PyBUF_ND)
            try:
                if source.ndim < 1:
                    raise ValueError("an array without rows holds no frames; give it a first axis")
                count = source.shape[0]
                length = source.len // count if count else 0
                if count:
                    self._check(length, False)
                if not self._turn(timeout_s):
                    ht_dropped(&self.out, count)
                    return range(ht_load(&self.out.w.h.head), ht_load(&self.out.w.h.head))
                first = self.out.w.head
                try:
                    done = self._put_all(<const char *>source.buf, count, length, number, stamp, timeout_s)
                except RingFull as error:
                    error.written = self.out.w.head - first
                    raise
                ht_dropped(&self.out, count - done)
                return range(first, first + done)
            finally:
                PyBuffer_Release(&source)
        finally:
            self._leave()

    def _room_of_batch(self, bytes, timeout_s, written):
        try:
            return self._room(bytes, timeout_s)
        except RingFull as error:
            error.written = written
            raise

    def claim(self, nbytes, timeout_s=None):
        """A writable view of `nbytes` in the ring, visible to nobody until `commit`. RingFull if it would be dropped.

        In a ring whose frames all have one length, several may be claimed at once: `nbytes` is a multiple of it.
        """
        cdef uint64_t length = nbytes
        self._enter()
        try:
            self._check(length, True)
            if not self._room(length, timeout_s):
                ht_dropped(&self.out, 1)
                raise RingFull(f"no room for {length} bytes, and the writer's policy is to drop; counted as dropped")
            self.claim_view = export(self.mapping, self.out.w.at, length, False)
            self.claim_bytes = length
            return self.claim_view
        finally:
            self._leave()

    def commit(self, *, epoch=0, timestamp_ns=0):
        """Publishes what was claimed; its view ends. Returns the (first) sequence."""
        cdef uint64_t number = epoch, length = self.claim_bytes
        cdef int64_t stamp = timestamp_ns
        if self.claim_view is None and not self.closing and self.mapping is not None:
            raise RingError("nothing is claimed")
        self._end_claim()
        self._enter()
        try:
            if self.out.w.h.frame_bytes:
                length = self.out.w.h.frame_bytes
            return ht_publish(&self.out.w, self.claim_bytes // length if length else 1, length, 0, number, stamp)
        finally:
            self._leave()

    def abort(self):
        """Gives a claim up; no sequence is used. Without a claim it does nothing."""
        self._end_claim()
        self._enter()
        self._leave()

    def gap(self, count, *, epoch=0, timestamp_ns=0, timeout_s=None):
        """Declares the next `count` sequences as lost and returns the first; -1 if that had to be dropped."""
        cdef uint64_t number = epoch
        cdef int64_t stamp = timestamp_ns
        if not 1 <= count < 1 << 62:
            raise ValueError(f"a gap covers at least one sequence, not {count}")
        self._enter()
        try:
            if not self._room(0, timeout_s):
                ht_dropped(&self.out, count)
                return -1
            return ht_publish(&self.out.w, count, 0, HT_GAP, number, stamp)
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
            if not self._turn(0):
                raise RingFull("another writer of this ring has the turn")
            h = self.out.w.h
            if h.head != h.base_seq or seq < h.head:
                raise RingError(f"this ring goes on at {h.head}, so it cannot start at {seq}; declare a gap instead")
            if seq > h.head:
                self._room(0, 0)  # there is room: it is empty
                ht_publish(&self.out.w, seq - h.head, 0, HT_GAP | HT_BEFORE, 0, 0)
        finally:
            self._leave()

    cdef int _end_claim(self) except -1:
        if self.claim_view is not None and self.forks == FORKS[0]:
            retire(self.claim_view)
            self.claim_view = None
        return 0

    cdef int _let_go(self) except -1:
        if self.mapping is not None:
            self._end_claim()
            if self.forks == FORKS[0]:
                ht_finish(&self.out)
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
        if self.mapping is not None and self.forks == FORKS[0]:
            ht_finish(&self.out)
