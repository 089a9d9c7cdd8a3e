/* How bytes are copied into and out of a ring. Owns no ordering but that of its own stores: the rest is ring_wait.h's. */
#ifndef HALFTRACK_RING_COPY_H
#define HALFTRACK_RING_COPY_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

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

/* memcpy past the caches, complete when it returns: for readers that share none with us, since lines then need not be fetched from
 * them to be overwritten. */
static inline void ht_stream(char *into, const char *from, uint64_t bytes) {
#if defined(__x86_64__)
    uint64_t head = (uint64_t)(-(uintptr_t)into & 63);
    if (head > bytes) head = bytes;
    memcpy(into, from, head);
    uint64_t at = head;
    for (; at + 64 <= bytes; at += 64) {
        const __m128i *line = (const __m128i *)(from + at);
        __m128i a = _mm_loadu_si128(line), b = _mm_loadu_si128(line + 1), c = _mm_loadu_si128(line + 2), d = _mm_loadu_si128(line + 3);
        __m128i *to = (__m128i *)(into + at);
        _mm_stream_si128(to, a), _mm_stream_si128(to + 1, b), _mm_stream_si128(to + 2, c), _mm_stream_si128(to + 3, d);
    }
    memcpy(into + at, from + at, bytes - at);
    _mm_sfence(); /* streamed stores overtake others, also the store that publishes them */
#else
    memcpy(into, from, bytes);
#endif
}

#endif
