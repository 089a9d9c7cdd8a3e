"""One ring on its way to its receivers: reads it once for all who stand at the same place, and hands messages to libzmq. Without the GIL.

Owns each receiver's place, its credit and what is in flight to it; what to do next is bridge_pacing's, what is in libzmq's hands
native/bridge_flight.h's. Its readers are lossy: a link that is cut never holds the ring's writer up. Never speaks of anything but
frames and gaps, never waits.

Used by one thread. Ring memory that is in flight must stay mapped: keep an outlet that is no more needed until `in_flight` is 0.
"""

import cython

from halftrack_dataplane.frames import Evicted

from cpython.ref cimport Py_INCREF
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from halftrack_dataplane.bridge_lane cimport *
from halftrack_dataplane.bridge_native cimport *
from halftrack_dataplane.bridge_pacing cimport *
from halftrack_dataplane.libzmq cimport calls, socket_of, zmq_msg_t
from halftrack_dataplane.native cimport *
from halftrack_dataplane.ring cimport Ring
from halftrack_dataplane.ring_reader cimport Reader

cdef extern from "sched.h" nogil:
    int sched_yield()

__all__ = ["Outlet"]

cdef enum:
    SPIN_MOST_NS = 40000  # about what sleeping and being woken costs, as in native/halftrack_ring.c
    SPIN_LEAST_NS = 1000
    AGAIN_NS = 1000000    # after a socket that was full, or no memory
    HEADER_MOST = 24608   # of a batch's records, all of them: 32 + 1024 * 24

cdef uint64_t NOWHERE = <uint64_t>-1


