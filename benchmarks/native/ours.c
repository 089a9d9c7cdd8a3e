/* Our ring from C, through its public header: the same modes as reference.c, with every promise of the ring kept.
 *
 * usage: ours one|batch|view SIZE COUNT READERS
 */
#include "payload.h"
#include "sides.h"

#include "halftrack_ring.h"

#define RING_BYTES (UINT64_C(4) << 20)
#define MOST_BYTES (UINT64_C(1) << 20)
#define BATCH 32

static uint64_t batch;
static int in_place, descriptor;
static ht_ring mine;
static ht_output out;
static ht_reader reader;
static _Alignas(64) char local[BATCH * 64];

static void attach(void) {
    if (ht_attach(descriptor, 0, &mine) != HT_OK || ht_prefault(&mine) != HT_OK) wrong("no ring");
}

static void room(uint64_t bytes) {
    int rc;
    while ((rc = ht_room(&out, bytes, -1)) == HT_AGAIN) {
    }
    if (rc != HT_OK) wrong("no room");
}

static void write_all(const work *w, int number, int started) {
    uint64_t holder;
    (void)number;
    if (!started) {
        attach();
        if (ht_begin(&mine, HT_BLOCK, "bench", &out, &holder) != HT_OK) wrong("no writer");
        return;
    }
    for (uint64_t n = 0; n < w->count; n += batch) {
        if (in_place) {
            if (ht_reserve(&out.w, w->size) != HT_OK) room(w->size);
            fill_block(out.w.at, w->size, n);
            ht_publish(&out.w, 1, w->size, 0, 0, 0);
            continue;
        }
        stamp_frames(local, batch, w->size, n);
        if (ht_write(&out.w, local, batch, w->size, 0, 0) == HT_OK) continue;
        room(batch * w->size);
        memcpy(out.w.at, local, batch * w->size);
        ht_publish(&out.w, batch, w->size, 0, 0, 0);
    }
    ht_finish(&out);
}

static void read_all(const work *w, int number, int started) {
    (void)number;
    if (!started) {
        attach();
        if (ht_join(&mine, 1, HT_START_OLDEST, 0, 0, "bench", &reader) != HT_OK) wrong("no reader");
        return;
    }
    while (reader.cursor < w->count) {
        int rc = ht_look(&reader);
        while (rc == HT_NOTHING || rc == HT_AGAIN) rc = ht_wait(&reader, -1);
        if (rc != HT_OK) wrong(ht_explain(rc));
        uint64_t seq = reader.cursor, some = reader.found.end - seq;
        const char *at = ht_frame_at(&reader.found, seq);
        if (in_place) {
            some = 1;
            if (!block_is(at, w->size, seq)) wrong("a frame's bytes");
        } else {
            some = some < batch ? some : batch;
            memcpy(local, at, some * w->size);
            if (!frames_are(local, some, w->size, seq)) wrong("a frame's number");
        }
        ht_done(&reader, seq + some);
    }
    ht_leave(&reader);
}

int main(int argc, char **argv) {
    ht_ring made;
    if (argc != 5) return 2;
    work w = {strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10), atoi(argv[4]), NULL};
    in_place = argv[1][0] == 'v';
    batch = argv[1][0] == 'b' ? BATCH : 1;
    w.count = w.count / batch * batch;
    if (!in_place && (w.size > 64 || w.size * batch > sizeof local)) return 2;
    ht_options options = {.capacity_bytes = w.size < MOST_BYTES ? RING_BYTES : 2 * RING_BYTES, .slots = 4096, .mode = 0600};
    options.frame_bytes = w.size;
    if (ht_create_fd("bench", &options, &made, &descriptor) != HT_OK) wrong("no ring made");
    return race(&w, write_all, read_all, w.readers == 1);
}
