/* Threads as peers of one ring, for a few seconds: for ThreadSanitizer, AddressSanitizer and UBSan. See test_ring_sanitizers.py.
 *
 * usage: ring_stress MILLISECONDS POLICY FRAME_BYTES FLAGS SEED. Every frame proves itself: eight bytes of its sequence, then bytes that
 * follow from it. Prints what was written, read, missed, joined and evicted; the exit status is 1 if a frame was wrong.
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "halftrack_ring.h"

#define MOST 1200

static ht_ring ring;
static int policy;
static uint64_t even, seed, stop, wrong, written, taken, lost, joined, evicted;

static uint64_t draw(uint64_t *state, uint64_t below) { /* xorshift64* (Vigna 2016) */
    *state ^= *state >> 12, *state ^= *state << 25, *state ^= *state >> 27;
    return (*state * UINT64_C(2685821657736338717) >> 33) % below;
}

static uint64_t length_of(uint64_t seq) { return even ? even : 8 + seq * 7919 % (MOST - 8); }

static void fill(char *at, uint64_t seq, uint64_t length) {
    memcpy(at, &seq, 8);
    memset(at + 8, (int)(seq * 31 & 0xff), length - 8);
}

static int right(const char *at, uint64_t seq, uint64_t length) {
    uint64_t said;
    memcpy(&said, at, 8);
    if (said != seq || length != length_of(seq)) return 0;
    for (uint64_t i = 8; i < length; i++)
        if ((unsigned char)at[i] != (seq * 31 & 0xff)) return 0;
    return 1;
}

/* What a reader that may be overrun or evicted copies: the one race on purpose. Word by word, so that no library's copy is checked. */
HT_MAY_RACE static void copy_that_may_tear(char *into, const char *from, uint64_t length) {
    for (uint64_t i = 0; i < length; i++) into[i] = ((const volatile char *)from)[i];
}

static void complain(const char *who, uint64_t seq) {
    ht_add(&wrong, 1);
    fprintf(stderr, "%s: sequence %" PRIu64 " is wrong\n", who, seq);
}

static int room(ht_output *out, uint64_t bytes) {
    int rc;
    do rc = ht_room(out, bytes, -1);
    while (rc == HT_AGAIN && !ht_load(&stop));
    return rc == HT_OK;
}

static int turn(ht_output *out) {
    int rc;
    do rc = ht_take_turn(out, -1);
    while (rc == HT_AGAIN && !ht_load(&stop));
    if (rc != HT_OK && rc != HT_AGAIN) complain(ht_explain(rc), out->w.head);
    return rc == HT_OK;
}

static void write_some(ht_output *out, uint64_t *state) {
    uint64_t seq = out->w.head, length = length_of(seq), count = even ? 1 + draw(state, 20) : 1;
    if (draw(state, 40) == 0) {
        if (room(out, 0)) ht_publish(&out->w, 1 + draw(state, 5), 0, HT_GAP, 0, 0);
        return;
    }
    if (!room(out, count * length)) return;
    for (uint64_t i = 0; i < count; i++) fill(out->w.at + i * length, seq + i, length);
    if (draw(state, 10) == 0) return; /* given up */
    ht_publish(&out->w, count, length, 0, 0, 0);
    for (uint64_t i = 0; i < 3 && even && ht_grows(&out->w, even, 0, 0); i++) {
        fill(out->w.at, out->w.head, even);
        ht_grow(&out->w, 1, even);
    }
}

static void *write_all(void *second) {
    uint64_t state = seed * 2 + (second ? 65 : 1), holder;
    while (!ht_load(&stop)) {
        ht_output out;
        if (ht_begin(&ring, policy, "writer", &out, &holder) != HT_OK) complain("no writer", 0);
        for (int i = 0; i < 5000 && !ht_load(&stop); i++) {
            if (turn(&out)) write_some(&out, &state);
            ht_pass_turn(&out);
        }
        ht_store(&written, ht_load(&ring.header->head));
        ht_finish(&out);
    }
    return second;
}

