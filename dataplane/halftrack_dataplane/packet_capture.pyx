"""Datagrams from a socket straight into a ring: the kernel writes them where the frames will be, many a call, without the interpreter lock.

Owns the receiving, and the packets that wait for an earlier one. What a number means is packet_order's, how room is found the
ring's. Packets in order are received where they are published; only what comes out of order is copied. What the ring has no room for
(policy "drop"), what the network lost and what came too late is in the ring as a gap: its sequences are those of the packets.

A record is what one call received, with the first packet's time: 64 packets, or a 16th of the ring at most. A hole is given up after a
tenth of a second without packets.
"""

import os

from halftrack_dataplane.frames import FrameTooLarge, RingError, WrongLength

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR, ECONNREFUSED, errno as failure
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from halftrack_dataplane.native cimport *
from halftrack_dataplane.packet_order cimport AGAIN, AHEAD, BEYOND, NEXT, Order, Verdict
from halftrack_dataplane.ring_writer cimport Writer

from libc.stdint cimport uint8_t

__all__ = ["Capture"]

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_TRUNC, MSG_WAITFORONE, SOL_SOCKET
    ctypedef unsigned int socklen_t
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct cmsghdr:
        int cmsg_level, cmsg_type
    cmsghdr *CMSG_FIRSTHDR(msghdr *message)
    unsigned char *CMSG_DATA(cmsghdr *control)
    int recvmmsg(int fd, mmsghdr *messages, unsigned int count, int flags, timespec *timeout)

cdef extern from *:
    """
    #ifndef SO_RXQ_OVFL
    #define SO_RXQ_OVFL 40
    #endif
    static inline uint32_t ht_le32(const unsigned char *at) { uint32_t v; memcpy(&v, at, 4); return v; } /* the ring wants little-endian machines */
    static inline uint64_t ht_le64(const unsigned char *at) { uint64_t v; memcpy(&v, at, 8); return v; }
    static inline uint64_t ht_be64(const unsigned char *at) { return __builtin_bswap64(ht_le64(at)); }
    """
    const int SO_RXQ_OVFL
    uint32_t ht_le32(const unsigned char *at) nogil
    uint64_t ht_le64(const unsigned char *at) nogil
    uint64_t ht_be64(const unsigned char *at) nogil

cdef enum:
    BATCH = 64  # packets of one call: what a system call costs is by then a small part
    CONTROL = 64  # room for the count of what the kernel dropped
    PREFIX = 8
    SLICE = 100000000  # ns until signals and progress are seen to, and until a hole is given up when nothing comes
    ARRIVAL = 1
    LITTLE = 2
    BIG = 3
    VDIF = 4

_KINDS = {"arrival": ARRIVAL, "le64": LITTLE, "be64": BIG, "vdif": VDIF}


