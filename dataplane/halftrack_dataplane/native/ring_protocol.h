/* The ring's protocol: how a frame becomes visible, and when its bytes may be used again. Inline, for C, C++ and Cython.
 *
 * Owns: each side's private copy of what it last saw, and every step between reserving and releasing. Never: allocates,
 * opens files, waits, or judges who is dead; those are halftrack_ring.h.
 */
#ifndef HALFTRACK_RING_PROTOCOL_H
#define HALFTRACK_RING_PROTOCOL_H

#include <string.h>

#include "ring_copy.h"
#include "ring_stores.h"
#include "ring_wait.h"

enum { HT_OK = 0, HT_NOTHING = 1, HT_BEHIND = 2, HT_DAMAGED = 3, HT_FULL = 4, HT_CORRUPT = 5, HT_TOO_LARGE = 17, HT_WRONG_LENGTH = 18 };

/* A record of small frames grows to so many bytes at most, so that what a lagging reader holds and what a reclaim frees are
 * bounded; and not beyond a 64th of the ring, so that retention is exact to that. */
#define HT_RUN_BYTES UINT64_C(65536)
#define HT_PARTS 64

#ifdef __cplusplus
extern "C"
#endif
uint32_t ht_crc32c(const void *bytes, uint64_t count);
/* The sums of `frames` frames of `length` bytes each, which lie one behind the other. */
void ht_crc32c_each(const void *bytes, uint64_t length, uint64_t frames, uint32_t *sums);
/* Copies, and goes on with the sum `crc` of what came before (0 at first). */
uint32_t ht_copy_crc32c(void *into, const void *bytes, uint64_t count, uint32_t crc);

/* ---- the writer's side --------------------------------------------------------------------------------------- */

typedef struct {
    ht_header *h;
    uint64_t owner; /* the word in h->writer */
    int registered;
    int growing; /* does the newest record take further frames? */
    /* copies of the header's words: nobody else writes them */
    uint64_t head, data_head, records, tail, tail_record;
    uint64_t limit;  /* absolute offset up to which bytes are free */
    uint64_t needed; /* after HT_FULL: where tail must be for the frame to fit; readers below it stand in the way */
    /* the place that was reserved */
    uint64_t offset, bytes;
    char *at;
    /* the newest record, while it grows */
    uint64_t run_end, run_epoch;
    int64_t run_time;
    uint64_t frame_bytes; /* copies of the header's */
    int64_t retain_ns;
    ht_stores stores;
} ht_writer;

/* Notes how far each lossless reader lags behind `head`: the high-water marks, exact to what is reclaimed at once. */
static inline void ht_note_lags(ht_header *h, uint64_t head) {
    uint32_t limit = ht_limit(h);
    for (uint32_t i = 0; i < limit; i++) {
        ht_slot *reader = &h->readers[i];
        if ((HT_ACQUIRE(&reader->owner) & HT_STATE_MASK) != HT_LOSSLESS) continue;
        uint64_t cursor = HT_RELAXED(&reader->cursor), lag = cursor < head ? head - cursor : 0;
        if (lag > HT_RELAXED(&reader->most_lag)) HT_PUT(&reader->most_lag, lag);
        if (lag > HT_RELAXED(&h->most_lag)) HT_PUT(&h->most_lag, lag);
    }
}

/* How many frames of `length` a record may hold; at least one. */
static inline uint64_t ht_run_frames(const ht_header *h, uint64_t length) {
    uint64_t run = h->capacity_bytes / HT_PARTS < HT_RUN_BYTES ? h->capacity_bytes / HT_PARTS : HT_RUN_BYTES;
    return length && length < run ? run / length : 1;
}

static inline uint64_t ht_first_of(const ht_writer *w, uint64_t record) {
    return record < w->records ? ht_descriptor_of(w->h, record)->seq : w->head;
}
static inline uint64_t ht_offset_of(const ht_writer *w, uint64_t record) {
    return record < w->records ? ht_descriptor_of(w->h, record)->offset : w->data_head;
}

