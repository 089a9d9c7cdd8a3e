"""Datagrams from a socket straight into a ring: the kernel writes them where the frames will be, many a call, without the interpreter lock.

Owns the receiving, and the packets that wait for an earlier one. What a number means is packet_order's, how room is found the
ring's. Packets in order are received where they are published; only what comes out of order is copied. What the ring has no room for
(policy "drop"), what the network lost and what came too late is in the ring as a gap: its sequences are those of the packets.

A record is what one call received, with the first packet's time: 64 packets, or a 16th of the ring at most. A hole is given up after a
tenth of a second without packets.

With a `place`, memory that outlives the process, nothing that was taken from the socket is lost with it: packets are received there first, at the
price of a copy, and stay until the ring has them. `capture_place` reads it; what the layout is, both say.
"""

import os

from halftrack_dataplane.frames import FrameTooLarge, RingError, WrongLength

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR, ECONNREFUSED, errno as failure
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec
from libc.stdint cimport uint8_t

from halftrack_dataplane.native cimport *
from halftrack_dataplane.packet_place cimport *
from halftrack_dataplane.packet_order cimport AGAIN, AHEAD, BEYOND, NEXT, Order, Verdict
from halftrack_dataplane.ring_writer cimport Writer

__all__ = ["Capture", "place_bytes"]

_KINDS = {"arrival": ARRIVAL, "le64": LITTLE, "be64": BIG, "vdif": VDIF}


def place_bytes(frame_bytes, window):
    """How large the place of a capture is."""
    return sizeof(Place) + BATCH * (sizeof(mmsghdr) + PREFIX) + window * (16 + frame_bytes) + BATCH * frame_bytes


