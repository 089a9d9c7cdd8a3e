# ring_layout.h for Cython: the structs' used fields and all functions. What they do is said there.
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "ring_layout.h" nogil:
    enum:
        HT_LAYOUT_VERSION, HT_READERS, HT_CUTS, HT_RING_LABEL, HT_NAME, HT_CUT_LABEL
        HT_FREE, HT_CLAIMING, HT_LOSSLESS, HT_LOSSY, HT_EVICTED, HT_WRITING
        HT_CUT_EMPTY, HT_CUT_FILLING, HT_CUT_PROPOSED, HT_CUT_APPLIED, HT_CUT_WITHDRAWN
        HT_OK, HT_NOTHING, HT_BEHIND, HT_DAMAGED, HT_FULL
    const uint64_t HT_MAGIC, HT_STATE_MASK, HT_PAGE, HT_NO_FENCE

    ctypedef struct ht_reader:
        uint64_t owner, cursor, overruns, missed
        char name[64]
    ctypedef struct ht_cut:
        uint64_t state, epoch, generation, fence, applied_at
        char label[88]
    ctypedef struct ht_descriptor:
        uint64_t offset
    ctypedef struct ht_header:
        uint64_t magic
        uint32_t version
        uint64_t total_bytes, slots, capacity_bytes, base_seq, generation
        char label[128]
        uint64_t checksum
        uint64_t head, data_head, dropped, gap_frames, tail, reclaim, writer
        char writer_name[64]
        uint32_t data_event, space_event, reader_limit
        uint64_t evicted
        ht_reader readers[64]
        ht_cut cuts[64]
    ctypedef struct ht_place:
        uint64_t seq, offset, length, end, needed
    ctypedef struct ht_found:
        uint64_t seq, next, offset, length, epoch, gap
        int64_t timestamp_ns

    uint64_t ht_load(const uint64_t *word)
    void ht_store(uint64_t *word, uint64_t value)
    void ht_add(uint64_t *word, uint64_t value)
    int ht_swap_if(uint64_t *word, uint64_t expected, uint64_t wanted)
    uint64_t ht_round(uint64_t value, uint64_t unit)
    uint64_t ht_index_bytes(uint64_t slots)
    ht_descriptor *ht_descriptor_of(const ht_header *h, uint64_t seq)
    char *ht_bytes(const ht_header *h, uint64_t offset)
    uint64_t ht_checksum(const ht_header *h)
    void ht_format(ht_header *h, uint64_t slots, uint64_t capacity, uint64_t base_seq, uint64_t generation)
    int ht_static_fits(const ht_header *h)
    int64_t ht_now_ns()
    uint32_t ht_event(const uint32_t *word)
    void ht_sleep(uint32_t *word, uint32_t seen, int64_t ns)
    int ht_spin_for_frame(const ht_header *h, uint64_t cursor)
    void ht_arm_reader(ht_header *h, int slot)
    void ht_disarm_reader(ht_header *h, int slot)
    void ht_arm_writer(ht_header *h)
    void ht_disarm_writer(ht_header *h)
    void ht_wake_writer(ht_header *h)
    int ht_reserve(ht_header *h, uint64_t length, ht_place *place)
    void ht_publish(ht_header *h, const ht_place *place, uint64_t gap, uint64_t epoch, int64_t timestamp_ns)
    void ht_resume(ht_header *h)
    int ht_locate(const ht_header *h, uint64_t cursor, ht_found *found)
    int ht_intact(const ht_header *h, uint64_t seq)
    uint64_t ht_pin(ht_header *h, ht_reader *reader, uint64_t cursor)
    void ht_advance(ht_header *h, ht_reader *reader, uint64_t cursor, int lossless)
    int ht_claim_reader(ht_header *h, uint64_t identity)
    int ht_take_slot(ht_header *h, int slot, uint64_t owner, uint64_t state)
    uint64_t ht_read_cut(const ht_cut *cut, ht_cut *copy)
    void ht_fill_cut(ht_cut *cut, const ht_cut *wanted)
    int ht_decide_cut(ht_cut *cut, uint64_t proposed, uint64_t state)
