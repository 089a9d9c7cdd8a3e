/* How processes wait for each other at a ring: named orderings, futexes, and who pays for the fences.
 *
 * Owns every atomic access and every system call of the data path. Both ends of each ordering bear the same name,
 * `SYNC: ...`; dataplane/README.md explains each name once.
 *
 * A sleeper must not miss the store that it sleeps for: it announces itself, fences, and looks again; the other side stores,
 * fences, and looks for announcements. A full fence costs the busy side more than a small frame does, so the sleeper makes
 * it for both: membarrier(2), which runs a barrier on every processor where a registered process runs. A process that
 * cannot register fences by itself; a sleeper that cannot call it sleeps in short slices.
 */
#ifndef HALFTRACK_RING_WAIT_H
#define HALFTRACK_RING_WAIT_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ring_layout.h"

#define HT_RELAXED(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define HT_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define HT_PUT(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define HT_RELEASE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define HT_FENCE(order) __atomic_thread_fence(__ATOMIC_##order)

/* On functions that read bytes which may be overwritten meanwhile, and ask ht_intact or ht_held afterwards: a race on purpose, and the
 * only kind there is. */
#ifndef HT_MAY_RACE
#define HT_MAY_RACE __attribute__((no_sanitize_thread))
#endif

/* Signals are looked at this often while waiting, and it bounds what a lost wake-up (there is none known) could cost. */
#define HT_SLICE_NS INT64_C(100000000)
#define HT_BLIND_SLICE_NS INT64_C(1000000) /* of a sleeper without membarrier, which may miss a wake-up */

static inline uint64_t ht_load(const uint64_t *word) { return HT_ACQUIRE(word); }
static inline void ht_store(uint64_t *word, uint64_t value) { HT_RELEASE(word, value); }
static inline void ht_add(uint64_t *word, uint64_t value) { __atomic_fetch_add(word, value, __ATOMIC_RELAXED); }
static inline int ht_swap_if(uint64_t *word, uint64_t expected, uint64_t wanted) {
    return __atomic_compare_exchange_n(word, &expected, wanted, 0, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE);
}

/* Lets sleepers fence for this process; 0 where the kernel or a filter refuses. Once per process image is enough. */
static inline int ht_register(void) {
#ifdef HT_FULL_FENCES /* sanitizers do not know membarrier */
    return 0;
#else
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
#endif
}

/* The busy side's half: between its store and its look for sleepers. */
static inline void ht_light_fence(int registered) {
    if (registered) __asm__ __volatile__("" ::: "memory");
    else HT_FENCE(SEQ_CST);
}

/* The sleeper's half, for both: 0 if busy sides may have missed it. Also with HT_FULL_FENCES: the other side may be built without. */
static inline int ht_heavy_fence(void) {
    HT_FENCE(SEQ_CST);
    return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
}

/* Orders all stores before it before all after it, also those of a large memcpy: on x86 they may bypass the cache, and such stores
 * overtake others. */
static inline void ht_store_fence(void) {
    HT_FENCE(RELEASE);
#if defined(__x86_64__)
    __builtin_ia32_sfence();
#endif
}

static inline int64_t ht_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline uint32_t ht_event(const uint32_t *word) { return HT_ACQUIRE(word); }

