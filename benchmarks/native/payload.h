/* What is in the frames, and the one way to fill and to check them, in C and (through checks.pyx) in Python, for ours and for peers.
 *
 * A small frame begins with its number. A large one is filled word by word, number + 0, number + 1, ..., and is checked by its sum,
 * which reads every byte and differs for each number.
 */
#ifndef BENCH_PAYLOAD_H
#define BENCH_PAYLOAD_H

#include <stdint.h>
#include <string.h>

static inline void stamp_frames(char *frames, uint64_t count, uint64_t size, uint64_t first) {
    for (uint64_t i = 0; i < count; i++, first++) memcpy(frames + i * size, &first, sizeof first);
}

static inline int frames_are(const char *frames, uint64_t count, uint64_t size, uint64_t first) {
    uint64_t off = 0, number;
    for (uint64_t i = 0; i < count; i++) {
        memcpy(&number, frames + i * size, sizeof number);
        off |= number ^ (first + i);
    }
    return off == 0;
}

static inline void fill_block(char *block, uint64_t size, uint64_t number) {
    uint64_t *word = (uint64_t *)block;
    for (uint64_t i = 0; i < size / 8; i++) word[i] = number + i;
}

static inline int block_is(const char *block, uint64_t size, uint64_t number) {
    const uint64_t *word = (const uint64_t *)block;
    uint64_t sum[32] = {0}, total = 0, n = size / 8;
    for (uint64_t i = 0; i + 32 <= n; i += 32)
        for (int k = 0; k < 32; k++) sum[k] += word[i + k];
    for (uint64_t i = n / 32 * 32; i < n; i++) total += word[i];
    for (int k = 0; k < 32; k++) total += sum[k];
    return total == n * number + n * (n - 1) / 2;
}

#endif
