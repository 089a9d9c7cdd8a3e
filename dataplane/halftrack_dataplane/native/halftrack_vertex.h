/* A vertex in C or C++: what a shared object must offer to be a release's artifact.
 *
 *     #include "halftrack_vertex.h"
 *     const ht_vertex Sums = {HT_VERTEX_ABI, sizeof(ht_vertex), create, destroy, process, snapshot, restore};
 *
 *     cc -O2 -shared -fPIC -Idataplane/halftrack_dataplane/native sums.c -o sums.so     # entry: sums:Sums
 *
 * The runner loads it, finds the symbol behind the colon of the release's `entry`, and calls what it names from one thread, as it calls a vertex
 * in Python: the contract is the same (docs/vertices.md), and so are swaps, snapshots and the comparison of a pair's outputs. Nothing is to be linked:
 * all that a vertex calls is in `ht_host`.
 *
 * ABI version 1. New members come at the ends of the structures, so `size` says which a vertex knows; any other change makes a new version, and a
 * vertex of another version is refused when it is loaded.
 */
#ifndef HALFTRACK_VERTEX_H
#define HALFTRACK_VERTEX_H

#include <stdint.h>

#define HT_VERTEX_ABI 1

#ifdef __cplusplus
extern "C" {
#endif

/* What a vertex may call, during the call that it was given it in. */
typedef struct ht_host {
    uint32_t size;
    /* Gives bytes away, which are copied: an output of `process`, or the next piece of `snapshot`. */
    void (*give)(struct ht_host *host, const void *bytes, uint64_t length);
    /* Says why the call fails, which then returns its failure. The process ends with these words. */
    void (*fail)(struct ht_host *host, const char *why);
} ht_host;

/* A frame: its bytes are valid during the call. */
typedef struct {
    uint64_t seq;
    uint64_t epoch;
    int64_t timestamp_ns;
    const void *bytes;
    uint64_t length;
} ht_vertex_frame;

typedef struct {
    uint32_t abi;  /* HT_VERTEX_ABI */
    uint32_t size; /* sizeof(ht_vertex) */
    /* A vertex that has seen nothing; NULL: it failed. `params` is a JSON object, as the release has them. */
    void *(*create)(const char *params, ht_host *host);
    void (*destroy)(void *vertex);
    /* Takes the next frame in and gives what it makes of it: nothing, an output, or several. 0, or -1: it failed. */
    int (*process)(void *vertex, const ht_vertex_frame *frame, ht_host *host);
    /* Gives all that the next `process` depends on, in one piece or several. 0, or -1. NULL here and in `restore`: there is no state. */
    int (*snapshot)(void *vertex, ht_host *host);
    /* Goes on from a snapshot. How many of the coming outputs to suppress, because they would mix two releases; or -1. */
    int64_t (*restore)(void *vertex, const void *state, uint64_t length, int same_release, ht_host *host);
} ht_vertex;

#ifdef __cplusplus
}
#endif

#endif
