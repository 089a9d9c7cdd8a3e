"""Where the stream in a ring begins, as long as the ring has not let go of that."""

from halftrack_dataplane.native cimport *
from halftrack_dataplane.ring cimport Ring

__all__ = ["begins_at"]


def begins_at(Ring ring):
    """The stream's first sequence, if the ring still holds its beginning; None if that has gone."""
    cdef ht_header *h = ring._shared()
    cdef ht_found found
    cdef uint64_t tail = ht_load(&h.tail)
    found.end = 0
    if tail != h.base_seq:
        return None
    if ht_locate(h, tail, &found) == HT_OK and found.flags & HT_BEFORE:
        return found.end
    return tail if ht_intact(h, tail) else None
