/* Datagrams on the loopback: the bare receiver in C that a capture is held against.
 *
 *   datagrams SIZE COUNT DEPTH AREA   recvmmsg into buffers that go round in AREA bytes; looks at each number
 *
 * It sends itself DEPTH packets at a time and times how long it takes to receive them: a sender on another processor is slower than either
 * receiver, and would be what is measured. Prints packets a second.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define FORCE 33 /* SO_RCVBUFFORCE */

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in here(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return at;
}

static void arm(struct mmsghdr *messages, struct iovec *parts, char *bytes, size_t size) {
    memset(messages, 0, BATCH * sizeof *messages);
    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){bytes + i * size, size};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
}

static void transmit(int to, uint64_t first, uint64_t count, char *bytes, size_t size) {
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    arm(messages, parts, bytes, size);
    for (uint64_t sent = 0; sent < count;) {
        int some = count - sent < BATCH ? (int)(count - sent) : BATCH;
        for (int i = 0; i < some; i++) *(uint64_t *)(bytes + i * size) = first + sent + i;
        int done = sendmmsg(to, messages, some, 0);
        if (done < 0) fail("sendmmsg");
        sent += done;
    }
}

static int connected(int port) {
    struct sockaddr_in at = here(port);
    int to = socket(AF_INET, SOCK_DGRAM, 0);
    if (to < 0 || connect(to, (struct sockaddr *)&at, sizeof at)) fail("connect");
    return to;
}

static void receive(size_t size, uint64_t count, uint64_t depth, size_t area) {
    int from = socket(AF_INET, SOCK_DGRAM, 0), buffer = 256 << 20;
    struct sockaddr_in at = here(0);
    socklen_t length = sizeof at;
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    size_t places = area / (BATCH * size) ? area / (BATCH * size) : 1, place = 0;
    char *all = malloc(places * BATCH * size), *sent = calloc(BATCH, size);
    double took = 0;
    memset(all, 1, places * BATCH * size);
    if (from < 0 || bind(from, (struct sockaddr *)&at, sizeof at) || getsockname(from, (struct sockaddr *)&at, &length)) fail("bind");
    if (setsockopt(from, SOL_SOCKET, FORCE, &buffer, sizeof buffer)) setsockopt(from, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    int to = connected(ntohs(at.sin_port));
    for (uint64_t seq = 0; seq < count;) {
        uint64_t end = seq + depth;
        transmit(to, seq, depth, sent, size);
        double began = seconds();
        while (seq < end) {
            char *bytes = all + place * BATCH * size;
            place = (place + 1) % places;
            arm(messages, parts, bytes, size);
            int got = recvmmsg(from, messages, BATCH, MSG_WAITFORONE, NULL);
            if (got < 0) fail("recvmmsg");
            for (int i = 0; i < got; i++, seq++)
                if (messages[i].msg_len != size || *(uint64_t *)(bytes + i * size) != seq) {
                    fprintf(stderr, "packet %llu is not what was sent\n", (unsigned long long)seq);
                    exit(1);
                }
        }
        took += seconds() - began;
    }
    printf("%.0f\n", (count + depth - 1) / depth * depth / took);
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    receive(atoi(argv[1]), strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
    return 0;
}
