"""The merge's runs: frames from an input ring to the output or to nowhere, what both members bring compared, and the wait for more. Without the GIL.

Owns the digests of what passed, and every step of a run between two decisions. Never decides who passes or up to where: merge.py does.
"""

import cython

from halftrack_dataplane.frames import RingError

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree

from halftrack_dataplane.mapping cimport damaged
from halftrack_dataplane.native cimport *

__all__ = ["HISTORY", "Runs", "digest"]

cdef extern from "merge_wait.h" nogil:
    uint32_t ht_crc32c(const void *bytes, uint64_t count)
    void ht_crc32c_each(const void *bytes, uint64_t length, uint64_t frames, uint32_t *sums)

cdef enum:
    HELD = 1 << 15         # digests of what passed: a member further behind than that is not compared, and was told to be late long before
    RUN_FRAMES = 1 << 13   # of an offer, at most: a quarter of HELD, so that what passed is still known when the other member brings it;
    RUN_BYTES = 4 << 20    # and a millisecond's copying, so that the table, the other rings and an order to stop are looked at in time
    RUN_RECORDS = 256
    SUMS = 64              # that are made at a time: they stay in the nearest cache, and their frames do
    CHANGED = -1           # the owner table, in the middle of a run

HISTORY = HELD


def digest(bytes payload):
    """What a frame of these bytes is compared by."""
    return ht_crc32c(<const char *>payload, len(payload))


