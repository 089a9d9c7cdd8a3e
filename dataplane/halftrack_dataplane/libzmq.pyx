"""libzmq without Python: its calls on messages, out of the very library that pyzmq has loaded.

Owns finding them. A wheel of pyzmq brings a libzmq of its own, one built from source uses the system's: the symbols are looked for from
pyzmq's extension module on, so that neither is mixed up with the other. Never makes, configures or closes a socket: pyzmq does.
"""

import importlib
import os

import zmq

from posix.dlfcn cimport RTLD_LAZY, dlclose, dlerror, dlopen, dlsym

cdef extern from "dlfcn.h" nogil:
    int RTLD_NOLOAD

cdef extern from *:
    """
    #include <malloc.h>
    #ifdef __GLIBC__
    static void ht_keep_freed(int bytes) { mallopt(M_MMAP_THRESHOLD, bytes / 2); mallopt(M_TRIM_THRESHOLD, bytes); }
    #else
    static void ht_keep_freed(int bytes) { (void)bytes; }
    #endif
    """
    void ht_keep_freed(int bytes)

__all__ = ["LibzmqMissing", "keep_freed", "load"]

KEPT_BYTES = 64 << 20

cdef Calls found
cdef bint looked = False


class LibzmqMissing(ImportError):
    """pyzmq's libzmq cannot be called from C; the message says why, and what to install."""


cdef void *symbol(void *library, const char *name, str where) except NULL:
    cdef void *at = dlsym(library, name)
    if at == NULL:
        raise LibzmqMissing(
            f"libzmq behind {where} does not show {name.decode()}: this pyzmq hides its libzmq. Install pyzmq's wheel, or build it "
            "against the system's shared library (ZMQ_PREFIX)"
        )
    return at


def load(where=None):
    """Finds the calls, once. `where`: the file of pyzmq's extension module; None asks pyzmq. LibzmqMissing if they cannot be had."""
    global looked
    cdef bytes name
    cdef void *library
    cdef void (*version)(int *, int *, int *) noexcept nogil
    cdef int major, minor, patch
    if where is None:
        try:
            where = importlib.import_module("zmq.backend.cython._zmq").__file__
        except ImportError:
            raise LibzmqMissing("this pyzmq has no compiled backend (PyPy's?): the bridge needs CPython's pyzmq") from None
    name = os.fsencode(where)
    library = dlopen(name, RTLD_LAZY | RTLD_NOLOAD)
    if library == NULL:
        raise LibzmqMissing(f"{where} is not loaded: {(dlerror() or b'nobody has imported it').decode()}")
    try:
        version = <void (*)(int *, int *, int *) noexcept nogil>symbol(library, b"zmq_version", where)
        version(&major, &minor, &patch)
        if (major, minor, patch) != zmq.zmq_version_info():
            raise LibzmqMissing(f"{where} leads to libzmq {major}.{minor}.{patch}, pyzmq uses {zmq.zmq_version()}")
        found.init = <int (*)(zmq_msg_t *) noexcept nogil>symbol(library, b"zmq_msg_init", where)
        found.init_size = <int (*)(zmq_msg_t *, size_t) noexcept nogil>symbol(library, b"zmq_msg_init_size", where)
        found.init_data = <int (*)(zmq_msg_t *, void *, size_t, free_fn, void *) noexcept nogil>symbol(library, b"zmq_msg_init_data", where)
        found.send = <int (*)(zmq_msg_t *, void *, int) noexcept nogil>symbol(library, b"zmq_msg_send", where)
        found.recv = <int (*)(zmq_msg_t *, void *, int) noexcept nogil>symbol(library, b"zmq_msg_recv", where)
        found.close = <int (*)(zmq_msg_t *) noexcept nogil>symbol(library, b"zmq_msg_close", where)
        found.more = <int (*)(const zmq_msg_t *) noexcept nogil>symbol(library, b"zmq_msg_more", where)
        found.data = <void *(*)(zmq_msg_t *) noexcept nogil>symbol(library, b"zmq_msg_data", where)
        found.size = <size_t (*)(const zmq_msg_t *) noexcept nogil>symbol(library, b"zmq_msg_size", where)
        found.error = <int (*)() noexcept nogil>symbol(library, b"zmq_errno", where)
        looked = True
    finally:
        dlclose(library)  # pyzmq keeps it


def keep_freed():
    """Lets this process keep up to 64 MiB that messages have freed, for its next ones.

    libzmq allocates each large message on one thread and frees it on another; given back to the system every time, its pages are
    faulted in anew, which takes a quarter of a receiver's time. For processes that do nothing but bridge.
    """
    ht_keep_freed(KEPT_BYTES)


cdef const Calls *calls() except NULL:
    if not looked:
        load()
    return &found


cdef void *socket_of(object socket) except NULL:
    """The C socket of pyzmq's; good until that is closed."""
    cdef size_t address = socket.underlying
    if not address:
        raise ValueError("a closed socket")
    return <void *>address
