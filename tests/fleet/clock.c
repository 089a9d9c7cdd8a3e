/* A wall clock that is wrong by FLEET_CLOCK_S seconds, for a program that is preloaded with this; its other clocks stay right.

libfaketime has more, but makes clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME), by which Python sleeps, fail with EINVAL. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long wrong_s;

__attribute__((constructor)) static void begin(void) {
    const char *said = getenv("FLEET_CLOCK_S");
    wrong_s = said ? atoll(said) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += wrong_s;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int result = (int)syscall(SYS_gettimeofday, now, zone);
    if (result == 0) now->tv_sec += wrong_s;
    return result;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}
