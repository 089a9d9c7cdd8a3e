/* Two or more processes, one clock: what every C program here shares.
 *
 * Owns forking the readers, starting all sides at once, and the time from the first frame's writing to the last reader's end. A side
 * that finds something wrong says so with `wrong`, and the program then ends with status 1 and no figure.
 */
#ifndef BENCH_SIDES_H
#define BENCH_SIDES_H

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    uint64_t size, count; /* bytes of a frame, frames */
    int readers;
    void *shared;
} work;

static inline int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline void wrong(const char *what) {
    fprintf(stderr, "wrong: %s\n", what);
    exit(1);
}

static inline void *shared_memory(uint64_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED) wrong("no memory");
    return at;
}

/* The n-th processor that we may run on; fewer processors than sides: nobody is pinned. */
static inline void pin(int n) {
    cpu_set_t allowed, one;
    sched_getaffinity(0, sizeof allowed, &allowed);
    if (n >= CPU_COUNT(&allowed)) return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || n--) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

/* Waiting for the other side: beside it at first, then giving way to it, as three processes may have to share two processors. */
static inline void idle(unsigned *spins) {
    if (++*spins > 64) sched_yield();
#if defined(__x86_64__)
    else __builtin_ia32_pause();
#endif
}

/* Each side is called twice: to get ready (started == 0), and to run. Prints the seconds that it took. */
typedef void side(const work *w, int number, int started);

static inline int race(const work *w, side *write_all, side *read_all, int pinned) {
    struct { atomic_int ready; int64_t ended[8]; } *meeting = shared_memory(4096);
    int sides = w->readers + 1, failed = 0, status;
    unsigned spins = 0;
    for (int i = 0; i < w->readers; i++) {
        if (fork()) continue;
        if (pinned) pin(i + 1);
        read_all(w, i, 0);
        atomic_fetch_add(&meeting->ready, 1);
        while (atomic_load(&meeting->ready) < sides) idle(&spins);
        read_all(w, i, 1);
        meeting->ended[i] = now_ns();
        exit(0);
    }
    if (pinned) pin(0);
    write_all(w, 0, 0);
    atomic_fetch_add(&meeting->ready, 1);
    while (atomic_load(&meeting->ready) < sides) idle(&spins);
    int64_t began = now_ns(), ended = 0;
    write_all(w, 0, 1);
    for (int i = 0; i < w->readers; i++) failed |= wait(&status) < 0 || status != 0;
    for (int i = 0; i < w->readers; i++) ended = meeting->ended[i] > ended ? meeting->ended[i] : ended;
    if (failed) return 1;
    printf("%.9f\n", (double)(ended - began) / 1e9);
    return 0;
}

#endif
