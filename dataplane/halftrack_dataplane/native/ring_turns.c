/* Taking turns at a shared ring: one writer at a time, for as long as a write takes. See ring_turns.h.
 *
 * The turn is the word that names a ring's writer, so who dies in its turn leaves what a ring's only writer leaves, and the next one goes on
 * from there in the same way (ht_resume).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "ring_turns.h"

#include <sched.h>

/* A turn takes less than a microsecond unless its frames are large or it waits for room: so first wait awake, a little. */
#define TURN_SPINS 32
#define TURN_YIELDS 8
/* Between two looks whether the holder has died: what a death in mid-turn costs the others. */
#define TURN_SLICE_NS INT64_C(1000000)
#define TURN_WAKE_NS INT64_C(60000) /* waking a sleeper takes about 35 us */

static int took(ht_output *out, uint64_t from) {
    return ht_swap_if(&out->w.h->writer, from, out->w.owner); /* SYNC: turn taken */
}

/* Having the turn: learns what the ring holds. HT_DAMAGED gives it back to whom it was taken from, so that the next one sees it as well. */
static int begin_turn(ht_output *out, uint64_t from) {
    if (from != HT_FREE) { /* a dead writer, in mid-turn */
        ht_wake(&out->w.h->data_event); /* it may have published a frame and told nobody */
        out->known = 0;
    }
    if (out->known) {
        ht_catch_up(&out->w);
    } else if (ht_resume(&out->w, out->w.h, out->w.owner, out->w.registered) == HT_OK) {
        ht_adopt_run(&out->w);
        out->known = 1;
    } else {
        HT_RELEASE(&out->w.h->writer, from); /* SYNC: turn taken */
        return HT_DAMAGED;
    }
    if (from != HT_FREE) ht_add(&out->w.h->writers_died, 1);
    out->held = 1;
    return HT_OK;
}

/* Whom we have woken gets the chance that waking takes; else a writer that never rests would always be first. */
static void give_way(ht_output *out) {
    for (; HT_RELAXED(&out->w.h->writer) == HT_FREE && ht_now_ns() - out->gave_ns < TURN_WAKE_NS;) sched_yield();
    out->gave_ns = 0;
}

static int took_awake(ht_output *out) {
    for (int i = 0; i < TURN_SPINS + TURN_YIELDS; i++) {
        if (HT_RELAXED(&out->w.h->writer) == HT_FREE && took(out, HT_FREE)) return 1;
        if (i < TURN_SPINS) ht_pause();
        else sched_yield();
    }
    return 0;
}

int ht_take_turn(ht_output *out, int64_t deadline_ns) {
    ht_header *h = out->w.h;
    if (out->held) return HT_OK;
    if (out->gave_ns) give_way(out);
    if (took(out, HT_FREE) || took_awake(out)) return begin_turn(out, HT_FREE);
    uint64_t holder = ht_load(&h->writer);
    if (holder != HT_FREE && ht_is_dead(holder) && took(out, holder)) return begin_turn(out, holder);
    /* Who would not wait for room does not wait behind one that does. */
    if (out->policy == HT_DROP && HT_RELAXED(&h->space_waiting)) return HT_FULL;
    if (deadline_ns >= 0 && ht_now_ns() >= deadline_ns) return HT_FULL;
    uint32_t event = ht_event(&h->turn_event);
    ht_arm_turn(h);
    if (took(out, HT_FREE)) return begin_turn(out, HT_FREE); /* SYNC: turn wake-up: having announced, look again */
    int64_t slice = ht_slice(deadline_ns, 1);
    ht_sleep(&h->turn_event, event, slice < TURN_SLICE_NS ? slice : TURN_SLICE_NS);
    return HT_AGAIN;
}

void ht_pass_turn(ht_output *out) {
    if (!out->shared || !out->held) return;
    out->held = out->sending = 0;
    HT_RELEASE(&out->w.h->writer, HT_FREE); /* SYNC: turn taken */
    if (ht_wake_turn(out->w.h, out->w.registered)) out->gave_ns = ht_now_ns();
}

/* Ends a dead writer's turn: what it left unfinished is put right before anybody takes the ring for free. */
void ht_inherit_turn(const ht_ring *ring, uint64_t dead) {
    ht_output out;
    uint64_t holder;
    if (ht_begin(ring, HT_BLOCK, NULL, &out, &holder) == HT_OK && took(&out, dead) && begin_turn(&out, dead) == HT_OK) ht_pass_turn(&out);
}
