/* CRC-32C (Castagnoli), as iSCSI has it (RFC 3720, B.4): by the processor's instruction where it has one, else by tables.
 *
 * The instruction takes eight bytes a cycle but answers after three, so three runs go side by side; a run's result moves over the
 * bytes that follow it by multiplying with x^(8n) modulo the polynomial, which one table a length does.
 *
 * Runs are short, so that the processor sees that it reads in order, and what comes next is asked for while they are summed up: out of memory, not out
 * of the caches, runs of 2 KiB had a third of what the memory gives, these have all of it.
 */
#include <pthread.h>
#include <string.h>

#include "ring_protocol.h"

#define POLYNOMIAL 0x82f63b78u /* reflected */
#define RUN 256                /* bytes of one of three runs side by side */

static uint32_t bytewise[8][256], shifted[4][256];
static pthread_once_t made = PTHREAD_ONCE_INIT;

static uint32_t step(uint32_t crc, unsigned bits) {
    while (bits--) crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
    return crc;
}

static void make_tables(void) {
    for (uint32_t i = 0; i < 256; i++) bytewise[0][i] = step(i, 8);
    for (int row = 1; row < 8; row++)
        for (int i = 0; i < 256; i++)
            bytewise[row][i] = bytewise[row - 1][i] >> 8 ^ bytewise[0][bytewise[row - 1][i] & 0xff];
    for (int row = 0; row < 4; row++)
        for (uint32_t i = 0; i < 256; i++) shifted[row][i] = step(i << 8 * row, 8 * RUN);
}

/* The state after RUN zero bytes. */
static uint32_t over_a_run(uint32_t crc) {
    return shifted[0][crc & 0xff] ^ shifted[1][crc >> 8 & 0xff] ^ shifted[2][crc >> 16 & 0xff] ^ shifted[3][crc >> 24];
}

HT_MAY_RACE static uint64_t word(const unsigned char *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

HT_MAY_RACE static uint32_t by_tables(uint32_t crc, const unsigned char *at, uint64_t count) {
    for (; count >= 8; count -= 8, at += 8) {
        uint64_t v = word(at) ^ crc;
        crc = bytewise[7][v & 0xff] ^ bytewise[6][v >> 8 & 0xff] ^ bytewise[5][v >> 16 & 0xff] ^ bytewise[4][v >> 24 & 0xff] ^
              bytewise[3][v >> 32 & 0xff] ^ bytewise[2][v >> 40 & 0xff] ^ bytewise[1][v >> 48 & 0xff] ^ bytewise[0][v >> 56];
    }
    while (count--) crc = crc >> 8 ^ bytewise[0][(crc ^ *at++) & 0xff];
    return crc;
}

#if defined(__x86_64__)
#include <emmintrin.h>
#include <nmmintrin.h>

#define LINE 64
#define AHEAD 3072             /* how far ahead is asked for: a few times what the memory takes to answer */
#define BLOCK (4 * 3 * RUN)    /* copied at a time, out of the nearest cache, where summing it up has left it */

HT_MAY_RACE __attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const unsigned char *at, uint64_t count) {
    for (; count >= 3 * RUN; count -= 3 * RUN, at += 3 * RUN) {
        uint64_t a = crc, b = 0, c = 0;
        for (int line = 0; line < RUN; line += LINE) {
            for (int run = 0; run < 3; run++) _mm_prefetch((const char *)at + AHEAD + run * RUN + line, _MM_HINT_T0);
            for (int i = line; i < line + LINE; i += 8) {
                a = _mm_crc32_u64(a, word(at + i));
                b = _mm_crc32_u64(b, word(at + RUN + i));
                c = _mm_crc32_u64(c, word(at + 2 * RUN + i));
            }
        }
        crc = over_a_run(over_a_run((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
    }
    for (; count >= 8; count -= 8, at += 8) crc = (uint32_t)_mm_crc32_u64(crc, word(at));
    while (count--) crc = _mm_crc32_u8(crc, *at++);
    return crc;
}

/* Short frames have no three runs: four of them go side by side instead. */
HT_MAY_RACE __attribute__((target("sse4.2"))) static void four(const unsigned char *at, uint64_t length, uint32_t *sums) {
    const unsigned char *one = at, *two = at + length, *three = two + length, *last = three + length;
    uint64_t a = ~0u, b = ~0u, c = ~0u, d = ~0u, i = 0;
    for (; i + 8 <= length; i += 8) {
        a = _mm_crc32_u64(a, word(one + i));
        b = _mm_crc32_u64(b, word(two + i));
        c = _mm_crc32_u64(c, word(three + i));
        d = _mm_crc32_u64(d, word(last + i));
    }
    for (; i < length; i++) {
        a = _mm_crc32_u8((uint32_t)a, one[i]);
        b = _mm_crc32_u8((uint32_t)b, two[i]);
        c = _mm_crc32_u8((uint32_t)c, three[i]);
        d = _mm_crc32_u8((uint32_t)d, last[i]);
    }
    sums[0] = ~(uint32_t)a, sums[1] = ~(uint32_t)b, sums[2] = ~(uint32_t)c, sums[3] = ~(uint32_t)d;
}

/* The same and a copy, with stores that go past the caches: of a copy this large, its reader finds nothing there anyway. */
__attribute__((target("sse4.2"))) static uint32_t copying(uint32_t crc, char *to, const unsigned char *at, uint64_t count) {
    uint64_t odd = -(uintptr_t)to % 16;
    if (odd > count) odd = count;
    memcpy(to, at, odd);
    crc = by_instruction(crc, at, odd);
    for (to += odd, at += odd, count -= odd; count >= BLOCK; count -= BLOCK, at += BLOCK, to += BLOCK) {
        crc = by_instruction(crc, at, BLOCK);
        for (int i = 0; i < BLOCK; i += 64) {
            __m128i w = _mm_loadu_si128((const void *)(at + i)), x = _mm_loadu_si128((const void *)(at + i + 16)),
                    y = _mm_loadu_si128((const void *)(at + i + 32)), z = _mm_loadu_si128((const void *)(at + i + 48));
            _mm_stream_si128((void *)(to + i), w);
            _mm_stream_si128((void *)(to + i + 16), x);
            _mm_stream_si128((void *)(to + i + 32), y);
            _mm_stream_si128((void *)(to + i + 48), z);
        }
    }
    _mm_sfence();
    memcpy(to, at, count);
    return by_instruction(crc, at, count);
}
#endif

uint32_t ht_copy_crc32c(void *into, const void *bytes, uint64_t count, uint32_t crc) {
    pthread_once(&made, make_tables);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return ~copying(~crc, (char *)into, (const unsigned char *)bytes, count);
#endif
    memcpy(into, bytes, count);
    return ~by_tables(~crc, (const unsigned char *)bytes, count);
}

uint32_t ht_crc32c(const void *bytes, uint64_t count) {
    pthread_once(&made, make_tables);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return ~by_instruction(~0u, (const unsigned char *)bytes, count);
#endif
    return ~by_tables(~0u, (const unsigned char *)bytes, count);
}

void ht_crc32c_each(const void *bytes, uint64_t length, uint64_t frames, uint32_t *sums) {
    const unsigned char *at = (const unsigned char *)bytes;
    pthread_once(&made, make_tables);
#if defined(__x86_64__)
    if (length < 3 * RUN && __builtin_cpu_supports("sse4.2"))
        for (; frames >= 4; frames -= 4, at += 4 * length, sums += 4) four(at, length, sums);
#endif
    for (; frames; frames--, at += length) *sums++ = ht_crc32c(at, length);
}
