# The C core for Cython: the fields that are used and all functions. What they do is said in native/*.h.
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "halftrack_ring.h" nogil:
    enum:
        HT_LAYOUT_VERSION, HT_READERS, HT_CUTS, HT_RING_LABEL, HT_SCHEMA, HT_NAME, HT_CUT_LABEL
        HT_FREE, HT_CLAIMING, HT_LOSSLESS, HT_LOSSY, HT_EVICTED, HT_WRITING
        HT_CUT_EMPTY, HT_CUT_FILLING, HT_CUT_PROPOSED, HT_CUT_APPLIED, HT_CUT_WITHDRAWN
        HT_OK, HT_NOTHING, HT_BEHIND, HT_DAMAGED, HT_FULL, HT_CORRUPT, HT_EVICTION, HT_AGAIN, HT_TAKEN, HT_NO_SLOT
        HT_NO_RING, HT_OTHER_VERSION, HT_BAD_CHECKSUM, HT_CONTRADICTION, HT_TRUNCATED, HT_IMPOSSIBLE, HT_SYSTEM
        HT_TOO_LARGE, HT_WRONG_LENGTH, HT_READONLY
        HT_BLOCK, HT_DROP, HT_OVERWRITE, HT_GAP, HT_BEFORE, HT_CHECKED, HT_SHARED, HT_CACHED, HT_STREAMED, HT_CHOSEN
    const uint64_t HT_STATE_MASK, HT_PAGE, HT_NO_FENCE, HT_START_NOW, HT_START_OLDEST

    ctypedef struct ht_slot:
        uint64_t owner, cursor, overruns, missed, most_lag
        uint32_t priority
        char name[64]
    ctypedef struct ht_cut:
        uint64_t state, epoch, generation, fence, applied_at
        char label[88]
    ctypedef struct ht_descriptor:
        uint64_t seq, offset
    ctypedef struct ht_header:
        uint32_t version
        uint64_t total_bytes, slots, capacity_bytes, base_seq, generation, frame_bytes
        uint32_t flags
        int64_t retain_ns
        char label[128]
        char schema[2048]
        uint64_t head, data_head, records, dropped, gap_frames, tail, tail_record, writer, evicted
        uint64_t most_lag, blocked, blocked_ns, writers_died
        char writer_name[64]
        uint32_t data_event, space_event, reader_limit
        ht_slot readers[64]
        ht_cut cuts[64]
    ctypedef struct ht_stores:
        int kind, forced
    ctypedef struct ht_writer:
        ht_stores stores
        ht_header *h
        uint64_t head, needed, frame_bytes
        char *at
    ctypedef struct ht_found:
        uint64_t record, first, end, length, epoch, offset
        const char *bytes
        int64_t timestamp_ns
        uint32_t flags
    ctypedef struct ht_options:
        uint64_t capacity_bytes, slots, base_seq, generation, frame_bytes
        uint32_t flags, mode
        const char *label
        const char *schema
        int64_t retain_ns
    ctypedef struct ht_ring:
        ht_header *header
        uint64_t bytes
        int readonly
        int registered
        uint32_t found_version
    ctypedef struct ht_reader:
        ht_header *h
        ht_slot *slot
        uint64_t owner, cursor
        int number, lossless, verify, evicted
        ht_found found
        uint64_t checked
    ctypedef struct ht_gone:
        uint64_t owner
        int number
        ht_slot slot
    ctypedef struct ht_output:
        ht_writer w
        int policy, shared, held
        uint32_t spare

    void ht_copy(char *into, const char *at, uint64_t bytes)
    uint32_t ht_event(const uint32_t *word)
    void ht_wake(uint32_t *word)
    void ht_sleep(uint32_t *word, uint32_t seen, int64_t ns)
    int64_t ht_slice(int64_t deadline, int sure)
    int ht_arm_reader(ht_header *h, int slot)
    void ht_disarm_reader(ht_header *h, int slot)
    uint64_t ht_load(const uint64_t *word)
    void ht_store(uint64_t *word, uint64_t value)
    uint64_t ht_round(uint64_t value, uint64_t unit)
    uint64_t ht_index_bytes(uint64_t slots)
    ht_descriptor *ht_descriptor_of(const ht_header *h, uint64_t record)
    uint32_t ht_limit(const ht_header *h)
    int64_t ht_now_ns()

    int ht_grows(const ht_writer *w, uint64_t bytes, uint64_t epoch, int64_t time)
    uint64_t ht_grow(ht_writer *w, uint64_t count, uint64_t length)
    int ht_reserve(ht_writer *w, uint64_t bytes)
    uint64_t ht_publish(ht_writer *w, uint64_t count, uint64_t length, uint32_t flags, uint64_t epoch, int64_t time)
    void ht_copy_in(ht_writer *w, const char *frames, uint64_t bytes)
    void ht_stores_begin(ht_stores *stores, uint64_t capacity, int kind)
    int ht_write(ht_writer *w, const void *frames, uint64_t count, uint64_t length, uint64_t epoch, int64_t time)
    uint64_t ht_run_frames(const ht_header *h, uint64_t length)
    int ht_locate(const ht_header *h, uint64_t seq, ht_found *found)
    int ht_intact(const ht_header *h, uint64_t seq)
    int ht_sound(const ht_found *found)
    const char *ht_frame_at(const ht_found *found, uint64_t seq)

    int ht_create(const char *path, const ht_options *options, ht_ring *ring)
    int ht_create_fd(const char *name, const ht_options *options, ht_ring *ring, int *fd)
    int ht_open(const char *path, int readonly, ht_ring *ring)
    int ht_attach(int fd, int readonly, ht_ring *ring)
    void ht_detach(ht_ring *ring)
    int ht_prefault(const ht_ring *ring)
    int ht_begin(const ht_ring *ring, int policy, const char *name, ht_output *out, uint64_t *holder)
    void ht_finish(ht_output *out)
    int ht_room(ht_output *out, uint64_t bytes, int64_t deadline_ns)
    void ht_unblock(ht_output *out)
    void ht_dropped(ht_output *out, uint64_t count)
    int ht_take_turn(ht_output *out, int64_t deadline_ns)
    void ht_pass_turn(ht_output *out)
    uint64_t ht_credit(const ht_header *h)
    int ht_join(
        const ht_ring *ring, int lossless, uint64_t start, int64_t evict_after_ns, uint32_t priority, const char *name, ht_reader *reader
    )
    void ht_leave(ht_reader *reader)
    int ht_seek(ht_reader *reader, uint64_t seq)
    int ht_wait(ht_reader *reader, int64_t deadline_ns)
    void ht_unwait(ht_reader *reader)
    int ht_overrun(ht_reader *reader, int again)
    int ht_verified(ht_reader *reader)
    bint ht_held(ht_reader *reader)
    int ht_look(ht_reader *reader)
    void ht_done(ht_reader *reader, uint64_t seq)
    uint64_t ht_seq_at(const ht_header *h, int64_t time_ns)
    int ht_reap(const ht_ring *ring, ht_gone *gone)
    int ht_evict(const ht_ring *ring, int slot)
    uint64_t ht_identity()
    uint64_t ht_pid_of(uint64_t owner)

    uint64_t ht_read_cut(const ht_cut *cut, ht_cut *copy)
    void ht_fill_cut(ht_cut *cut, const ht_cut *wanted)
    int ht_decide_cut(ht_cut *cut, uint64_t proposed, uint64_t state)
