/* Joining, writing, waiting, leaving, evicting: what a ring does beside moving frames. See halftrack_ring.h.
 *
 * Owns the claims of slots and every wait; the orderings are ring_wait.h's, the judgement who is dead ring_identity.c's.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "ring_turns.h"

#include <sched.h>

/* ---- waiting -------------------------------------------------------------------------------------------------- */

/* Sleeping and being woken costs about 35 us, on both sides, so waiting awake for as long can cost twice the best at most (Karlin
 * et al., 1990); how long it is worth is learnt from whether it helped. First beside the other side, then giving way to it, since
 * it may want this very processor. */
#define SPIN_MOST_NS 40000
#define SPIN_LEAST_NS 1000
#define SPINS 64

/* Is the head past `passes` (for a reader), or are all lossless cursors (for the writer, `head` NULL)? */
static int passed(const ht_header *h, const uint64_t *head, uint64_t passes) {
    return (head ? HT_RELAXED(head) : ht_gate(h)) > passes;
}

static int spun(const ht_header *h, int32_t *budget_ns, const uint64_t *head, uint64_t passes, int64_t deadline_ns) {
    int64_t now = ht_now_ns(), end = now + *budget_ns;
    if (deadline_ns >= 0 && deadline_ns < end) return 0; /* too little time to learn anything from: who only looks does not spin */
    for (int i = 0; i < SPINS; i++) {
        if (passed(h, head, passes)) return 1;
        ht_pause();
    }
    for (; now < end; now = ht_now_ns()) {
        sched_yield();
        if (passed(h, head, passes)) {
            *budget_ns = *budget_ns < SPIN_MOST_NS / 2 ? *budget_ns * 2 : SPIN_MOST_NS;
            return 1;
        }
    }
    *budget_ns = *budget_ns / 2 > SPIN_LEAST_NS ? *budget_ns / 2 : SPIN_LEAST_NS;
    return 0;
}

/* ---- the writer ------------------------------------------------------------------------------------------------ */

static void put_name(char *at, const char *name) {
    memset(at, 0, HT_NAME);
    if (name) strncpy(at, name, HT_NAME - 1);
}

int ht_begin(const ht_ring *ring, int policy, const char *name, ht_output *out, uint64_t *holder) {
    ht_header *h = ring->header;
    uint64_t mine = ht_identity() | HT_WRITING;
    memset(out, 0, sizeof *out);
    *holder = HT_FREE;
    if (ring->readonly) return HT_READONLY;
    if ((unsigned)policy > HT_OVERWRITE) return HT_IMPOSSIBLE;
    out->policy = policy;
    out->spare = UINT32_MAX;
    out->spin_ns = SPIN_MOST_NS;
    out->w.h = h;
    out->w.owner = mine;
    out->w.registered = ring->registered;
    out->shared = (h->flags & HT_SHARED) != 0;
    if (out->shared) return HT_OK; /* it looks at the ring when its first turn comes */
    while (!ht_swap_if(&h->writer, HT_FREE, mine)) { /* SYNC: slot owned */
        *holder = ht_load(&h->writer);
        if (*holder == HT_FREE) continue;
        if (!ht_is_dead(*holder)) return HT_TAKEN;
        if (ht_swap_if(&h->writer, *holder, mine)) {
            ht_add(&h->writers_died, 1);
            break;
        }
    }
    if (ht_resume(&out->w, h, mine, ring->registered) != HT_OK) {
        memset(out, 0, sizeof *out);
        ht_swap_if(&h->writer, mine, HT_FREE); /* SYNC: slot owned */
        return HT_DAMAGED;
    }
    out->held = out->known = 1;
    put_name(h->writer_name, name);
    if (*holder != HT_FREE) ht_wake(&h->data_event); /* its predecessor may have published a frame and told nobody */
    return HT_OK;
}

