/* An instrument in C: samples its signal straight into a ring, a block a frame, for readers in C or Python.
 *
 *     make native
 *     cc -O2 -Idataplane/halftrack_dataplane/native examples/native/instrument.c build/native/libhalftrack_ring.a -o instrument
 *     ./instrument /dev/shm/sky 1000
 *
 * It makes the ring if there is none, and goes on where its predecessor ended, killed or not.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "halftrack_ring.h"

#define SAMPLES 256

typedef struct {
    uint64_t number; /* of the first sample */
    int16_t samples[SAMPLES];
} block;

static void sample(block *into, uint64_t number) { /* a saw tooth, so that whoever reads can tell that it is right */
    into->number = number * SAMPLES;
    for (int i = 0; i < SAMPLES; i++) into->samples[i] = (int16_t)(into->number + (uint64_t)i);
}

static int give_up(const char *what, int code) {
    if (code == HT_SYSTEM) perror(what);
    else fprintf(stderr, "%s: %s\n", what, ht_explain(code));
    return 1;
}

int main(int count, char **words) {
    ht_options options = {0};
    ht_ring ring;
    ht_output out;
    uint64_t holder, frames = count > 2 ? strtoull(words[2], NULL, 10) : 1000;
    if (count < 2) return fprintf(stderr, "usage: instrument RING [FRAMES]\n"), 2;

    options.capacity_bytes = 8 << 20;
    options.slots = 1024;
    options.mode = 0600;
    options.frame_bytes = sizeof(block);
    options.label = "saw tooth";
    options.schema = "[('number', '<u8'), ('samples', '<i2', (256,))]"; /* NumPy's words for `block` */
    int code = ht_create(words[1], &options, &ring);
    if (code == HT_SYSTEM && errno == EEXIST) code = ht_open(words[1], 0, &ring);
    if (code != HT_OK) return give_up(words[1], code);
    if (ring.header->frame_bytes != sizeof(block)) return give_up(words[1], HT_WRONG_LENGTH);

    if ((code = ht_begin(&ring, HT_BLOCK, "instrument", &out, &holder)) != HT_OK) return give_up("becoming the writer", code);
    while (frames-- > 0) {
        do code = ht_room(&out, sizeof(block), -1); /* a lossless reader may make us wait; a slice at a time, for signals */
        while (code == HT_AGAIN);
        if (code != HT_OK) return give_up("making room", code);
        sample((block *)out.w.at, out.w.head);
        ht_publish(&out.w, 1, sizeof(block), 0, 0, ht_now_ns());
    }
    printf("%" PRIu64 "\n", out.w.head);
    ht_finish(&out);
    ht_detach(&ring);
    return 0;
}
