/* A reader in C: checks the instrument's blocks where they lie, without a copy, and says how far it came.
 *
 *     cc -O2 -Idataplane/halftrack_dataplane/native examples/native/consumer.c build/native/libhalftrack_ring.a -o consumer
 *     ./consumer /dev/shm/sky 1000
 *
 * Lossless: the instrument waits for it. If it is killed, whoever reaps (the agent, or the next reader that joins) frees its hold.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "halftrack_ring.h"

#define SAMPLES 256

typedef struct {
    uint64_t number;
    int16_t samples[SAMPLES];
} block;

static int right(const block *seen, uint64_t seq) {
    int good = seen->number == seq * SAMPLES;
    for (int i = 0; i < SAMPLES; i++) good &= seen->samples[i] == (int16_t)(seen->number + (uint64_t)i);
    return good;
}

static int give_up(const char *what, int code) {
    if (code == HT_SYSTEM) perror(what);
    else fprintf(stderr, "%s: %s\n", what, ht_explain(code));
    return 1;
}

/* Everything of the record at the cursor; gaps are counted, not read. */
static int take(ht_reader *reader, uint64_t *wrong, uint64_t *lost) {
    const ht_found *found = &reader->found;
    uint64_t end = found->end;
    if (found->flags & HT_GAP) *lost += end - reader->cursor;
    else
        for (uint64_t seq = reader->cursor; seq < end; seq++) *wrong += !right((const block *)ht_frame_at(found, seq), seq);
    if (!ht_held(reader)) return HT_EVICTION; /* then the bytes may have been others' meanwhile */
    ht_done(reader, end);
    return HT_OK;
}

int main(int count, char **words) {
    ht_ring ring;
    ht_reader reader;
    uint64_t frames = count > 2 ? strtoull(words[2], NULL, 10) : 1000, wrong = 0, lost = 0;
    if (count < 2) return fprintf(stderr, "usage: consumer RING [FRAMES]\n"), 2;

    int code = ht_open(words[1], 0, &ring);
    if (code != HT_OK) return give_up(words[1], code);
    if ((code = ht_join(&ring, 1, HT_START_OLDEST, 0, 0, "consumer", &reader)) != HT_OK) return give_up("joining", code);
    uint64_t until = reader.cursor + frames;
    while (reader.cursor < until) {
        do code = ht_wait(&reader, -1);
        while (code == HT_AGAIN);
        if (code == HT_OK) code = take(&reader, &wrong, &lost);
        if (code != HT_OK) return give_up("reading", code);
    }
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", reader.cursor, wrong, lost);
    ht_leave(&reader);
    ht_detach(&ring);
    return wrong != 0;
}
