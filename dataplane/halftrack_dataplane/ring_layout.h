/* The ring's layout in shared memory and its protocol, for Cython and for instruments in C or C++.
 *
 * Owns: every offset, every atomic access, every futex call. Never: allocates, opens files, or judges who is dead.
 * Both ends of each ordering bear the same name, `SYNC: ...`; dataplane/README.md explains each name once.
 *
 * Words with one writer sit on cache lines of their own. Lines are 128 bytes: x86 prefetches them in pairs of 64.
 */
#ifndef HALFTRACK_RING_LAYOUT_H
#define HALFTRACK_RING_LAYOUT_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef __cplusplus
#define HT_ASSERT(cond, why) static_assert(cond, why)
#else
#define HT_ASSERT(cond, why) _Static_assert(cond, why)
#endif

#define HT_MAGIC UINT64_C(0x474e49524b525448) /* "HTRKRING" as little-endian bytes */
#define HT_LAYOUT_VERSION 1u
#define HT_READERS 64 /* as many as bits in data_waiters */
#define HT_CUTS 64
#define HT_ALIGN UINT64_C(64) /* frames start on a cache line, so that views suit vector code */
#define HT_PAGE UINT64_C(4096)
#define HT_NO_FENCE UINT64_MAX
#define HT_RING_LABEL 128
#define HT_NAME 64
#define HT_CUT_LABEL 88

/* A reader slot's or the writer's owner is one word, so that one compare-and-swap both claims it and says for whom:
 * a process that dies half way through claiming can still be told dead. Low bits first:
 * state 3 | pid 22 (PID_MAX_LIMIT) | low bits of the pid namespace's inode 16 | process start time, ticks mod 2^23. */
enum { HT_FREE = 0, HT_CLAIMING = 1, HT_LOSSLESS = 2, HT_LOSSY = 3, HT_EVICTED = 4, HT_WRITING = 5 };
#define HT_STATE_MASK UINT64_C(7)

enum { HT_CUT_EMPTY = 0, HT_CUT_FILLING = 1, HT_CUT_PROPOSED = 2, HT_CUT_APPLIED = 3, HT_CUT_WITHDRAWN = 4 };

enum { HT_OK = 0, HT_NOTHING = 1, HT_BEHIND = 2, HT_DAMAGED = 3, HT_FULL = 4 };

typedef struct {
    uint64_t owner;    /* state and identity, changed by compare-and-swap only */
    uint64_t cursor;   /* next sequence that the reader wants; written by the owner only */
    uint64_t overruns; /* times that it was overrun */
    uint64_t missed;   /* sequences that it lost by that */
    char name[HT_NAME];
    uint8_t reserved[32];
} ht_reader;

typedef struct {
    uint64_t state; /* version << 8 | HT_CUT_*: a sequence lock for readers, a compare-and-swap for apply and withdraw */
    uint64_t epoch;
    uint64_t generation;
    uint64_t fence;
    uint64_t applied_at;
    char label[HT_CUT_LABEL];
} ht_cut;

typedef struct {
    uint64_t seq;    /* of the record; readers find gaps by its absence */
    uint64_t offset; /* absolute: it only grows, the place is offset % capacity */
    uint64_t length;
    uint64_t epoch;
    int64_t timestamp_ns;
    uint64_t gap; /* 0: a frame. Else the record declares [seq, seq + gap) as lost */
    uint32_t crc; /* reserved: 0 */
    uint32_t flags;
    uint64_t reserved;
} ht_descriptor;

