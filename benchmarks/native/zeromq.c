/* libzmq from C, over a UNIX socket: PUSH to one PULL, or a PUB that never drops (XPUB_NODROP) to several SUB.
 *
 * usage: zeromq push|pub SIZE COUNT READERS ADDRESS
 */
#include <zmq.h>

#include "payload.h"
#include "sides.h"

static const char *address;
static int publishing;
static void *context, *place;
static char *local;

static void must(int rc) {
    if (rc < 0) wrong(zmq_strerror(zmq_errno()));
}

static void write_all(const work *w, int number, int started) {
    (void)number;
    if (!started) {
        int yes = 1;
        char who[8];
        local = malloc(w->size);
        context = zmq_ctx_new();
        place = zmq_socket(context, publishing ? ZMQ_XPUB : ZMQ_PUSH);
        if (publishing) must(zmq_setsockopt(place, ZMQ_XPUB_NODROP, &yes, sizeof yes));
        if (publishing) must(zmq_setsockopt(place, ZMQ_XPUB_VERBOSE, &yes, sizeof yes));
        must(zmq_bind(place, address));
        for (int i = 0; publishing && i < w->readers; i++) must(zmq_recv(place, who, sizeof who, 0));
        return;
    }
    for (uint64_t n = 0; n < w->count; n++) {
        zmq_msg_t message;
        must(zmq_msg_init_size(&message, w->size));
        if (w->size > 64) fill_block(zmq_msg_data(&message), w->size, n);
        else stamp_frames(zmq_msg_data(&message), 1, w->size, n);
        must(zmq_msg_send(&message, place, 0));
    }
}

static void read_all(const work *w, int number, int started) {
    (void)number;
    if (!started) {
        int patience = 30000;
        context = zmq_ctx_new();
        place = zmq_socket(context, publishing ? ZMQ_SUB : ZMQ_PULL);
        must(zmq_setsockopt(place, ZMQ_RCVTIMEO, &patience, sizeof patience));
        if (publishing) must(zmq_setsockopt(place, ZMQ_SUBSCRIBE, "", 0));
        must(zmq_connect(place, address));
        return;
    }
    for (uint64_t n = 0; n < w->count; n++) {
        zmq_msg_t message;
        must(zmq_msg_init(&message));
        must(zmq_msg_recv(&message, place, 0));
        const char *at = zmq_msg_data(&message);
        if (zmq_msg_size(&message) != w->size) wrong("a frame's length");
        if (w->size > 64 ? !block_is(at, w->size, n) : !frames_are(at, 1, w->size, n)) wrong("a frame's bytes");
        zmq_msg_close(&message);
    }
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    work w = {strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10), atoi(argv[4]), NULL};
    publishing = argv[1][2] == 'b';
    address = argv[5];
    return race(&w, write_all, read_all, 0);
}
