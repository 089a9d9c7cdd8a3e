"""A ring's memory: the mapping and what it lends out, its texts, and how long to wait for it. For cimport.

Owns the lifetime of the mapping: it ends with its last user, exported views included. Never looks at what frames mean.
"""

import os

import cython

from halftrack_dataplane.frames import RingDamaged, RingError

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.string cimport memcpy
from posix.time cimport nanosleep, timespec

from halftrack_dataplane.native cimport HT_NAME, ht_detach, ht_now_ns, int64_t, uint64_t

cdef int fork_count = 0


def _after_fork():
    global fork_count
    fork_count += 1


os.register_at_fork(after_in_child=_after_fork)


cdef const int *forks_word() noexcept:
    """Where it is counted how many forks lie between the import and this process: objects of a parent's count are not ours."""
    return &fork_count


cdef object forked():
    return RingError("this object was made before a fork, and belongs to the parent process; open the ring again")


cdef class Mapping:
    """The mapped file. Lives as long as any ring, writer, reader or exported view needs it."""

    def __dealloc__(self):
        ht_detach(&self.ring)


@cython.freelist(4)
@cython.no_gc  # a mapping leads nowhere
cdef class Span:
    """Some bytes of a mapping; exists to export them as a memoryview that keeps the mapping."""

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.start, self.length, self.locked, flags)

    def __releasebuffer__(self, Py_buffer *buffer):
        pass


cdef object export(Mapping mapping, char *start, uint64_t length, bint locked):
    cdef Span span = Span.__new__(Span)
    span.mapping = mapping
    span.start = start
    span.length = length
    span.locked = locked
    return PyMemoryView_FromObject(span)


cdef object copy_out(const char *at, uint64_t length):
    cdef bytes payload
    cdef char *into
    if length < NOGIL_BYTES:
        return PyBytes_FromStringAndSize(at, length)
    payload = PyBytes_FromStringAndSize(NULL, length)
    into = PyBytes_AS_STRING(payload)
    with nogil:
        memcpy(into, at, length)
    return payload


cdef int retire(object view) except -1:
    """Ends a view we handed out. Arrays made from it keep it alive; they are then the caller's risk, as documented."""
    try:
        view.release()
    except BufferError:
        pass
    return 0


cdef str text_of(const char *at, size_t room):
    return at[:room].partition(b"\0")[0].decode("utf-8", "replace")


cdef bytes name_of(str text):
    """Names are for people and cut to fit."""
    cdef bytes data = text.encode().partition(b"\0")[0]
    return data if len(data) < HT_NAME else data[:HT_NAME - 1].decode("utf-8", "ignore").encode()


cdef bytes label_of(str text, size_t room):
    """Labels carry meaning, so they are refused rather than cut to fit."""
    cdef bytes data = text.encode()
    if <size_t>len(data) >= room or b"\0" in data:
        raise ValueError(f"a label may have at most {room - 1} bytes and no NUL, this one has {len(data)}: {text!r}")
    return data


cdef int64_t deadline_of(object timeout_s) except? -1:
    """-1: wait for ever."""
    if timeout_s is None:
        return -1
    return ht_now_ns() + <int64_t>(min(max(timeout_s, 0), 1e9) * 1e9)


cdef bint slept_until(int64_t moment) except -1:
    """Is it past `moment`? Sleeps until then, for a tenth of a second at most, and sees to signals."""
    cdef int64_t left = min(moment - ht_now_ns(), SLICE_NS)
    cdef timespec some
    if left > 0:
        some.tv_sec, some.tv_nsec = left // 1000000000, left % 1000000000
        with nogil:
            nanosleep(&some, NULL)
        PyErr_CheckSignals()
    return ht_now_ns() >= moment


cdef object damaged(seq):
    return RingDamaged(
        f"the ring's descriptor for sequence {seq} is not valid: something wrote over the ring's memory. "
        "Stop its writer and readers, remove the file and create the stream anew."
    )
