/* A vertex in C: the sum of the last frames' words, which is its state. Behind every `window` frames it says the sum's oddness as well.
 *
 *     cc -O2 -shared -fPIC -Idataplane/halftrack_dataplane/native examples/native/moving_sum.c -o moving_sum.so
 *
 * Its release names `moving_sum:MovingSum` as its entry, `window` as a param, and `moving-sum/1` as its state.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "halftrack_vertex.h"

#define MOST 1024

typedef struct {
    uint64_t window, count, sum;
    uint64_t words[MOST]; /* the last ones, by their number modulo the window */
} moving_sum;

static void *create(const char *params, ht_host *host) {
    moving_sum *made = calloc(1, sizeof *made);
    const char *found = strstr(params, "\"window\":");
    if (made != NULL && found != NULL) made->window = strtoull(found + strlen("\"window\":"), NULL, 10);
    if (made == NULL || made->window == 0 || made->window > MOST) {
        host->fail(host, "the param `window` must be from 1 to 1024");
        free(made);
        return NULL;
    }
    return made;
}

static int process(void *vertex, const ht_vertex_frame *frame, ht_host *host) {
    moving_sum *self = vertex;
    uint64_t word, at = self->count % self->window;
    if (frame->length != sizeof word) {
        char why[96];
        snprintf(why, sizeof why, "frame %llu has %llu bytes, not 8", (unsigned long long)frame->seq, (unsigned long long)frame->length);
        host->fail(host, why);
        return -1;
    }
    memcpy(&word, frame->bytes, sizeof word);
    self->sum += word - self->words[at];
    self->words[at] = word;
    self->count++;
    host->give(host, &self->sum, sizeof self->sum);
    if (self->count % self->window == 0) host->give(host, self->sum % 2 ? "odd" : "even", self->sum % 2 ? 3 : 4);
    return 0;
}

static int snapshot(void *vertex, ht_host *host) {
    moving_sum *self = vertex;
    uint64_t head[3] = {self->window, self->count, self->sum};
    host->give(host, head, sizeof head);
    host->give(host, self->words, self->window * sizeof *self->words);
    return 0;
}

static int64_t restore(void *vertex, const void *state, uint64_t length, int same_release, ht_host *host) {
    moving_sum *self = vertex;
    uint64_t head[3];
    if (length != sizeof head + self->window * sizeof *self->words) {
        host->fail(host, "the state is of another window");
        return -1;
    }
    memcpy(head, state, sizeof head);
    memcpy(self->words, (const char *)state + sizeof head, length - sizeof head);
    self->count = head[1];
    self->sum = head[2];
    (void)same_release; /* every release computes the same, so none of its outputs mixes two */
    return 0;
}

const ht_vertex MovingSum = {HT_VERTEX_ABI, sizeof(ht_vertex), create, free, process, snapshot, restore};
