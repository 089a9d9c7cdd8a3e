"""The output of an inlet: frames of its branches, raw or as parts of joined ones, published in runs.

Owns the copy: each byte once, from ring to ring. What was copied is published only when the branch's frames were whole until then. Never
decides which frames belong together, and takes nothing from a branch: whoever decided settles it.
"""

from halftrack_dataplane.frames import FrameTooLarge, RingFull

from libc.stdlib cimport free, realloc
from libc.string cimport memset

from halftrack_dataplane.branch cimport Branch, item_t
from halftrack_dataplane.native cimport *
from halftrack_dataplane.ring_writer cimport Writer

__all__ = ["Seam"]

cdef extern from "parts.h" nogil:
    const uint64_t HT_PARTS_MAGIC
    enum:
        HT_PARTS_MORE, HT_PART_LOST, HT_PART_NONE, HT_PART_NEXT, HT_PART_LATE
    ctypedef struct ht_parts:
        uint64_t magic
        uint32_t count, flags
    ctypedef struct ht_part:
        uint32_t input, flags
        uint64_t length, seq
        int64_t timestamp_ns
        uint64_t epoch
    uint64_t ht_parts_padded(uint64_t length)
    uint64_t ht_parts_head(uint64_t count)

# One part of a frame to come: of which input, what is said of it, and its bytes (`item`).
cdef struct share_t:
    uint32_t input, flags
    uint64_t length, seq
    const item_t *item

# A frame to come: what a record's frames must have in common.
cdef struct shape_t:
    uint64_t bytes, epoch
    int64_t time


