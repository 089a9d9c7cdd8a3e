"""A descriptor that is readable while frames may be there, for whoever waits for many things at once: select, epoll, asyncio.

A futex cannot be polled, so a thread sleeps on it in the reader's place and tells an eventfd. Owns that thread and two
descriptors; never reads a frame nor moves a cursor.
"""

import os
import select
import threading

from halftrack_dataplane.mapping cimport SLICE_NS, Mapping, forks_word
from halftrack_dataplane.native cimport *

__all__ = ["Waker"]

cdef const int *FORKS = forks_word()


cdef class Waker:
    """Of one reader. While it lives, that reader's slot in the ring's set of sleepers is the thread's, not the reader's."""

    def __cinit__(self):
        self.ready_fd = self.again_fd = -1

    def begin(self, uint64_t wanted):
        """Be readable once `wanted` is published."""
        self.wanted = wanted
        self.ready_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.again_fd = os.eventfd(1, os.EFD_CLOEXEC)
        self.thread = threading.Thread(target=self._watch, name="halftrack-waker", daemon=True)
        self.thread.start()

    def again(self, uint64_t wanted):
        """Nothing was there: be readable no more until `wanted` is published."""
        try:
            os.eventfd_read(self.ready_fd)
        except BlockingIOError:
            return  # the thread still watches
        self.wanted = wanted
        os.eventfd_write(self.again_fd, 1)

    cdef bint waited(self, uint64_t wanted, int64_t deadline) except -1:
        """Has a slice of waiting passed, or a moment in which something came? False: it is past the deadline (-1: there is none)."""
        cdef int64_t left
        self.again(wanted)
        left = SLICE_NS if deadline < 0 else min(deadline - ht_now_ns(), SLICE_NS)
        if left > 0:
            watched = select.poll()
            watched.register(self.ready_fd, select.POLLIN)
            watched.poll(left / 1e6)
        return left > 0

    def end(self):
        """The thread ends, and the descriptors with it."""
        if self.ready_fd < 0 or self.forks != FORKS[0]:
            return
        self.ending = True
        os.eventfd_write(self.again_fd, 1)
        if self.thread is not threading.current_thread():
            self.thread.join()
        os.close(self.ready_fd)
        os.close(self.again_fd)
        self.ready_fd = self.again_fd = -1

    def _watch(self):
        while not self.ending:
            os.eventfd_read(self.again_fd)
            while not self.ending and not self._published():
                pass
            os.eventfd_write(self.ready_fd, 1)

    cdef bint _published(self) noexcept:
        """Is it? Waits for one slice at most."""
        cdef ht_header *h = self.mapping.ring.header
        cdef uint32_t event
        cdef int sure
        if ht_load(&h.head) > self.wanted:
            return True
        with nogil:
            event = ht_event(&h.data_event)  # first: who takes the announcement back has yet to bump it
            sure = ht_arm_reader(h, self.slot)
            if ht_load(&h.head) <= self.wanted:  # SYNC: frame wake-up: having announced, look again
                ht_sleep(&h.data_event, event, ht_slice(-1, sure))
            ht_disarm_reader(h, self.slot)
        return ht_load(&h.head) > self.wanted
