# cython: language_level=3
"""payload.h for Python's side of the benchmarks, at C's price, and an empty method call as the unit of what Python costs."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint64_t, uintptr_t

cdef extern from "payload.h" nogil:
    void stamp_frames(char *frames, uint64_t count, uint64_t size, uint64_t first)
    bint frames_are(const char *frames, uint64_t count, uint64_t size, uint64_t first)
    void fill_block(char *block, uint64_t size, uint64_t number)
    bint block_is(const char *block, uint64_t size, uint64_t number)


cdef class Empty:
    """What a call of a compiled method costs, whatever it does."""

    def call(self, data):
        pass


def stamp(frames, uint64_t size, uint64_t first):
    """Numbers the frames from `first` on."""
    cdef Py_buffer held
    PyObject_GetBuffer(frames, &held, PyBUF_WRITABLE)
    stamp_frames(<char *>held.buf, held.len // size, size, first)
    PyBuffer_Release(&held)


def numbered(frames, uint64_t size, uint64_t count, uint64_t first):
    """Are the first `count` frames numbered from `first` on?"""
    cdef Py_buffer held
    PyObject_GetBuffer(frames, &held, PyBUF_SIMPLE)
    cdef bint right = <uint64_t>held.len >= size * count and frames_are(<const char *>held.buf, count, size, first)
    PyBuffer_Release(&held)
    return right


def numbered_list(list frames, uint64_t size, uint64_t first):
    """The same of a list of bytes."""
    cdef bytes frame
    for frame in frames:
        if <uint64_t>len(frame) != size or not frames_are(<const char *>frame, 1, size, first):
            return False
        first += 1
    return True


def fill(block, uint64_t number):
    """Writes every byte of a large frame."""
    cdef Py_buffer held
    PyObject_GetBuffer(block, &held, PyBUF_WRITABLE)
    fill_block(<char *>held.buf, held.len, number)
    PyBuffer_Release(&held)


def is_block(block, uint64_t size, uint64_t number):
    """Reads every byte of a large frame: is it what `fill` wrote?"""
    cdef Py_buffer held
    PyObject_GetBuffer(block, &held, PyBUF_SIMPLE)
    cdef bint right = <uint64_t>held.len == size and block_is(<const char *>held.buf, size, number)
    PyBuffer_Release(&held)
    return right


def fill_at(uintptr_t address, uint64_t size, uint64_t number):
    """`fill` for a peer that hands out an address."""
    fill_block(<char *>address, size, number)


def is_block_at(uintptr_t address, uint64_t size, uint64_t number):
    """`is_block` for a peer that hands out an address."""
    return block_is(<const char *>address, size, number)