/* Do the retained records follow each other, within what is retained? What does not was not left by a writer. */
static inline int ht_consecutive(const ht_writer *w) {
    uint64_t capacity = w->h->capacity_bytes;
    if (w->tail > w->head || ht_first_of(w, w->tail_record) != w->tail) return 0;
    if (w->data_head - ht_offset_of(w, w->tail_record) > capacity) return 0;
    for (uint64_t record = w->tail_record; record < w->records; record++) {
        const ht_descriptor *d = ht_descriptor_of(w->h, record);
        uint64_t count = ht_first_of(w, record + 1) - d->seq, room = ht_offset_of(w, record + 1) - d->offset;
        if (!count || count > w->head - d->seq || room > w->data_head - d->offset) return 0;
        if (!(d->flags & HT_GAP) && d->length && count > room / d->length) return 0;
    }
    return 1;
}

/* `w` is zeroed, or was this ring's writer before. A new writer goes on from what its predecessor published; whatever that had begun beyond never took effect. HT_DAMAGED: no
 * writer can have left the ring like this, and nothing is changed. */
static inline int ht_resume(ht_writer *w, ht_header *h, uint64_t owner, int registered) {
    ht_stores stores = w->stores; /* what it has learnt, or zeros */
    memset(w, 0, sizeof *w);
    w->stores = stores;
    w->h = h;
    w->owner = owner;
    w->registered = registered;
    w->head = HT_RELAXED(&h->head);
    w->data_head = HT_RELAXED(&h->data_head);
    w->tail = HT_RELAXED(&h->tail);
    w->records = HT_RELAXED(&h->records);
    w->tail_record = HT_RELAXED(&h->tail_record);
    w->frame_bytes = h->frame_bytes;
    w->retain_ns = h->retain_ns;
    if (!stores.window) ht_stores_begin(&w->stores, h->capacity_bytes, HT_CHOSEN);
    if (w->records - w->tail_record > h->slots) return HT_DAMAGED;
    if (w->records > w->tail_record && ht_descriptor_of(h, w->records - 1)->seq >= w->head) w->records--;
    while (w->tail_record < w->records && ht_first_of(w, w->tail_record) < w->tail) w->tail_record++;
    if (!ht_consecutive(w)) return HT_DAMAGED;
    w->limit = ht_offset_of(w, w->tail_record) + h->capacity_bytes;
    HT_PUT(&h->records, w->records);
    HT_PUT(&h->tail_record, w->tail_record);
    HT_PUT(&h->reclaim, w->tail);
    ht_disarm_writer(h);
    return HT_OK;
}

/* Frees the records below `more`, or else those below `goal`; HT_FULL, and nothing has changed, if a lossless reader turns out to need one
 * of those. */
static inline int ht_free(ht_writer *w, uint64_t goal, uint64_t more) {
    ht_header *h = w->h;
    HT_PUT(&h->reclaim, ht_first_of(w, more));
    HT_FENCE(SEQ_CST); /* SYNC: reader pinned */
    uint64_t gate = ht_gate(h), needed = ht_first_of(w, goal);
    if (gate < ht_first_of(w, more)) { /* somebody joined or went back meanwhile and may not have seen reclaim: give way */
        more = gate < needed ? w->tail_record : goal;
        HT_PUT(&h->reclaim, ht_first_of(w, more));
        if (gate < needed) return HT_FULL;
    }
    w->tail = ht_first_of(w, more);
    w->tail_record = more;
    w->limit = ht_offset_of(w, more) + h->capacity_bytes;
    HT_PUT(&h->tail, w->tail);
    HT_RELEASE(&h->tail_record, more); /* SYNC: record found: whoever begins a search there also sees tail */
    ht_store_fence();  /* SYNC: bytes reclaimed: whoever sees what we overwrite from here on also sees tail */
    return HT_OK;
}

/* Frees the oldest records until one of `bytes` at `offset` fits, and a little more, so that this is rare; only what no
 * lossless reader needs. HT_FULL changes nothing. */
static inline int ht_reclaim(ht_writer *w, uint64_t offset, uint64_t bytes) {
    ht_header *h = w->h;
    uint64_t goal = w->tail_record, more, spare = h->slots / HT_PARTS, room = h->capacity_bytes / HT_PARTS;
    while (goal < w->records &&
           (w->records - goal >= h->slots || offset + bytes - ht_offset_of(w, goal) > h->capacity_bytes))
        goal++;
    w->needed = ht_first_of(w, goal);
    uint64_t gate = ht_gate(h), enough = ht_offset_of(w, goal);
    if (gate < w->head) ht_note_lags(h, w->head);
    if (gate < w->needed) return HT_FULL;
    for (more = goal; more < w->records && more - goal < spare && ht_first_of(w, more + 1) <= gate &&
                      ht_offset_of(w, more + 1) - enough <= room;)
        more++;
    return ht_free(w, goal, more);
}

