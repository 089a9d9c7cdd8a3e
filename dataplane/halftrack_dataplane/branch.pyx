"""One input of an inlet: frames read ahead of a reader's cursor, as far as its edge's policy takes them.

Owns what is at hand: pointers into the ring, or into the spool where the ring has let it go; never a copy. The cursor follows behind what
was passed on (`settle`), so a death between the two costs nothing; whoever copies asks afterwards whether the bytes were whole all the
time. Never writes a ring, and never decides what is joined.
"""

from time import sleep

import cython

from halftrack_dataplane.frames import Evicted
from halftrack_dataplane.spool_cursor import Lost
from halftrack_dataplane.spool_record import GAP

from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memmove, memset

from halftrack_dataplane.mapping cimport damaged
from halftrack_dataplane.native cimport *
from halftrack_dataplane.ring_reader cimport Reader
from halftrack_dataplane.spool_record cimport Entry

__all__ = ["Branch", "part_of"]

cdef extern from "halftrack_ring.h" nogil:
    uint32_t ht_crc32c(const void *bytes, uint64_t count)

cdef extern from "parts.h" nogil:
    const uint64_t HT_PARTS_MAGIC
    ctypedef struct ht_parts:
        uint64_t magic
        uint32_t count, flags

cdef enum:
    HT_BESIDE = 128  # what a frame takes beside its bytes, in a ring (a descriptor) as in a joined frame (a part's header, one of a gap)

cdef enum:
    BEFORE, DECLARED, LATE
cdef double DISK_S = 0.01  # between two looks at a spool that is awaited

cdef ht_parts NONE
memset(&NONE, 0, sizeof(NONE))
NONE.magic = HT_PARTS_MAGIC


cdef const char *none_bytes() noexcept:
    """A frame that says there is none here."""
    return <const char *>&NONE


def part_of(const unsigned char[:] key, uint64_t of):
    """Into which of `of` parts a key falls: its CRC-32C, modulo `of`."""
    return ht_crc32c(&key[0] if len(key) else NULL, len(key)) % of


