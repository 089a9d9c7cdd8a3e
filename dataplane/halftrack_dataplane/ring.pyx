"""The ring in shared memory: one writer, up to 64 readers with their own cursors and policies, in any processes.

Owns who writes, who holds which reader slot, and the owner table, on behalf of Python; the steps are native/halftrack_ring.h's.
Never starts processes, never judges a process of another pid namespace, never removes the ring's file: whoever created a stream
unlinks it. An object belongs to one thread at a time; after a fork, open the ring again.
"""

import os

from halftrack_dataplane.frames import Cut, ReadersFull, RingDamaged, RingError, RingMissing, RingVersion, StaleCut, WriterBusy

from libc.errno cimport ENOENT, errno
from libc.string cimport memset, strcpy

from halftrack_dataplane.ring_pin import Pin
from halftrack_dataplane.structured import ArrayReader, described

from halftrack_dataplane.frame cimport new_frame
from halftrack_dataplane.mapping cimport Mapping, copy_out, damaged, forks_word, label_of, name_of, text_of
from halftrack_dataplane.native cimport *
from halftrack_dataplane.ring_reader cimport Reader
from halftrack_dataplane.ring_sampler cimport Sampler
from halftrack_dataplane.ring_stats cimport ring_stats, slot_stats
from halftrack_dataplane.ring_writer cimport Writer

__all__ = ["Reader", "Ring", "Writer"]

globals().update(Reader=Reader, Writer=Writer)  # a cimported class is no attribute of the module by itself

_STORES = {"cached": HT_CACHED, "streamed": HT_STREAMED, "chosen": HT_CHOSEN}
_POLICIES = {"block": HT_BLOCK, "drop": HT_DROP, "overwrite": HT_OVERWRITE}
_PRIORITIES = 255
_ADVICE = "Stop its writer and readers, remove the file and create the stream anew; frames in it are lost."


cdef object _refused(int code, path, uint32_t version, bint opening):
    """The error for what opening or creating a ring has returned."""
    if code == HT_SYSTEM and errno == ENOENT and opening:
        return RingMissing(f"there is no ring at {path}; its stream's creator makes it")
    if code == HT_SYSTEM:
        return OSError(errno, os.strerror(errno), path)
    if code == HT_OTHER_VERSION:
        return RingVersion(
            f"{path} has ring layout version {version}, and this Halftrack knows version {HT_LAYOUT_VERSION} only. "
            "Run the Halftrack that made it, or stop all its users, remove the file and create the stream anew."
        )
    why = {
        HT_NO_RING: "is not a ring (its first bytes are not the ring's magic)",
        HT_BAD_CHECKSUM: "is damaged: the ring's header does not match its checksum",
        HT_CONTRADICTION: "is damaged: the ring's header contradicts itself",
        HT_TRUNCATED: "is truncated, too short for a ring or for what its header says",
    }[code]
    return RingDamaged(f"{path} {why}. {_ADVICE}")