/* Does the wait for this sequence begin now? */
static int begin_waiting(ht_output *out, int64_t now) {
    int began = !out->blocked_ns || out->blocked_at != out->w.head;
    if (!out->blocked_ns) ht_add(&out->w.h->blocked, 1);
    if (began) out->blocked_ns = now;
    if (out->blocked_at != out->w.head) out->waited_ms = 0;
    out->blocked_at = out->w.head;
    return began;
}

static void stop_waiting(ht_output *out) {
    if (out->armed) ht_disarm_writer(out->w.h);
    out->armed = 0;
    if (out->blocked_ns) {
        int64_t waited = ht_now_ns() - out->blocked_ns;
        ht_add(&out->w.h->blocked_ns, (uint64_t)waited);
        out->waited_ms += (uint32_t)(waited / 1000000);
        out->w.stores.ns += waited; /* part of what a kind of stores costs: readers fetch what it has written */
    }
    out->blocked_ns = 0;
}

void ht_unblock(ht_output *out) {
    stop_waiting(out);
    ht_pass_turn(out);
}

void ht_finish(ht_output *out) {
    if (!out->w.h) return;
    ht_unblock(out);
    if (!out->shared) ht_swap_if(&out->w.h->writer, out->w.owner, HT_FREE); /* SYNC: slot owned */
    memset(out, 0, sizeof *out);
}

void ht_dropped(ht_output *out, uint64_t count) { ht_add(&out->w.h->dropped, count); }

/* The slot is another's from now on, or nobody's: wakes whom that may concern. */
static void slot_taken(ht_header *h) {
    ht_wake(&h->data_event);
    ht_wake(&h->space_event); /* announced or not: who died may have taken the announcement back and told nobody */
}

/* It stays the owner's until that notices or dies, so that a late store of its cursor can hurt nobody; its bit among the waiters
 * is the owner's too: cleared by us, it could be that of the slot's next owner. */
static int evict_slot(ht_header *h, int slot, uint64_t owner) {
    if (!ht_swap_if(&h->readers[slot].owner, owner, (owner & ~HT_STATE_MASK) | HT_EVICTED)) return 0; /* SYNC: slot owned */
    ht_add(&h->evicted, 1);
    slot_taken(h);
    return 1;
}

/* Frees a slot whose `owner` is us or dead. First it becomes ours, so that nobody can join there while its bit is cleared; and it is
 * free only when all who waited for it have been told, so that dying anywhere here leaves a slot to reap, and a writer to be told. */
static int free_slot(ht_header *h, int slot, uint64_t owner) {
    uint64_t mine = ht_identity() | HT_CLAIMING;
    if (!ht_swap_if(&h->readers[slot].owner, owner, mine)) return 0; /* SYNC: slot owned */
    ht_disarm_reader(h, slot);
    slot_taken(h);
    ht_swap_if(&h->readers[slot].owner, mine, HT_FREE); /* SYNC: slot owned */
    return 1;
}

/* The owner of a slot whose reader stands in the writer's way; else HT_FREE. */
static uint64_t in_the_way(const ht_output *out, uint32_t slot) {
    const ht_slot *reader = &out->w.h->readers[slot];
    uint64_t owner = ht_load(&reader->owner);
    return (owner & HT_STATE_MASK) == HT_LOSSLESS && ht_load(&reader->cursor) < out->w.needed ? owner : HT_FREE;
}

/* Newest frames win: evicts those in the way that have less than this priority. How many that were. */
static int evict_below(ht_output *out, uint32_t priority) {
    int evicted = 0;
    uint32_t limit = ht_limit(out->w.h);
    for (uint32_t i = 0; i < limit; i++) {
        uint64_t owner = in_the_way(out, i);
        if (owner == HT_FREE || HT_RELAXED(&out->w.h->readers[i].priority) >= priority) continue;
        evicted += evict_slot(out->w.h, (int)i, owner);
    }
    return evicted;
}

/* Evicts those in the way whose patience with us is over. Returns how long the most impatient of the rest still has, at most
 * `slice`. */
