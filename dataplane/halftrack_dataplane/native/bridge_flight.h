/* What has been given to libzmq and is not back yet. libzmq's I/O threads call in here, without Python.
 *
 * Owns the lifetime of what messages point at. A payload is a copy, shared by the messages of several receivers, or ring memory, which
 * the ring's writer may overwrite meanwhile: a bridge never holds it up. So when libzmq lets go of such a payload, its last byte having
 * been sent (or the connection being gone), we look whether it was whole all the time, and say so in the one byte of the message that
 * follows. libzmq lets go of a message before it looks at the next one's bytes: an encoder holds one at a time. Should that
 * ever change, the byte says "void" for a payload that was whole, which costs time, not frames.
 */
#ifndef HALFTRACK_BRIDGE_FLIGHT_H
#define HALFTRACK_BRIDGE_FLIGHT_H

#include <stdlib.h>
#include <unistd.h>

#include "bridge_data.h"
#include "ring_protocol.h"

/* One receiver's messages. It lives until the last of them is back, which may be long after the session. */
typedef struct {
    uint64_t messages, bytes; /* in flight */
    uint32_t users;           /* the session, and each message */
    uint32_t waiting;         /* the session sleeps until half of its messages are back */
    uint32_t enough;          /* that half */
    int wake_fd;              /* an eventfd; open until the context has ended, and with it the I/O threads */
} ht_lane;

/* Copied payloads. */
typedef struct {
    uint32_t users;
    char bytes[];
} ht_bundle;

/* One message's payload. */
typedef struct {
    ht_lane *lane;
    ht_bundle *bundle;  /* or NULL: */
    const ht_header *h; /* the ring whose memory it is */
    uint64_t seq, bytes;
    uint32_t users; /* the payload and the verdict */
    char verdict;
} ht_parcel;

static inline int ht_last(uint32_t *users) { return __atomic_sub_fetch(users, 1, __ATOMIC_ACQ_REL) == 0; }

static inline ht_lane *ht_lane_new(int wake_fd, uint32_t enough) {
    ht_lane *lane = (ht_lane *)calloc(1, sizeof *lane);
    if (lane) lane->users = 1, lane->wake_fd = wake_fd, lane->enough = enough;
    return lane;
}
static inline void ht_lane_drop(ht_lane *lane) {
    if (lane && ht_last(&lane->users)) free(lane);
}

static inline ht_bundle *ht_bundle_new(uint64_t bytes) {
    ht_bundle *bundle = (ht_bundle *)malloc(sizeof *bundle + bytes);
    if (bundle) bundle->users = 1;
    return bundle;
}
static inline void ht_bundle_drop(ht_bundle *bundle) {
    if (bundle && ht_last(&bundle->users)) free(bundle);
}

static inline void ht_parcel_drop(ht_parcel *parcel) {
    if (ht_last(&parcel->users)) free(parcel);
}

/* SYNC: room in flight. I/O thread: take the message off, then look whether the session waits. Session: say that it waits, then look
 * at the messages again. */
static inline void ht_lane_back(ht_lane *lane, uint64_t bytes) {
    const uint64_t one = 1;
    __atomic_sub_fetch(&lane->bytes, bytes, __ATOMIC_RELAXED);
    uint64_t left = __atomic_sub_fetch(&lane->messages, 1, __ATOMIC_SEQ_CST);
    if (left <= lane->enough && __atomic_load_n(&lane->waiting, __ATOMIC_SEQ_CST) &&
        __atomic_exchange_n(&lane->waiting, 0, __ATOMIC_SEQ_CST) && write(lane->wake_fd, &one, sizeof one) < 0) {
        /* full: it is readable already */
    }
    ht_lane_drop(lane);
}

/* Does the session have to wait for the I/O thread? Having announced it, it looks again. */
static inline int ht_lane_waits(ht_lane *lane) {
    __atomic_store_n(&lane->waiting, 1, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&lane->messages, __ATOMIC_SEQ_CST) > lane->enough; /* SYNC: room in flight */
}

static inline uint64_t ht_lane_messages(ht_lane *lane) { return __atomic_load_n(&lane->messages, __ATOMIC_ACQUIRE); }
static inline uint64_t ht_lane_bytes(ht_lane *lane) { return __atomic_load_n(&lane->bytes, __ATOMIC_ACQUIRE); }

/* libzmq's: it needs the payload no more. */
static void ht_payload_back(void *data, void *hint) {
    ht_parcel *parcel = (ht_parcel *)hint;
    (void)data;
    if (parcel->bundle) ht_bundle_drop(parcel->bundle);
    else if (ht_intact(parcel->h, parcel->seq)) parcel->verdict = HT_WHOLE; /* SYNC: bytes reclaimed */
    ht_lane_back(parcel->lane, parcel->bytes); /* from here on the ring may be gone */
    ht_parcel_drop(parcel);
}
static void ht_verdict_back(void *data, void *hint) {
    (void)data;
    ht_parcel_drop((ht_parcel *)hint);
}

/* One more message for `lane`: of `bundle`, or, if that is NULL, of the ring's frames from `seq` on. NULL: no memory. */
static inline ht_parcel *ht_parcel_new(ht_lane *lane, ht_bundle *bundle, const ht_header *h, uint64_t seq, uint64_t bytes) {
    ht_parcel *parcel = (ht_parcel *)malloc(sizeof *parcel);
    if (!parcel) return NULL;
    parcel->lane = lane;
    parcel->bundle = bundle;
    parcel->h = h;
    parcel->seq = seq;
    parcel->bytes = bytes;
    parcel->users = bundle ? 1 : 2;
    parcel->verdict = 0;
    if (bundle) __atomic_add_fetch(&bundle->users, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&lane->users, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&lane->messages, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&lane->bytes, bytes, __ATOMIC_RELAXED);
    return parcel;
}

#endif
