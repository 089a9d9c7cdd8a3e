/* A ring's file or memfd: how it appears whole or not at all, and what is refused on opening. See halftrack_ring.h.
 *
 * Owns the file and the mapping; the layout is ring_layout.h's. Never removes a file: whoever created a stream unlinks it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create, O_TMPFILE */
#endif
#include "halftrack_ring.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

static int fits(const ht_options *o) {
    return o->capacity_bytes >= 1 && o->capacity_bytes < UINT64_C(1) << 62 && o->slots >= 2 && !(o->slots & (o->slots - 1)) &&
           o->slots <= UINT64_C(1) << 32 && o->base_seq < UINT64_C(1) << 62 && o->retain_ns >= 0 && !(o->flags & ~(uint32_t)HT_FLAGS) &&
           o->frame_bytes <= ht_round(o->capacity_bytes, HT_PAGE) / 2 && (!o->label || strlen(o->label) < HT_RING_LABEL) &&
           (!o->schema || strlen(o->schema) < HT_SCHEMA);
}

static int map(int fd, uint64_t bytes, int readonly, ht_ring *ring) {
    void *at = mmap(NULL, bytes, readonly ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    memset(ring, 0, sizeof *ring);
    if (at == MAP_FAILED) return HT_SYSTEM;
    ring->header = (ht_header *)at;
    ring->bytes = bytes;
    ring->readonly = readonly;
    ring->registered = ht_register();
    return HT_OK;
}

/* posix_fallocate: an error now instead of SIGBUS in the middle of a frame. */
static int fill(int fd, const ht_options *o, ht_ring *ring) {
    uint64_t capacity = ht_round(o->capacity_bytes, HT_PAGE);
    uint64_t bytes = sizeof(ht_header) + ht_index_bytes(o->slots) + capacity;
    if ((errno = posix_fallocate(fd, 0, (off_t)bytes)) != 0) return HT_SYSTEM;
    if (map(fd, bytes, 0, ring) != HT_OK) return HT_SYSTEM;
    if (o->label) strcpy(ring->header->label, o->label);
    if (o->schema) strcpy(ring->header->schema, o->schema);
    ring->header->frame_bytes = o->frame_bytes;
    ring->header->flags = o->flags;
    ring->header->retain_ns = o->retain_ns;
    ht_format(ring->header, o->slots, capacity, o->base_seq, o->generation);
    return HT_OK;
}

/* A file to lay a ring out in, and the name to link it by: none of its own where the file system has such files (not all do, those of
 * containers for one), else a draft's, which `named` says. A killed creator leaves a draft only there. */
static int begun(const char *path, char *name, size_t room, int *named) {
    const char *slash = strrchr(path, '/');
    *named = 0;
    if ((size_t)snprintf(name, room, "%.*s", slash ? (int)(slash - path + 1) : 2, slash ? path : "./") >= room) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = open(name, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) snprintf(name, room, "/proc/self/fd/%d", fd);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return fd;
    *named = 1;
    if ((size_t)snprintf(name, room, "%s.%d-%llx.draft", path, (int)getpid(), (unsigned long long)ht_now_ns()) >= room) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open(name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
}

/* The ring appears whole or not at all: it is laid out first and linked then, and a link refuses to replace. */
int ht_create(const char *path, const ht_options *options, ht_ring *ring) {
    char name[4096];
    int named;
    memset(ring, 0, sizeof *ring);
    if (!fits(options)) return HT_IMPOSSIBLE;
    int fd = begun(path, name, sizeof name, &named);
    if (fd < 0) return HT_SYSTEM;
    int rc = fchmod(fd, options->mode) == 0 ? fill(fd, options, ring) : HT_SYSTEM;
    if (rc == HT_OK && linkat(AT_FDCWD, name, AT_FDCWD, path, named ? 0 : AT_SYMLINK_FOLLOW) != 0) rc = HT_SYSTEM;
    int reason = errno;
    if (named) unlink(name);
    if (rc != HT_OK) ht_detach(ring);
    close(fd);
    errno = reason;
    return rc;
}

int ht_create_fd(const char *name, const ht_options *options, ht_ring *ring, int *fd) {
    memset(ring, 0, sizeof *ring);
    *fd = -1;
    if (!fits(options)) return HT_IMPOSSIBLE;
    int made = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (made < 0) return HT_SYSTEM;
    int rc = fill(made, options, ring);
    /* No holder of the descriptor can pull the memory from under the others. */
    if (rc == HT_OK && fcntl(made, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) rc = HT_SYSTEM;
    if (rc == HT_OK) {
        *fd = made;
        return rc;
    }
    int reason = errno;
    ht_detach(ring);
    close(made);
    errno = reason;
    return rc;
}

static int judge(const ht_ring *ring) {
    const ht_header *h = ring->header;
    if (h->magic != HT_MAGIC) return HT_NO_RING;
    if (h->version != HT_LAYOUT_VERSION) return HT_OTHER_VERSION;
    if (h->checksum != ht_checksum(h)) return HT_BAD_CHECKSUM;
    if (!ht_static_fits(h)) return HT_CONTRADICTION;
    return ring->bytes < h->total_bytes ? HT_TRUNCATED : HT_OK;
}

int ht_attach(int fd, int readonly, ht_ring *ring) {
    struct stat found;
    memset(ring, 0, sizeof *ring);
    if (fstat(fd, &found) != 0) return HT_SYSTEM;
    if (!S_ISREG(found.st_mode)) return HT_NO_RING;
    if ((uint64_t)found.st_size < sizeof(ht_header)) return HT_TRUNCATED;
    if (map(fd, (uint64_t)found.st_size, readonly, ring) != HT_OK) return HT_SYSTEM;
    int rc = judge(ring);
    uint32_t version = ring->header->version;
    if (rc != HT_OK) ht_detach(ring);
    ring->found_version = version;
    return rc;
}

/* O_NONBLOCK: a pipe by that name must be refused, not waited for. */
int ht_open(const char *path, int readonly, ht_ring *ring) {
    memset(ring, 0, sizeof *ring);
    int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return HT_SYSTEM;
    int rc = ht_attach(fd, readonly, ring), reason = errno;
    close(fd);
    errno = reason;
    return rc;
}

void ht_detach(ht_ring *ring) {
    if (ring->header) munmap(ring->header, ring->bytes);
    memset(ring, 0, sizeof *ring);
}

int ht_prefault(const ht_ring *ring) {
    return madvise(ring->header, ring->bytes, ring->readonly ? MADV_POPULATE_READ : MADV_POPULATE_WRITE) == 0 ? HT_OK : HT_SYSTEM;
}