/* Retention by time: frees records that are older than `before` and that no lossless reader needs. By the frames' own times, so it
 * is the same in a replay, and a stream that rests keeps what it has. */
static inline void ht_expire(ht_writer *w, int64_t before) {
    uint64_t goal = w->tail_record, gate;
    while (goal < w->records && ht_descriptor_of(w->h, goal)->timestamp_ns < before) goal++;
    if (goal == w->tail_record) return;
    for (gate = ht_gate(w->h); goal > w->tail_record && ht_first_of(w, goal) > gate;) goal--;
    if (goal > w->tail_record) ht_free(w, goal, goal);
}

/* Finds room for a new record. One that would wrap starts at the beginning; bytes <= capacity / 2 (HT_TOO_LARGE), so padding and
 * record always fit into an empty ring. */
static inline int ht_reserve(ht_writer *w, uint64_t bytes) {
    uint64_t capacity = w->h->capacity_bytes, place = w->data_head % capacity;
    if (bytes > capacity / 2) return HT_TOO_LARGE;
    uint64_t offset = bytes > capacity - place ? w->data_head + capacity - place : w->data_head;
    if (offset + bytes > w->limit || w->records - w->tail_record >= w->h->slots) {
        int rc = ht_reclaim(w, offset, bytes);
        if (rc != HT_OK) return rc;
    }
    w->growing = 0; /* what was reserved lies where the newest record would grow */
    w->offset = offset;
    w->bytes = bytes;
    w->at = ht_bytes(w->h, offset);
    return HT_OK;
}

static inline void ht_show(ht_writer *w, uint64_t end, uint64_t count) {
    w->data_head = ht_round(end, HT_ALIGN);
    w->head += count;
    HT_PUT(&w->h->data_head, w->data_head);
    HT_RELEASE(&w->h->head, w->head); /* SYNC: frame visible */
    ht_wake_readers(w->h, w->registered);
}

/* The reserved bytes are in place, `count` frames of `length` (or a gap of `count`): describe them and let them be seen.
 * Killed before the store to head, nothing is visible, and data_head at worst skips bytes that are reclaimed with their
 * neighbours. Returns the first sequence. */
static inline uint64_t ht_publish(ht_writer *w, uint64_t count, uint64_t length, uint32_t flags, uint64_t epoch, int64_t time) {
    ht_header *h = w->h;
    ht_descriptor *d = ht_descriptor_of(h, w->records);
    uint64_t seq = w->head;
    uint32_t crc = 0;
    if (h->flags & HT_CHECKED && !(flags & HT_GAP)) {
        crc = ht_crc32c(w->at, w->bytes);
        flags |= HT_HAS_CRC;
    }
    HT_PUT(&d->seq, seq);
    HT_PUT(&d->offset, w->offset);
    HT_PUT(&d->length, length);
    HT_PUT(&d->epoch, epoch);
    HT_PUT(&d->timestamp_ns, time);
    HT_PUT(&d->crc, crc);
    HT_PUT(&d->flags, flags);
    HT_RELEASE(&h->records, ++w->records); /* SYNC: record found; and a writer killed here left the descriptor whole */
    if ((flags & (HT_GAP | HT_BEFORE)) == HT_GAP) HT_PUT(&h->gap_frames, h->gap_frames + count);
    w->growing = h->frame_bytes && !flags;
    if (w->growing) {
        uint64_t run = ht_run_frames(h, length) * length, wrap = w->offset + (uint64_t)(ht_end(h) - w->at);
        w->run_end = w->offset + (run > count * length ? run : count * length);
        if (w->run_end > wrap) w->run_end = wrap;
        w->run_epoch = epoch;
        w->run_time = time;
    }
    w->bytes = w->offset + count * length; /* from here on: where the record ends */
    w->at += count * length;
    ht_show(w, w->bytes, count);
    int64_t before;
    if (w->retain_ns && !__builtin_sub_overflow(time, w->retain_ns, &before)) ht_expire(w, before);
    return seq;
}