typedef struct {
    /* static: written once before the ring becomes visible, covered by the checksum */
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes;
    uint64_t total_bytes;
    uint64_t index_offset;
    uint64_t slots;
    uint64_t data_offset;
    uint64_t capacity_bytes;
    uint64_t base_seq;
    uint64_t generation;
    char label[HT_RING_LABEL];
    uint8_t pad_static[304];
    uint64_t checksum;

    /* written by the writer: what is published */
    uint64_t head;      /* next sequence to publish */
    uint64_t data_head; /* absolute offset of the first byte never handed out */
    uint64_t dropped;
    uint64_t gap_frames;
    uint8_t pad_head[96];

    /* written by the writer: what is retained */
    uint64_t tail;    /* oldest record whose bytes and descriptor are intact; always the start of a record */
    uint64_t reclaim; /* what the writer wants tail to become; == tail unless it is inside ht_reserve */
    uint8_t pad_tail[112];

    /* the writer's claim */
    uint64_t writer;
    char writer_name[HT_NAME];
    uint8_t pad_writer[56];

    /* readers waiting for frames */
    uint32_t data_event; /* futex: bumped only when somebody waits */
    uint32_t pad_event;
    uint64_t data_waiters; /* bit per reader slot: a killed waiter's bit can be cleared, a count could not be repaired */
    uint8_t pad_data_wait[112];

    /* the writer waiting for space */
    uint32_t space_event; /* futex */
    uint32_t space_waiting;
    uint8_t pad_space_wait[120];

    /* rare: joins and evictions */
    uint32_t reader_limit; /* no slot from here on was ever claimed; only grows */
    uint32_t pad_limit;
    uint64_t evicted;
    uint8_t pad_rare[112];

    uint8_t pad_page[2816];

    ht_reader readers[HT_READERS];
    ht_cut cuts[HT_CUTS];
    /* descriptors at index_offset, frames at data_offset */
} ht_header;

HT_ASSERT(sizeof(void *) == 8 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the layout is for 64-bit little-endian machines");
HT_ASSERT(sizeof(ht_reader) == 128, "a reader slot is one line");
HT_ASSERT(offsetof(ht_reader, cursor) == 8 && offsetof(ht_reader, overruns) == 16, "reader");
HT_ASSERT(offsetof(ht_reader, missed) == 24 && offsetof(ht_reader, name) == 32, "reader");
HT_ASSERT(sizeof(ht_cut) == 128, "a cut is one line");
HT_ASSERT(offsetof(ht_cut, epoch) == 8 && offsetof(ht_cut, generation) == 16 && offsetof(ht_cut, fence) == 24, "cut");
HT_ASSERT(offsetof(ht_cut, applied_at) == 32 && offsetof(ht_cut, label) == 40, "cut");
HT_ASSERT(sizeof(ht_descriptor) == 64, "a descriptor is one 64-byte line");
HT_ASSERT(offsetof(ht_descriptor, offset) == 8 && offsetof(ht_descriptor, length) == 16, "descriptor");
HT_ASSERT(offsetof(ht_descriptor, epoch) == 24 && offsetof(ht_descriptor, timestamp_ns) == 32, "descriptor");
HT_ASSERT(offsetof(ht_descriptor, gap) == 40 && offsetof(ht_descriptor, crc) == 48, "descriptor");
HT_ASSERT(offsetof(ht_descriptor, flags) == 52 && offsetof(ht_descriptor, reserved) == 56, "descriptor");
HT_ASSERT(offsetof(ht_header, version) == 8 && offsetof(ht_header, header_bytes) == 12, "static");
HT_ASSERT(offsetof(ht_header, total_bytes) == 16 && offsetof(ht_header, index_offset) == 24, "static");
HT_ASSERT(offsetof(ht_header, slots) == 32 && offsetof(ht_header, data_offset) == 40, "static");
HT_ASSERT(offsetof(ht_header, capacity_bytes) == 48 && offsetof(ht_header, base_seq) == 56, "static");
HT_ASSERT(offsetof(ht_header, generation) == 64 && offsetof(ht_header, label) == 72, "static");
HT_ASSERT(offsetof(ht_header, checksum) == 0x1f8, "the checksum ends the static part");
HT_ASSERT(offsetof(ht_header, head) == 0x200 && offsetof(ht_header, data_head) == 0x208, "head line");
HT_ASSERT(offsetof(ht_header, dropped) == 0x210 && offsetof(ht_header, gap_frames) == 0x218, "head line");
HT_ASSERT(offsetof(ht_header, tail) == 0x280 && offsetof(ht_header, reclaim) == 0x288, "tail line");
HT_ASSERT(offsetof(ht_header, writer) == 0x300 && offsetof(ht_header, writer_name) == 0x308, "writer line");
HT_ASSERT(offsetof(ht_header, data_event) == 0x380 && offsetof(ht_header, data_waiters) == 0x388, "data wait line");
HT_ASSERT(offsetof(ht_header, space_event) == 0x400 && offsetof(ht_header, space_waiting) == 0x404, "space wait line");
HT_ASSERT(offsetof(ht_header, reader_limit) == 0x480 && offsetof(ht_header, evicted) == 0x488, "rare line");
HT_ASSERT(offsetof(ht_header, readers) == 0x1000 && offsetof(ht_header, cuts) == 0x3000, "tables");
HT_ASSERT(sizeof(ht_header) == 0x5000, "the header is five pages");

#define HT_RELAXED(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define HT_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define HT_PUT(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define HT_RELEASE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define HT_FENCE(order) __atomic_thread_fence(__ATOMIC_##order)

static inline uint64_t ht_load(const uint64_t *word) { return HT_ACQUIRE(word); }
static inline void ht_store(uint64_t *word, uint64_t value) { HT_RELEASE(word, value); }
static inline void ht_add(uint64_t *word, uint64_t value) { __atomic_fetch_add(word, value, __ATOMIC_RELAXED); }
static inline int ht_swap_if(uint64_t *word, uint64_t expected, uint64_t wanted) {
    return __atomic_compare_exchange_n(word, &expected, wanted, 0, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE);
}

static inline uint64_t ht_round(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }
static inline ht_descriptor *ht_descriptor_of(const ht_header *h, uint64_t seq) {
    return (ht_descriptor *)((char *)h + h->index_offset) + (seq & (h->slots - 1));
}
static inline char *ht_bytes(const ht_header *h, uint64_t offset) {
    return (char *)h + h->data_offset + offset % h->capacity_bytes;
}

/* FNV-1a over the static part: it finds a damaged header, not an attacker. */
static inline uint64_t ht_checksum(const ht_header *h) {
    const unsigned char *at = (const unsigned char *)h;
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < offsetof(ht_header, checksum); i++) sum = (sum ^ at[i]) * UINT64_C(0x100000001b3);
    return sum;
}

