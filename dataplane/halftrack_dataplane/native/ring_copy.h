/* How bytes are copied into and out of a ring. Owns no ordering: that is ring_wait.h's. */
#ifndef HALFTRACK_RING_COPY_H
#define HALFTRACK_RING_COPY_H

#include <stdint.h>
#include <string.h>

#define HT_COPY_INLINE 256 /* from here on the call of memcpy is worth what it costs, 3 ns */

/* memcpy, without a call for a small frame. */
static inline void ht_copy(char *into, const char *from, uint64_t bytes) {
    if (bytes < 16 || bytes > HT_COPY_INLINE) {
        memcpy(into, from, bytes);
        return;
    }
    uint64_t last = bytes - 16;
    for (uint64_t at = 0; at < last; at += 16) {
        memcpy(into + at, from + at, 16);
        __asm__("" : "+r"(at)); /* else the compiler sees a memcpy in the loop, and calls it */
    }
    memcpy(into + last, from + last, 16);
}

#endif