static int64_t evict_laggards(ht_output *out, int64_t now, int64_t slice) {
    uint32_t limit = ht_limit(out->w.h);
    for (uint32_t i = 0; i < limit; i++) {
        uint64_t owner = in_the_way(out, i);
        int64_t patience = HT_RELAXED(&out->w.h->readers[i].evict_after_ns); /* of the slot's next owner, if it has just changed hands */
        if (owner == HT_FREE || !patience) continue;
        int64_t left = patience - (now - out->blocked_ns) - out->waited_ms * INT64_C(1000000);
        if (left <= 0) evict_slot(out->w.h, (int)i, owner);
        else if (left < slice) slice = left;
    }
    return slice;
}

/* A writer that waits wants a part of the ring free and not just one record, so that it sleeps once a part; but not for long, since
 * who reads slowly, or waits for this writer elsewhere, would make it wait for nothing. */
#define GENEROUS_PART 8
#define GENEROUS_NS 1000000

/* One slice of sleeping until readers have made room; `now`: it was found full just then. */
static int sleep_for_room(ht_output *out, int64_t now, int64_t deadline_ns) {
    ht_header *h = out->w.h;
    int64_t generous = out->blocked_ns + GENEROUS_NS - now, slice;
    uint64_t wanted = out->w.needed + (generous > 0 ? (out->w.head - out->w.needed) / GENEROUS_PART : 0);
    uint32_t event = ht_event(&h->space_event); /* first: who takes an announcement back has yet to bump it */
    if (!out->armed || !HT_RELAXED(&h->space_waiting) || HT_RELAXED(&h->space_wanted) != wanted) out->sure = ht_arm_writer(h, wanted);
    out->armed = 1;
    if (ht_gate(h) < wanted) { /* SYNC: space wake-up: having announced, look again */
        slice = evict_laggards(out, now, ht_slice(deadline_ns, out->sure));
        ht_sleep(&h->space_event, event, generous > 0 && generous < slice ? generous : slice);
    }
    return HT_AGAIN;
}

int ht_room(ht_output *out, uint64_t bytes, int64_t deadline_ns) {
    int rc = ht_take_turn(out, deadline_ns);
    if (rc != HT_OK) return rc;
    rc = ht_reserve(&out->w, bytes);
    while (rc == HT_FULL && out->policy == HT_OVERWRITE && evict_below(out, out->spare)) rc = ht_reserve(&out->w, bytes);
    if (rc == HT_FULL && out->policy != HT_DROP) {
        int64_t now = ht_now_ns();
        if (deadline_ns < 0 || now < deadline_ns) {
            int began = begin_waiting(out, now);
            if (!began || !spun(out->w.h, &out->spin_ns, NULL, out->w.needed - 1, deadline_ns)) return sleep_for_room(out, now, deadline_ns);
            rc = ht_reserve(&out->w, bytes);
            if (rc == HT_FULL) return HT_AGAIN; /* somebody joined or went back just now */
        }
    }
    if (out->armed || out->blocked_ns) stop_waiting(out);
    if (rc != HT_OK) ht_pass_turn(out);
    return rc;
}

int ht_send(ht_output *out, const void *frames, uint64_t count, uint64_t length, uint64_t epoch, int64_t time, int64_t deadline_ns) {
    if (!out->held) {
        int turn = ht_take_turn(out, deadline_ns);
        if (turn != HT_OK) return turn;
        out->sending = 1;
    }
    int rc = ht_write(&out->w, frames, count, length, epoch, time);
    if (rc == HT_FULL) {
        rc = ht_room(out, count * length, deadline_ns);
        if (rc == HT_OK) {
            ht_copy_in(&out->w, (const char *)frames, count * length);
            ht_publish(&out->w, count, length, 0, epoch, time);
        }
    } else if (out->armed || out->blocked_ns) stop_waiting(out); /* between two slices, room was made */
    if (rc != HT_AGAIN && out->sending) ht_pass_turn(out); /* it stays ours while we wait for room: first come, first served, also with large frames */
    return rc;
}

/* ---- readers --------------------------------------------------------------------------------------------------- */