static inline uint64_t ht_index_bytes(uint64_t slots) { return ht_round(slots * sizeof(ht_descriptor), HT_PAGE); }

/* Fills a zeroed mapping; slots is a power of two, capacity a multiple of the page. */
static inline void ht_format(ht_header *h, uint64_t slots, uint64_t capacity, uint64_t base_seq, uint64_t generation) {
    h->magic = HT_MAGIC;
    h->version = HT_LAYOUT_VERSION;
    h->header_bytes = sizeof(ht_header);
    h->index_offset = sizeof(ht_header);
    h->slots = slots;
    h->data_offset = h->index_offset + ht_index_bytes(slots);
    h->capacity_bytes = capacity;
    h->total_bytes = h->data_offset + capacity;
    h->base_seq = base_seq;
    h->generation = generation;
    h->head = h->tail = h->reclaim = base_seq;
    h->checksum = ht_checksum(h);
}

/* Do the static numbers fit each other? Checked after the checksum, so that a bug elsewhere cannot make us read astray. */
static inline int ht_static_fits(const ht_header *h) {
    return h->header_bytes == sizeof(ht_header) && h->slots >= 2 && (h->slots & (h->slots - 1)) == 0 &&
           h->slots <= (UINT64_C(1) << 32) && h->index_offset == sizeof(ht_header) &&
           h->data_offset == h->index_offset + ht_index_bytes(h->slots) && h->capacity_bytes >= HT_PAGE &&
           h->capacity_bytes % HT_PAGE == 0 && h->total_bytes == h->data_offset + h->capacity_bytes;
}

/* ---- waiting ------------------------------------------------------------------------------------------------- */

static inline int64_t ht_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline uint32_t ht_event(const uint32_t *word) { return HT_ACQUIRE(word); }

