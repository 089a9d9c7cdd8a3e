/* Waiting for the first of several rings, or for a change in the owner table. For the merge.
 *
 * Owns one slice of sleeping on many futexes at once. Never moves a cursor, and never decides what is done with what has come.
 */
#ifndef HALFTRACK_MERGE_WAIT_H
#define HALFTRACK_MERGE_WAIT_H

#include "halftrack_ring.h"

#define HT_INPUTS 64 /* of one merge, at most: two members of many releases; futex_waitv takes 128 words */

/* On the ring that passed last, whose frame is the next one nearly always: so long nobody else has to wake us. A member's death
 * costs this much, once. */
#define HT_LIKELY_NS INT64_C(400000)

/* As in linux/futex.h since 5.16; kernels and headers are of different ages. */
#define HT_SYS_FUTEX_WAITV 449
#define HT_FUTEX_32 2
typedef struct {
    uint64_t value, address;
    uint32_t flags, reserved;
} ht_waited;

/* Where the kernel cannot wait for many words (before 5.16, or behind a filter), a sleeper on one of them looks at all so often. */
#define HT_ALONE_NS INT64_C(1000000)

static inline int ht_anything(ht_reader *const *readers, int count) {
    for (int i = 0; i < count; i++)
        if (HT_ACQUIRE(&readers[i]->h->head) > readers[i]->cursor) return 1;
    return 0;
}

/* Returns when one of the rings has something at its reader's cursor, when `table`, the word beside the owner table, is no longer `seen`,
 * or at the deadline; perhaps earlier. None of the readers is armed before or after. */
static inline void ht_wait_for_any(ht_reader *const *readers, int count, uint32_t *table, uint32_t seen, int64_t deadline_ns) {
    ht_waited words[HT_INPUTS + 1];
    int sure = 1;
    if (count > HT_INPUTS) count = HT_INPUTS;
    for (int i = 0; i < count; i++) {
        ht_reader *r = readers[i]; /* SYNC: frame wake-up: the event first, then the announcement, one fence for all, and another look */
        words[i] = (ht_waited){ht_event(&r->h->data_event), (uint64_t)(uintptr_t)&r->h->data_event, HT_FUTEX_32, 0};
        __atomic_fetch_or(&r->h->data_waiters, UINT64_C(1) << r->number, __ATOMIC_RELAXED);
    }
    words[count] = (ht_waited){seen, (uint64_t)(uintptr_t)table, HT_FUTEX_32, 0};
    if (count) sure = ht_heavy_fence();
    int64_t now = ht_now_ns(), slice = ht_slice(deadline_ns, sure);
    if (slice > 0 && ht_event(table) == seen && !ht_anything(readers, count)) {
        struct timespec until = {(now + slice) / 1000000000, (now + slice) % 1000000000};
        long rc = syscall(HT_SYS_FUTEX_WAITV, words, count + 1, 0, &until, CLOCK_MONOTONIC);
        if (rc < 0 && (errno == ENOSYS || errno == EPERM))
            ht_sleep(count ? &readers[0]->h->data_event : table, (uint32_t)words[0].value, slice < HT_ALONE_NS ? slice : HT_ALONE_NS);
    }
    for (int i = 0; i < count; i++)
        if (HT_RELAXED(&readers[i]->h->data_waiters) >> readers[i]->number & 1) ht_disarm_reader(readers[i]->h, readers[i]->number);
}

/* The same, for `likely` alone at first, if it is one of them (NULL: for all from the beginning). */
static inline void ht_await_likely(ht_reader *const *readers, int count, ht_reader *likely, uint32_t *table, uint32_t seen, int64_t deadline_ns) {
    if (likely) {
        int64_t alone = ht_now_ns() + HT_LIKELY_NS;
        int rc = ht_wait(likely, count > 1 && alone < deadline_ns ? alone : deadline_ns);
        ht_unwait(likely);
        if (rc != HT_AGAIN && rc != HT_NOTHING) return;
    }
    ht_wait_for_any(readers, count, table, seen, deadline_ns);
}

#endif
