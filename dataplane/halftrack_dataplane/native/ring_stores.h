/* Which stores a writer's large copies use: cached ones, or such that go past the caches (docs/adr/0015-stores-by-placement.md).
 *
 * Owns the choice, by what each kind has cost lately. Pure: it is told bytes and nanoseconds, and never looks at a clock or a ring.
 */
#ifndef HALFTRACK_RING_STORES_H
#define HALFTRACK_RING_STORES_H

#include <stdint.h>
#include <string.h>

#define HT_STREAM_LEAST UINT64_C(16384) /* smaller copies are not worth two looks at the clock */
#define HT_WINDOW_LEAST (UINT64_C(4) << 20)
#define HT_TRIAL_FIRST 16u /* windows between two trials of the other kind: at first, and at most */
#define HT_TRIAL_MOST 1024u

enum { HT_CACHED = 0, HT_STREAMED = 1, HT_CHOSEN = 2 };

typedef struct {
    int kind;           /* HT_CACHED or HT_STREAMED: of the next copy */
    int forced;         /* the kind is the caller's */
    int trying;         /* is it the other kind's trial? */
    int settling;       /* the first window of a kind, in which frames of the other one are still read, does not count */
    uint32_t trial_in;  /* windows */
    uint32_t patience;  /* windows until the next trial */
    uint64_t window;    /* bytes */
    uint64_t bytes;     /* of this window so far */
    int64_t ns;         /* spent on them: copying, and waiting for room */
    uint64_t cost[2];   /* of each kind's last window, ns per MiB; 0: not known */
} ht_stores;

static inline void ht_stores_begin(ht_stores *s, uint64_t capacity, int kind) {
    memset(s, 0, sizeof *s);
    s->kind = kind == HT_STREAMED;
    s->forced = kind != HT_CHOSEN;
    s->patience = HT_TRIAL_FIRST;
    s->trial_in = 1; /* the first trial comes at once: a program may not run for long */
    s->window = capacity * 2 > HT_WINDOW_LEAST ? capacity * 2 : HT_WINDOW_LEAST;
}

static inline void ht_stores_turn(ht_stores *s, int trying) {
    s->kind = !s->kind;
    s->settling = 1;
    s->trying = trying;
}

/* A window is over: keeps the kind, goes back, or tries the other one. */
static inline void ht_stores_judge(ht_stores *s) {
    uint64_t was = s->cost[s->kind], cost = (uint64_t)s->ns * 1024 / (s->bytes / 1024 ? s->bytes / 1024 : 1);
    s->cost[s->kind] = cost ? cost : 1;
    if (s->trying) {
        s->trying = 0;
        if (cost * 5 < s->cost[!s->kind] * 4) { /* a fifth less, or noise would decide */
            s->patience = HT_TRIAL_FIRST;
        } else {
            ht_stores_turn(s, 0);
            s->patience = s->patience * 2 < HT_TRIAL_MOST ? s->patience * 2 : HT_TRIAL_MOST;
        }
        s->trial_in = s->patience;
        return;
    }
    if (was && cost > was * 2) { /* processes have been moved apart, perhaps: what was known is worth nothing */
        s->patience = HT_TRIAL_FIRST;
        if (s->trial_in > 2) s->trial_in = 2;
    }
    if (--s->trial_in == 0) ht_stores_turn(s, 1);
}

/* So many bytes took so long. */
static inline void ht_stores_count(ht_stores *s, uint64_t bytes, int64_t ns) {
    s->bytes += bytes;
    s->ns += ns;
    if (s->forced || s->bytes < s->window) return;
    if (s->settling) s->settling = 0;
    else ht_stores_judge(s);
    s->bytes = 0;
    s->ns = 0;
}

#endif
