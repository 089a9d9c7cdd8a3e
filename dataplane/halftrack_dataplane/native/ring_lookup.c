/* Where in a ring things are, for those who are not its writer: a time's first frame, and what still fits. See halftrack_ring.h.
 *
 * Owns no word of the ring; what it finds may have gone by the time it is looked at, and it says so or looks again.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "halftrack_ring.h"

uint64_t ht_seq_at(const ht_header *h, int64_t time_ns) {
    for (;;) {
        uint64_t head = HT_ACQUIRE(&h->head), low = HT_ACQUIRE(&h->tail_record), high = HT_ACQUIRE(&h->records), first = low;
        while (low < high) {
            uint64_t middle = low + (high - low) / 2;
            const ht_descriptor *d = ht_descriptor_of(h, middle);
            if (HT_RELAXED(&d->seq) < head && HT_RELAXED(&d->timestamp_ns) < time_ns) low = middle + 1;
            else high = middle;
        }
        uint64_t seq = HT_RELAXED(&ht_descriptor_of(h, low)->seq);
        HT_FENCE(ACQUIRE);
        if (HT_RELAXED(&h->tail_record) != first) continue;
        uint64_t tail = HT_RELAXED(&h->tail); /* a writer that died may have left tail_record behind it */
        return low >= HT_RELAXED(&h->records) || seq > head ? head : seq > tail ? seq : tail;
    }
}

/* The bytes between the newest and what the slowest lossless reader still needs are taken; a record goes as a whole. 0 if the ring is so
 * busy that what is looked for goes before it is found. */
uint64_t ht_credit(const ht_header *h) {
    for (int tries = 0; tries < 8; tries++) {
        ht_found found;
        found.end = 0;
        uint64_t head = HT_ACQUIRE(&h->head), gate = ht_gate(h), tail = HT_ACQUIRE(&h->tail), end = ht_load(&h->data_head);
        if (gate >= head) return h->capacity_bytes;
        int rc = ht_locate(h, gate > tail ? gate : tail, &found); /* who is about to join may want what has gone */
        if (rc == HT_BEHIND) continue;
        if (rc != HT_OK) return 0;
        uint64_t used = end > found.offset ? end - found.offset : 0;
        return used < h->capacity_bytes ? h->capacity_bytes - used : 0;
    }
    return 0;
}