@cython.final
@cython.no_gc_clear
cdef class Runs:
    """Of one merge, whose output `writer` writes. Its caller has decided, by `merge.decide`, before each run."""

    def __cinit__(self, Writer writer):
        cdef uint64_t place
        self.writer = writer
        self.kept = <uint64_t *>PyMem_RawCalloc(HELD, sizeof(uint64_t))
        if self.kept == NULL:
            raise MemoryError
        for place in range(HELD):
            self.kept[place] = (place ^ 1) << 32  # a sequence that has another place

    def __dealloc__(self):
        PyMem_RawFree(self.kept)

    @property
    def head(self):
        """The output's next sequence."""
        return self.writer.out.w.head

    def stamp(self):
        """A number that changes whenever the owner table does; read it before the table, and the table is at least that new."""
        return self._stamp()

    def look(self, Reader reader):
        """What `reader` has next, (first, end, is it a gap): a run of frames, of one record or several; (0, 0, False): nothing yet."""
        cdef uint64_t end
        cdef int rc
        reader._enter()
        try:
            rc = ht_look(&reader.r)
            if rc == HT_NOTHING:
                return 0, 0, False
            self._raise(reader, rc)
            if reader.r.found.flags & HT_GAP:
                return reader.r.cursor, reader.r.found.end, True
            end = self._run_end(&reader.r)
            return reader.r.cursor, end, False
        finally:
            reader._leave()

    def pass_run(self, Reader reader, uint64_t end, uint64_t epoch, uint64_t stamp, object timeout_s):
        """Passes `reader`'s frames from the output's head to `end`, in `epoch`; how many it were.

        Fewer when there is no room for `timeout_s` (a tenth of a second at most), or the owner table no longer has the `stamp`.
        """
        cdef int rc
        cdef ht_writer *w = &self.writer.out.w
        cdef uint64_t first = w.head
        cdef int64_t deadline = ht_now_ns() + <int64_t>(timeout_s * 1e9)
        self.writer._enter()
        try:
            reader._enter()
            try:
                if reader.r.cursor != first:
                    raise RingError(f"{reader.name} is at {reader.r.cursor}, and the output wants {first}")
                with nogil:
                    rc = self._pass(&reader.r, end, epoch, stamp, deadline)
                reader.position = reader.r.cursor
                if rc == HT_AGAIN or rc == HT_FULL:
                    ht_unblock(&self.writer.out)
                elif rc == HT_TOO_LARGE or rc == HT_WRONG_LENGTH:
                    self.writer._check(reader.r.found.length, False)
                elif rc != CHANGED:
                    self._raise(reader, rc)
            finally:
                reader._leave()
        finally:
            self.writer._leave()
        return w.head - first

    def drop(self, Reader reader, uint64_t end):
        """Compares `reader`'s frames below `end` with what passed, and lets go of them: (equal, different, those that differ).

        Of the last, the first few only, each (sequence, digest, digest of what passed). What passed too long ago is not compared.
        """
        cdef int rc
        cdef int i
        self.equal, self.different = 0, 0
        reader._enter()
        try:
            with nogil:
                rc = self._drop(&reader.r, end)
            reader.position = reader.r.cursor
            self._raise(reader, rc)
        finally:
            reader._leave()
        differing = [(self.shown[3 * i], self.shown[3 * i + 1], self.shown[3 * i + 2]) for i in range(<int>min(self.different, SHOWN))]
        return self.equal, self.different, differing

    def wait(self, list readers, Reader likely, uint64_t stamp, object seconds):
        """Until one of `readers`, which all have nothing, has something; or the owner table has another stamp; or `seconds` are over.

        Now and then earlier. `likely`, one of them or None, is waited for alone at first.
        """
        cdef ht_reader *all[HT_INPUTS]
        cdef ht_header *h = self.writer.out.w.h
        cdef uint32_t seen = ht_event(&h.data_event)
        cdef int64_t deadline = ht_now_ns() + <int64_t>(seconds * 1e9)
        cdef int count = 0
        cdef Reader reader
        if self._stamp() != stamp:
            return
        for reader in readers[:HT_INPUTS]:
            reader._enter()
            reader._leave()
            all[count] = &reader.r
            count += 1
        with nogil:
            ht_await_likely(all, count, NULL if likely is None else &likely.r, &h.data_event, seen, deadline)

    # -- without the GIL ----------------------------------------------------------------------------------------------

    cdef uint64_t _stamp(self) noexcept nogil:
        """A row's state only ever grows, so the sum does not repeat."""
        cdef ht_header *h = self.writer.out.w.h
        cdef uint64_t sum = 0
        cdef int row
        for row in range(HT_CUTS):
            sum += ht_load(&h.cuts[row].state)  # SYNC: cut readable
        return sum

    cdef uint64_t _run_end(self, ht_reader *r) noexcept nogil:
        """Where the run of frames ends that begins at the cursor, whose record is found."""
        cdef ht_found next = r.found
        cdef uint64_t end = next.end, bytes = (next.end - r.cursor) * next.length
        cdef int records = 1
        while records < RUN_RECORDS and bytes < RUN_BYTES and end - r.cursor < RUN_FRAMES:
            if ht_locate(r.h, end, &next) != HT_OK or next.flags & HT_GAP:
                break
            bytes += (next.end - end) * next.length
            end = next.end
            records += 1
        return min(end, r.cursor + <uint64_t>RUN_FRAMES)

    cdef int _pass(self, ht_reader *r, uint64_t end, uint64_t epoch, uint64_t stamp, int64_t deadline) noexcept nogil:
        """HT_OK: all of it. A frame is published only when its bytes were ours to the end: copied while we were evicted, it stays unseen."""
        cdef ht_writer *w = &self.writer.out.w
        cdef uint64_t count, length
        cdef int rc
        while w.head < end:
            if self._stamp() != stamp:
                return CHANGED
            rc = ht_look(r)
            if rc != HT_OK:
                return rc
            length = r.found.length
            if w.frame_bytes and length != w.frame_bytes:
                return HT_WRONG_LENGTH
            count = min(min(r.found.end, end) - r.cursor, ht_run_frames(w.h, length))
            if not ht_grows(w, count * length, epoch, r.found.timestamp_ns):
                rc = ht_room(&self.writer.out, count * length, deadline)
                if rc != HT_OK:
                    return rc
                ht_copy_in(w, ht_frame_at(&r.found, r.cursor), count * length)
                self._keep(r, count)
                if not ht_held(r):
                    return HT_EVICTION
                ht_publish(w, count, length, 0, epoch, r.found.timestamp_ns)
            else:
                ht_copy_in(w, ht_frame_at(&r.found, r.cursor), count * length)
                self._keep(r, count)
                if not ht_held(r):
                    return HT_EVICTION
                ht_grow(w, count, length)
            ht_done(r, r.cursor + count)
        return HT_OK

    cdef void _keep(self, ht_reader *r, uint64_t count) noexcept nogil:
        cdef const char *at = ht_frame_at(&r.found, r.cursor)
        cdef uint64_t seq = r.cursor, end = r.cursor + count, length = r.found.length, some, i
        cdef uint32_t sums[SUMS]
        while seq < end:
            some = min(end - seq, <uint64_t>SUMS)
            ht_crc32c_each(at, length, some, sums)
            for i in range(some):
                self.kept[(seq + i) & (HELD - 1)] = (seq + i) << 32 | sums[i]
            seq += some
            at += some * length

    cdef int _drop(self, ht_reader *r, uint64_t end) noexcept nogil:
        cdef uint64_t count
        cdef int rc
        while r.cursor < end:
            rc = ht_look(r)
            if rc != HT_OK:
                return rc
            count = min(r.found.end, end) - r.cursor
            if not r.found.flags & HT_GAP and not self._compare(r, count):
                return HT_EVICTION
            ht_done(r, r.cursor + count)
        return HT_OK

    cdef bint _compare(self, ht_reader *r, uint64_t count) noexcept nogil:
        """Of frames that one record holds. False: they were not ours to the end, and nothing is counted."""
        cdef const char *at = ht_frame_at(&r.found, r.cursor)
        cdef uint64_t seq = r.cursor, end = r.cursor + count, length = r.found.length, equal = 0, different = self.different
        cdef uint64_t some, kept, i
        cdef uint32_t sums[SUMS]
        while seq < end:
            some = min(end - seq, <uint64_t>SUMS)
            ht_crc32c_each(at, length, some, sums)
            for i in range(some):
                kept = self.kept[(seq + i) & (HELD - 1)]
                if kept == ((seq + i) << 32 | sums[i]):
                    equal += 1
                elif kept >> 32 == <uint32_t>(seq + i):
                    if different < SHOWN:
                        self.shown[3 * different], self.shown[3 * different + 1] = seq + i, sums[i]
                        self.shown[3 * different + 2] = <uint32_t>kept
                    different += 1
            seq += some
            at += some * length
        if not ht_held(r):
            return False
        self.equal += equal
        self.different = different
        return True

    cdef int _raise(self, Reader reader, int rc) except -1:
        """The error for what a look at `reader` has brought, unless that was a record, or none yet."""
        if rc == HT_OK or rc == HT_NOTHING:
            return 0
        if rc == HT_EVICTION:
            reader.evicted = True
            raise reader._gone()
        raise damaged(reader.r.cursor)
