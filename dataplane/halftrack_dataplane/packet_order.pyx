"""What each numbered packet is to a stream: the next one, ahead of a hole, late, there already, or somebody else's.

Owns the numbers that are expected, held and lately gone by, and the counts of what went wrong. Never touches bytes, sockets or clocks:
who receives keeps the packets that are held, by `seq % window`. A datagram network loses, repeats and reorders; a hole is given up,
and counted as lost, only when something is `window` or more beyond it, or when the caller says that it waited long enough.

A number more than FAR beyond what is expected, or before all that is remembered, is a stray. CONFIRM strays in a row that
belong together are a sender that began again: one wild number must not declare a million frames lost.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

__all__ = ["Order"]

cdef enum:
    HISTORY = 8192  # numbers whose fate is remembered, so that a late packet and a second copy are told apart
    WINDOW_MOST = 4096  # half of it: the other half remembers
    FAR = 1 << 20
    CONFIRM = 16
    GONE = 0
    DELIVERED = 1
    HELD = 2

_WORDS = ("next", "ahead", "beyond", "duplicate", "late", "stray", "again")


cdef class Order:
    """The order of one stream's packets; up to `window` - 1 of them wait for a hole to be filled.

    `group`: so many numbers, from a multiple of it on, are of the same moment and come in any order, so a stream begins with a whole group.
    """

    def __cinit__(self, window=64, group=1):
        if not 1 <= window <= WINDOW_MOST:
            raise ValueError(f"a window is of 1 to {WINDOW_MOST} packets, not {window}")
        if not 1 <= group <= window:
            raise ValueError(f"a group of {group} packets has to fit a window of {window}")
        self.window, self.group = window, group
        self.state = <uint8_t *>calloc(HISTORY, 1)
        if self.state is NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.state)

    cdef Verdict look(self, uint64_t seq) noexcept nogil:
        cdef int64_t ahead
        if not self.started:
            self.started = True
            self.expected = seq - seq % self.group
        ahead = <int64_t>(seq - self.expected)
        if ahead > FAR or ahead < -<int64_t>(HISTORY - self.window):
            return self._stray(seq)
        self.stray_run = 0
        if ahead == 0:
            return NEXT
        if ahead >= <int64_t>self.window:
            return BEYOND
        if ahead > 0 and self.state[seq % HISTORY] != HELD:
            return AHEAD
        if self.state[seq % HISTORY] == GONE:
            self.late += 1
            return LATE
        self.duplicates += 1
        return DUPLICATE

    cdef Verdict _stray(self, uint64_t seq) noexcept nogil:
        cdef int64_t apart = <int64_t>(seq - self.stray_last)
        self.stray_run = self.stray_run + 1 if self.stray_run and -64 < apart < 64 else 1
        self.stray_last = seq
        if self.stray_run >= CONFIRM:
            return AGAIN
        self.strays += 1
        return STRAY

    cdef void put(self, uint64_t count) noexcept nogil:
        cdef uint64_t i
        for i in range(count):
            if self.state[(self.expected + i) % HISTORY] == HELD:
                self.waiting -= 1
            self.state[(self.expected + i) % HISTORY] = DELIVERED
        self.expected += count
        self.delivered += count

    cdef void hold(self, uint64_t seq) noexcept nogil:
        self.state[seq % HISTORY] = HELD
        self.waiting += 1

    cdef bint is_due(self) noexcept nogil:
        return self.waiting and self.state[self.expected % HISTORY] == HELD

    cdef uint64_t hole(self, uint64_t most) noexcept nogil:
        cdef uint64_t count = 0
        if not self.waiting:
            return most
        while count < most and self.state[(self.expected + count) % HISTORY] != HELD:
            count += 1
        return count

    cdef void give_up(self, uint64_t count) noexcept nogil:
        cdef uint64_t i
        for i in range(min(count, <uint64_t>HISTORY)):
            self.state[(self.expected + i) % HISTORY] = GONE
        self.expected += count
        self.lost += count

    cdef void begin(self, uint64_t seq) noexcept nogil:
        memset(self.state, GONE, HISTORY)
        self.expected = seq - seq % self.group
        self.stray_run = 0
        self.restarts += 1

    def judge(self, seq):
        """What the packet numbered `seq` is: "next" (pass it on, then `advance`), "ahead" (keep it, `keep`), "beyond" (first
        `surrender` the hole that is in its way), "again" (the sender began again: pass on what is held, then `restart`), or
        "duplicate", "late" or "stray", which are counted and to be thrown away."""
        return _WORDS[self.look(seq)]

    def advance(self, count=1):
        """The next `count` packets were passed on."""
        self.put(count)

    def keep(self, seq):
        """The packet `seq`, which is ahead, is kept by the caller at `seq % window`."""
        self.hold(seq)

    @property
    def due(self):
        """Is the next packet one of those that are kept?"""
        return bool(self.is_due())

    def surrender(self, seq=None):
        """Gives the hole up that is next, as far as makes room for `seq` (None: for all that is kept). How many were lost."""
        cdef uint64_t most
        if seq is None:
            most = self.window if self.waiting else 0
        else:
            most = seq - self.window + 1 - self.expected
        most = self.hole(most)
        self.give_up(most)
        return most

    def restart(self, seq):
        """The sender began again, at `seq`; nothing may be kept any more."""
        if self.waiting:
            raise ValueError(f"{self.waiting} packets are still kept: pass them on first")
        self.begin(seq)
