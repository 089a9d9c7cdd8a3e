"""The ring in shared memory: one writer, up to 64 readers with their own cursors and policies, in any processes.

Owns the file, who may write, who holds which reader slot, and the owner table; the layout and every memory ordering are in
ring_layout.h. Never starts processes, never judges a process of another pid namespace, never removes the ring's file:
whoever created a stream unlinks it. An object belongs to one thread at a time; after a fork, open the ring again.
"""

import os
import secrets

from halftrack_dataplane.frames import (
    Cut, Frame, ReadersFull, ReaderStats, RingDamaged, RingError, RingMissing, RingStats, RingVersion, StaleCut, WriterBusy,
)

from halftrack_dataplane.identity cimport forks, identity, is_dead, pid_of
from halftrack_dataplane.mapping cimport Mapping, copy_out, damaged, map_file, put_text, text_of
from halftrack_dataplane.ring_layout cimport *
from halftrack_dataplane.ring_reader cimport Reader
from halftrack_dataplane.ring_writer cimport FULL_BLOCK, FULL_DROP, FULL_OVERWRITE, Writer

__all__ = ["Reader", "Ring", "Writer"]

globals().update(Reader=Reader, Writer=Writer)  # a cimported class is no attribute of the module by itself

_POLICIES = {"block": FULL_BLOCK, "drop": FULL_DROP, "overwrite": FULL_OVERWRITE}
_READER_STATES = {"lossless": HT_LOSSLESS, "lossy": HT_LOSSY}
_READER_POLICIES = {state: policy for policy, state in _READER_STATES.items()}


cdef int _check_static(ht_header *h, size_t size, str path) except -1:
    advice = "Stop its writer and readers, remove the file and create the stream anew; frames in it are lost."
    if h.magic != HT_MAGIC:
        raise RingDamaged(f"{path} is not a ring (its first bytes are not the ring's magic). {advice}")
    if h.version != HT_LAYOUT_VERSION:
        raise RingVersion(
            f"{path} has ring layout version {h.version}, and this Halftrack knows version {HT_LAYOUT_VERSION} only. "
            "Run the Halftrack that made it, or stop all its users, remove the file and create the stream anew."
        )
    if h.checksum != ht_checksum(h):
        raise RingDamaged(f"{path}: the ring's header does not match its checksum. {advice}")
    if not ht_static_fits(h):
        raise RingDamaged(f"{path}: the ring's header contradicts itself. {advice}")
    if size < h.total_bytes:
        raise RingDamaged(f"{path} is truncated: {size} of {h.total_bytes} bytes. {advice}")
    return 0