@cython.final
cdef class Branch:
    """The frames of one input from `position` on, of its own numbers: what `every` divides, divided by it.

    `folds`: a gap is told with the frame that follows it, as joins by time need it; else it comes by itself, with numbers of its own.
    """

    def __init__(
        self, Reader reader, position, *, every=1, rate_per_s=0, latest=False, key_offset=0, key_bytes=0, key_of=0, key_take=(), folds=False,
        last_ns=None, refill=None,
    ):
        self.reader, self.h = reader, reader.r.h
        self.every, self.latest, self.folds = every, latest, folds
        self.pause = 1_000_000_000 // rate_per_s if rate_per_s else 0
        self.begun = last_ns is not None
        self.last = last_ns or 0
        self.key_offset, self.key_bytes, self.key_of = key_offset, key_bytes, key_of
        self.taken = bytes(part in key_take for part in range(key_of))
        self.position = -(-position // every) * every
        self.missed = self.torn_frames = 0
        self.refill, self.maps = refill, []

    def __dealloc__(self):
        free(self.items)

    cdef int _check(self) except -1:
        """Is the slot still ours?"""
        if self.reader.mapping is None or not ht_held(&self.reader.r):
            self.reader.evicted = True
            raise Evicted(f"reader {self.reader.name!r} was evicted; it joins again at sequence {self._place()}")
        return 0

    def fetch(self, Py_ssize_t most, uint64_t cost):
        """Looks ahead, until `most` frames or `cost` bytes are at hand, or a gap comes that cannot be folded."""
        cdef uint64_t tail
        cdef int rc
        self._check()
        while self.count < most and self.cost < cost and not self.lost_end:
            if self.latest and not self.count and ht_load(&self.h.head) > self.position + 1:
                self.position = ht_load(&self.h.head) - 1
            rc = ht_locate(self.h, self.position, &self.found)
            if rc == HT_NOTHING:
                break
            if rc == HT_BEHIND:
                if self.refill is not None:
                    if self._refilled(most, cost, 0):
                        continue
                    break
                tail = ht_load(&self.h.tail)
                if self.torn:  # far from being overrun again at once
                    tail += (ht_load(&self.h.head) - tail) // 2
                self.torn = False
                if not self._lose(tail, False, True):
                    break
            elif rc != HT_OK:
                raise damaged(self.position)
            elif self.found.flags & HT_BEFORE and self.refill is not None:  # a ring made anew: the disk has what the old one had
                if not self._refilled(most, cost, self.found.end):
                    break
            elif self.found.flags & HT_GAP:
                if not self._lose(self.found.end, self.found.flags & HT_BEFORE, False):
                    break
            else:
                self._take(&self.found, False, most, cost)
        if not self.count:
            self._release()  # nor is anything held that comes below a position which was skipped to

    cdef bint _lose(self, uint64_t end, bint before, bint late) noexcept:
        """The sequences from `position` to `end` are lost: we came too `late` for them, or the stream never had them. Can we go on?"""
        if not self.folds and self.count:
            return False  # first what is before them
        if not self.folds:
            self.lost_end, self.lost_how = end, LATE if late else BEFORE if before else DECLARED
            return False
        if not before and not self.latest and not self.pause:
            if not self.pending:
                self.pending_seq = self.position
            self.pending += end - self.position
            self.pending_late += end - self.position if late else 0
        elif not before:
            self.missed += end - self.position
        self.position = ht_round(end, self.every)
        return True

    cdef bint _refilled(self, Py_ssize_t most, uint64_t cost, uint64_t begins) except -1:
        """The ring is past us, or `begins` behind us: what the spool has there, or the loss of what neither has. Can we go on?"""
        # Looked at before the spool is asked: what went by then is there, if it ever was.
        cdef uint64_t tail = begins or ht_load(&self.h.tail)
        cdef bint before = begins and self.position == self.h.base_seq  # who waited for the first frame of all
        cdef const unsigned char[:] bytes
        cdef ht_found found
        cdef Entry entry
        what = self.refill.at(self.position)
        if what is None and begins and self.refill.awaited:
            self.awaiting = True
            return False
        if what is None and self.torn and self.refill.trouble:  # without a spool: far from being overrun again at once
            tail += (ht_load(&self.h.head) - tail) // 2
        self.torn = False
        if what is None or isinstance(what, Lost):
            return self._lose(tail if what is None else min(tail, what.end), before, not begins)
        entry = what.entry
        if entry.flags & GAP:
            return self._lose(entry.seq + entry.count, False, entry.flags != GAP)
        bytes = what.file.data
        memset(&found, 0, sizeof(found))
        found.first, found.end, found.length = entry.seq, entry.seq + entry.count, entry.frame_bytes
        found.bytes = <const char *>&bytes[0] + entry.at
        found.epoch, found.timestamp_ns = entry.epoch, entry.timestamp_ns
        if not self.maps or self.maps[-1][0] is not what.file.data:
            self.maps.append([what.file.data, bytes, 0])
        self.maps[-1][2] = found.end
        self._take(&found, True, most, cost)
        return True

    cdef int _take(self, const ht_found *found, bint held, Py_ssize_t most, uint64_t cost) except -1:
        """The frames of the record that was found, which is `held` by the spool or the ring's."""
        cdef uint64_t seq = self.position, end = found.end
        while seq < end and self.count < most and self.cost < cost:
            if self.pause:
                if self.begun and 0 <= found.timestamp_ns - self.last < self.pause:
                    seq = end
                    break
                self.begun, self.last = True, found.timestamp_ns
            self._push(found, held, seq)
            seq += self.every
        self.position = seq
        return 0

    cdef int _push(self, const ht_found *found, bint held, uint64_t seq) except -1:
        cdef item_t *item
        cdef item_t *grown
        if self.begin + self.count == self.room:
            if self.begin > self.room // 2:
                memmove(self.items, self.items + self.begin, self.count * sizeof(item_t))
                self.begin = 0
            else:
                grown = <item_t *>realloc(self.items, max(2 * self.room, 256) * sizeof(item_t))
                if grown == NULL:
                    raise MemoryError("no memory for the frames at hand")
                self.items, self.room = grown, max(2 * self.room, 256)
        item = self.items + self.begin + self.count
        item.at, item.length, item.seq = ht_frame_at(found, seq), found.length, seq
        item.epoch, item.time, item.held = found.epoch, found.timestamp_ns, held
        item.lost, item.lost_seq, item.cost = self.pending, self.pending_seq, ht_round(found.length, 64)
        item.late = self.pending_late
        item.none = item.length == sizeof(ht_parts) and memcmp(item.at, &NONE, sizeof(ht_parts)) == 0
        if self.key_of and not item.none and not self._mine(item.at, item.length):
            item.at, item.length, item.none = none_bytes(), sizeof(ht_parts), True
        self.pending = self.pending_late = 0
        self.count += 1
        self.cost += item.cost
        return 0

    cdef bint _mine(self, const char *at, uint64_t length) noexcept:
        """Does its key fall into a part that we take? Of a frame that is too short, what there is of the key."""
        cdef uint64_t begin = min(self.key_offset, length)
        return (<const char *>self.taken)[ht_crc32c(at + begin, min(self.key_bytes, length - begin)) % self.key_of]

    # -- what is at hand --------------------------------------------------------------------------------------------------

    @property
    def first(self):
        """The number of what comes next."""
        return (self.items[self.begin].seq if self.count else self.position) // self.every

    @property
    def end(self):
        """Up to here there are frames at hand, or a gap; `first` if there is nothing yet."""
        if self.lost_end:
            return ht_round(self.lost_end, self.every) // self.every
        return self.items[self.begin].seq // self.every + self.count if self.count else self.position // self.every

    @property
    def lost(self):
        """Is what comes next a gap?"""
        return self.lost_end != 0

    def kind(self, Py_ssize_t number):
        """Whether frame `number` of those at hand says that there is none here, and how many from there on are like it."""
        cdef Py_ssize_t at = self.begin + number, end = self.begin + self.count
        cdef bint none = self.items[at].none
        while at < end and self.items[at].none == none:
            at += 1
        return none, at - self.begin - number

    @property
    def time_ns(self):
        """The time of the first frame at hand; None without one."""
        return self.items[self.begin].time if self.count else None

    def before(self, int64_t time_ns):
        """How many of the frames at hand, from the first on, have a time before `time_ns`."""
        cdef Py_ssize_t at = self.begin, end = self.begin + self.count
        while at < end and self.items[at].time < time_ns:
            at += 1
        return at - self.begin

    def drop_none(self, int64_t end_ns):
        """Passes over frames at the front that say "none here", of times before `end_ns` that do not go back. Returns how many."""
        cdef Py_ssize_t count = 0
        cdef const item_t *item
        while count < self.count:
            item = self.items + self.begin + count
            if not item.none or item.lost or item.time >= end_ns or (count and item.time < (item - 1).time):
                break
            count += 1
        self.settle(count)
        return count

    def chunk(self, int64_t end_ns, uint64_t most, uint64_t cost):
        """How many of the frames at hand belong before `end_ns` and into one chunk; whether it is over; whether there may be more before `end_ns`.

        It is over where a frame of a later time follows, or more than fits: `most` sequences, lost ones included, since each may be a record that
        the ring holds for us; or `cost` bytes. So it does not depend on how much is at hand.
        """
        cdef Py_ssize_t at = self.begin, end = self.begin + self.count
        cdef uint64_t taken = 0, held = 0
        while at < end:
            if at > self.begin:
                if self.items[at].lost and held + self.items[at].lost >= most:
                    return at - self.begin, True, True
                held += self.items[at].lost
            if self.items[at].time >= end_ns:
                return at - self.begin, True, False
            held += 1
            taken += self.items[at].cost + HT_BESIDE
            if at > self.begin and (held > most or taken > cost):
                return at - self.begin, True, True
            at += 1
        return at - self.begin, self.count > 0 and self.pending > 0 and held + self.pending >= most, True

    cdef uint64_t _place(self) noexcept:
        """Whoever begins here again has everything that is at hand, and the gap before it."""
        if self.count:
            return self.items[self.begin].lost_seq if self.items[self.begin].lost else self.items[self.begin].seq
        return self.pending_seq if self.pending else self.position

    @property
    def evicted(self):
        """Has the reader lost its slot?"""
        return self.reader.mapping is None or not ht_held(&self.reader.r)

    @property
    def last_ns(self):
        """The time of the last frame that a rate took; None without one."""
        return self.last if self.begun else None

    @property
    def place(self):
        """The sequence of the input from which on nothing was passed on."""
        return self._place()

    def settle(self, Py_ssize_t count):
        """The first `count` at hand were passed on: the ring may have them back. Returns how many sequences of them were lost."""
        cdef uint64_t place, lost = 0
        cdef Py_ssize_t number
        if not 0 <= count <= self.count:
            raise ValueError(f"{count} of {self.count} frames at hand")
        for number in range(count):
            self.cost -= self.items[self.begin + number].cost
            lost += self.items[self.begin + number].lost
            self.overrun += self.items[self.begin + number].late
            self.gone += self.items[self.begin + number].lost - self.items[self.begin + number].late
        self.begin, self.count = self.begin + count, self.count - count
        if not self.count:
            self.begin, self.cost = 0, 0
        self._release()
        return lost

    def settle_lost(self, number):
        """The gap was passed on, up to `number`."""
        cdef uint64_t to = max(number * self.every, self.position)
        self.overrun += to - self.position if self.lost_how == LATE else 0
        self.gone += to - self.position if self.lost_how == DECLARED else 0
        self.position = to
        if self.position >= self.lost_end:
            self.lost_end = 0
        self._release()

    def skip_to(self, number):
        """What comes before `number` is for nobody. Returns how many frames of those at hand that were."""
        cdef Py_ssize_t count = 0
        cdef uint64_t seq = number * self.every
        while count < self.count and self.items[self.begin + count].seq < seq:
            count += 1
        self.settle(count)
        if not self.count and self.lost_end:
            self.settle_lost(number if seq < self.lost_end else ht_round(self.lost_end, self.every) // self.every)
        if not self.count and not self.lost_end and self.position < seq:
            self.position = seq  # not looked at before, and for nobody either
            self._release()
        return count

    def _release(self):
        """The cursor moves up to the first frame that was not passed on yet. A gap needs no holding: what has gone is lost all the same."""
        cdef uint64_t place = self.items[self.begin].seq if self.count else self.position
        while self.maps and self.maps[0][2] <= place:
            del self.maps[0]
        place = min(place, ht_load(&self.h.head))
        if place > self.reader.r.cursor:
            ht_done(&self.reader.r, place)
            self.reader.position = place

    cdef bint _whole(self, Py_ssize_t number) except -1:
        """Were the bytes of frame `number` and of those behind it whole until now? If not, they are looked for anew."""
        cdef Py_ssize_t at
        self._check()
        while number < self.count and self.items[self.begin + number].held:  # what the disk has, nobody reclaims under us
            number += 1
        if self.reader.r.lossless or number >= self.count or ht_intact(self.h, self.items[self.begin + number].seq):
            return True
        self.pending, self.pending_seq = self.items[self.begin + number].lost, self.items[self.begin + number].lost_seq
        self.pending_late = self.items[self.begin + number].late
        self.position = self.items[self.begin + number].seq
        self.torn_frames += self.count - number
        for at in range(self.begin + number, self.begin + self.count):
            self.cost -= self.items[at].cost
        self.count, self.torn, self.found.end = number, True, 0
        return False

    def wait(self, int64_t timeout_ns):
        """Sleeps until there is more than what is at hand, for `timeout_ns` or a tenth of a second at most."""
        cdef ht_header *h = self.h
        cdef uint32_t event
        cdef int64_t deadline = ht_now_ns() + timeout_ns
        cdef uint64_t wanted = self.position
        cdef int sure, slot = self.reader.r.number
        if self.awaiting:  # a disk, which nobody wakes us for
            self.awaiting = False
            sleep(min(timeout_ns / 1e9, DISK_S))
            return
        if self.lost_end or ht_load(&h.head) > wanted:
            return
        with nogil:
            event = ht_event(&h.data_event)
            sure = ht_arm_reader(h, slot)
            if ht_load(&h.head) <= wanted:  # SYNC: frame wake-up: having announced, look again
                ht_sleep(&h.data_event, event, ht_slice(deadline, sure))
            ht_disarm_reader(h, slot)