cdef class Capture:
    """One socket's packets into one ring; `step` for as long as it shall go on. The socket stays its maker's."""

    cdef Writer writer
    cdef readonly Order order
    cdef object keep_on
    cdef int fd, kind
    cdef bint prefixed, fresh, outlives, ending
    cdef uint64_t frame_bytes, batch, wanted, per_second, threads, base, owed, at
    cdef uint64_t epochs[64]
    cdef uint64_t leaps[64]
    cdef int leap_count
    cdef object memory  # keeps a place mapped
    cdef char *own  # the place, if nobody else has given one
    cdef Place *place
    cdef mmsghdr *messages
    cdef iovec *parts
    cdef uint8_t *control
    cdef uint8_t *prefixes
    cdef char *spare
    cdef char *kept
    cdef int64_t *kept_ns
    cdef uint64_t *kept_numbers  # and one; 0: nothing is kept there
    cdef readonly uint64_t epoch, packets, frames, wrong_size, unfit, dropped, kernel_drops

    def __init__(
        self, Writer writer, capacity_bytes, fd, *, frame_bytes, numbers="arrival", prefixed=False, window=64, keep_on=None, numbering=None,
        epochs_s=(), leaps_s=(), epoch=0, place=None, expected=None, socket=0, kernel_seen=0,
    ):
        """`numbers`: "arrival" (packets have none), "le64" or "be64" (in the 8 bytes before the frame) or "vdif" (in the frame's
        header: `numbering` says how many a second, `epochs_s` and `leaps_s` are vdif's). `prefixed`: there are 8 bytes before
        the frame, which do not go into the ring. `keep_on()` false ends a wait for room. `place`: zeroed memory of `place_bytes`; `expected`: the
        number that the ring's head has, if a capture before this one has said so; `kernel_seen`: what that one has counted of `socket`."""
        cdef uint64_t of_ring = writer.out.w.h.frame_bytes
        cdef uint8_t[::1] given
        if self.place is not NULL:
            raise RingError("a Capture is made once")
        if not 0 < frame_bytes <= 65536 or numbers not in _KINDS:
            raise ValueError(f"a packet's frame has 1 to 65536 bytes, not {frame_bytes}, and numbers of {list(_KINDS)}, not {numbers!r}")
        if writer.out.shared:
            raise RingError("frames of a capture are numbered by their source, so other writers cannot have a part of the ring: do not share it")
        if of_ring and of_ring != frame_bytes:
            raise WrongLength(f"every frame of this ring has {of_ring} bytes, and the packets' have {frame_bytes}")
        if frame_bytes > capacity_bytes // 2:
            raise FrameTooLarge(f"a frame of {frame_bytes} bytes; this ring of {capacity_bytes} takes half of that at most")
        self.writer, self.fd, self.frame_bytes, self.kind = writer, fd, frame_bytes, _KINDS[numbers]
        self.prefixed = prefixed or self.kind in (LITTLE, BIG)
        self.order, self.keep_on, self.epoch, self.fresh = Order(window, numbering.threads if self.kind == VDIF else 1), keep_on, epoch, True
        self.batch = max(1, min(<uint64_t>BATCH, <uint64_t>(capacity_bytes // 16 // frame_bytes)))
        if self.kind == VDIF:
            self.per_second, self.threads, self.base = numbering.per_second, numbering.threads, numbering.base
            for at, began in enumerate(epochs_s):
                self.epochs[at] = began
            for at, leap in enumerate(leaps_s):
                self.leaps[at] = leap
            self.leap_count = len(leaps_s)
        if place is None:
            self.own = <char *>calloc(1, place_bytes(frame_bytes, window))
        else:
            given = place
            if given.shape[0] != place_bytes(frame_bytes, window):
                raise ValueError(f"this capture's place has {place_bytes(frame_bytes, window)} bytes, not {given.shape[0]}")
            self.memory, self.outlives = place, True
        self.parts, self.control = <iovec *>calloc(2 * BATCH, sizeof(iovec)), <uint8_t *>calloc(1, CONTROL)
        if not (self.parts and self.control and (self.own or self.outlives)):
            raise MemoryError
        self._lay_out(&given[0] if self.outlives else <uint8_t *>self.own, socket, kernel_seen)
        if expected is not None:
            self.order.started, self.order.expected, self.fresh = True, expected, False
            self._map()

    def __dealloc__(self):
        free(self.own)
        free(self.parts)
        free(self.control)

    cdef int _lay_out(self, uint8_t *at, uint64_t socket, uint64_t kernel_seen) except -1:
        cdef uint64_t window = self.order.window
        self.place = <Place *>at
        self.messages = <mmsghdr *>(at + sizeof(Place))
        self.prefixes = <uint8_t *>(self.messages + BATCH)
        self.kept_numbers = <uint64_t *>(self.prefixes + BATCH * PREFIX)
        self.kept_ns = <int64_t *>(self.kept_numbers + window)
        self.spare = <char *>(self.kept_ns + window)
        self.kept = self.spare + BATCH * self.frame_bytes
        self.place.frame_bytes, self.place.window, self.place.kind = self.frame_bytes, window, self.kind
        self.place.socket, self.place.kernel_seen, self.place.magic = socket, kernel_seen, HT_PLACE
        return 0

    cdef int _map(self) noexcept nogil:
        """Says which ring sequence the next number has; what is owed comes before it."""
        cdef uint64_t other = 1 - self.place.which
        self.place.rows[other].shift = self.writer.out.w.h.head + self.owed - self.order.expected
        self.place.rows[other].epoch = self.epoch
        ht_in_order()
        self.place.which = other
        self.place.started = 1
        return 0

    def feed(self, number, frame, timestamp_ns):
        """Takes a packet that a capture before this one has received, and not put into the ring."""
        cdef bytes held = bytes(frame)
        cdef char *at = held
        cdef uint64_t which = number, time = timestamp_ns
        if <uint64_t>len(held) != self.frame_bytes:
            raise WrongLength(f"a packet of {len(held)} bytes, not {self.frame_bytes}")
        self.writer._enter()
        try:
            with nogil:
                self._place(at, which, time)
        finally:
            self.writer._leave()

    def step(self, packets=None):
        """Receives for a tenth of a second, or until so many packets have come. How many frames were published meanwhile."""
        cdef uint64_t before = self.frames
        cdef int64_t until = ht_now_ns() + SLICE
        self.wanted = self.packets + <uint64_t>packets if packets is not None else <uint64_t>-1
        self.writer._enter()
        try:
            with nogil:
                while self.packets < self.wanted and not self.ending and self._receive() and ht_now_ns() < until:
                    pass
        finally:
            self.writer._leave()
        return self.frames - before

    def finish(self):
        """Waits for no hole any longer: what is held is published, and what the ring had no room for is declared, if now it has."""
        self.ending = False
        self.writer._enter()
        try:
            with nogil:
                self._flush()
                self._settle()
        finally:
            self.writer._leave()

    cdef bint _room(self, uint64_t bytes) except -1 nogil:
        """Is there room now, by the writer's policy?"""
        cdef int rc
        while not self.ending:
            rc = ht_room(&self.writer.out, bytes, -1)
            if rc == HT_OK:
                return True
            if rc == HT_FULL:
                return False
            with gil:
                self.ending = not self._wanted()
        return False

    cdef bint _wanted(self) except -1:
        """Between two slices of waiting for room."""
        try:
            PyErr_CheckSignals()
            if self.keep_on is None or self.keep_on():
                return True
        except BaseException:
            ht_unblock(&self.writer.out)
            raise
        ht_unblock(&self.writer.out)
        return False

    cdef bint _settle(self) except -1 nogil:
        """Declares what the ring had no room for; False if there still is none."""
        if self.owed:
            if not self._room(0):
                return False
            ht_publish(&self.writer.out.w, self.owed, 0, HT_GAP, self.epoch, 0)
            self.owed = 0
        return True

    cdef int _arm(self, char *into) noexcept nogil:
        """Says where the next packets go: one frame behind the other, what comes before each beside."""
        cdef uint64_t i, first = 0 if self.prefixed else 1
        cdef iovec *part = self.parts
        cdef mmsghdr *message = self.messages
        for i in range(self.batch):
            part[0].iov_base = self.prefixes + i * PREFIX
            part[0].iov_len = PREFIX
            part[1].iov_base = into + i * self.frame_bytes
            part[1].iov_len = self.frame_bytes
            message.msg_hdr.msg_iov = part + first
            message.msg_hdr.msg_iovlen = 2 - first
            part += 2
            message += 1
        ht_in_order()
        for i in range(BATCH if self.outlives else 0):
            self.messages[i].msg_len = 0
        self.place.armed = self.order.expected
        ht_in_order()
        self.messages[0].msg_hdr.msg_control = self.control
        self.messages[0].msg_hdr.msg_controllen = CONTROL  # one count a call will do, and each costs the kernel time
        return 0

    cdef bint _receive(self) except -1 nogil:
        """One call's packets, published or kept; False if none came within a slice, or a signal did."""
        cdef bint room = self._settle() and self._room(self.batch * self.frame_bytes)
        cdef char *into = self.writer.out.w.at if room and not self.outlives else self.spare
        cdef int got
        cdef timespec clock
        self._arm(into)
        got = recvmmsg(self.fd, self.messages, min(self.batch, self.wanted - self.packets), MSG_WAITFORONE, NULL)
        if got <= 0:
            if failure == EAGAIN:
                self._flush()
            elif failure not in (EINTR, ECONNREFUSED):
                with gil:
                    raise OSError(failure, os.strerror(failure), "the socket")
            return False
        clock_gettime(CLOCK_REALTIME, &clock)
        self.packets += got
        self._count_kernel_drops()
        self._sort(into, got, clock.tv_sec * 1000000000 + clock.tv_nsec, room)
        return True

    cdef int _count_kernel_drops(self) noexcept nogil:
        cdef cmsghdr *control = CMSG_FIRSTHDR(&self.messages[0].msg_hdr)
        cdef uint32_t seen
        if control is not NULL and control.cmsg_level == SOL_SOCKET and control.cmsg_type == SO_RXQ_OVFL:
            seen = ht_le32(CMSG_DATA(control))
            self.kernel_drops += <uint32_t>(seen - <uint32_t>self.place.kernel_seen)
            self.place.kernel_seen = seen
        return 0

    cdef bint _number(self, int i, const uint8_t *frame, uint64_t ready, uint64_t *number, int64_t *time) noexcept nogil:
        """Which number the packet has, and its time if it says it; False (and counted) if it is none of this stream's."""
        cdef uint32_t w0, w1, w2, w3
        cdef uint64_t nr, thread, passed
        if self.messages[i].msg_len != self.frame_bytes + <uint64_t>(PREFIX if self.prefixed else 0) or self.messages[i].msg_hdr.msg_flags & MSG_TRUNC:
            self.wrong_size += 1
            return False
        if self.kind == LITTLE:
            number[0] = ht_le64(self.prefixes + i * PREFIX)
        elif self.kind == BIG:
            number[0] = ht_be64(self.prefixes + i * PREFIX)
        elif self.kind == ARRIVAL:
            number[0] = self.order.expected + ready
        else:
            w0, w1, w2, w3 = ht_le32(frame), ht_le32(frame + 4), ht_le32(frame + 8), ht_le32(frame + 12)
            nr, thread = w1 & 0xffffff, w3 >> 16 & 0x3ff
            if <uint64_t>(w2 & 0xffffff) * 8 != self.frame_bytes or nr >= self.per_second or thread >= self.threads:
                self.unfit += 1
                return False
            passed = self.epochs[w1 >> 24 & 63] + (w0 & 0x3fffffff)
            number[0] = ((passed - self.base) * self.per_second + nr) * self.threads + thread
            time[0] = <int64_t>((passed - leaps_until(self.leaps, self.leap_count, passed)) * 1000000000 + nr * 1000000000 // self.per_second)
        return True

    cdef int _sort(self, char *into, int got, int64_t now, bint room) except -1 nogil:
        """Publishes where they lie those that are in order; takes the rest one by one, from a copy."""
        cdef uint64_t number = 0, ready = 0
        cdef int64_t time = now, first_ns = now
        cdef int i = 0
        cdef bint known = False
        while i < got:
            time = now
            known = self._number(i, <const uint8_t *>into + i * self.frame_bytes, ready, &number, &time)
            if not (known and room and not self.order.waiting and self.order.started and number == self.order.expected + ready):
                break
            if not ready:
                first_ns = time
            ready += 1
            i += 1
        if i < got and into != self.spare:
            memcpy(self.spare + i * self.frame_bytes, into + i * self.frame_bytes, (got - i) * self.frame_bytes)
        if ready:
            if into == self.spare:
                memcpy(self.writer.out.w.at, into, ready * self.frame_bytes)
            ht_publish(&self.writer.out.w, ready, self.frame_bytes, 0, self.epoch, first_ns)
            self.order.stray_run = 0
            self.order.put(ready)
            self.frames += ready
        while i < got:
            if known:
                self.at = i
                self._place(self.spare + i * self.frame_bytes, number, time)
            i += 1
            if i < got:
                time = now
                known = self._number(i, <const uint8_t *>self.spare + i * self.frame_bytes, 0, &number, &time)
        return 0

    cdef int _place(self, char *frame, uint64_t number, int64_t time) except -1 nogil:
        """One packet that is not simply the next."""
        cdef uint64_t slot = number % self.order.window, hole
        cdef Verdict verdict = self.order.look(number)
        if self.fresh:
            self.fresh = False
            self._start(self.order.expected)
            self._map()
        while verdict == BEYOND or verdict == AGAIN:
            if verdict == BEYOND:
                hole = self.order.hole(number - self.order.window + 1 - self.order.expected)
                self._lose(hole)
                self._pass_on_kept()
            else:
                self._flush()
                self._forget()
                self.order.begin(number)
                self.epoch += 1
                self._map()
            verdict = self.order.look(number)
        if verdict == AHEAD:
            self.kept_numbers[slot] = 0
            ht_in_order()
            memcpy(self.kept + slot * self.frame_bytes, frame, self.frame_bytes)
            self.kept_ns[slot] = time
            ht_in_order()
            self.kept_numbers[slot] = number + 1
            self.order.hold(number)
        elif verdict == NEXT:
            self._pass_on(frame, time)
            self._pass_on_kept()
        return 0

    cdef int _forget(self) noexcept nogil:
        """What has numbers of before the sender began again is not to be taken for packets of now."""
        cdef uint64_t i
        for i in range(self.order.window):
            self.kept_numbers[i] = 0
        for i in range(self.at):
            self.messages[i].msg_len = 0
        return 0

    cdef int _start(self, uint64_t number) except -1 nogil:
        """A ring that never held a frame begins at the first packet's number. There is room: it is empty."""
        cdef ht_header *h = self.writer.out.w.h
        if h.head == h.base_seq and number > h.head and number < <uint64_t>1 << 62 and self._room(0):
            ht_publish(&self.writer.out.w, number - h.head, 0, HT_GAP | HT_BEFORE, 0, 0)
        return 0

    cdef int _pass_on(self, const char *frame, int64_t time) except -1 nogil:
        if self._settle() and self._room(self.frame_bytes):
            memcpy(self.writer.out.w.at, frame, self.frame_bytes)
            ht_publish(&self.writer.out.w, 1, self.frame_bytes, 0, self.epoch, time)
            self.frames += 1
        else:
            self.owed += 1
            self.dropped += 1
        self.order.put(1)
        return 0

    cdef int _pass_on_kept(self) except -1 nogil:
        cdef uint64_t slot
        while self.order.is_due():
            slot = self.order.expected % self.order.window
            self._pass_on(self.kept + slot * self.frame_bytes, self.kept_ns[slot])
        return 0

    cdef int _lose(self, uint64_t count) except -1 nogil:
        if count:
            self.owed += count  # declared before the next frame, together with what follows it
            self.order.give_up(count)
        return 0

    cdef int _flush(self) except -1 nogil:
        while self.order.waiting:
            self._lose(self.order.hole(self.order.window))
            self._pass_on_kept()
        return 0