cdef class Ring:
    """One process's hold on a ring: who writes, who reads, what is retained, where the output's owner changes."""

    def __init__(self):
        raise TypeError("use Ring.create(path) or Ring.open(path)")

    @staticmethod
    def create(
        path, *, capacity_bytes=64 << 20, slots=4096, base_seq=0, label="", generation=0, mode=0o600, frame_bytes=0, schema="",
        checked=False, shared=False, retain_s=None, dtype=None,
    ):
        """Makes a ring; it appears whole or not at all. Its capacity is rounded up to whole pages.

        `frame_bytes`: all frames have that length (0: any); `schema` says what is in one. `dtype`, NumPy's, says both, for readers that want
        arrays (`arrays`).
        `checked`: each record carries the CRC-32C of its bytes. No path (None): a memfd, to be passed on (`Ring.fileno`).
        `shared`: several writers may have it, and take turns. `retain_s`: what is older than the newest by more, both by their
        own time stamps, goes as soon as no lossless reader needs it; else only when its room is wanted.
        """
        if dtype is not None:
            if schema or frame_bytes:
                raise ValueError("a dtype says what the schema and the length of a frame are: leave these out")
            schema, frame_bytes = described(dtype)
        cdef ht_options options
        cdef Mapping mapping = Mapping.__new__(Mapping)
        cdef bytes label_bytes = label_of(label, HT_RING_LABEL), schema_bytes = label_of(schema, HT_SCHEMA), name
        cdef int rc, fd = -1
        if retain_s is not None and not 0 < retain_s < 1e9:
            raise ValueError(f"retain_s must be positive and below 10**9, not {retain_s}")
        if capacity_bytes < 1 or slots < 2 or slots & (slots - 1) or slots > 1 << 32:
            raise ValueError(f"slots must be a power of two from 2 on and capacity positive: {slots=} {capacity_bytes=}")
        if not 0 <= base_seq < 1 << 62:
            raise ValueError(f"base_seq must be in [0, 2**62), not {base_seq}")
        if not 0 <= frame_bytes <= ht_round(capacity_bytes, HT_PAGE) // 2:
            raise ValueError(f"frame_bytes must be at most half of the capacity, not {frame_bytes}")
        options.capacity_bytes, options.slots, options.base_seq = capacity_bytes, slots, base_seq
        options.generation, options.frame_bytes, options.retain_ns = generation, frame_bytes, 0 if retain_s is None else int(retain_s * 1e9)
        options.flags = (HT_CHECKED if checked else 0) | (HT_SHARED if shared else 0)
        options.mode, options.label, options.schema = mode, label_bytes, schema_bytes
        if path is None:
            name = name_of(label) or b"ring"
            rc = ht_create_fd(name, &options, &mapping.ring, &fd)
        else:
            path = os.fsdecode(path)
            name = os.fsencode(path)
            if os.path.lexists(path):  # a courtesy before reserving memory; the link that makes it visible decides
                raise FileExistsError(f"{path} exists; remove it first if its stream is no longer used")
            rc = ht_create(name, &options, &mapping.ring)
        if rc != HT_OK:
            raise _refused(rc, path, 0, False)
        return _attached(path, mapping, fd)

    @staticmethod
    def open(path, *, readonly=False):
        """Opens a ring that exists, after checking that it is one. `path`: a file's, or an open descriptor that was passed on.

        Read-only: statistics and `peek`, no traces; the memory is mapped read-only.
        """
        cdef Mapping mapping = Mapping.__new__(Mapping)
        cdef int rc
        cdef bytes name
        if isinstance(path, int):
            rc = ht_attach(path, readonly, &mapping.ring)
            path = f"descriptor {path}"
        else:
            path = os.fsdecode(path)
            name = os.fsencode(path)
            rc = ht_open(name, readonly, &mapping.ring)
        if rc != HT_OK:
            raise _refused(rc, path, mapping.ring.found_version, True)
        return _attached(path, mapping, -1)

    cdef ht_header *_shared(self) except NULL:
        if self.mapping is None:
            raise RingError(f"{self.path}: this Ring is closed")
        return self.mapping.ring.header

    cdef ht_header *_writable(self) except NULL:
        cdef ht_header *h = self._shared()
        if self.mapping.ring.readonly:
            raise RingError(f"{self.path} was opened read-only; open it without readonly=True to do this")
        return h

    def fileno(self):
        """The memfd of a ring that was made without a path; it ends with this object."""
        self._shared()
        if self.fd < 0:
            raise RingError(f"{self.path} is a file; pass its path on")
        return self.fd

    def prefault(self):
        """Maps every page now instead of in the middle of a frame. False where the kernel cannot (before Linux 5.14)."""
        self._shared()
        return ht_prefault(&self.mapping.ring) == HT_OK

    @property
    def head(self):
        """The next sequence to be published."""
        return ht_load(&self._shared().head)

    @property
    def tail(self):
        """The oldest retained sequence; equal to head if nothing is retained."""
        return ht_load(&self._shared().tail)

    def seq_at(self, timestamp_ns):
        """The first sequence of the first retained record whose time is at or after `timestamp_ns`; the head if there is none.

        The writer's times must not go back.
        """
        return ht_seq_at(self._shared(), timestamp_ns)

    @property
    def credit_bytes(self):
        """How many bytes fit before a lossless reader is in the way: what upstream may still send."""
        return ht_credit(self._shared())

    def writer(self, *, full="block", name="", spare=None, stores="chosen"):
        """Becomes the ring's one writer, taking a dead one's place; of a shared ring one more. `full`: what to do when there is no room.

        "overwrite" evicts the lossless readers in the way, but waits for those of priority `spare` or more, if that is given. `stores` of
        large copies: "cached", "streamed" past the caches, or "chosen" by what each costs here and now.
        """
        if full not in _POLICIES:
            raise ValueError(f"full must be one of {', '.join(_POLICIES)}, not {full!r}")
        if spare is not None and (full != "overwrite" or not 0 <= spare <= _PRIORITIES):
            raise ValueError(f"spare is a priority, from 0 to {_PRIORITIES}, for a writer that overwrites, not {spare!r}")
        if stores not in _STORES:
            raise ValueError(f"stores must be one of {', '.join(_STORES)}, not {stores!r}")
        cdef ht_header *h = self._writable()
        cdef Writer writer = Writer.__new__(Writer)
        cdef bytes shown = name_of(name)
        cdef uint64_t holder = 0
        cdef int rc = ht_begin(&self.mapping.ring, _POLICIES[full], shown, &writer.out, &holder)
        if rc == HT_DAMAGED:
            raise damaged(ht_load(&h.tail))
        if rc == HT_TAKEN:
            who = text_of(h.writer_name, HT_NAME)
            raise WriterBusy(f"{self.path} is being written by process {ht_pid_of(holder)} {who!r}; a ring has one writer")
        writer.mapping, writer.name, writer.full, writer.forks = self.mapping, name, full, forks_word()[0]
        ht_stores_begin(&writer.out.w.stores, h.capacity_bytes, _STORES[stores])
        if spare is not None:
            writer.out.spare = spare
        return writer

    def reader(
        self, *, policy="lossless", name="", start="now", every=1, per_s=None, latest=False, evict_after_s=None, verify=False, priority=0,
    ):
        """Joins at `start`: "now", "oldest" or a sequence (clamped to what is retained; the difference is `missed`).

        `policy` "sample" is lossy and picks: sequences that `every` divides, at most `per_s` a second, or the `latest` only.
        `evict_after_s`: how long this reader may hold up a blocked writer before it is evicted. `verify`: compare checksums. `priority`, up to
        255: see `writer`.
        """
        if policy not in ("lossless", "lossy", "sample"):
            raise ValueError(f"policy must be one of lossless, lossy, sample, not {policy!r}")
        if start not in ("now", "oldest") and (isinstance(start, (str, bool)) or not 0 <= start < 1 << 62):
            raise ValueError(f"start must be 'now', 'oldest' or a sequence, not {start!r}")
        if policy != "sample" and (every != 1 or per_s is not None or latest):
            raise ValueError("every, per_s and latest are for policy 'sample'")
        if every < 1 or (per_s is not None and not per_s > 0) or (evict_after_s is not None and not evict_after_s > 0):
            raise ValueError(f"every, per_s and evict_after_s must be positive: {every=} {per_s=} {evict_after_s=}")
        if not 0 <= priority <= _PRIORITIES:
            raise ValueError(f"a priority is from 0 to {_PRIORITIES}, not {priority}")
        self._writable()
        cdef Reader reader = Reader.__new__(Reader)
        cdef bytes shown = name_of(name)
        cdef uint64_t at = HT_START_NOW if start == "now" else HT_START_OLDEST if start == "oldest" else start
        cdef int64_t patience = 0 if evict_after_s is None else max(1, int(evict_after_s * 1e9))
        if ht_join(&self.mapping.ring, policy == "lossless", at, patience, priority, shown, &reader.r) != HT_OK:
            raise ReadersFull(f"{self.path} has {HT_READERS} living readers, and no room for more; close or evict one")
        reader.mapping, reader.slot, reader.forks = self.mapping, reader.r.number, forks_word()[0]
        reader.name, reader.policy, reader.position = name, policy, reader.r.cursor
        reader.r.verify = verify
        if policy == "sample":
            reader.sampler = Sampler(every, per_s, latest)
        return reader

    def pin(self, first, end=None, *, hold_s=10.0, name=""):
        """Keeps [first, end) (None: up to the head) in the ring until it is closed, or has held up a writer for `hold_s` s: see Pin."""
        last = self.head if end is None else end
        return Pin(self.reader(name=name, start=first, evict_after_s=hold_s), first, last)

    def arrays(self, **options):
        """A reader that gives arrays, of a ring that was made with a `dtype`; the options are `reader`'s."""
        return ArrayReader(self, **options)

    def peek(self, seq):
        """A copy of the record that covers `seq`, from `seq` on, or None if it is not retained; needs no slot."""
        cdef ht_header *h = self._shared()
        cdef ht_found found
        cdef uint64_t gap
        found.end = 0
        cdef int rc = ht_locate(h, seq, &found)
        if rc == HT_DAMAGED:
            raise damaged(seq)
        if rc != HT_OK:
            return None
        gap = found.end - <uint64_t>seq if found.flags & HT_GAP else 0
        payload = b"" if gap else copy_out(ht_frame_at(&found, seq), found.length)
        return new_frame(seq, found.epoch, found.timestamp_ns, payload, gap) if ht_intact(h, seq) else None

    def stats(self):
        """Counters and readers; each is current, together they are a moment's blur if the ring is in use."""
        return ring_stats(self._shared())

    def reap(self):
        """Evicts readers whose process is dead and clears a dead writer. Returns the readers; wakes whom they blocked."""
        cdef uint64_t head = ht_load(&self._writable().head)
        cdef ht_gone gone[HT_READERS]
        cdef int i, count = ht_reap(&self.mapping.ring, gone)
        return tuple([slot_stats(gone[i].number, gone[i].owner, &gone[i].slot, head) for i in range(count)])

    def evict(self, slot):
        """Takes a reader's hold off the ring; its next call raises Evicted. Evicting an empty slot does nothing."""
        self._writable()
        if not 0 <= slot < HT_READERS:
            raise ValueError(f"reader slots are 0 to {HT_READERS - 1}, not {slot}")
        ht_evict(&self.mapping.ring, slot)

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
        cdef bytes named = label_of(label, HT_CUT_LABEL)
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
        memset(&wanted, 0, sizeof(wanted))
        wanted.epoch, wanted.generation = epoch, generation
        wanted.fence = HT_NO_FENCE if fence is None else fence
        strcpy(wanted.label, named)
        ht_fill_cut(&h.cuts[free], &wanted)
        ht_wake(&h.data_event)  # the merge sleeps on it as well

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
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __dealloc__(self):
        if self.fd >= 0:
            os.close(self.fd)

    def __repr__(self):
        return f"<Ring {self.path!r} {self.label!r}{' closed' if self.mapping is None else ''}>"


cdef Ring _attached(path, Mapping mapping, int fd):
    cdef Ring ring = Ring.__new__(Ring)
    cdef ht_header *h = mapping.ring.header
    ring.mapping, ring.fd, ring.path = mapping, fd, f"memfd {fd}" if path is None else path
    ring.capacity_bytes, ring.slots, ring.frame_bytes, ring.checked = h.capacity_bytes, h.slots, h.frame_bytes, h.flags & HT_CHECKED
    ring.shared, ring.retain_s, ring.base_seq = h.flags & HT_SHARED, h.retain_ns / 1e9 if h.retain_ns else None, h.base_seq
    ring.label, ring.schema, ring.generation = text_of(h.label, HT_RING_LABEL), text_of(h.schema, HT_SCHEMA), h.generation
    return ring
