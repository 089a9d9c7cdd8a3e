"""What a ring's header says of its use, for people and monitors. For cimport.

Owns no state and takes no lock: each number is current, together they are a moment's blur if the ring is in use.
"""

from halftrack_dataplane.frames import ReaderStats, RingStats

from halftrack_dataplane.mapping cimport text_of
from halftrack_dataplane.native cimport *

cdef dict POLICIES = {HT_LOSSLESS: "lossless", HT_LOSSY: "lossy"}


cdef object slot_stats(int slot, uint64_t owner, const ht_slot *reader, uint64_t head):
    return ReaderStats(
        slot, text_of(reader.name, HT_NAME), ht_pid_of(owner), POLICIES[owner & HT_STATE_MASK], reader.cursor,
        head - reader.cursor if head > reader.cursor else 0, reader.overruns, reader.missed, reader.priority, reader.most_lag,
    )


cdef object reader_stats(ht_header *h, int slot, uint64_t owner):
    """None if the slot holds no reader, or changed hands while we looked."""
    cdef ht_slot was = h.readers[slot]
    if owner & HT_STATE_MASK not in POLICIES:
        return None
    stats = slot_stats(slot, owner, &was, ht_load(&h.head))
    return stats if ht_load(&h.readers[slot].owner) == owner else None


cdef object ring_stats(ht_header *h):
    cdef uint64_t tail, oldest, used
    while True:
        used = 0
        tail = ht_load(&h.tail)
        oldest = ht_load(&ht_descriptor_of(h, ht_load(&h.tail_record)).offset)
        head = ht_load(&h.head)
        if head > tail:
            used = ht_load(&h.data_head) - oldest
        if ht_load(&h.tail) == tail:
            break
    readers = [reader_stats(h, slot, ht_load(&h.readers[slot].owner)) for slot in range(ht_limit(h))]
    return RingStats(
        head, tail, h.capacity_bytes, min(used, h.capacity_bytes), h.slots, ht_load(&h.dropped),
        ht_load(&h.gap_frames), ht_load(&h.evicted), ht_pid_of(ht_load(&h.writer)),
        tuple([reader for reader in readers if reader is not None]), ht_credit(h), ht_load(&h.most_lag), ht_load(&h.blocked),
        ht_load(&h.blocked_ns) / 1e9, ht_load(&h.writers_died),
    )