cdef class Seam:
    """One output ring and the branches that flow into it."""

    cdef Writer writer
    cdef list branches
    cdef share_t *shares
    cdef Py_ssize_t count, room
    cdef uint64_t bytes, epoch  # of the frame that the shares make

    def __init__(self, Writer writer, branches):
        self.writer, self.branches = writer, list(branches)

    def __dealloc__(self):
        free(self.shares)

    @property
    def most_bytes(self):
        """How long a frame may be whose parts say where its inputs go on.

        A quarter of the ring: so whatever a death interrupts, the newest frame stays (dataplane/README.md says why).
        """
        return self.writer.out.w.h.capacity_bytes // 4

    # -- runs of frames ---------------------------------------------------------------------------------------------------

    def united(self, inputs, Py_ssize_t count, timeout_s):
        """The next `count` numbers, each as it is from the first of `inputs` that has a frame there. Returns how many were published: fewer
        without room, or if they were torn."""
        return self._run(inputs, count, False, timeout_s)

    def joined(self, inputs, Py_ssize_t count, number, timeout_s):
        """The next `count` numbers from `number` on, joined: a part of each of `inputs`; the others have lost theirs."""
        cdef Py_ssize_t which
        self._begin(len(self.branches))
        for which in range(self.count):
            self.shares[which].input = which
            self.shares[which].flags = 0 if which in inputs else HT_PART_LOST
            self.shares[which].seq = number * (<Branch>self.branches[which]).every
        return self._run(inputs, count, True, timeout_s)

    cdef int _begin(self, Py_ssize_t count) except -1:
        cdef share_t *grown
        if count > self.room:
            grown = <share_t *>realloc(self.shares, count * sizeof(share_t))
            if grown == NULL:
                raise MemoryError("no memory for a frame's parts")
            self.shares, self.room = grown, count
        self.count = count
        if count:
            memset(self.shares, 0, count * sizeof(share_t))
        return 0

    def _run(self, inputs, Py_ssize_t count, bint join, timeout_s):
        cdef Writer writer = self.writer
        cdef ht_writer *w = &writer.out.w
        cdef Py_ssize_t done = 0, run, most, number
        cdef shape_t shape, next
        cdef Branch branch
        cdef list chosen = [self.branches[which] for which in inputs]
        for branch in chosen:
            if branch.count < count:
                raise ValueError(f"{count} frames of a branch that has {branch.count} at hand")
        writer._enter()
        try:
            while done < count:
                self._shape(chosen, inputs, done, join, &shape)
                writer._check(shape.bytes, False)
                run, most = 1, ht_run_frames(w.h, shape.bytes)
                while run < most and done + run < count:
                    self._shape(chosen, inputs, done + run, join, &next)
                    if next.bytes != shape.bytes or next.epoch != shape.epoch or next.time != shape.time:
                        break
                    run += 1
                if ht_reserve(w, run * shape.bytes) != HT_OK:
                    writer._room(run * shape.bytes, timeout_s)
                for number in range(run):
                    self._build(chosen, inputs, done + number, join, w.at + number * shape.bytes)
                if not all([branch._whole(done) for branch in chosen]):
                    break
                ht_publish(w, run, shape.bytes, 0, shape.epoch, shape.time)
                done += run
        except RingFull:
            pass
        finally:
            writer._leave()
        return done

    cdef int _shape(self, list chosen, inputs, Py_ssize_t number, bint join, shape_t *shape) except -1:
        cdef Branch branch
        cdef const item_t *item
        cdef bint none = True
        if not join:
            item = self._one(chosen, number)
            shape.bytes, shape.epoch, shape.time = item.length, item.epoch, item.time
            return 0
        branch = <Branch>chosen[0]
        item = branch.items + branch.begin + number
        shape.bytes, shape.epoch, shape.time = ht_parts_head(self.count), item.epoch, item.time
        for branch in chosen:
            item = branch.items + branch.begin + number
            none = none and item.none
            shape.bytes += 0 if item.none else ht_parts_padded(item.length)
            shape.epoch, shape.time = max(shape.epoch, item.epoch), max(shape.time, item.time)
        if none and len(chosen) == self.count:
            shape.bytes = sizeof(ht_parts)
        return 0

    cdef const item_t *_one(self, list chosen, Py_ssize_t number) except NULL:
        """The first that has a frame there; if there is none, it is said with the first branch's words."""
        cdef Branch branch
        for branch in chosen:
            if not branch.items[branch.begin + number].none:
                return branch.items + branch.begin + number
        branch = <Branch>chosen[0]
        return branch.items + branch.begin + number

    cdef int _build(self, list chosen, inputs, Py_ssize_t number, bint join, char *into) except -1:
        cdef const item_t *item
        cdef Branch branch
        cdef share_t *share
        cdef bint none = True
        cdef Py_ssize_t which
        if not join:
            item = self._one(chosen, number)
            ht_copy(into, item.at, item.length)
            return 0
        for which, branch in zip(inputs, chosen):
            item, share = branch.items + branch.begin + number, self.shares + which
            share.item, share.seq, share.length = item, item.seq, 0 if item.none else item.length
            share.flags = HT_PART_NONE if item.none else 0
            none = none and item.none
        for which in range(self.count):
            if self.shares[which].flags & HT_PART_LOST:
                branch = <Branch>self.branches[which]
                self.shares[which].length = branch.every
        self._write(into, 0 if none and len(chosen) == self.count else self.count, 0)
        for which in range(self.count):
            if self.shares[which].flags & HT_PART_LOST:
                branch = <Branch>self.branches[which]
                self.shares[which].seq += branch.every
        return 0

    cdef int _write(self, char *into, Py_ssize_t count, uint32_t flags) except -1:
        """A joined frame of the first `count` shares."""
        cdef ht_parts *head = <ht_parts *>into
        cdef ht_part *part = <ht_part *>(into + sizeof(ht_parts))
        cdef char *at = into + ht_parts_head(count)
        cdef const share_t *share = self.shares
        cdef uint64_t padded
        cdef Py_ssize_t number
        head.magic, head.count, head.flags = HT_PARTS_MAGIC, count, flags
        for number in range(count):
            part.input, part.flags, part.length, part.seq = share.input, share.flags, share.length, share.seq
            part.timestamp_ns = share.item.time if share.item != NULL else 0
            part.epoch = share.item.epoch if share.item != NULL else 0
            if not share.flags & (HT_PART_LOST | HT_PART_NONE | HT_PART_NEXT):
                padded = ht_parts_padded(share.length)
                if padded != share.length:
                    memset(at + share.length, 0, padded - share.length)
                ht_copy(at, share.item.at, share.length)
                at += padded
            share += 1
            part += 1
        return 0

    # -- frames that say where their inputs go on -------------------------------------------------------------------------

    def placed(self, counts, flags, late_ns, time_ns, timeout_s):
        """One frame of time `time_ns`: the first `counts[i]` frames of each branch i, and for those without any, where they go on.

        Parts of a time before `late_ns` are marked as late. True when it was published, or when there is nothing to publish.
        """
        cdef Branch branch
        cdef bint some = False
        self._begin(2 * sum(counts) + len(self.branches))
        self.count, self.bytes, self.epoch = 0, 0, 0
        for which, (branch, count) in enumerate(zip(self.branches, counts)):
            some = self._share(branch, which, 0, count, late_ns) or some
        return not some or self._publish(0, -1, flags, time_ns, timeout_s)

    def ordered(self, int which, Py_ssize_t count, int64_t last_ns, timeout_s):
        """The first `count` frames of one branch, each by itself, with where the others go on. Times of frames do not go back.

        Returns how many were passed, and the time of the last.
        """
        cdef Branch branch
        cdef Branch chosen = self.branches[which]
        cdef Py_ssize_t number, other
        cdef int64_t time
        if count > chosen.count:
            raise ValueError(f"{count} frames of a branch that has {chosen.count} at hand")
        for number in range(count):
            self._begin(len(self.branches) + 2)
            self.count, self.bytes, self.epoch = 0, 0, 0
            time = max(last_ns, chosen.items[chosen.begin + number].time)
            if not self._share(chosen, which, number, 1, last_ns):
                continue
            for other in range(len(self.branches)):
                if other != which:
                    branch = <Branch>self.branches[other]
                    self._share(branch, other, 0, 0, 0)
            if not self._publish(number, which, 0, time, timeout_s):
                return number, last_ns
            last_ns = time
        return count, last_ns

    cdef bint _publish(self, Py_ssize_t number, int which, uint32_t flags, int64_t time, timeout_s) except -1:
        """The frame of the shares; False without room, or if frame `number` (of branch `which`, or of all) was torn."""
        cdef Writer writer = self.writer
        cdef Branch branch
        cdef Py_ssize_t each
        cdef uint64_t size = self.bytes + ht_parts_head(self.count)
        if size > self.most_bytes:
            raise FrameTooLarge(f"a joined frame of {size} bytes; a ring of {writer.out.w.h.capacity_bytes} takes a quarter of that at most")
        writer._enter()
        try:
            writer._check(size, False)
            if ht_reserve(&writer.out.w, size) != HT_OK:
                writer._room(size, timeout_s)
            self._write(writer.out.w.at, self.count, flags)
            for each in range(len(self.branches)):
                branch = <Branch>self.branches[each]
                if (which < 0 or each == which) and not branch._whole(number):
                    return False
            ht_publish(&writer.out.w, 1, size, 0, self.epoch, time)
            return True
        except RingFull:
            return False
        finally:
            writer._leave()

    cdef bint _share(self, Branch branch, uint32_t which, Py_ssize_t first, Py_ssize_t count, int64_t late_ns) except -1:
        """What one branch has in this frame; False: only where it goes on."""
        cdef const item_t *item = NULL
        cdef Py_ssize_t number
        cdef bint some = False
        for number in range(first, first + count):
            item = branch.items + branch.begin + number
            if item.lost:
                self._add(which, HT_PART_LOST, item.lost, item.lost_seq, NULL)
                some = True
            if not item.none:
                self._add(which, HT_PART_LATE if item.time < late_ns else 0, item.length, item.seq, item)
                self.bytes += ht_parts_padded(item.length)
                self.epoch = max(self.epoch, item.epoch)
                some = True
        if item == NULL:
            self._add(which, HT_PART_NEXT, 0, branch._place(), NULL)
        elif item.none:
            self._add(which, HT_PART_NEXT, 0, item.seq + 1, NULL)
        return some

    cdef void _add(self, uint32_t which, uint32_t flags, uint64_t length, uint64_t seq, const item_t *item) noexcept:
        cdef share_t *share = self.shares + self.count
        share.input, share.flags, share.length, share.seq, share.item = which, flags, length, seq, item
        self.count += 1