/* Returns on a wake-up, a changed word, a signal or after ns; the caller always looks again. Shared: not FUTEX_PRIVATE. */
static inline void ht_sleep(uint32_t *word, uint32_t seen, int64_t ns) {
    struct timespec slice = {ns / 1000000000, ns % 1000000000};
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &slice, NULL, 0);
}

static inline void ht_wake(uint32_t *word) {
    __atomic_fetch_add(word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static inline void ht_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ __volatile__("" ::: "memory");
#endif
}

/* A futex round trip costs about 35 us, so a few of these loops (2-5 us) are cheap against going to sleep. */
#define HT_SPINS 64
static inline int ht_spin_for_frame(const ht_header *h, uint64_t cursor) {
    for (int i = 0; i < HT_SPINS; i++) {
        if (HT_RELAXED(&h->head) > cursor) return 1;
        ht_pause();
    }
    return 0;
}

/* SYNC: frame wake-up. Waiter: set my bit, fence, look at head, sleep on the event read before looking. Writer: store
 * head, fence, look at the bits. One of them sees the other, whichever fence is first. */
static inline void ht_arm_reader(ht_header *h, int slot) {
    __atomic_fetch_or(&h->data_waiters, UINT64_C(1) << slot, __ATOMIC_RELAXED);
    HT_FENCE(SEQ_CST);
}
static inline void ht_disarm_reader(ht_header *h, int slot) {
    __atomic_fetch_and(&h->data_waiters, ~(UINT64_C(1) << slot), __ATOMIC_RELAXED);
}

/* SYNC: space wake-up. The same with the sides exchanged: the writer announces and looks at cursors, a reader stores its
 * cursor and looks at the announcement. */
static inline void ht_arm_writer(ht_header *h) {
    HT_PUT(&h->space_waiting, 1);
    HT_FENCE(SEQ_CST);
}
static inline void ht_disarm_writer(ht_header *h) { HT_PUT(&h->space_waiting, 0); }
static inline void ht_wake_writer(ht_header *h) {
    HT_FENCE(SEQ_CST); /* SYNC: space wake-up */
    if (HT_RELAXED(&h->space_waiting)) ht_wake(&h->space_event);
}

/* ---- the writer's side --------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t seq;
    uint64_t offset;
    uint64_t length;
    uint64_t end;    /* data_head once it is published */
    uint64_t needed; /* where tail must be for this frame to fit: readers below it stand in the way */
} ht_place;

/* The least cursor of all lossless readers. */
static inline uint64_t ht_gate(const ht_header *h) {
    uint64_t gate = UINT64_MAX;
    uint32_t limit = HT_ACQUIRE(&h->reader_limit);
    for (uint32_t i = 0; i < limit && i < HT_READERS; i++) {
        const ht_reader *reader = &h->readers[i];
        if ((HT_ACQUIRE(&reader->owner) & HT_STATE_MASK) != HT_LOSSLESS) continue;
        uint64_t cursor = HT_ACQUIRE(&reader->cursor); /* SYNC: frame released */
        if (cursor < gate) gate = cursor;
    }
    return gate;
}

/* Finds room for one record, reclaiming the oldest that no lossless reader needs; HT_FULL changes nothing. A frame that
 * would wrap starts at the beginning. length <= capacity / 2, so padding + length always fit into an empty ring. */
static inline int ht_reserve(ht_header *h, uint64_t length, ht_place *place) {
    uint64_t head = HT_RELAXED(&h->head), start = HT_RELAXED(&h->data_head), tail = HT_RELAXED(&h->tail), goal = tail;
    uint64_t left = h->capacity_bytes - start % h->capacity_bytes;
    place->seq = head;
    place->length = length;
    place->offset = length > left ? start + left : start;
    place->end = place->offset + ht_round(length, HT_ALIGN);
    /* All retained records start within `slots` of tail, so no two share a descriptor, however long their gaps. */
    while (goal < head) {
        const ht_descriptor *oldest = ht_descriptor_of(h, goal);
        if (head - goal < h->slots && place->end - oldest->offset <= h->capacity_bytes) break;
        goal += oldest->gap ? oldest->gap : 1;
    }
    place->needed = goal;
    if (goal == tail) return HT_OK;
    if (ht_gate(h) < goal) return HT_FULL;
    HT_PUT(&h->reclaim, goal);
    HT_FENCE(SEQ_CST); /* SYNC: reader pinned */
    if (ht_gate(h) < goal) { /* somebody joined or went back meanwhile and may not have seen reclaim: give it up */
        HT_PUT(&h->reclaim, tail);
        return HT_FULL;
    }
    HT_PUT(&h->tail, goal);
    HT_FENCE(RELEASE); /* SYNC: bytes reclaimed: whoever sees what we overwrite from here on also sees tail */
    return HT_OK;
}

