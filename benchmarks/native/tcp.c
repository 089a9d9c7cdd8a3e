/* Plain TCP over loopback: one connection to each reader, nothing but bytes of a size that both sides know.
 *
 * usage: tcp SIZE COUNT READERS PORT
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "payload.h"
#include "sides.h"

static struct sockaddr_in place;
static int listening, connections[8];
static char *local;

static void must(int rc, const char *what) {
    if (rc < 0) wrong(what);
}

static void write_all(const work *w, int number, int started) {
    (void)number;
    if (!started) {
        int yes = 1;
        local = malloc(w->size);
        for (int i = 0; i < w->readers; i++) {
            must(connections[i] = accept(listening, NULL, NULL), "accept");
            must(setsockopt(connections[i], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes), "nodelay");
        }
        return;
    }
    for (uint64_t n = 0; n < w->count; n++) {
        fill_block(local, w->size, n);
        for (int i = 0; i < w->readers; i++)
            for (uint64_t sent = 0; sent < w->size;) {
                ssize_t more = send(connections[i], local + sent, w->size - sent, MSG_NOSIGNAL);
                must((int)more, "send");
                sent += (uint64_t)more;
            }
    }
}

static void read_all(const work *w, int number, int started) {
    if (!started) {
        local = malloc(w->size);
        connections[number] = socket(AF_INET, SOCK_STREAM, 0);
        must(connect(connections[number], (struct sockaddr *)&place, sizeof place), "connect");
        return;
    }
    for (uint64_t n = 0; n < w->count; n++) {
        must((int)recv(connections[number], local, w->size, MSG_WAITALL) == (int)w->size ? 0 : -1, "the connection ended");
        if (!block_is(local, w->size, n)) wrong("a frame's bytes");
    }
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int yes = 1;
    work w = {strtoull(argv[1], NULL, 10), strtoull(argv[2], NULL, 10), atoi(argv[3]), NULL};
    place = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[4])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    must(listening = socket(AF_INET, SOCK_STREAM, 0), "socket");
    must(setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes), "reuse");
    must(bind(listening, (struct sockaddr *)&place, sizeof place), "bind");
    must(listen(listening, 8), "listen");
    return race(&w, write_all, read_all, 0);
}
