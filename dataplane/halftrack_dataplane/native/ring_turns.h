/* Turns: how several writers share a ring (docs/adr/0014-several-writers.md).
 *
 * Owns what a writer must learn when it gets the turn, and the steps between the library's files. Never waits for room; that is
 * halftrack_ring.c's, by the writer whose turn it is.
 */
#ifndef HALFTRACK_RING_TURNS_H
#define HALFTRACK_RING_TURNS_H

#include "halftrack_ring.h"

/* May frames join the newest record, whoever began it? Its bounds follow from its descriptor, which is whole, and from the head. What does
 * not fit the mapping was not left by a writer: then the next frame begins a record. */
static inline void ht_adopt_run(ht_writer *w) {
    const ht_header *h = w->h;
    w->growing = 0;
    if (!h->frame_bytes || w->records == w->tail_record) return;
    const ht_descriptor *d = ht_descriptor_of(h, w->records - 1);
    uint64_t place = d->offset % h->capacity_bytes, bytes;
    if (d->flags || d->length != h->frame_bytes || d->seq >= w->head) return;
    if (__builtin_mul_overflow(w->head - d->seq, d->length, &bytes) || bytes > h->capacity_bytes - place) return;
    uint64_t run = ht_run_frames(h, d->length) * d->length, left = h->capacity_bytes - place;
    w->growing = 1;
    w->bytes = d->offset + bytes;
    w->at = (char *)h + h->data_offset + place + bytes;
    w->run_end = d->offset + (run < bytes ? bytes : run < left ? run : left);
    w->run_epoch = d->epoch;
    w->run_time = d->timestamp_ns;
}

/* What others have done in their turns. A turn that changed nothing of this left nothing to learn. */
static inline void ht_catch_up(ht_writer *w) {
    const ht_header *h = w->h;
    uint64_t head = HT_RELAXED(&h->head), tail = HT_RELAXED(&h->tail);
    if (head == w->head && tail == w->tail && w->growing) return;
    w->head = head;
    w->tail = tail;
    w->data_head = HT_RELAXED(&h->data_head);
    w->records = HT_RELAXED(&h->records);
    w->tail_record = HT_RELAXED(&h->tail_record);
    w->limit = ht_offset_of(w, w->tail_record) + h->capacity_bytes;
    ht_adopt_run(w);
}

void ht_inherit_turn(const ht_ring *ring, uint64_t dead);

#endif
