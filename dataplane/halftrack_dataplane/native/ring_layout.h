/* The ring's layout in shared memory, version 3, for Cython and for instruments in C or C++.
 *
 * Owns: every offset, and how a new ring is laid out. Never: moves a frame; that is ring_protocol.h.
 * Words with one writer sit on cache lines of their own. Lines are 128 bytes: x86 prefetches them in pairs of 64.
 *
 * A record is what is published and reclaimed as one: a run of frames of one length, epoch and time, or a declared gap.
 * Descriptors are found by the record's number, not by its sequence, so a run of a thousand small frames costs one.
 */
#ifndef HALFTRACK_RING_LAYOUT_H
#define HALFTRACK_RING_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define HT_ASSERT(cond, why) static_assert(cond, why)
#else
#define HT_ASSERT(cond, why) _Static_assert(cond, why)
#endif

#define HT_MAGIC UINT64_C(0x474e49524b525448) /* "HTRKRING" as little-endian bytes */
#define HT_LAYOUT_VERSION 3u
#define HT_READERS 64 /* as many as bits in data_waiters */
#define HT_CUTS 64
#define HT_ALIGN UINT64_C(64) /* records start on a cache line, so that views suit vector code */
#define HT_PAGE UINT64_C(4096)
#define HT_NO_FENCE UINT64_MAX
#define HT_MOST (UINT64_C(1) << 62) /* of bytes, and of what a ring may begin at: sums of two do not wrap */
#define HT_RING_LABEL 128
#define HT_SCHEMA 2048
#define HT_NAME 64
#define HT_CUT_LABEL 88

/* A reader slot's or the writer's owner is one word, so that one compare-and-swap both claims it and says for whom:
 * a process that dies half way through claiming can still be told dead. Low bits first:
 * state 3 | pid 22 (PID_MAX_LIMIT) | low bits of the pid namespace's inode 16 | process start time, ticks mod 2^23. */
enum { HT_FREE = 0, HT_CLAIMING = 1, HT_LOSSLESS = 2, HT_LOSSY = 3, HT_EVICTED = 4, HT_WRITING = 5 };
#define HT_STATE_MASK UINT64_C(7)

enum { HT_CUT_EMPTY = 0, HT_CUT_FILLING = 1, HT_CUT_PROPOSED = 2, HT_CUT_APPLIED = 3, HT_CUT_WITHDRAWN = 4 };

enum {
    HT_GAP = 1,
    HT_HAS_CRC = 2,
    HT_BEFORE = 4 /* with HT_GAP: sequences before the stream's first; nothing was lost */
}; /* flags of a descriptor */
enum {
    HT_CHECKED = 1, /* each record carries the CRC-32C of its bytes */
    HT_SHARED = 2   /* several writers, who take turns */
}; /* flags of a ring */
#define HT_FLAGS (HT_CHECKED | HT_SHARED)

typedef struct {
    uint64_t owner;    /* state and identity, changed by compare-and-swap only */
    uint64_t cursor;   /* next sequence that the reader wants; written by the owner only */
    uint64_t overruns; /* times that it was overrun */
    uint64_t missed;   /* sequences that it lost by that */
    char name[HT_NAME];
    int64_t evict_after_ns; /* how long it may hold up the writer; 0: for ever */
    uint64_t most_lag;      /* high-water mark: sequences that it was behind when a writer needed room; the writer's to write */
    uint32_t priority;      /* a writer that overwrites may spare those from some priority on */
    uint8_t reserved[12];
} ht_slot;

typedef struct {
    uint64_t state; /* version << 8 | HT_CUT_*: a sequence lock for readers, a compare-and-swap for apply and withdraw */
    uint64_t epoch;
    uint64_t generation;
    uint64_t fence;
    uint64_t applied_at;
    char label[HT_CUT_LABEL];
} ht_cut;

/* Where a record ends is where the next one begins, or the head: a run that grows never touches its descriptor again. */
typedef struct {
    uint64_t seq;    /* of its first frame */
    uint64_t offset; /* absolute: it only grows, the place is offset % capacity; frame n lies n * length further */
    uint64_t length; /* of each frame */
    uint64_t epoch;
    int64_t timestamp_ns;
    uint32_t crc; /* CRC-32C of all its bytes, with HT_HAS_CRC */
    uint32_t flags;
    uint64_t reserved[2];
} ht_descriptor;

