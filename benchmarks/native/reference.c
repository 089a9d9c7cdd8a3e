/* The reference: a plain ring for one writer and a few readers, as fast as such a ring is known to be, and nothing else.
 *
 * Fixed slots, one head, a tail for each reader, each on a line of its own (128 bytes: lines are fetched in pairs); both sides keep
 * copies of what they last saw of the other and look again only when these say full or empty. It has no policies, no deaths, no sleep,
 * no sequence or time of a frame. `one`: copied in and out one by one; `batch`: 32 at a time; `view`: filled and read in place.
 *
 * usage: reference one|batch|view SIZE COUNT READERS
 */
#include "payload.h"
#include "sides.h"

#define RING_BYTES (UINT64_C(4) << 20)
#define MOST_BYTES (UINT64_C(1) << 20)
#define BATCH 32

typedef struct {
    _Alignas(128) _Atomic uint64_t head;
    struct { _Alignas(128) _Atomic uint64_t at; } tail[8];
    _Alignas(4096) char bytes[];
} ring;

static uint64_t slots, batch;
static int in_place;
static _Alignas(64) char local[BATCH * 64];

static inline char *slot_of(ring *r, uint64_t n, uint64_t size) { return r->bytes + (n & (slots - 1)) * size; }

static uint64_t least_tail(ring *r, int readers) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < readers; i++) {
        uint64_t at = atomic_load_explicit(&r->tail[i].at, memory_order_acquire);
        if (at < least) least = at;
    }
    return least;
}

static void write_all(const work *w, int number, int started) {
    ring *r = w->shared;
    uint64_t tail = 0, size = w->size;
    (void)number;
    if (!started) return;
    for (uint64_t head = 0; head < w->count; head += batch) {
        for (unsigned spins = 0; head + batch - tail > slots; tail = least_tail(r, w->readers))
            if (spins++) idle(&spins);
        char *at = slot_of(r, head, size);
        if (in_place) {
            fill_block(at, size, head);
        } else {
            stamp_frames(local, batch, size, head);
            memcpy(at, local, batch * size);
        }
        atomic_store_explicit(&r->head, head + batch, memory_order_release);
    }
}

static void read_all(const work *w, int number, int started) {
    ring *r = w->shared;
    uint64_t head = 0, size = w->size;
    if (!started) return;
    for (uint64_t tail = 0; tail < w->count; tail += batch) {
        for (unsigned spins = 0; head < tail + batch; head = atomic_load_explicit(&r->head, memory_order_acquire))
            if (spins++) idle(&spins);
        const char *at = slot_of(r, tail, size);
        if (in_place) {
            if (!block_is(at, size, tail)) wrong("a frame's bytes");
        } else {
            memcpy(local, at, batch * size);
            if (!frames_are(local, batch, size, tail)) wrong("a frame's number");
        }
        atomic_store_explicit(&r->tail[number].at, tail + batch, memory_order_release);
    }
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    work w = {strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10), atoi(argv[4]), NULL};
    in_place = argv[1][0] == 'v';
    batch = argv[1][0] == 'b' ? BATCH : 1;
    slots = (w.size < MOST_BYTES ? RING_BYTES : 2 * RING_BYTES) / w.size;
    w.count = w.count / batch * batch;
    if (!in_place && (w.size > 64 || w.size * batch > sizeof local)) return 2;
    w.shared = shared_memory(sizeof(ring) + slots * w.size);
    return race(&w, write_all, read_all, w.readers == 1);
}