/* Takes what is at the cursor; with `sure`, where nobody is evicted or overrun, reads in place. */
static void take(ht_reader *r, int sure, const char *who) {
    static __thread char copy[MOST];
    uint64_t seq = r->cursor, end = r->found.end, length = r->found.length;
    if (!(r->found.flags & HT_GAP)) {
        const char *at = ht_frame_at(&r->found, seq);
        if (!sure) copy_that_may_tear(copy, at, length < MOST ? length : MOST);
        int whole = sure || ((r->lossless || ht_intact(r->h, seq)) && ht_held(r));
        if (whole && !right(sure ? at : copy, seq, length)) complain(who, seq);
        if (!whole) return; /* the next look says why */
        end = seq + 1;
    }
    ht_add(&taken, end - seq);
    ht_done(r, end);
}

/* Until `most` records are read, or it is evicted, or all is over. */
static void read_some(ht_reader *r, uint64_t most, int sure, const char *who) {
    while (most > 0) {
        int rc = ht_wait(r, ht_now_ns() + 20000000);
        if (rc == HT_OK) {
            take(r, sure, who);
            most--;
        } else if (rc == HT_BEHIND && !r->lossless) ht_overrun(r, (int)(most & 1));
        else if (rc == HT_EVICTION && !sure) return;
        else if ((rc == HT_NOTHING || rc == HT_AGAIN) && ht_load(&stop)) return;
        else if (rc != HT_NOTHING && rc != HT_AGAIN) complain(ht_explain(rc), r->cursor);
    }
}

static void *read_all(void *lossless) {
    int sure = lossless && policy == HT_BLOCK;
    while (!ht_load(&stop)) {
        ht_reader r;
        if (ht_join(&ring, lossless != NULL, HT_START_OLDEST, 0, 0, "all", &r) != HT_OK) complain("no slot", 0);
        r.verify = 1;
        read_some(&r, UINT64_MAX, sure, lossless ? "lossless" : "lossy");
        ht_add(&lost, ht_load(&r.slot->missed));
        ht_leave(&r);
    }
    return lossless;
}

static void *join_and_leave(void *unused) {
    uint64_t state = seed * 3 + 7, starts[] = {HT_START_NOW, HT_START_OLDEST, 0};
    while (!ht_load(&stop)) {
        ht_reader r;
        int lossless = (int)draw(&state, 2);
        starts[2] = ht_load(&ring.header->tail) + draw(&state, 8);
        if (ht_join(&ring, lossless, starts[draw(&state, 3)], 1000000, 0, "guest", &r) != HT_OK) complain("no slot", 0);
        ht_add(&joined, 1);
        read_some(&r, draw(&state, 6), 0, "guest");
        if (ht_seek(&r, ht_load(&ring.header->tail) + draw(&state, 4)) == HT_OK) read_some(&r, draw(&state, 3), 0, "guest that went back");
        ht_leave(&r);
    }
    return unused;
}

static void *evict_some(void *unused) {
    uint64_t state = seed * 5 + 3;
    while (!ht_load(&stop)) {
        if (policy == HT_OVERWRITE && draw(&state, 50) == 0) ht_evict(&ring, (int)draw(&state, 6));
        ht_reap(&ring, NULL);
        ht_seq_at(ring.header, 0);
        sched_yield();
    }
    return unused;
}

int main(int count, char **words) {
    ht_options options = {.capacity_bytes = 65536, .slots = 32};
    pthread_t threads[7];
    int fd;
    if (count != 6) return 2;
    policy = atoi(words[2]);
    options.frame_bytes = even = strtoull(words[3], NULL, 10);
    options.flags = (uint32_t)atoi(words[4]);
    seed = strtoull(words[5], NULL, 10);
    int rc = ht_create_fd("stress", &options, &ring, &fd);
    if (rc != HT_OK) return fprintf(stderr, "%s\n", ht_explain(rc)), 2;
    void *(*const work[])(void *) = {write_all, read_all, read_all, read_all, join_and_leave, evict_some, write_all};
    int many = options.flags & HT_SHARED ? 7 : 6;
    for (int i = 0; i < many; i++) pthread_create(&threads[i], NULL, work[i], i == 1 || i == 2 || i == 6 ? &ring : NULL);
    struct timespec pause = {atoi(words[1]) / 1000, atoi(words[1]) % 1000 * 1000000};
    nanosleep(&pause, NULL);
    ht_store(&stop, 1);
    for (int i = 0; i < many; i++) pthread_join(threads[i], NULL);
    evicted = ring.header->evicted;
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", written, taken, lost, joined, evicted);
    ht_detach(&ring);
    close(fd);
    return wrong != 0;
}