@cython.no_gc_clear  # __dealloc__ looks whether the mapping is still needed
cdef class Outlet:
    """One ring's frames to the receivers that joined."""

    def __cinit__(self, Ring ring, socket, int wake_fd, int linger_us=0):
        """`wake_fd`: an eventfd that outlives the socket's context, told when there is room in flight again."""
        self.h = ring._shared()
        self.mapping = ring.mapping
        self.zmq = calls()
        self.socket_object, self.socket = socket, socket_of(socket)
        self.lanes, self.past = [], []
        self.wake_fd = wake_fd
        self.linger_ns = <int64_t>linger_us * 1000
        self.spin_ns = SPIN_MOST_NS
        self.batches = <batch_t *>calloc(BATCHES, sizeof(batch_t))
        if self.batches == NULL:
            raise MemoryError("no memory for a ring's batches")

    def __dealloc__(self):
        cdef int number
        if self.batches != NULL:
            for number in range(BATCHES):
                ht_bundle_drop(self.batches[number].bundle)
            free(self.batches)
        if self.lanes and self.in_flight:
            Py_INCREF(self.mapping)  # rather a mapping too many than an I/O thread that reads nothing
        elif self.past and self.in_flight:
            Py_INCREF(self.mapping)

    def join(self, bytes routing, Reader reader, next_seq, credit_bytes):
        """Serves one more receiver. `reader`: a lossy one of this ring, at `next_seq` or behind (-1: at the oldest)."""
        cdef Lane lane = Lane.__new__(Lane)
        if self.count >= LANES or not 1 <= len(routing) <= 255:
            raise ValueError(f"a lane that cannot be: {routing=}, {self.count} others")
        lane.s.flight = ht_lane_new(self.wake_fd, FLIGHT_MESSAGES // 2)
        if lane.s.flight == NULL:
            raise MemoryError("no memory for a receiver's lane")
        lane.s.routing_bytes = len(routing)
        memcpy(lane.s.routing, <const char *>routing, len(routing))
        lane.s.credit = credit_bytes
        lane.s.known = next_seq >= 0
        lane.s.next = next_seq if next_seq >= 0 else 0
        self.rejoin(lane, reader)
        self.lanes.append(lane)
        self.live[self.count] = &lane.s
        self.count += 1
        return lane

    def rejoin(self, Lane lane, Reader reader):
        """Goes on with another reader in place of one that was evicted."""
        lane.reader, lane.s.reader = reader, &reader.r
        lane.s.state = LIVE

    def leave(self, Lane lane):
        """Serves it no more. What is in flight stays there; its reader is the caller's to close."""
        cdef int number
        self.lanes.remove(lane)
        self.past.append(lane)
        for number, left in enumerate(self.lanes):
            self.live[number] = &(<Lane>left).s
        self.count = len(self.lanes)

    @property
    def in_flight(self):
        """Messages that libzmq has not let go of, those of receivers that have left, too."""
        self.past = [lane for lane in self.past if ht_lane_messages((<Lane>lane).s.flight)]
        return sum([ht_lane_messages((<Lane>lane).s.flight) for lane in [*self.lanes, *self.past]])

    def pump(self, int most=64):
        """Sends what may go, up to `most` messages, and returns how many that were."""
        cdef int moved
        self.due_ns = -1
        with nogil:
            moved = self._pump(most)
        return moved

    def rest(self):
        """There was nothing to send: a descriptor that is readable once the ring has more; -1 if it is not the ring that is waited for."""
        cdef uint64_t wanted = self._wanted()
        cdef Lane lane
        if wanted == NOWHERE:
            return -1
        for lane in self.lanes:
            if lane.s.state == LIVE:
                try:
                    fd = lane.reader.fileno()
                except Evicted:
                    lane.s.state = EVICTED
                    continue
                lane.reader.waker.again(wanted)
                return fd
        return -1

    def due_s(self, now_ns):
        """In how many seconds to pump again, though nothing else happens; None if it is not needed. `now_ns` is CLOCK_MONOTONIC's."""
        return None if self.due_ns < 0 else max(0, self.due_ns - now_ns) / 1e9

    # -- without the GIL ----------------------------------------------------------------------------------------------

    cdef int _pump(self, int most) noexcept nogil:
        """One message to each receiver in turn, until nobody gets one."""
        cdef int total = 0, moved, number
        while total < most:
            moved = 0
            for number in range(self.count):
                moved += self._step(self.live[number])
            total += moved
            if not moved and (total or not self._published(self._wanted())):
                break
        return total

    cdef uint64_t _wanted(self) noexcept nogil:
        """The first sequence that somebody waits for who could take it."""
        cdef uint64_t wanted = NOWHERE
        cdef int number
        for number in range(self.count):
            if self.live[number].starved and self.live[number].state == LIVE:
                wanted = min(wanted, self.live[number].reader.cursor)
        return wanted

    cdef bint _published(self, uint64_t seq) noexcept nogil:
        """Is it, after waiting awake for as long as that has proved worth while? See spun() in native/halftrack_ring.c."""
        cdef int64_t now, end
        if seq == NOWHERE:
            return False
        now = ht_now_ns()
        end = now + self.spin_ns
        while now < end:
            if ht_load(&self.h.head) > seq:
                self.spin_ns = min(self.spin_ns * 2, <int64_t>SPIN_MOST_NS)
                return True
            sched_yield()
            now = ht_now_ns()
        self.spin_ns = max(self.spin_ns // 2, <int64_t>SPIN_LEAST_NS)
        return False

    cdef void _later(self, int64_t moment) noexcept nogil:
        if self.due_ns < 0 or moment < self.due_ns:
            self.due_ns = moment

    cdef bint _may_send(self, lane_t *lane) noexcept nogil:
        return may_send(
            lane.credit, ht_lane_messages(lane.flight), ht_lane_bytes(lane.flight), flight_bytes(self.h.capacity_bytes)
        )

    cdef int _step(self, lane_t *lane) noexcept nogil:
        """One message to one receiver: was there one, and could it go?"""
        cdef uint64_t limit = NOWHERE
        cdef int number = -1
        lane.starved = False
        if lane.state != LIVE or lane.credit <= 0:
            return 0
        if not self._may_send(lane):
            ht_lane_waits(lane.flight)
            if not self._may_send(lane):  # SYNC: room in flight: having announced it, look again
                return 0
        if lane.known and self.count > 1:
            number = whole_batch(self.firsts, self.nexts, BATCHES, lane.next, &limit)
            if number >= 0 and not self._holds(lane, number):
                number = -1
        if number >= 0:
            return self._ship(lane, number)
        return self._read(lane, limit)

    cdef bint _holds(self, lane_t *lane, int number) noexcept nogil:
        """Can what was read for another be sent to this one, too?"""
        cdef batch_t *batch = &self.batches[number]
        if not ht_held(lane.reader):
            lane.state = EVICTED
            return False
        return batch.bundle != NULL or goes_uncopied(batch.bytes, self._behind(batch.offset), self.h.capacity_bytes)

    cdef uint64_t _behind(self, uint64_t offset) noexcept nogil:
        """How many bytes have been published from `offset` on."""
        cdef uint64_t end = ht_load(&self.h.data_head)
        return end - offset if end > offset else 0

    cdef int _read(self, lane_t *lane, uint64_t limit) noexcept nogil:
        """What the ring has for this receiver, sent: a hole, a gap, or frames below `limit`."""
        cdef ht_found *found = &lane.reader.found
        cdef bint again = False
        cdef uint64_t first, pending
        cdef int rc
        while True:
            rc = ht_look(lane.reader)
            if rc == HT_BEHIND:
                ht_overrun(lane.reader, again)
                again = True
                continue
            if rc != HT_OK:
                lane.starved = rc == HT_NOTHING
                if not lane.starved:
                    lane.state = EVICTED if rc == HT_EVICTION else DAMAGED
                return 0
            first = lane.reader.cursor
            if lane.known and lane.next < first:
                return self._ship_gap(lane, lane.next, first - lane.next)
            if found.flags & HT_GAP:
                return self._ship_gap(lane, first, found.end - first)
            if found.length > HT_FRAME_MOST:
                lane.state, lane.wrong_bytes = TOO_LARGE, found.length
                return 0
            pending = self._behind(found.offset + (first - found.first) * found.length)
            if not self._ripe(lane, pending):
                return 0
            rc = self._fill(lane, first, pending, limit)
            if rc != HT_BEHIND:
                return self._ship(lane, self.newest) if rc == HT_OK else 0
            ht_overrun(lane.reader, again)
            again = True

    cdef bint _ripe(self, lane_t *lane, uint64_t pending) noexcept nogil:
        cdef int64_t now
        if self.linger_ns == 0:
            return True
        now = ht_now_ns()
        if not lane.noticed_ns:
            lane.noticed_ns = now
        if is_ripe(pending, now - lane.noticed_ns, self.linger_ns):
            return True
        self._later(lane.noticed_ns + self.linger_ns)
        return False

    cdef void _forget(self, int number) noexcept nogil:
        ht_bundle_drop(self.batches[number].bundle)
        self.batches[number].bundle = NULL
        self.firsts[number] = self.nexts[number] = 0

    cdef int _fill(self, lane_t *lane, uint64_t first, uint64_t pending, uint64_t limit) noexcept nogil:
        """Makes the frames at the cursor the newest batch: where they are, or copied together."""
        cdef ht_found *found = &lane.reader.found
        cdef batch_t *batch
        cdef uint64_t bytes, count
        self.newest = (self.newest + 1) % BATCHES
        self._forget(self.newest)
        batch = &self.batches[self.newest]
        self.reads += 1
        count = fitting(min(found.end, limit) - first, found.length, max(HT_BATCH_BYTES, found.length), HT_BATCH_FRAMES)
        bytes = count * found.length
        if not goes_uncopied(bytes, pending - bytes if pending > bytes else 0, self.h.capacity_bytes):
            return self._copy(lane, first, pending, limit)
        batch.at = ht_frame_at(found, first)
        batch.offset = found.offset + (first - found.first) * found.length
        batch.bytes, batch.frames, batch.records = bytes, count, 0
        put_record(batch, count, found)
        self.firsts[self.newest], self.nexts[self.newest] = first, first + count
        return HT_OK

    cdef int _copy(self, lane_t *lane, uint64_t first, uint64_t pending, uint64_t limit) noexcept nogil:
        """Copies frames together, until the ring has no more or enough can go. HT_BEHIND: they were overwritten meanwhile.

        Header and records go right before the payload once it is known how many they are.
        """
        cdef batch_t *batch = &self.batches[self.newest]
        cdef ht_found found = lane.reader.found
        cdef uint64_t room = max(min(<uint64_t>COALESCED_BYTES, pending), found.length), cursor = first, count, before
        cdef char *payload
        batch.bundle = ht_bundle_new(HEADER_MOST + room)
        if batch.bundle == NULL:
            self._later(ht_now_ns() + AGAIN_NS)
            return HT_AGAIN
        payload = batch.bundle.bytes + HEADER_MOST
        batch.bytes, batch.frames, batch.records = 0, 0, 0
        while True:
            count = fitting(min(found.end, limit) - cursor, found.length, room - batch.bytes, HT_BATCH_FRAMES - batch.frames)
            if not count or not put_record(batch, count, &found):
                break
            memcpy(payload + batch.bytes, ht_frame_at(&found, cursor), count * found.length)
            batch.bytes += count * found.length
            batch.frames += count
            cursor += count
            if cursor >= limit or ht_locate(self.h, cursor, &found) != HT_OK or found.flags & HT_GAP:
                break
            if (found.end - cursor) * found.length >= <uint64_t>UNCOPIED_BYTES:
                break
        if not ht_intact(self.h, first):
            self._forget(self.newest)
            return HT_BEHIND
        before = sizeof(ht_wire_header) + batch.records * sizeof(ht_wire_record)
        batch.at, batch.message_bytes = payload - before, before + batch.bytes
        ht_wire_write(payload - before, HT_WIRE_DATA, first, batch.bytes, batch.records)
        memcpy(payload - before + sizeof(ht_wire_header), batch.entries, batch.records * sizeof(ht_wire_record))
        self.firsts[self.newest], self.nexts[self.newest] = first, cursor
        return HT_OK

    # -- messages -----------------------------------------------------------------------------------------------------

    cdef int _ship(self, lane_t *lane, int number) noexcept nogil:
        """Sends a batch: as one message that was copied together; or its header, ring memory, and the verdict."""
        cdef batch_t *batch = &self.batches[number]
        cdef zmq_msg_t messages[3]
        cdef int count = make(self.zmq, messages, lane, self.h, self.firsts[number], batch)
        cdef bint sent = count and send(self.zmq, self.socket, lane, messages, count)
        if not sent:
            self._later(ht_now_ns() + AGAIN_NS)
        else:
            lane.next, lane.known, lane.noticed_ns = self.nexts[number], True, 0
            lane.credit -= <int64_t>(batch.bytes + HT_FRAME_COST * batch.frames)
            lane.frames += batch.frames
            lane.bytes += batch.bytes
            ht_done(lane.reader, lane.next)
        if self.count == 1:
            self._forget(number)
        return sent

    cdef int _ship_gap(self, lane_t *lane, uint64_t first, uint64_t count) noexcept nogil:
        cdef zmq_msg_t message
        if not make_gap(self.zmq, &message, first, count) or not send(self.zmq, self.socket, lane, &message, 1):
            self._later(ht_now_ns() + AGAIN_NS)
            return 0
        lane.next, lane.known, lane.noticed_ns = first + count, True, 0
        lane.credit -= HT_FRAME_COST
        lane.missed += count
        if lane.reader.cursor < lane.next:
            ht_done(lane.reader, lane.next)
        return 1


cdef bint put_record(batch_t *batch, uint64_t count, const ht_found *found) noexcept nogil:
    """`count` more frames, in the newest record if they are like its own; False: there is no room for another record."""
    cdef ht_wire_record *last = &batch.entries[batch.records - 1] if batch.records else NULL
    if last != NULL and last.length == found.length and last.epoch == found.epoch and last.timestamp_ns == found.timestamp_ns:
        last.count += <uint32_t>count
        return True
    if batch.records == HT_BATCH_RECORDS:
        return False
    last = &batch.entries[batch.records]
    batch.records += 1
    last.count, last.length = <uint32_t>count, <uint32_t>found.length
    last.epoch, last.timestamp_ns = found.epoch, found.timestamp_ns
    return True