typedef struct {
    /* static: written once before the ring becomes visible, covered by the checksum, as is the schema */
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
    uint64_t frame_bytes; /* of every frame; 0: frames of any length */
    uint32_t flags;
    uint32_t pad_flags;
    int64_t retain_ns; /* records older than the newest by more go early; 0: only when their room is wanted */
    uint8_t pad_static[280];
    uint64_t checksum;

    /* written by the writer: what is published */
    uint64_t head;      /* next sequence to publish */
    uint64_t data_head; /* absolute offset of the first byte never handed out */
    uint64_t records;   /* number of the next record; one too many if a writer died between two stores */
    uint64_t dropped;
    uint64_t gap_frames;
    uint8_t pad_head[88];

    /* written by the writer: what is retained */
    uint64_t tail;        /* oldest sequence whose bytes and descriptor are intact; always the start of a record */
    uint64_t reclaim;     /* what the writer wants tail to become; == tail unless it is inside ht_reclaim */
    uint64_t tail_record; /* the record that begins at tail; behind it if a writer died between two stores */
    uint8_t pad_tail[104];

    /* the writer's claim; in a shared ring that of the writer whose turn it is */
    uint64_t writer;
    char writer_name[HT_NAME];
    uint32_t turn_event; /* futex */
    uint32_t turn_waiting;
    uint8_t pad_writer[48];

    /* readers waiting for frames */
    uint32_t data_event; /* futex: bumped only when somebody waits */
    uint32_t pad_event;
    uint64_t data_waiters; /* bit per reader slot: a killed waiter's bit can be cleared, a count could not be repaired */
    uint8_t pad_data_wait[112];

    /* the writer waiting for space */
    uint32_t space_event; /* futex */
    uint32_t space_waiting;
    uint64_t space_wanted; /* sequence: a reader below it need not wake the writer */
    uint8_t pad_space_wait[112];

    /* rare: joins and evictions */
    uint32_t reader_limit; /* no slot from here on was ever claimed; only grows */
    uint32_t pad_limit;
    uint64_t evicted;
    uint64_t most_lag;   /* high-water mark over all lossless readers that there were */
    uint64_t blocked;    /* how often a writer had to wait for readers, and for how long in all */
    uint64_t blocked_ns;
    uint64_t writers_died; /* as writers, or in their turn */
    uint8_t pad_rare[80];

    char schema[HT_SCHEMA]; /* what a frame is, as NumPy's dtype descriptor; empty: bytes */
    uint8_t pad_page[768];

    ht_slot readers[HT_READERS];
    ht_cut cuts[HT_CUTS];
    /* descriptors at index_offset, frames at data_offset */
} ht_header;