/* Returns on a wake-up, a changed word, a signal or after ns; the caller always looks again. Shared: not FUTEX_PRIVATE. */
static inline void ht_sleep(uint32_t *word, uint32_t seen, int64_t ns) {
    struct timespec slice = {ns / 1000000000, ns % 1000000000};
    if (ns > 0) syscall(SYS_futex, word, FUTEX_WAIT, seen, &slice, NULL, 0);
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

/* How long to sleep now, given a deadline (-1: none) and whether the fence reached everybody. */
static inline int64_t ht_slice(int64_t deadline, int sure) {
    int64_t most = sure ? HT_SLICE_NS : HT_BLIND_SLICE_NS, left = deadline < 0 ? most : deadline - ht_now_ns();
    return left < 0 ? 0 : left < most ? left : most;
}

/* SYNC: frame wake-up. Reader: read the event, set my bit if it is not set, heavy fence, look at head, sleep on the event. Writer:
 * store head, light fence, look at the bits. One of them sees the other, whichever fence is first. Who wakes takes the bits
 * back first, so that a sleep costs one system call, however much is published before the sleepers run; a sleeper whose bit is
 * taken back after it has read the event finds the event changed. */
static inline int ht_arm_reader(ht_header *h, int slot) {
    __atomic_fetch_or(&h->data_waiters, UINT64_C(1) << slot, __ATOMIC_RELAXED);
    return ht_heavy_fence();
}
static inline void ht_disarm_reader(ht_header *h, int slot) {
    __atomic_fetch_and(&h->data_waiters, ~(UINT64_C(1) << slot), __ATOMIC_RELAXED);
}
static inline void ht_wake_readers(ht_header *h, int registered) {
    ht_light_fence(registered); /* SYNC: frame wake-up */
    if (HT_RELAXED(&h->data_waiters) && __atomic_exchange_n(&h->data_waiters, 0, __ATOMIC_SEQ_CST)) ht_wake(&h->data_event);
}

/* No slot from here on was ever claimed. Clamped: what lies in shared memory may be anything. */
static inline uint32_t ht_limit(const ht_header *h) {
    uint32_t limit = HT_ACQUIRE(&h->reader_limit);
    return limit < HT_READERS ? limit : HT_READERS;
}

/* The least cursor of all lossless readers. */
static inline uint64_t ht_gate(const ht_header *h) {
    uint64_t gate = UINT64_MAX;
    uint32_t limit = ht_limit(h);
    for (uint32_t i = 0; i < limit; i++) {
        const ht_slot *reader = &h->readers[i];
        if ((HT_ACQUIRE(&reader->owner) & HT_STATE_MASK) != HT_LOSSLESS) continue;
        uint64_t cursor = HT_ACQUIRE(&reader->cursor); /* SYNC: frame released */
        if (cursor < gate) gate = cursor;
    }
    return gate;
}

/* SYNC: space wake-up. The same with the sides exchanged: the writer announces how far it wants the cursors and looks at them, a
 * reader stores its cursor and looks at the announcement. Of several readers the last one to get there wakes: each fences before it
 * looks at the others, so that of two that get there at once one sees both. */
static inline int ht_arm_writer(ht_header *h, uint64_t wanted) {
    HT_PUT(&h->space_wanted, wanted);
    HT_PUT(&h->space_waiting, 1);
    return ht_heavy_fence();
}
static inline void ht_disarm_writer(ht_header *h) { HT_PUT(&h->space_waiting, 0); }
static inline void ht_wake_writer(ht_header *h, uint64_t cursor, int registered) {
    ht_light_fence(registered); /* SYNC: space wake-up */
    if (!HT_RELAXED(&h->space_waiting) || cursor < HT_RELAXED(&h->space_wanted)) return;
    HT_FENCE(SEQ_CST); /* SYNC: space wake-up: among readers */
    if (ht_gate(h) < HT_RELAXED(&h->space_wanted)) return;
    if (__atomic_exchange_n(&h->space_waiting, 0, __ATOMIC_SEQ_CST)) ht_wake(&h->space_event);
}

/* SYNC: turn wake-up. The same once more, between the writers of a shared ring: who waits announces it and tries for the turn again,
 * who has it gives it back and looks at the announcement. */
static inline int ht_arm_turn(ht_header *h) {
    HT_PUT(&h->turn_waiting, 1);
    return ht_heavy_fence();
}
static inline int ht_wake_turn(ht_header *h, int registered) {
    ht_light_fence(registered); /* SYNC: turn wake-up */
    if (!HT_RELAXED(&h->turn_waiting) || !__atomic_exchange_n(&h->turn_waiting, 0, __ATOMIC_SEQ_CST)) return 0;
    ht_wake(&h->turn_event);
    return 1;
}

#endif