/* May frames join the newest record? Only in a ring whose frames are all of one length, and only its own writer's. */
static inline int ht_grows(const ht_writer *w, uint64_t bytes, uint64_t epoch, int64_t time) {
    return w->growing && epoch == w->run_epoch && time == w->run_time && bytes <= w->run_end - w->bytes &&
           bytes <= w->limit - w->bytes;
}

/* Publishes `count` frames of `length` that lie at w->at, of a record that grows. Returns the first sequence. */
static inline uint64_t ht_grow(ht_writer *w, uint64_t count, uint64_t length) {
    w->bytes += count * length;
    w->at += count * length;
    ht_show(w, w->bytes, count);
    return w->head - count;
}

/* Copies to where the next bytes go. */
static inline void ht_copy_in(ht_writer *w, const char *from, uint64_t bytes) {
    if (bytes < HT_STREAM_LEAST) {
        ht_copy(w->at, from, bytes);
        return;
    }
    int64_t began = w->stores.forced ? 0 : ht_now_ns();
    if (w->stores.kind == HT_STREAMED) ht_stream(w->at, from, bytes);
    else memcpy(w->at, from, bytes);
    if (began) ht_stores_count(&w->stores, bytes, ht_now_ns() - began);
}

/* Copies and publishes `count` frames that lie one behind the other, as one record or a part of one. Whatever else it returns
 * than HT_OK (HT_FULL, HT_TOO_LARGE, HT_WRONG_LENGTH), nothing has changed. */
static inline int ht_write(ht_writer *w, const void *frames, uint64_t count, uint64_t length, uint64_t epoch, int64_t time) {
    uint64_t bytes;
    if ((w->frame_bytes && length != w->frame_bytes) || !count) return HT_WRONG_LENGTH;
    if (__builtin_mul_overflow(count, length, &bytes)) return HT_TOO_LARGE;
    if (ht_grows(w, bytes, epoch, time)) {
        ht_copy_in(w, (const char *)frames, bytes);
        ht_grow(w, count, length);
        return HT_OK;
    }
    int rc = ht_reserve(w, bytes);
    if (rc != HT_OK) return rc;
    ht_copy_in(w, (const char *)frames, bytes);
    ht_publish(w, count, length, 0, epoch, time);
    return HT_OK;
}

/* ---- the reader's side --------------------------------------------------------------------------------------- */

/* A record as a reader knows it. It may have grown since: `end` is what is known. */
typedef struct {
    uint64_t record;
    uint64_t first, end; /* sequences; end == 0: nothing is known yet */
    uint64_t length, epoch;
    uint64_t offset;   /* absolute */
    const char *bytes; /* where that is */
    int64_t timestamp_ns;
    uint32_t crc, flags;
} ht_found;

/* After using the bytes of a frame: were they whole all the time? */
static inline int ht_intact(const ht_header *h, uint64_t seq) {
    HT_FENCE(ACQUIRE); /* SYNC: bytes reclaimed */
    return HT_RELAXED(&h->tail) <= seq;
}

static inline void ht_describe(const ht_header *h, uint64_t record, uint64_t head, ht_found *found) {
    const ht_descriptor *d = ht_descriptor_of(h, record);
    uint64_t next = HT_RELAXED(&ht_descriptor_of(h, record + 1)->seq);
    found->record = record;
    found->first = HT_RELAXED(&d->seq);
    found->end = next > found->first && next < head ? next : head; /* what is there of an older record has a lower one */
    found->offset = HT_RELAXED(&d->offset);
    found->length = HT_RELAXED(&d->length);
    found->epoch = HT_RELAXED(&d->epoch);
    found->timestamp_ns = HT_RELAXED(&d->timestamp_ns);
    found->crc = HT_RELAXED(&d->crc);
    found->flags = HT_RELAXED(&d->flags);
    found->bytes = ht_bytes(h, found->offset);
}