/* The record's bytes are in place: describe it and let it be seen. Killed before the store to head, nothing is visible
 * and data_head at worst skips bytes that are reclaimed with their neighbours. */
static inline void ht_publish(ht_header *h, const ht_place *place, uint64_t gap, uint64_t epoch, int64_t timestamp_ns) {
    ht_descriptor *d = ht_descriptor_of(h, place->seq);
    HT_PUT(&d->seq, place->seq);
    HT_PUT(&d->offset, place->offset);
    HT_PUT(&d->length, place->length);
    HT_PUT(&d->epoch, epoch);
    HT_PUT(&d->timestamp_ns, timestamp_ns);
    HT_PUT(&d->gap, gap);
    HT_PUT(&d->crc, 0);
    HT_PUT(&d->flags, 0);
    HT_PUT(&h->data_head, place->end);
    if (gap) HT_PUT(&h->gap_frames, h->gap_frames + gap);
    HT_RELEASE(&h->head, place->seq + (gap ? gap : 1)); /* SYNC: frame visible */
    HT_FENCE(SEQ_CST); /* SYNC: frame wake-up */
    if (HT_RELAXED(&h->data_waiters)) ht_wake(&h->data_event);
}

/* A new writer goes on from what its predecessor published; an unfinished reclaim of its never took effect. */
static inline void ht_resume(ht_header *h) {
    HT_PUT(&h->reclaim, h->tail);
    ht_disarm_writer(h);
}

/* ---- the reader's side --------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t seq;  /* == cursor, which may be inside a gap */
    uint64_t next; /* the cursor after it */
    uint64_t offset;
    uint64_t length;
    uint64_t epoch;
    int64_t timestamp_ns;
    uint64_t gap; /* what is left of it from seq on */
} ht_found;

/* After using the bytes of a frame: were they whole all the time? */
static inline int ht_intact(const ht_header *h, uint64_t seq) {
    HT_FENCE(ACQUIRE); /* SYNC: bytes reclaimed */
    return HT_RELAXED(&h->tail) <= seq;
}

/* What is at the cursor? HT_NOTHING: not published yet. HT_BEHIND: reclaimed (never for a lossless reader that owns its
 * slot). A cursor inside a gap finds the gap's record by going back, at most `slots` steps. */
static inline int ht_locate(const ht_header *h, uint64_t cursor, ht_found *found) {
    if (cursor >= HT_ACQUIRE(&h->head)) return HT_NOTHING; /* SYNC: frame visible */
    uint64_t tail = HT_ACQUIRE(&h->tail);
    if (cursor < tail) return HT_BEHIND;
    uint64_t seq = cursor < tail + h->slots ? cursor : tail + h->slots - 1;
    while (seq > tail && HT_RELAXED(&ht_descriptor_of(h, seq)->seq) != seq) seq--;
    const ht_descriptor *d = ht_descriptor_of(h, seq);
    uint64_t said = HT_RELAXED(&d->seq), gap = HT_RELAXED(&d->gap);
    found->seq = cursor;
    found->next = seq + (gap ? gap : 1);
    found->offset = HT_RELAXED(&d->offset);
    found->length = HT_RELAXED(&d->length);
    found->epoch = HT_RELAXED(&d->epoch);
    found->timestamp_ns = HT_RELAXED(&d->timestamp_ns);
    found->gap = gap ? found->next - cursor : 0;
    if (!ht_intact(h, cursor)) return HT_BEHIND;
    if (said != seq || found->next <= cursor || found->length > h->capacity_bytes ||
        found->offset % h->capacity_bytes + found->length > h->capacity_bytes)
        return HT_DAMAGED;
    return HT_OK;
}

