"""A range of a ring that is kept while somebody needs it, beside whatever he reads.

Owns its own reader's slot, so that what holds the writer up is seen, counted and evicted like any reader. Never moves its cursor.
"""

from halftrack_dataplane.frames import Evicted, NotRetained

from libc.string cimport memset

from halftrack_dataplane.frame cimport new_batch
from halftrack_dataplane.mapping cimport damaged, export, retire
from halftrack_dataplane.native cimport *

__all__ = ["Pin"]


cdef class Pin:
    """Frames [first, end) in the ring's memory, until `close`; `held` says that they are still whole.

    Whoever blocks a writer for longer than the pin's `hold_s` is evicted: then the views show what comes next, and `held` is False.
    """

    def __init__(self, Reader reader not None, uint64_t first, uint64_t end):
        self.reader, self.first, self.end, self.views = reader, first, end, []
        if reader.r.cursor > first or end < first or end > ht_load(&reader.r.h.head):
            tail, head = ht_load(&reader.r.h.tail), ht_load(&reader.r.h.head)
            reader.close()
            raise NotRetained(f"[{first}, {end}) is not all there: the ring has [{tail}, {head})")

    @property
    def held(self):
        """Is the range still ours? Ask after using the views, as they cannot be taken away."""
        return self.reader.mapping is not None and ht_held(&self.reader.r)

    def blocks(self):
        """The range as Batches whose payloads are views of the ring, a record or a part of one each; a gap comes as one without frames."""
        cdef ht_found found
        cdef uint64_t seq = self.first, end = self.end, last
        self.reader._enter()
        try:
            blocks = []
            memset(&found, 0, sizeof(found))
            while seq < end:
                if ht_locate(self.reader.r.h, seq, &found) != HT_OK:
                    if not ht_held(&self.reader.r):
                        break
                    raise damaged(seq)
                last = min(found.end, end)
                if found.flags & HT_GAP:
                    blocks.append(new_batch(seq, 0, found.epoch, found.timestamp_ns, 0, None, last - seq))
                else:
                    view = export(self.reader.mapping, <char *>ht_frame_at(&found, seq), (last - seq) * found.length, True)
                    self.views.append(view)
                    blocks.append(new_batch(seq, last - seq, found.epoch, found.timestamp_ns, found.length, view, 0))
                seq = last
            if not ht_held(&self.reader.r):
                raise Evicted(f"[{self.first}, {self.end}) was pinned for longer than it may hold a writer up")
            return blocks
        finally:
            self.reader._leave()

    def close(self):
        """Lets the range go; its views end."""
        views, self.views = self.views, []
        for view in views:
            retire(view)
        self.reader.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