HT_ASSERT(sizeof(void *) == 8 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the layout is for 64-bit little-endian machines");
HT_ASSERT(sizeof(ht_slot) == 128, "a reader slot is one line");
HT_ASSERT(offsetof(ht_slot, cursor) == 8 && offsetof(ht_slot, overruns) == 16, "reader");
HT_ASSERT(offsetof(ht_slot, missed) == 24 && offsetof(ht_slot, name) == 32, "reader");
HT_ASSERT(offsetof(ht_slot, evict_after_ns) == 96 && offsetof(ht_slot, most_lag) == 104, "reader");
HT_ASSERT(offsetof(ht_slot, priority) == 112, "reader");
HT_ASSERT(sizeof(ht_cut) == 128, "a cut is one line");
HT_ASSERT(offsetof(ht_cut, epoch) == 8 && offsetof(ht_cut, generation) == 16 && offsetof(ht_cut, fence) == 24, "cut");
HT_ASSERT(offsetof(ht_cut, applied_at) == 32 && offsetof(ht_cut, label) == 40, "cut");
HT_ASSERT(sizeof(ht_descriptor) == 64, "a descriptor is one 64-byte line");
HT_ASSERT(offsetof(ht_descriptor, offset) == 8 && offsetof(ht_descriptor, length) == 16, "descriptor");
HT_ASSERT(offsetof(ht_descriptor, epoch) == 24 && offsetof(ht_descriptor, timestamp_ns) == 32, "descriptor");
HT_ASSERT(offsetof(ht_descriptor, crc) == 40 && offsetof(ht_descriptor, flags) == 44, "descriptor");
HT_ASSERT(offsetof(ht_header, version) == 8 && offsetof(ht_header, header_bytes) == 12, "static");
HT_ASSERT(offsetof(ht_header, total_bytes) == 16 && offsetof(ht_header, index_offset) == 24, "static");
HT_ASSERT(offsetof(ht_header, slots) == 32 && offsetof(ht_header, data_offset) == 40, "static");
HT_ASSERT(offsetof(ht_header, capacity_bytes) == 48 && offsetof(ht_header, base_seq) == 56, "static");
HT_ASSERT(offsetof(ht_header, generation) == 64 && offsetof(ht_header, label) == 72, "static");
HT_ASSERT(offsetof(ht_header, frame_bytes) == 200 && offsetof(ht_header, flags) == 208, "static");
HT_ASSERT(offsetof(ht_header, retain_ns) == 216, "static");
HT_ASSERT(offsetof(ht_header, checksum) == 0x1f8, "the checksum ends the static part");
HT_ASSERT(offsetof(ht_header, head) == 0x200 && offsetof(ht_header, data_head) == 0x208, "head line");
HT_ASSERT(offsetof(ht_header, records) == 0x210 && offsetof(ht_header, dropped) == 0x218, "head line");
HT_ASSERT(offsetof(ht_header, gap_frames) == 0x220, "head line");
HT_ASSERT(offsetof(ht_header, tail) == 0x280 && offsetof(ht_header, reclaim) == 0x288, "tail line");
HT_ASSERT(offsetof(ht_header, tail_record) == 0x290, "tail line");
HT_ASSERT(offsetof(ht_header, writer) == 0x300 && offsetof(ht_header, writer_name) == 0x308, "writer line");
HT_ASSERT(offsetof(ht_header, turn_event) == 0x348 && offsetof(ht_header, turn_waiting) == 0x34c, "writer line");
HT_ASSERT(offsetof(ht_header, data_event) == 0x380 && offsetof(ht_header, data_waiters) == 0x388, "data wait line");
HT_ASSERT(offsetof(ht_header, space_event) == 0x400 && offsetof(ht_header, space_waiting) == 0x404, "space wait line");
HT_ASSERT(offsetof(ht_header, space_wanted) == 0x408, "space wait line");
HT_ASSERT(offsetof(ht_header, reader_limit) == 0x480 && offsetof(ht_header, evicted) == 0x488, "rare line");
HT_ASSERT(offsetof(ht_header, most_lag) == 0x490 && offsetof(ht_header, blocked) == 0x498, "rare line");
HT_ASSERT(offsetof(ht_header, blocked_ns) == 0x4a0 && offsetof(ht_header, writers_died) == 0x4a8, "rare line");
HT_ASSERT(offsetof(ht_header, schema) == 0x500, "schema");
HT_ASSERT(offsetof(ht_header, readers) == 0x1000 && offsetof(ht_header, cuts) == 0x3000, "tables");
HT_ASSERT(sizeof(ht_header) == 0x5000, "the header is five pages");

static inline uint64_t ht_round(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }
static inline uint64_t ht_index_bytes(uint64_t slots) { return ht_round(slots * sizeof(ht_descriptor), HT_PAGE); }
static inline ht_descriptor *ht_descriptor_of(const ht_header *h, uint64_t record) {
    return (ht_descriptor *)((char *)h + sizeof(ht_header)) + (record & (h->slots - 1));
}
static inline char *ht_bytes(const ht_header *h, uint64_t offset) {
    return (char *)h + h->data_offset + offset % h->capacity_bytes;
}
static inline const char *ht_end(const ht_header *h) { return (const char *)h + h->data_offset + h->capacity_bytes; }

/* FNV-1a over the static part and the schema: it finds a damaged header, not an attacker. */
static inline uint64_t ht_hashed(uint64_t sum, const void *bytes, size_t count) {
    const unsigned char *at = (const unsigned char *)bytes;
    for (size_t i = 0; i < count; i++) sum = (sum ^ at[i]) * UINT64_C(0x100000001b3);
    return sum;
}
static inline uint64_t ht_checksum(const ht_header *h) {
    uint64_t sum = ht_hashed(UINT64_C(0xcbf29ce484222325), h, offsetof(ht_header, checksum));
    return ht_hashed(sum, h->schema, HT_SCHEMA);
}

/* Fills a zeroed mapping whose label, schema, frame_bytes, retain_ns and flags are set; slots is a power of two, capacity a multiple of the page. */
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
    return h->capacity_bytes < HT_MOST && h->base_seq < HT_MOST && !h->label[HT_RING_LABEL - 1] && !h->schema[HT_SCHEMA - 1] &&
           h->header_bytes == sizeof(ht_header) && h->slots >= 2 && (h->slots & (h->slots - 1)) == 0 &&
           h->slots <= (UINT64_C(1) << 32) && h->index_offset == sizeof(ht_header) &&
           h->data_offset == h->index_offset + ht_index_bytes(h->slots) && h->capacity_bytes >= HT_PAGE &&
           h->capacity_bytes % HT_PAGE == 0 && h->total_bytes == h->data_offset + h->capacity_bytes &&
           h->frame_bytes <= h->capacity_bytes / 2 && h->retain_ns >= 0 && !(h->flags & ~(uint32_t)HT_FLAGS);
}

#endif
