/* What the machine itself can do, below which nothing that is built on it can be.
 *
 * `line`: a cache line to the other processor and back, ns (the lower quartile of 100 batches: a busy neighbour only adds);
 * `futex`: a sleeper woken through a futex, who wakes its waker in turn, ns (the median; PAUSE_US apart, so that both do sleep);
 * `copy`: memcpy of SIZE bytes to SIZE bytes, both in the caches, bytes/s (the median of 21 batches).
 *
 * usage: floor line TRIPS 0 | floor futex TRIPS PAUSE_US | floor copy SIZE 0
 */
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#include "sides.h"

#define BATCHES 100

typedef struct {
    _Alignas(128) _Atomic uint32_t ping;
    _Alignas(128) _Atomic uint32_t pong;
} table;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void spin_for(_Atomic uint32_t *word, uint32_t value) {
    for (unsigned spins = 0; atomic_load_explicit(word, memory_order_acquire) != value;)
        if (++spins > 100000) sched_yield();
}

static void line(uint32_t trips) {
    table *t = shared_memory(4096);
    double took[BATCHES];
    uint32_t each = trips / BATCHES;
    if (fork() == 0) {
        pin(1);
        for (uint32_t i = 1; i <= each * BATCHES; i++) {
            spin_for(&t->ping, i);
            atomic_store_explicit(&t->pong, i, memory_order_release);
        }
        exit(0);
    }
    pin(0);
    for (uint32_t batch = 0, i = 1; batch < BATCHES; batch++) {
        int64_t began = now_ns();
        for (uint32_t k = 0; k < each; k++, i++) {
            atomic_store_explicit(&t->ping, i, memory_order_release);
            spin_for(&t->pong, i);
        }
        took[batch] = (double)(now_ns() - began) / each;
    }
    wait(NULL);
    qsort(took, BATCHES, sizeof *took, by_value);
    printf("%.2f\n", took[BATCHES / 4]);
}

static void set_and_wake(_Atomic uint32_t *word, uint32_t value) {
    atomic_store(word, value);
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void sleep_until(_Atomic uint32_t *word, uint32_t value) {
    uint32_t seen;
    while ((seen = atomic_load(word)) != value) syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void futex(uint32_t trips, uint32_t pause_us) {
    table *t = shared_memory(4096);
    double *took = malloc(trips * sizeof *took);
    struct timespec pause = {0, pause_us * 1000L};
    if (fork() == 0) {
        pin(1);
        for (uint32_t i = 1; i <= trips; i++) {
            sleep_until(&t->ping, i);
            set_and_wake(&t->pong, i);
        }
        exit(0);
    }
    pin(0);
    for (uint32_t i = 1; i <= trips; i++) {
        nanosleep(&pause, NULL);
        int64_t began = now_ns();
        set_and_wake(&t->ping, i);
        sleep_until(&t->pong, i);
        took[i - 1] = (double)(now_ns() - began);
    }
    wait(NULL);
    qsort(took, trips, sizeof *took, by_value);
    printf("%.1f\n", took[trips / 2]);
}

static void copy(uint64_t size) {
    enum { ROUNDS = 21 };
    char *from = shared_memory(size), *to = shared_memory(size);
    double took[ROUNDS];
    uint64_t times = (UINT64_C(1) << 28) / size;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t began = now_ns();
        for (uint64_t i = 0; i < times; i++) {
            from[i % size] = (char)round;
            memcpy(to, from, size);
            __asm__ __volatile__("" ::"r"(to) : "memory");
        }
        took[round] = (double)(times * size) * 1e9 / (double)(now_ns() - began);
    }
    qsort(took, ROUNDS, sizeof *took, by_value);
    printf("%.0f\n", took[ROUNDS / 2]);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    uint64_t first = strtoull(argv[2], NULL, 10), second = strtoull(argv[3], NULL, 10);
    if (argv[1][0] == 'l') line((uint32_t)first);
    else if (argv[1][0] == 'f') futex((uint32_t)first, (uint32_t)second);
    else copy(first);
    return 0;
}