cdef class Ring:
    """One process's hold on a ring: who writes, who reads, what is retained, where the output's owner changes."""

    def __init__(self):
        raise TypeError("use Ring.create(path) or Ring.open(path)")

    @staticmethod
    def create(path, *, capacity_bytes=64 << 20, slots=4096, base_seq=0, label="", generation=0, mode=0o600):
        """Makes a ring; it appears whole or not at all. Its capacity is rounded up to whole pages."""
        if capacity_bytes < 1 or slots < 2 or slots & (slots - 1) or slots > 1 << 32:
            raise ValueError(f"slots must be a power of two from 2 on and capacity positive: {slots=} {capacity_bytes=}")
        if not 0 <= base_seq < 1 << 62:
            raise ValueError(f"base_seq must be in [0, 2**62), not {base_seq}")
        path = os.fsdecode(path)
        if os.path.lexists(path):  # a courtesy before reserving memory; the link below decides
            raise FileExistsError(f"{path} exists; remove it first if its stream is no longer used")
        capacity_bytes = ht_round(capacity_bytes, HT_PAGE)
        size = sizeof(ht_header) + ht_index_bytes(slots) + capacity_bytes
        folder, name = os.path.split(path)
        draft = os.path.join(folder, f".{name}.{secrets.token_hex(6)}.draft")
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            os.fchmod(fd, mode)
            os.posix_fallocate(fd, 0, size)  # an error now instead of SIGBUS in the middle of a frame
            mapping = map_file(fd, size, False)
            put_text(mapping.header.label, HT_RING_LABEL, label, True)
            ht_format(mapping.header, slots, capacity_bytes, base_seq, generation)
            os.link(draft, path)  # unlike a rename, it refuses to replace
        finally:
            os.close(fd)
            os.unlink(draft)
        return _attach(path, mapping)

    @staticmethod
    def open(path, *, readonly=False):
        """Opens a ring that exists, after checking that it is one. Read-only: statistics and `peek`, no traces."""
        path = os.fsdecode(path)
        try:
            fd = os.open(path, (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC)
        except FileNotFoundError:
            raise RingMissing(f"there is no ring at {path}; its stream's creator makes it") from None
        try:
            size = os.fstat(fd).st_size
            if size < sizeof(ht_header):
                raise RingDamaged(
                    f"{path} is too short to be a ring: {size} bytes. "
                    "Remove the file and create the stream anew; frames in it are lost."
                )
            mapping = map_file(fd, size, readonly)
        finally:
            os.close(fd)
        _check_static((<Mapping>mapping).header, size, path)
        return _attach(path, mapping)

    cdef ht_header *_shared(self) except NULL:
        if self.mapping is None:
            raise RingError(f"{self.path}: this Ring is closed")
        return self.mapping.header

    cdef ht_header *_writable(self) except NULL:
        cdef ht_header *h = self._shared()
        if self.mapping.readonly:
            raise RingError(f"{self.path} was opened read-only; open it without readonly=True to do this")
        return h

    @property
    def head(self):
        """The next sequence to be published."""
        return ht_load(&self._shared().head)

    @property
    def tail(self):
        """The oldest retained sequence; equal to head if nothing is retained."""
        return ht_load(&self._shared().tail)

    def writer(self, *, full="block", name=""):
        """Becomes the ring's one writer, taking a dead one's place. `full`: what to do when there is no room."""
        if full not in _POLICIES:
            raise ValueError(f"full must be one of {', '.join(_POLICIES)}, not {full!r}")
        cdef ht_header *h = self._writable()
        cdef uint64_t mine = identity() | HT_WRITING
        cdef uint64_t holder
        while not ht_swap_if(&h.writer, HT_FREE, mine):  # SYNC: slot owned
            holder = ht_load(&h.writer)
            if holder == HT_FREE:
                continue
            if not is_dead(holder):
                who = text_of(h.writer_name, HT_NAME)
                raise WriterBusy(f"{self.path} is being written by pid {pid_of(holder)} {who!r}; a ring has one writer")
            if ht_swap_if(&h.writer, holder, mine):
                break
        ht_resume(h)
        put_text(h.writer_name, HT_NAME, name, False)
        cdef Writer writer = Writer.__new__(Writer)
        writer.mapping, writer.identity, writer.policy = self.mapping, mine, _POLICIES[full]
        writer.name, writer.full, writer.forks = name, full, forks()
        return writer

    def reader(self, *, policy="lossless", name="", start="now"):
        """Joins at `start`: "now", "oldest" or a sequence (clamped to what is retained; the difference is `missed`)."""
        if policy not in _READER_STATES:
            raise ValueError(f"policy must be one of {', '.join(_READER_STATES)}, not {policy!r}")
        if start not in ("now", "oldest") and (isinstance(start, (str, bool)) or not 0 <= start < 1 << 62):
            raise ValueError(f"start must be 'now', 'oldest' or a sequence, not {start!r}")
        cdef ht_header *h = self._writable()
        cdef int slot = ht_claim_reader(h, identity())
        if slot < 0:
            self.reap()
            slot = ht_claim_reader(h, identity())
        if slot < 0:
            raise ReadersFull(f"{self.path} has {HT_READERS} living readers, and no room for more; close or evict one")
        cdef uint64_t claim = identity() | HT_CLAIMING
        cdef uint64_t state = _READER_STATES[policy]
        cdef Reader reader = Reader.__new__(Reader)
        reader.mapping, reader.shared, reader.slot = self.mapping, &h.readers[slot], slot
        reader.owner, reader.forks = identity() | state, forks()
        reader.name, reader.policy, reader.lossless = name, policy, state == HT_LOSSLESS
        put_text(reader.shared.name, HT_NAME, name, False)
        ht_store(&reader.shared.overruns, 0)
        ht_store(&reader.shared.missed, 0)
        cdef uint64_t wanted = ht_load(&h.head) if start == "now" else ht_load(&h.tail) if start == "oldest" else start
        ht_store(&reader.shared.cursor, wanted)
        ht_swap_if(&reader.shared.owner, claim, reader.owner)  # from here on it gates
        reader.position = ht_pin(h, reader.shared, wanted)
        if reader.position > wanted and not isinstance(start, str):
            ht_store(&reader.shared.missed, reader.position - wanted)
            ht_store(&reader.shared.overruns, 1)
        return reader

    def peek(self, seq):
        """A copy of the record that covers `seq`, from `seq` on, or None if it is not retained; needs no slot."""
        cdef ht_header *h = self._shared()
        cdef ht_found found
        cdef int rc = ht_locate(h, seq, &found)
        if rc == HT_DAMAGED:
            raise damaged(seq)
        if rc != HT_OK:
            return None
        payload = copy_out(h, found.offset, found.length)
        if not ht_intact(h, found.seq):
            return None
        return Frame(found.seq, found.epoch, found.timestamp_ns, payload, found.gap)

    def stats(self):
        """Counters and readers; each is current, together they are a moment's blur if the ring is in use."""
        cdef ht_header *h = self._shared()
        cdef uint64_t tail, oldest, used
        while True:
            used = 0
            tail = ht_load(&h.tail)
            oldest = ht_load(&ht_descriptor_of(h, tail).offset)
            head = ht_load(&h.head)
            if head > tail:
                used = ht_load(&h.data_head) - oldest
            if ht_load(&h.tail) == tail:
                break
        readers = [_reader_stats(h, slot, ht_load(&h.readers[slot].owner)) for slot in range(h.reader_limit)]
        return RingStats(
            head, tail, h.capacity_bytes, min(used, h.capacity_bytes), h.slots, ht_load(&h.dropped),
            ht_load(&h.gap_frames), ht_load(&h.evicted), pid_of(ht_load(&h.writer)),
            tuple([reader for reader in readers if reader is not None]),
        )

    def reap(self):
        """Evicts readers whose process is dead and clears a dead writer. Returns the readers; wakes whom they blocked."""
        cdef ht_header *h = self._writable()
        cdef uint64_t owner
        cdef int slot, limit = h.reader_limit
        gone = []
        for slot in range(limit):
            owner = ht_load(&h.readers[slot].owner)
            if owner == HT_FREE or not is_dead(owner):
                continue
            reader = _reader_stats(h, slot, owner)
            if ht_take_slot(h, slot, owner, HT_FREE) and reader is not None:
                ht_add(&h.evicted, 1)
                gone.append(reader)
        owner = ht_load(&h.writer)
        if owner != HT_FREE and is_dead(owner):
            ht_swap_if(&h.writer, owner, HT_FREE)
        return tuple(gone)

    def evict(self, slot):
        """Takes a reader's hold off the ring; its next call raises Evicted. Evicting an empty slot does nothing."""
        cdef ht_header *h = self._writable()
        if not 0 <= slot < HT_READERS:
            raise ValueError(f"reader slots are 0 to {HT_READERS - 1}, not {slot}")
        cdef uint64_t owner = ht_load(&h.readers[slot].owner)
        if owner & HT_STATE_MASK in (HT_LOSSLESS, HT_LOSSY) and ht_take_slot(h, slot, owner, HT_EVICTED):
            ht_add(&h.evicted, 1)

    # -- the owner table ----------------------------------------------------------------------------------------------

    cdef int _find_cut(self, uint64_t epoch, ht_cut *copy) except -2:
        cdef ht_header *h = self._shared()
        cdef int row
        for row in range(HT_CUTS):
            if ht_read_cut(&h.cuts[row], copy) >= HT_CUT_PROPOSED and copy.epoch == epoch:
                return row
        return -1

    def propose_cut(self, epoch, generation, fence, label):
        """The agent's side: `epoch`'s output shall count from `fence` on (None: from the next sequence)."""
        cdef ht_header *h = self._writable()
        cdef ht_cut row, wanted
        cdef uint64_t states[HT_CUTS]
        cdef uint64_t epochs[HT_CUTS]
        cdef uint64_t number = epoch
        cdef int i, newest = -1, free = -1
        for i in range(HT_CUTS):
            states[i], epochs[i] = ht_read_cut(&h.cuts[i], &row), row.epoch
            if states[i] < HT_CUT_PROPOSED:
                free = i
            elif newest < 0 or epochs[i] > epochs[newest]:
                newest = i
        if newest >= 0 and number <= epochs[newest]:
            raise StaleCut(f"epoch {epoch} is not above {epochs[newest]}, the highest in the owner table; none comes again")
        if free < 0:  # the oldest settled one, but never the newest: it is the memory that refuses stale proposals
            for i in range(HT_CUTS):
                if i != newest and states[i] != HT_CUT_PROPOSED and (free < 0 or epochs[i] < epochs[free]):
                    free = i
        if free < 0:
            raise RingError(f"all {HT_CUTS} rows of the owner table wait to be applied; withdraw some first")
        wanted.epoch, wanted.generation = epoch, generation
        wanted.fence = HT_NO_FENCE if fence is None else fence
        put_text(wanted.label, HT_CUT_LABEL, label, True)
        ht_fill_cut(&h.cuts[free], &wanted)

    def cuts(self):
        """Proposed and applied cuts, by epoch."""
        cdef ht_header *h = self._shared()
        cdef ht_cut row
        cdef uint64_t state
        cdef int i
        found = []
        for i in range(HT_CUTS):
            state = ht_read_cut(&h.cuts[i], &row)
            if state == HT_CUT_PROPOSED or state == HT_CUT_APPLIED:
                fence = None if row.fence == HT_NO_FENCE else row.fence
                applied = row.applied_at if state == HT_CUT_APPLIED else None
                found.append(Cut(row.epoch, row.generation, fence, applied, text_of(row.label, HT_CUT_LABEL)))
        return tuple(sorted(found, key=lambda cut: cut.epoch))

    def apply_cut(self, epoch, at_seq):
        """The merge's side, the point of no return: `epoch` counts from `at_seq` on. The same again is a no-op."""
        cdef ht_header *h = self._writable()
        cdef ht_cut row
        later = [cut.epoch for cut in self.cuts() if cut.applied_at is not None and cut.epoch > epoch]
        if later:
            raise StaleCut(f"epoch {epoch} cannot be applied: epoch {later[-1]} is in force already")
        cdef int i = self._find_cut(epoch, &row)
        if i < 0:
            raise StaleCut(f"epoch {epoch} is not in the owner table: it was never proposed, or is long superseded")
        if row.state & 0xff == HT_CUT_PROPOSED:
            ht_store(&h.cuts[i].applied_at, at_seq)
            if ht_decide_cut(&h.cuts[i], row.state, HT_CUT_APPLIED):
                return
        elif row.state & 0xff == HT_CUT_APPLIED:
            if row.applied_at == at_seq:
                return
            raise StaleCut(f"epoch {epoch} was applied at {row.applied_at} already, so not at {at_seq}")
        raise StaleCut(f"epoch {epoch} was withdrawn before it was applied; its predecessor stays in force")

    def withdraw_cut(self, epoch):
        """The agent's side: takes a proposal back. False if it is applied (or unknown): then only a new cut goes back."""
        cdef ht_header *h = self._writable()
        cdef ht_cut row
        cdef int i = self._find_cut(epoch, &row)
        if i < 0 or row.state & 0xff != HT_CUT_PROPOSED:
            return i >= 0 and row.state & 0xff == HT_CUT_WITHDRAWN
        return bool(ht_decide_cut(&h.cuts[i], row.state, HT_CUT_WITHDRAWN))

    def close(self):
        """Lets go. Writers, readers and views made from this object live on until they are closed themselves."""
        self.mapping = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __repr__(self):
        return f"<Ring {self.path!r} {self.label!r}{' closed' if self.mapping is None else ''}>"


cdef Ring _attach(str path, Mapping mapping):
    cdef Ring ring = Ring.__new__(Ring)
    ring.mapping, ring.path = mapping, path
    ring.capacity_bytes, ring.slots = mapping.header.capacity_bytes, mapping.header.slots
    ring.label, ring.generation = text_of(mapping.header.label, HT_RING_LABEL), mapping.header.generation
    return ring


cdef object _reader_stats(ht_header *h, int slot, uint64_t owner):
    """None if the slot holds no reader, or changed hands while we looked."""
    cdef ht_reader *reader = &h.readers[slot]
    policy = _READER_POLICIES.get(owner & HT_STATE_MASK)
    if policy is None:
        return None
    cdef uint64_t cursor = ht_load(&reader.cursor)
    cdef uint64_t head = ht_load(&h.head)
    stats = ReaderStats(
        slot, text_of(reader.name, HT_NAME), pid_of(owner), policy, cursor,
        head - cursor if head > cursor else 0, ht_load(&reader.overruns),
    )
    return stats if ht_load(&reader.owner) == owner else None
