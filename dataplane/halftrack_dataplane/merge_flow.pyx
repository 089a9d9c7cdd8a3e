"""The merge in the middle of a stream: what passes and what is dropped while nothing has to be decided. Without the GIL.

Owns the account of what it did, until its caller has put it down. Carries out two of `merge.decide`'s answers, as long as they are plain: the owner's
first ring that has the next frame passes it, and what lies behind is compared and dropped. Whatever is not plain (a gap, an owner that is past the
next number, a fence, another owner table, an error) it leaves as it is, to be decided.
"""

import cython

from libc.string cimport memcpy

from halftrack_dataplane.merge_runs cimport HT_INPUTS, SHOWN, Runs, ht_await_likely
from halftrack_dataplane.native cimport *
from halftrack_dataplane.ring_reader cimport Reader

__all__ = ["Flow"]

cdef enum:
    ENTRIES = 128  # of an account: a caller has something to do now and then, and it keeps them coming
    ROOM_NS = 100000000  # for which it waits for room at most: as for all of a loop (`runtime.TICK_S`)

cdef enum:
    MORE           # it may be called again at once
    DECIDE

ctypedef struct Entry:
    int place
    bint passed
    uint64_t first, end, equal, different
    uint64_t shown[3 * SHOWN]


@cython.final
cdef class Flow:
    """Of one merge. Its caller has asked `merge.steady` what holds."""

    cdef Runs runs
    cdef Entry entries[ENTRIES]
    cdef int count

    def __cinit__(self, Runs runs):
        self.runs, self.count = runs, 0

    def run(self, list readers, uint64_t owned, uint64_t since, uint64_t until, uint64_t epoch, uint64_t stamp, int likely, double seconds):
        """Passes and drops for so long: (account, is there something to decide). `owned` has a bit for each of `readers` that is the owner's.

        What lies below `since` had another owner; `until` is above the output's head, and nothing passes from there on. `likely` (-1: none) is waited for
        alone at first. Each row of the account is (place among `readers`, did it pass, first, end, equal, different, those that differ).
        """
        cdef ht_reader *all[HT_INPUTS]
        cdef int entered = 0, verdict = DECIDE
        cdef int64_t deadline = ht_now_ns() + <int64_t>(seconds * 1e9)
        cdef Reader reader
        if len(readers) > HT_INPUTS:
            return [], True
        self.count = 0
        self.runs.writer._enter()
        try:
            for reader in readers:
                reader._enter()
                all[entered] = &reader.r
                entered += 1
            with nogil:
                verdict = self._run(all, entered, owned, since, until, epoch, stamp, likely, deadline)
        finally:
            for reader in readers[:entered]:
                reader.position = reader.r.cursor
                reader._leave()
            self.runs.writer._leave()
        return [self._row(&self.entries[place]) for place in range(self.count)], verdict == DECIDE

    cdef object _row(self, Entry *entry):
        cdef int i
        cdef list differing = []
        for i in range(<int>min(entry.different, <uint64_t>SHOWN)):
            differing.append((entry.shown[3 * i], entry.shown[3 * i + 1], entry.shown[3 * i + 2]))
        return entry.place, entry.passed, entry.first, entry.end, entry.equal, entry.different, differing

    cdef int _run(
        self, ht_reader **all, int count, uint64_t owned, uint64_t since, uint64_t until, uint64_t epoch, uint64_t stamp, int likely,
        int64_t deadline
    ) noexcept nogil:
        cdef ht_reader *idle[HT_INPUTS]
        cdef ht_writer *w = &self.runs.writer.out.w
        cdef uint32_t seen
        cdef int place, waiting, passes, first_idle
        cdef bint dropped, beyond, likely_idle
        while self.count + count < ENTRIES:
            seen = ht_event(&w.h.data_event)
            if self.runs._stamp() != stamp or w.head >= until:
                return DECIDE
            waiting, passes, first_idle = 0, -1, -1
            dropped = beyond = likely_idle = False
            for place in range(count):
                rc = ht_look(all[place])
                if rc == HT_NOTHING:
                    idle[waiting] = all[place]
                    waiting += 1
                    likely_idle |= place == likely
                    if first_idle < 0 and owned >> place & 1:
                        first_idle = place
                elif rc != HT_OK or all[place].found.flags & HT_GAP:
                    return DECIDE
                elif all[place].cursor < w.head:
                    if all[place].cursor < since or not self._drop(place, all[place]):
                        return DECIDE
                    dropped = True
                elif owned >> place & 1:
                    beyond |= all[place].cursor > w.head
                    if passes < 0 and all[place].cursor == w.head:
                        passes = place
            if dropped:
                continue
            if passes >= 0:
                likely = passes
                if not self._pass(place=passes, r=all[passes], until=until, epoch=epoch, stamp=stamp):
                    return DECIDE
                if ht_now_ns() >= deadline:
                    return MORE
                continue
            if beyond:
                return DECIDE
            if ht_now_ns() >= deadline:
                return MORE
            if not likely_idle:
                likely = first_idle
            ht_await_likely(idle, waiting, NULL if likely < 0 else all[likely], &w.h.data_event, seen, deadline)
        return MORE

    cdef bint _drop(self, int place, ht_reader *r) noexcept nogil:
        """False: nothing of it is accounted for."""
        cdef Entry *entry = &self.entries[self.count]
        cdef uint64_t first = r.cursor, end = min(self.runs._run_end(r), self.runs.writer.out.w.head)
        self.runs.equal = self.runs.different = 0
        if self.runs._drop(r, end) != HT_OK:
            return False
        entry.place, entry.passed, entry.first, entry.end = place, False, first, end
        entry.equal, entry.different = self.runs.equal, self.runs.different
        if entry.different:
            memcpy(entry.shown, self.runs.shown, sizeof(self.runs.shown))
        self.count += 1
        return True

    cdef bint _pass(self, int place, ht_reader *r, uint64_t until, uint64_t epoch, uint64_t stamp) noexcept nogil:
        """What has passed is accounted for, also when it was not all of it."""
        cdef Entry *entry = &self.entries[self.count]
        cdef ht_writer *w = &self.runs.writer.out.w
        cdef uint64_t first = w.head
        cdef int rc = self.runs._pass(r, min(self.runs._run_end(r), until), epoch, stamp, ht_now_ns() + ROOM_NS)
        if rc == HT_AGAIN or rc == HT_FULL:
            ht_unblock(&self.runs.writer.out)
        if w.head != first:
            entry.place, entry.passed, entry.first, entry.end = place, True, first, w.head
            entry.equal = entry.different = 0
            self.count += 1
        return rc == HT_OK
