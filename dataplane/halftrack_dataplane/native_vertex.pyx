"""Vertices in C and C++, as the runner knows vertices: loads a shared object, and calls it frame by frame.

Owns the way to C and back, and every refusal of what cannot be called. Never looks at a frame's bytes. The contract is
`native/halftrack_vertex.h`.
"""

import json
import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.dlfcn cimport RTLD_LOCAL, RTLD_NOW, dlerror, dlopen, dlsym

__all__ = ["ELF", "NativeVertex", "VertexError", "library"]

ELF = b"\x7fELF"

cdef extern from "halftrack_vertex.h":
    enum:
        HT_VERTEX_ABI

    ctypedef struct ht_host:
        uint32_t size
        void (*give)(ht_host *host, const void *bytes, uint64_t length) noexcept
        void (*fail)(ht_host *host, const char *why) noexcept

    ctypedef struct ht_vertex_frame:
        uint64_t seq, epoch
        int64_t timestamp_ns
        const void *bytes
        uint64_t length

    ctypedef struct ht_vertex:
        uint32_t abi, size
        void *(*create)(const char *params, ht_host *host) noexcept
        void (*destroy)(void *vertex) noexcept
        int (*process)(void *vertex, const ht_vertex_frame *frame, ht_host *host) noexcept
        int (*snapshot)(void *vertex, ht_host *host) noexcept
        int64_t (*restore)(void *vertex, const void *state, uint64_t length, int same_release, ht_host *host) noexcept

# `host` comes first, so that what a vertex hands back is this.
cdef struct Caller:
    ht_host host
    void *given  # a list
    void *trouble  # a list too: words, and errors of ours


class VertexError(Exception):
    """A vertex in C has failed, in its own words, or cannot be loaded. Its author must act."""


cdef void _give(ht_host *host, const void *bytes, uint64_t length) noexcept:
    cdef Caller *caller = <Caller *>host
    try:
        (<list>caller.given).append(PyBytes_FromStringAndSize(<const char *>bytes, <Py_ssize_t>length))
    except BaseException as error:
        (<list>caller.trouble).append(error)


cdef void _fail(ht_host *host, const char *why) noexcept:
    cdef Caller *caller = <Caller *>host
    try:
        (<list>caller.trouble).append("" if why == NULL else (<bytes>why).decode(errors="replace"))
    except BaseException as error:
        (<list>caller.trouble).append(error)


def library(str path, str name):
    """The vertex `name` of the shared object at `path`: called with params, it makes one. VertexError when there is none that can be called."""
    cdef void *handle = dlopen(os.fsencode(path), RTLD_NOW | RTLD_LOCAL)  # never closed: its code may run as long as we do
    cdef const ht_vertex *table
    if handle == NULL:
        raise VertexError(f"it cannot be loaded here: {(<bytes>dlerror()).decode(errors='replace')}")
    table = <const ht_vertex *>dlsym(handle, name.encode())
    if table == NULL:
        raise VertexError(f"it has no {name!r}: define `const ht_vertex {name} = {{HT_VERTEX_ABI, sizeof(ht_vertex), ...}};` and do not hide it")
    if table.abi != HT_VERTEX_ABI or table.size < sizeof(ht_vertex):
        raise VertexError(
            f"its {name} is of ABI {table.abi}, {table.size} bytes, and this runner calls ABI {HT_VERTEX_ABI}, {sizeof(ht_vertex)} bytes: "
            "build it with this version's halftrack_vertex.h"
        )
    if table.create == NULL or table.destroy == NULL or table.process == NULL or (table.snapshot == NULL) != (table.restore == NULL):
        raise VertexError(f"its {name} lacks create, destroy or process, or has one of snapshot and restore without the other")

    def make(params):
        vertex = NativeVertex()
        (<NativeVertex>vertex)._begin(table, name, params)
        return vertex

    make.__name__ = name
    return make


cdef class NativeVertex:
    """One vertex, made by what `library` returns. Follows the protocol `sdk.Vertex`."""

    cdef const ht_vertex *table
    cdef void *vertex
    cdef Caller caller
    cdef list given, trouble
    cdef str name

    def __cinit__(self):
        self.given, self.trouble = [], []
        self.caller.given, self.caller.trouble = <void *>self.given, <void *>self.trouble
        self.caller.host.size = sizeof(ht_host)
        self.caller.host.give, self.caller.host.fail = _give, _fail

    def __dealloc__(self):
        if self.vertex != NULL:
            self.table.destroy(self.vertex)

    cdef _begin(self, const ht_vertex *table, str name, object params):
        self.table, self.name = table, name
        text = json.dumps(dict(params), sort_keys=True).encode()
        self.vertex = table.create(text, &self.caller.host)
        self._ended("create", self.vertex == NULL)

    def process(self, frame):
        """Takes the next frame in; an output, several, or None."""
        cdef ht_vertex_frame given
        cdef Py_buffer view
        cdef int failed
        given.seq, given.epoch, given.timestamp_ns = frame.seq, frame.epoch, frame.timestamp_ns
        PyObject_GetBuffer(frame.payload, &view, PyBUF_SIMPLE)
        try:
            given.bytes, given.length = view.buf, view.len
            failed = self.table.process(self.vertex, &given, &self.caller.host)
        finally:
            PyBuffer_Release(&view)
        self._ended("process", failed != 0)
        outputs = self._taken()
        if len(outputs) == 1:
            return outputs[0]
        return outputs or None

    def snapshot(self):
        """All that the next `process` depends on, in the pieces in which it was given."""
        self._stateful("snapshot")
        self._ended("snapshot", self.table.snapshot(self.vertex, &self.caller.host) != 0)
        return self._taken() or b""

    def restore(self, state, *, same_release):
        """Goes on from a snapshot; how many of the coming outputs to suppress."""
        cdef Py_buffer view
        cdef int64_t suppress
        self._stateful("restore")
        PyObject_GetBuffer(state, &view, PyBUF_SIMPLE)
        try:
            suppress = self.table.restore(self.vertex, view.buf, view.len, bool(same_release), &self.caller.host)
        finally:
            PyBuffer_Release(&view)
        self._ended("restore", suppress < 0)
        self.given.clear()
        return suppress

    cdef list _taken(self):
        taken = self.given[:]
        self.given.clear()
        return taken

    cdef int _stateful(self, str what) except -1:
        if self.table.snapshot == NULL:
            raise VertexError(f"{self.name} has no {what}, and its release declares a state: give it one, or declare none")
        return 0

    cdef int _ended(self, str what, bint failed) except -1:
        """Raises what went wrong in a call: our own error, or the vertex's words; also when it named a failure and returned none."""
        if not failed and not self.trouble:
            return 0
        trouble = self.trouble[:]
        self.trouble.clear()
        self.given.clear()
        for found in trouble:
            if isinstance(found, BaseException):
                raise found
        words = "; ".join(word for word in trouble if word)
        raise VertexError(f"{self.name}: {what} failed{f': {words}' if words else ', and did not say why'}")
