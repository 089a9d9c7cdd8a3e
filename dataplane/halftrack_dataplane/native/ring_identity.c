/* Which process holds a slot, and is it dead? See halftrack_ring.h.
 *
 * Owns the judgement; what becomes of the dead one's slot is halftrack_ring.c's.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "halftrack_ring.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* State letter and start time in ticks from /proc/PID/stat; 0 if there is no such file. The name may hold spaces and brackets.
 * A zombie whose other threads go on, after its first one has ended, is no zombie to us: 'R'. */
static char process(const char *pid, uint64_t *started) {
    char path[64], text[1024], *at;
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    if (got <= 0) return 0;
    text[got] = 0;
    if (!(at = strrchr(text, ')')) || at[1] != ' ') return 0;
    char state = at[2];
    at += 2;
    for (int field = 3; field < 22 && at; field++) {
        if (field == 20 && strtoull(at, NULL, 10) > 1) state = 'R';
        at = strchr(at + 1, ' ');
    }
    if (!at) return 0;
    *started = strtoull(at, NULL, 10);
    return state;
}

static uint64_t namespace_bits(void) {
    struct stat found;
    return stat("/proc/self/ns/pid", &found) == 0 ? (uint64_t)found.st_ino & 0xffff : 0;
}

static uint64_t packed(uint64_t pid, uint64_t started) {
    return (pid & 0x3fffff) << 3 | namespace_bits() << 25 | (started & 0x7fffff) << 41;
}

uint64_t ht_identity(void) {
    static __thread uint64_t own;
    static __thread pid_t whose;
    uint64_t started = 0;
    if (whose != getpid()) { /* the first time, or after a fork */
        process("self", &started);
        own = packed((uint64_t)getpid(), started);
        whose = getpid();
    }
    return own;
}

/* Certainly dead? Another pid namespace's processes cannot be judged from here, and count as living. */
int ht_is_dead(uint64_t owner) {
    char pid[24];
    uint64_t started = 0;
    if ((owner >> 25 & 0xffff) != namespace_bits()) return 0;
    snprintf(pid, sizeof pid, "%llu", (unsigned long long)ht_pid_of(owner));
    char state = process(pid, &started);
    if (state) return state == 'Z' || state == 'X' || state == 'x' || packed(ht_pid_of(owner), started) != (owner & ~HT_STATE_MASK);
    /* /proc may be mounted with hidepid: only "no such process" is proof */
    return kill((pid_t)ht_pid_of(owner), 0) != 0 && errno == ESRCH;
}
