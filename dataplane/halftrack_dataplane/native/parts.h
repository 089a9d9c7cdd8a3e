/* A frame that an inlet made of others: this header, `count` part headers, then their bytes, each part's on a multiple of 8.
 *
 * Owns the form; parts.py reads it, branch.pyx writes it. A frame without parts (`count` 0) says that there is none here: this number was
 * not for whoever reads, and nothing was lost. Never moves a frame.
 */
#ifndef HALFTRACK_PARTS_H
#define HALFTRACK_PARTS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define HT_PARTS_ASSERT(cond, why) static_assert(cond, why)
#else
#define HT_PARTS_ASSERT(cond, why) _Static_assert(cond, why)
#endif

#define HT_PARTS_MAGIC UINT64_C(0x0153545241505448) /* "HTPARTS" and the form's version, as little-endian bytes */

enum { HT_PARTS_MORE = 1 /* this bucket of time may go on in the next frame */ };

enum {
    HT_PART_LOST = 1, /* no bytes: `length` sequences of this input from `seq` on are declared lost */
    HT_PART_NONE = 2, /* no bytes: this input has none here */
    HT_PART_NEXT = 4, /* no bytes: this input goes on at `seq`; an inlet's own mark, which users' vertices pass over */
    HT_PART_LATE = 8  /* it came after its time had passed */
};

typedef struct {
    uint64_t magic;
    uint32_t count; /* of parts */
    uint32_t flags;
} ht_parts;

typedef struct {
    uint32_t input; /* its place in the inlet's list */
    uint32_t flags;
    uint64_t length;
    uint64_t seq; /* the input's own number */
    int64_t timestamp_ns;
    uint64_t epoch;
} ht_part;

HT_PARTS_ASSERT(sizeof(ht_parts) == 16 && offsetof(ht_parts, count) == 8 && offsetof(ht_parts, flags) == 12, "the header");
HT_PARTS_ASSERT(sizeof(ht_part) == 40 && offsetof(ht_part, length) == 8 && offsetof(ht_part, seq) == 16, "a part's header");
HT_PARTS_ASSERT(offsetof(ht_part, timestamp_ns) == 24 && offsetof(ht_part, epoch) == 32, "a part's header");

static inline uint64_t ht_parts_padded(uint64_t length) { return (length + 7) & ~UINT64_C(7); }

/* Where the parts' bytes begin. */
static inline uint64_t ht_parts_head(uint64_t count) { return sizeof(ht_parts) + count * sizeof(ht_part); }

#endif