/* Claims a free slot, lowest first so that the writer scans few; -1 if there is none. */
static int claim_slot(ht_header *h) {
    for (int i = 0; i < HT_READERS; i++) {
        if (!ht_swap_if(&h->readers[i].owner, HT_FREE, ht_identity() | HT_CLAIMING)) continue; /* SYNC: slot owned */
        uint32_t limit = HT_RELAXED(&h->reader_limit);
        while (limit <= (uint32_t)i &&
               !__atomic_compare_exchange_n(&h->reader_limit, &limit, i + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
        }
        return i;
    }
    return -1;
}

static void missed(ht_slot *slot, uint64_t count) {
    ht_store(&slot->overruns, slot->overruns + 1);
    ht_store(&slot->missed, slot->missed + count);
}

/* Where a stream begins: behind the record, if there is one, that says where it does. */
static uint64_t oldest(const ht_header *h, ht_found *found) {
    uint64_t tail = ht_load(&h->tail);
    return ht_locate(h, tail, found) == HT_OK && found->flags & HT_BEFORE ? found->end : tail;
}

int ht_join(
    const ht_ring *ring, int lossless, uint64_t start, int64_t evict_after_ns, uint32_t priority, const char *name, ht_reader *r
) {
    ht_header *h = ring->header;
    memset(r, 0, sizeof *r);
    if (ring->readonly) return HT_READONLY;
    int number = claim_slot(h);
    if (number < 0) {
        ht_reap(ring, NULL);
        if ((number = claim_slot(h)) < 0) return HT_NO_SLOT;
    }
    r->h = h;
    r->slot = &h->readers[number];
    r->number = number;
    r->lossless = lossless;
    r->spin_ns = SPIN_MOST_NS;
    r->registered = ring->registered;
    r->owner = ht_identity() | (lossless ? HT_LOSSLESS : HT_LOSSY);
    put_name(r->slot->name, name);
    ht_store(&r->slot->overruns, 0);
    ht_store(&r->slot->missed, 0);
    HT_PUT(&r->slot->evict_after_ns, evict_after_ns);
    HT_PUT(&r->slot->most_lag, 0);
    HT_PUT(&r->slot->priority, priority);
    int named = start < HT_START_OLDEST;
    uint64_t wanted = named ? start : start == HT_START_NOW ? ht_load(&h->head) : oldest(h, &r->found);
    ht_store(&r->slot->cursor, wanted);
    ht_swap_if(&r->slot->owner, ht_identity() | HT_CLAIMING, r->owner); /* from here on it gates */
    r->cursor = ht_pin(h, r->slot, wanted);
    if (named && r->cursor > wanted) missed(r->slot, r->cursor - wanted);
    /* A writer that saw `wanted` gave way to us; now that we want less it must hear of it, or it would sleep. */
    if (lossless && r->cursor > wanted) ht_wake_writer(h, r->cursor, r->registered);
    return HT_OK;
}

/* Whether ours or evicted, the slot is ours to free: only now can we no longer store a cursor into it. */
void ht_leave(ht_reader *r) {
    if (!r->h) return;
    if (!free_slot(r->h, r->number, r->owner)) free_slot(r->h, r->number, (r->owner & ~HT_STATE_MASK) | HT_EVICTED);
    memset(r, 0, sizeof *r);
}

int ht_seek(ht_reader *r, uint64_t seq) {
    if (!ht_held(r)) return HT_EVICTION;
    r->cursor = ht_pin(r->h, r->slot, seq);
    if (r->lossless) ht_wake_writer(r->h, r->cursor, r->registered);
    if (r->cursor > seq) missed(r->slot, r->cursor - seq);
    return HT_OK;
}

int ht_overrun(ht_reader *r, int again) {
    uint64_t to = ht_load(&r->h->tail);
    if (again) to += (ht_load(&r->h->head) - to) / 2;
    missed(r->slot, to - r->cursor);
    r->cursor = to;
    ht_store(&r->slot->cursor, to);
    return HT_OK;
}

int ht_wait(ht_reader *r, int64_t deadline_ns) {
    int rc = ht_look(r);
    if (rc == HT_NOTHING && !r->armed && spun(r->h, &r->spin_ns, &r->h->head, r->cursor, deadline_ns)) rc = ht_look(r);
    if (rc == HT_NOTHING && (deadline_ns < 0 || ht_now_ns() < deadline_ns)) {
        uint32_t event = ht_event(&r->h->data_event); /* first: who takes announcements back has yet to bump it */
        if (!r->armed || !(HT_RELAXED(&r->h->data_waiters) >> r->number & 1)) r->sure = ht_arm_reader(r->h, r->number);
        r->armed = 1;
        rc = ht_look(r); /* SYNC: frame wake-up: having announced, look again */
        if (rc == HT_NOTHING) {
            int64_t slept_ns = -ht_now_ns();
            ht_sleep(&r->h->data_event, event, ht_slice(deadline_ns, r->sure));
            slept_ns += ht_now_ns();
            rc = ht_look(r); /* whoever goes on to read must not stay among the waiters: each publish would be a system call */
            if (rc == HT_NOTHING) return HT_AGAIN;
            if (slept_ns < 2 * SPIN_MOST_NS) r->spin_ns = SPIN_MOST_NS; /* awake, it would have been there already */
        }
    }
    ht_unwait(r);
    return rc;
}

void ht_unwait(ht_reader *r) {
    if (r->armed) ht_disarm_reader(r->h, r->number);
    r->armed = 0;
}

/* ---- those who died -------------------------------------------------------------------------------------------- */

int ht_reap(const ht_ring *ring, ht_gone *gone) {
    ht_header *h = ring->header;
    int count = 0;
    uint32_t limit = ht_limit(h);
    if (ring->readonly) return 0;
    for (uint32_t i = 0; i < limit; i++) {
        ht_gone was = {ht_load(&h->readers[i].owner), (int)i, {0}};
        if (was.owner == HT_FREE || !ht_is_dead(was.owner)) continue;
        was.slot = h->readers[i]; /* a dead process's: nobody writes it */
        if (!free_slot(h, (int)i, was.owner)) continue;
        uint64_t state = was.owner & HT_STATE_MASK;
        if (state != HT_LOSSLESS && state != HT_LOSSY) continue; /* it had no hold, or has been counted */
        ht_add(&h->evicted, 1);
        if (gone) gone[count] = was;
        count++;
    }
    uint64_t writer = ht_load(&h->writer);
    if (writer != HT_FREE && ht_is_dead(writer)) {
        ht_wake(&h->data_event); /* it may have published a frame and told nobody */
        if (h->flags & HT_SHARED) ht_inherit_turn(ring, writer);
        else if (ht_swap_if(&h->writer, writer, HT_FREE)) ht_add(&h->writers_died, 1);
    }
    return count;
}

int ht_evict(const ht_ring *ring, int slot) {
    if (ring->readonly) return HT_READONLY;
    if (slot < 0 || slot >= HT_READERS) return HT_IMPOSSIBLE;
    uint64_t owner = ht_load(&ring->header->readers[slot].owner), state = owner & HT_STATE_MASK;
    if (state == HT_LOSSLESS || state == HT_LOSSY) evict_slot(ring->header, slot, owner);
    return HT_OK;
}

int ht_abi(void) { return HT_ABI_VERSION; }

const char *ht_explain(int code) {
    static const char *const words[] = {
        "done", "no frame yet", "overrun: older frames were reclaimed", "something wrote over the ring's memory",
        "no room: a lossless reader lags", "the frame's bytes do not match its checksum", "this reader was evicted",
        "not yet: call again", "a living process is the ring's writer", "all reader slots are taken", "this is no ring",
        "a ring of another layout version", "the header does not match its checksum", "the header contradicts itself",
        "the file is truncated", "no ring can be like that", "the system refused; see errno",
        "a frame takes half of the ring at most", "in this ring every frame has one length, and not this one",
        "the ring was opened read-only",
    };
    return code >= 0 && code < (int)(sizeof words / sizeof *words) ? words[code] : "unknown code";
}
