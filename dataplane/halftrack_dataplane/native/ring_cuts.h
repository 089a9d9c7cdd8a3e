/* The owner table in a merged ring's header: from which sequence on whose output counts (docs/adr/0005, docs/adr/0009).
 *
 * Owns the steps of one row, from proposed to applied or withdrawn, once. Never decides which row is due: the merge does.
 */
#ifndef HALFTRACK_RING_CUTS_H
#define HALFTRACK_RING_CUTS_H

#include <string.h>

#include "ring_wait.h"

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