/* Makes a lossless reader's cursor hold what it points at, or moves it up to what still can be held.
 * SYNC: reader pinned. Reader: store cursor, fence, look at reclaim. Writer: store reclaim, fence, look at cursors. If the
 * writer missed this cursor, this reader sees reclaim and gives way; else the writer sees the cursor and gives way. */
static inline uint64_t ht_pin(ht_header *h, ht_reader *reader, uint64_t cursor) {
    for (;;) {
        HT_RELEASE(&reader->cursor, cursor);
        HT_FENCE(SEQ_CST); /* SYNC: reader pinned */
        uint64_t reclaim = HT_RELAXED(&h->reclaim);
        if (reclaim <= cursor) return cursor;
        cursor = reclaim;
    }
}

static inline void ht_advance(ht_header *h, ht_reader *reader, uint64_t cursor, int lossless) {
    HT_RELEASE(&reader->cursor, cursor); /* SYNC: frame released */
    if (lossless) ht_wake_writer(h);
}

/* Claims a free slot, lowest first so that the writer scans few; -1 if there is none. */
static inline int ht_claim_reader(ht_header *h, uint64_t identity) {
    for (int i = 0; i < HT_READERS; i++) {
        if (!ht_swap_if(&h->readers[i].owner, HT_FREE, identity | HT_CLAIMING)) continue; /* SYNC: slot owned */
        uint32_t limit = HT_RELAXED(&h->reader_limit);
        while (limit <= (uint32_t)i &&
               !__atomic_compare_exchange_n(&h->reader_limit, &limit, i + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
        }
        return i;
    }
    return -1;
}

/* Takes the slot from `owner` (evicted: it stays the owner's until that notices or dies, so that a late store of its
 * cursor can hurt nobody) and wakes whom that may concern. */
static inline int ht_take_slot(ht_header *h, int slot, uint64_t owner, uint64_t state) {
    uint64_t wanted = state == HT_FREE ? HT_FREE : (owner & ~HT_STATE_MASK) | state;
    ht_disarm_reader(h, slot);
    if (!ht_swap_if(&h->readers[slot].owner, owner, wanted)) return 0; /* SYNC: slot owned */
    ht_wake(&h->data_event);
    ht_wake_writer(h);
    return 1;
}

/* ---- the owner table ----------------------------------------------------------------------------------------- */

/* A consistent copy of one row, and its HT_CUT_* state. SYNC: cut readable: the state word is a sequence lock. */
static inline uint64_t ht_read_cut(const ht_cut *cut, ht_cut *copy) {
    for (;;) {
        uint64_t before = HT_ACQUIRE(&cut->state); /* SYNC: cut readable */
        memcpy(copy, cut, sizeof *copy);
        HT_FENCE(ACQUIRE);
        if (HT_RELAXED(&cut->state) == before) {
            copy->state = before;
            return before & 0xff;
        }
    }
}

static inline void ht_fill_cut(ht_cut *cut, const ht_cut *wanted) {
    uint64_t version = (HT_RELAXED(&cut->state) >> 8) + 1;
    HT_PUT(&cut->state, version << 8 | HT_CUT_FILLING);
    HT_FENCE(RELEASE); /* SYNC: cut readable */
    HT_PUT(&cut->epoch, wanted->epoch);
    HT_PUT(&cut->generation, wanted->generation);
    HT_PUT(&cut->fence, wanted->fence);
    memcpy(cut->label, wanted->label, HT_CUT_LABEL);
    HT_RELEASE(&cut->state, version << 8 | HT_CUT_PROPOSED); /* SYNC: cut readable */
}

/* PROPOSED -> APPLIED or WITHDRAWN, whichever comes first. SYNC: cut decided. applied_at counts only once APPLIED. */
static inline int ht_decide_cut(ht_cut *cut, uint64_t proposed, uint64_t state) {
    return ht_swap_if(&cut->state, proposed, (proposed & ~UINT64_C(0xff)) | state); /* SYNC: cut decided */
}

#endif