cdef class Capture:
    """One socket's packets into one ring; `step` for as long as it shall go on. The socket stays its maker's."""

    cdef Writer writer
    cdef readonly Order order
    cdef object keep_on
    cdef int fd, kind
    cdef bint prefixed, fresh
    cdef uint64_t frame_bytes, batch, wanted, per_second, threads, base, owed
    cdef uint64_t epochs[64]
    cdef uint64_t leaps[64]
    cdef int leap_count
    cdef mmsghdr *messages
    cdef iovec *parts
    cdef uint8_t *control
    cdef uint8_t *prefixes
    cdef char *spare
    cdef char *kept
    cdef int64_t *kept_ns
    cdef uint32_t kernel_seen
    cdef readonly uint64_t epoch, packets, frames, wrong_size, unfit, dropped, kernel_drops

    def __cinit__(self):
        self.messages = <mmsghdr *>calloc(BATCH, sizeof(mmsghdr))
        self.parts = <iovec *>calloc(2 * BATCH, sizeof(iovec))
        self.control = <uint8_t *>calloc(1, CONTROL)
        self.prefixes = <uint8_t *>calloc(BATCH, PREFIX)

    def __init__(
        self, Writer writer, capacity_bytes, fd, *, frame_bytes, numbers="arrival", prefixed=False, window=64, keep_on=None, numbering=None,
        epochs_s=(), leaps_s=(), epoch=0,
    ):
        """`numbers`: "arrival" (packets have none), "le64" or "be64" (in the 8 bytes before the frame) or "vdif" (in the frame's
        header: `numbering` says how many a second, `epochs_s` and `leaps_s` are vdif's). `prefixed`: there are 8 bytes before
        the frame, which do not go into the ring. `keep_on()` false ends a wait for room."""
        cdef uint64_t of_ring = writer.out.w.h.frame_bytes
        if self.spare is not NULL:
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
        self.spare = <char *>calloc(self.batch, self.frame_bytes)
        self.kept = <char *>calloc(window, self.frame_bytes)
        self.kept_ns = <int64_t *>calloc(window, sizeof(int64_t))
        if not (self.messages and self.parts and self.control and self.prefixes and self.spare and self.kept and self.kept_ns):
            raise MemoryError

    def __dealloc__(self):
        free(self.messages)
        free(self.parts)
        free(self.control)
        free(self.prefixes)
        free(self.spare)
        free(self.kept)
        free(self.kept_ns)

    def step(self, packets=None):
        """Receives for a tenth of a second, or until so many packets have come. How many frames were published meanwhile."""
        cdef uint64_t before = self.frames
        cdef int64_t until = ht_now_ns() + SLICE
        self.wanted = self.packets + <uint64_t>packets if packets is not None else <uint64_t>-1
        self.writer._enter()
        try:
            with nogil:
                while self.packets < self.wanted and self._receive() and ht_now_ns() < until:
                    pass
        finally:
            self.writer._leave()
        return self.frames - before

    def finish(self):
        """Waits for no hole any longer: what is held is published, and what the ring had no room for is declared, if now it has."""
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
        while True:
            rc = ht_room(&self.writer.out, bytes, -1)
            if rc == HT_OK:
                return True
            if rc == HT_FULL:
                return False
            with gil:
                if not self._wanted():
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
        self.messages[0].msg_hdr.msg_control = self.control
        self.messages[0].msg_hdr.msg_controllen = CONTROL  # one count a call will do, and each costs the kernel time
        return 0

    cdef bint _receive(self) except -1 nogil:
        """One call's packets, published or kept; False if none came within a slice, or a signal did."""
        cdef bint room = self._settle() and self._room(self.batch * self.frame_bytes)
        cdef char *into = self.writer.out.w.at if room else self.spare
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
            self.kernel_drops += <uint32_t>(seen - self.kernel_seen)
            self.kernel_seen = seen
        return 0

    cdef uint64_t _leaps_until(self, uint64_t passed) noexcept nogil:
        cdef int count = self.leap_count
        while count and self.leaps[count - 1] > passed:
            count -= 1
        return count

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
            time[0] = <int64_t>((passed - self._leaps_until(passed)) * 1000000000 + nr * 1000000000 // self.per_second)
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
            ht_publish(&self.writer.out.w, ready, self.frame_bytes, 0, self.epoch, first_ns)
            self.order.stray_run = 0
            self.order.put(ready)
            self.frames += ready
        while i < got:
            if known:
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
        while verdict == BEYOND or verdict == AGAIN:
            if verdict == BEYOND:
                hole = self.order.hole(number - self.order.window + 1 - self.order.expected)
                self._lose(hole)
                self._pass_on_kept()
            else:
                self._flush()
                self.order.begin(number)
                self.epoch += 1
            verdict = self.order.look(number)
        if verdict == AHEAD:
            memcpy(self.kept + slot * self.frame_bytes, frame, self.frame_bytes)
            self.kept_ns[slot] = time
            self.order.hold(number)
        elif verdict == NEXT:
            self._pass_on(frame, time)
            self._pass_on_kept()
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