/* The last record that begins at or below `seq`, by bisection. Records that go meanwhile can mislead it: look at the result. */
static inline uint64_t ht_bisect(const ht_header *h, uint64_t low, uint64_t high, uint64_t seq) {
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (HT_RELAXED(&ht_descriptor_of(h, middle)->seq) <= seq) low = middle;
        else high = middle;
    }
    return low;
}

static inline int ht_plausible(const ht_header *h, uint64_t seq, const ht_found *found) {
    uint64_t capacity = h->capacity_bytes, count = found->flags & HT_GAP ? 0 : found->end - found->first;
    if (seq < found->first || seq >= found->end || found->length > capacity) return 0;
    return !count || !found->length ||
           (count <= capacity / found->length && found->bytes + count * found->length <= ht_end(h));
}

/* Finds the record that covers `seq`, beginning with what `found` knows: the same record, or the one after it. HT_NOTHING: not
 * published yet. HT_BEHIND: reclaimed (never for a lossless reader that owns its slot). */
static inline int ht_locate(const ht_header *h, uint64_t seq, ht_found *found) {
    if (found->end && seq >= found->first && seq < found->end && HT_RELAXED(&h->tail) <= seq) return HT_OK;
    uint64_t head = HT_ACQUIRE(&h->head); /* SYNC: frame visible */
    if (seq >= head) return HT_NOTHING;
    int known = found->end && seq == found->end;
    if (known && HT_RELAXED(&ht_descriptor_of(h, found->record + 1)->seq) == seq) {
        ht_describe(h, found->record + 1, head, found);
        if (found->first == seq && ht_plausible(h, seq, found) && ht_intact(h, seq)) return HT_OK;
    } else if (known && found->first < seq) {
        ht_found grown = *found;
        ht_describe(h, found->record, head, &grown);
        if (grown.first == found->first && ht_plausible(h, seq, &grown) && ht_intact(h, grown.first)) {
            *found = grown;
            return HT_OK;
        }
    }
    for (;;) {
        uint64_t low = HT_ACQUIRE(&h->tail_record), high = HT_ACQUIRE(&h->records); /* SYNC: record found */
        uint64_t tail = HT_ACQUIRE(&h->tail);
        if (tail > seq) return HT_BEHIND;
        ht_describe(h, ht_bisect(h, low, high, seq), head, found);
        if (!ht_intact(h, seq)) {
            found->end = 0; /* it may be half of one and half of another */
            return HT_BEHIND;
        }
        /* Seeing a descriptor that was written anew can lead to one below `seq` that goes as well: intact, it would cover `seq`. */
        if (ht_plausible(h, seq, found) && ht_intact(h, found->first)) return HT_OK;
        if (HT_ACQUIRE(&h->tail) != tail || HT_ACQUIRE(&h->tail_record) != low) continue; /* it went while we looked */
        found->end = 0;
        return HT_DAMAGED;
    }
}

static inline const char *ht_frame_at(const ht_found *found, uint64_t seq) {
    return found->bytes + (seq - found->first) * found->length;
}

/* Does the record's checksum, if it has one, fit its bytes? For a lossy reader: ask ht_intact afterwards. */
static inline int ht_sound(const ht_found *found) {
    return !(found->flags & HT_HAS_CRC) || found->flags & HT_GAP ||
           ht_crc32c(found->bytes, (found->end - found->first) * found->length) == found->crc;
}

/* Makes a lossless reader's cursor hold what it points at, or moves it up to what still can be held.
 * SYNC: reader pinned. Reader: store cursor, fence, look at reclaim. Writer: store reclaim, fence, look at cursors. If the
 * writer missed this cursor, this reader sees reclaim and gives way; else the writer sees the cursor and gives way. */
static inline uint64_t ht_pin(ht_header *h, ht_slot *reader, uint64_t cursor) {
    for (;;) {
        HT_RELEASE(&reader->cursor, cursor);
        HT_FENCE(SEQ_CST); /* SYNC: reader pinned */
        uint64_t reclaim = HT_RELAXED(&h->reclaim);
        if (reclaim <= cursor) return cursor;
        cursor = reclaim;
    }
}

static inline void ht_advance(ht_header *h, ht_slot *reader, uint64_t cursor, int lossless, int registered) {
    HT_RELEASE(&reader->cursor, cursor); /* SYNC: frame released */
    if (lossless) ht_wake_writer(h, cursor, registered);
}

#endif
