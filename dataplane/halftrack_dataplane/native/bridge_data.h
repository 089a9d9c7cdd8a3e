/* Frames on their way between hosts, in bytes, for C: bridge_data.py says what they mean and is what this is held against.
 *
 * Owns the layout and the check of every bound. Pure: touches nothing but what it is given, and believes none of it.
 */
#ifndef HALFTRACK_BRIDGE_DATA_H
#define HALFTRACK_BRIDGE_DATA_H

#include <stdint.h>
#include <string.h>

#include "ring_layout.h"

#define HT_WIRE_MAGIC "HTBR"
#define HT_WIRE_VERSION 2
#define HT_BATCH_RECORDS 1024
#define HT_BATCH_FRAMES UINT64_C(65536)
#define HT_BATCH_BYTES (UINT64_C(1) << 20)
#define HT_FRAME_MOST (UINT64_C(64) << 20)
#define HT_BODY_MOST (HT_BATCH_BYTES + HT_FRAME_MOST)
#define HT_FRAME_COST 64
#define HT_SEQ_END (UINT64_C(1) << 62)
#define HT_WHOLE 1 /* the verdict of a payload that nobody has overwritten on its way */

enum { HT_WIRE_DATA = 1, HT_WIRE_LATE = 2, HT_WIRE_GAP = 3 };

typedef struct {
    char magic[4];
    uint16_t version;
    uint8_t kind, zero;
    uint32_t records, more_zero;
    uint64_t first, amount;
} ht_wire_header;

typedef struct {
    uint32_t count, length;
    uint64_t epoch;
    int64_t timestamp_ns;
} ht_wire_record;

HT_ASSERT(sizeof(ht_wire_header) == 32 && offsetof(ht_wire_header, records) == 8, "the header of bridge_data.py");
HT_ASSERT(offsetof(ht_wire_header, first) == 16 && offsetof(ht_wire_header, amount) == 24, "the header of bridge_data.py");
HT_ASSERT(sizeof(ht_wire_record) == 24 && offsetof(ht_wire_record, epoch) == 8, "the record of bridge_data.py");
HT_ASSERT(HT_BATCH_FRAMES * HT_FRAME_MOST < HT_SEQ_END, "a sum of lengths within the bounds cannot wrap");

/* What was understood; `records` and, but for LATE, `payload` point into the message, which may lie on any address: use
 * ht_wire_record_at. */
typedef struct {
    ht_wire_header head;
    const char *records, *payload;
    uint64_t frames;
} ht_wire;

/* Is the message one of frames? Then ht_wire_read judges it. */
static inline int ht_wire_is(const void *part, uint64_t bytes) { return bytes >= 6 && !memcmp(part, HT_WIRE_MAGIC, 4); }

static inline ht_wire_record ht_wire_record_at(const ht_wire *w, uint32_t number) {
    ht_wire_record record;
    memcpy(&record, w->records + (uint64_t)number * sizeof record, sizeof record);
    return record;
}

/* NULL if `bytes` bytes are the first (and, but for LATE, the only) message of frames; else why they are not. Of LATE the next message
 * must have w->head.amount bytes, and the one after it one. */
static inline const char *ht_wire_read(const void *message, uint64_t bytes, ht_wire *w) {
    uint64_t sum = 0, begin;
    if (bytes < 6) return "a header that is too short";
    memcpy(&w->head.version, (const char *)message + 4, sizeof w->head.version); /* first: the rest may be of another length then */
    if (w->head.version != HT_WIRE_VERSION) return "another version of the bridge's language";
    if (bytes < sizeof w->head) return "a header that is too short";
    memcpy(&w->head, message, sizeof w->head);
    w->records = (const char *)message + sizeof w->head;
    w->frames = 0;
    const ht_wire_header *head = &w->head;
    if (head->zero || head->more_zero || head->first >= HT_SEQ_END) return "a header whose fields cannot be";
    if (head->kind == HT_WIRE_GAP) {
        int fits = bytes == sizeof *head && !head->records && head->amount && head->amount < HT_SEQ_END - head->first;
        return fits ? NULL : "a gap that cannot be";
    }
    if (head->kind != HT_WIRE_DATA && head->kind != HT_WIRE_LATE) return "an unknown kind";
    if (!head->records || head->records > HT_BATCH_RECORDS) return "too few or too many records";
    if (head->amount > HT_BODY_MOST) return "a payload that is too large to travel";
    begin = sizeof *head + head->records * sizeof(ht_wire_record);
    if (bytes != begin + (head->kind == HT_WIRE_DATA ? head->amount : 0)) return "a message of another length than its header says";
    w->payload = (const char *)message + begin;
    for (uint32_t i = 0; i < head->records; i++) {
        ht_wire_record record = ht_wire_record_at(w, i);
        if (!record.count || record.count > HT_BATCH_FRAMES - w->frames) return "records without frames, or too many frames";
        if (record.length > HT_FRAME_MOST) return "a frame that is too large to travel";
        w->frames += record.count;
        sum += (uint64_t)record.count * record.length;
    }
    if (sum != head->amount || head->first + w->frames >= HT_SEQ_END) return "records that do not add up to their payload";
    return NULL;
}

/* The credit that they take. */
static inline uint64_t ht_wire_cost(const ht_wire *w) {
    return w->head.kind == HT_WIRE_GAP ? HT_FRAME_COST : w->head.amount + HT_FRAME_COST * w->frames;
}

static inline void ht_wire_write(void *into, int kind, uint64_t first, uint64_t amount, uint32_t records) {
    ht_wire_header head;
    memset(&head, 0, sizeof head);
    memcpy(head.magic, HT_WIRE_MAGIC, sizeof head.magic);
    head.version = HT_WIRE_VERSION;
    head.kind = (uint8_t)kind;
    head.records = records;
    head.first = first;
    head.amount = amount;
    memcpy(into, &head, sizeof head);
}

#endif
