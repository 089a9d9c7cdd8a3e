# Small objects that nobody else holds any more, filled again instead of freed and made anew. For cimport.
#
# Making and freeing a bytes object costs more than moving 64 bytes. What was handed out is kept as well, and once ours is the only
# reference, nobody can tell an object that is filled again from a new one (CPython does so with the tuples of zip). What is kept is bounded:
# HT_REUSE_BYTES a frame, HT_KEPT_BYTES and HT_KEPT of a list, two lists. Never touches a ring.
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF

from halftrack_dataplane.frame cimport Frame, new_frame
from halftrack_dataplane.native cimport ht_found, ht_frame_at, uint64_t

cdef extern from *:
    """
    #include "ring_copy.h"

    #define HT_REUSE_BYTES 1024 /* larger ones take longer to copy than to make */
    #define HT_KEPT_BYTES 65536 /* as much as a record of small frames has */
    #define HT_KEPT 1024        /* the default limit of read_many */

    #ifdef Py_GIL_DISABLED /* a count of one says nothing about other threads */
    #define HT_ALONE(object) 0
    #else
    #define HT_ALONE(object) (Py_REFCNT(object) == 1)
    #endif

    typedef struct {
        PyObject **items; /* NULL: nothing there yet */
        Py_ssize_t room;
    } ht_kept;

    static inline int ht_alone(PyObject *object) { return HT_ALONE(object); }

    /* Fills a bytes object that is ours alone; 0 if it is not, or is something else. Empty and one-byte objects are everybody's. */
    static inline int ht_refilled(PyObject *object, const char *at, Py_ssize_t length) {
        if (!PyBytes_CheckExact(object) || !HT_ALONE(object) || Py_SIZE(object) != length || length < 2) return 0;
        ht_copy(PyBytes_AS_STRING(object), at, (uint64_t)length);
    #pragma GCC diagnostic push
    #pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* it is deprecated to read, and there is no other way to forget it */
        ((PyBytesObject *)object)->ob_shash = -1;
    #pragma GCC diagnostic pop
        return 1;
    }

    static inline PyObject *ht_bytes_of(const char *at, Py_ssize_t length) {
        PyObject *made = PyBytes_FromStringAndSize(length < 2 ? at : NULL, length);
        if (made && length >= 2) ht_copy(PyBytes_AS_STRING(made), at, (uint64_t)length);
        return made;
    }

    static int ht_room_for(ht_kept *kept, Py_ssize_t count) {
        Py_ssize_t room = kept->room ? kept->room : 64;
        if (count <= kept->room) return 0;
        while (room < count) room *= 2;
        PyObject **items = PyMem_Realloc(kept->items, room * sizeof *items);
        if (!items) {
            PyErr_NoMemory();
            return -1;
        }
        memset(items + kept->room, 0, (room - kept->room) * sizeof *items);
        kept->items = items;
        kept->room = room;
        return 0;
    }

    /* Makes kept items [first, first + count) what lies at `at`; -1: an exception is set. */
    static int ht_fill(ht_kept *kept, Py_ssize_t first, Py_ssize_t count, const char *at, Py_ssize_t length) {
        if (ht_room_for(kept, first + count)) return -1;
        for (PyObject **item = kept->items + first, **end = item + count; item < end; item++, at += length) {
            if (*item && ht_refilled(*item, at, length)) continue;
            PyObject *made = ht_bytes_of(at, length);
            if (!made) return -1;
            Py_XSETREF(*item, made);
        }
        return 0;
    }

    /* A list of the first `count`. Those beyond what may be kept go with it. */
    static PyObject *ht_listed(ht_kept *kept, Py_ssize_t count, Py_ssize_t length) {
        Py_ssize_t most = length > HT_REUSE_BYTES ? 0 : length * HT_KEPT > HT_KEPT_BYTES ? HT_KEPT_BYTES / length : HT_KEPT;
        PyObject *list = PyList_New(count);
        if (!list) return NULL;
        for (Py_ssize_t i = 0; i < count; i++) {
            PyList_SET_ITEM(list, i, kept->items[i]);
            if (i < most) Py_INCREF(kept->items[i]);
            else kept->items[i] = NULL;
        }
        return list;
    }

    static void ht_forget(ht_kept *kept, int count) {
        for (ht_kept *end = kept + count; kept < end; kept++) {
            for (Py_ssize_t i = 0; i < kept->room; i++) Py_XDECREF(kept->items[i]);
            PyMem_Free(kept->items);
            *kept = (ht_kept){NULL, 0};
        }
    }

    /* ---- of a writer's list ---- */

    /* How many items from `first` on are bytes of `length`, at most `most`. */
    static Py_ssize_t ht_run_of(PyObject *list, Py_ssize_t first, Py_ssize_t length, Py_ssize_t most) {
        PyObject **item = ((PyListObject *)list)->ob_item + first;
        Py_ssize_t count = 0, left = PyList_GET_SIZE(list) - first;
        while (count < left && count < most && PyBytes_CheckExact(item[count]) && Py_SIZE(item[count]) == length) count++;
        return count;
    }

    static void ht_gather(char *into, PyObject *list, Py_ssize_t first, Py_ssize_t count, Py_ssize_t length) {
        PyObject **item = ((PyListObject *)list)->ob_item + first;
        for (PyObject **end = item + count; item < end; item++, into += length) ht_copy(into, PyBytes_AS_STRING(*item), (uint64_t)length);
    }
    """
    enum:
        HT_REUSE_BYTES
    ctypedef struct ht_kept:
        PyObject **items
        Py_ssize_t room
    bint ht_alone(PyObject *object)
    bint ht_refilled(PyObject *object, const char *at, Py_ssize_t length)
    object ht_bytes_of(const char *at, Py_ssize_t length)
    int ht_room_for(ht_kept *kept, Py_ssize_t count) except -1
    int ht_fill(ht_kept *kept, Py_ssize_t first, Py_ssize_t count, const char *at, Py_ssize_t length) except -1
    list ht_listed(ht_kept *kept, Py_ssize_t count, Py_ssize_t length)
    void ht_forget(ht_kept *kept, int count)
    Py_ssize_t ht_run_of(list items, Py_ssize_t first, Py_ssize_t length, Py_ssize_t most)
    void ht_gather(char *into, list items, Py_ssize_t first, Py_ssize_t count, Py_ssize_t length)


cdef inline Frame frame_of(ht_kept *kept, const ht_found *found, uint64_t seq):
    """The small frame `seq` of a record, as a Frame that nobody else holds any more if there is one. While one is in use, the other may be free."""
    cdef PyObject **spare
    cdef Frame frame
    cdef const char *at = ht_frame_at(found, seq)
    ht_room_for(kept, 2)
    spare = &kept.items[seq & 1]
    if spare[0] != NULL and ht_alone(spare[0]):
        frame = <Frame>spare[0]
        frame.seq, frame.epoch, frame.timestamp_ns = seq, found.epoch, found.timestamp_ns
        if not ht_refilled(<PyObject *>frame.payload, at, found.length):
            frame.payload = ht_bytes_of(at, found.length)
        return frame
    frame = new_frame(seq, found.epoch, found.timestamp_ns, ht_bytes_of(at, found.length), 0)
    Py_INCREF(frame)
    Py_XDECREF(spare[0])
    spare[0] = <PyObject *>frame
    return frame
