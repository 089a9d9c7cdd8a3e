/* Making, opening, joining, waiting and leaving: what a ring does beside moving frames. See halftrack_ring.h.
 *
 * Owns the file, the claims of slots and the judgement who is dead; the layout is ring_layout.h's, the orderings ring_wait.h's.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create, MADV_POPULATE_WRITE */
#endif
#include "halftrack_ring.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

/* ---- waiting -------------------------------------------------------------------------------------------------- */

/* Sleeping and being woken costs about 35 us, on both sides, so waiting awake for as long can cost twice the best at most (Karlin
 * et al., 1990); how long it is worth is learnt from whether it helped. First beside the other side, then giving way to it, since
 * it may want this very processor. */
#define SPIN_MOST_NS 40000
#define SPIN_LEAST_NS 1000
#define SPINS 32

static int spun(int64_t *budget_ns, const uint64_t *word, uint64_t passes, int64_t deadline_ns) {
    int64_t now = ht_now_ns(), end = now + *budget_ns;
    if (deadline_ns >= 0 && deadline_ns < end) return 0; /* too little time to learn anything from: who only looks does not spin */
    for (int i = 0; i < SPINS; i++) {
        if (HT_RELAXED(word) > passes) return 1;
        ht_pause();
    }
    for (; now < end; now = ht_now_ns()) {
        sched_yield();
        if (HT_RELAXED(word) > passes) {
            *budget_ns = *budget_ns * 2 < SPIN_MOST_NS ? *budget_ns * 2 : SPIN_MOST_NS;
            return 1;
        }
    }
    *budget_ns = *budget_ns / 2 > SPIN_LEAST_NS ? *budget_ns / 2 : SPIN_LEAST_NS;
    return 0;
}

/* ---- making and opening ---------------------------------------------------------------------------------------- */

static int fits(const ht_options *o) {
    return o->capacity_bytes >= 1 && o->capacity_bytes < UINT64_C(1) << 62 && o->slots >= 2 && !(o->slots & (o->slots - 1)) &&
           o->slots <= UINT64_C(1) << 32 && o->base_seq < UINT64_C(1) << 62 && !(o->flags & ~(uint32_t)HT_CHECKED) &&
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
    ht_format(ring->header, o->slots, capacity, o->base_seq, o->generation);
    return HT_OK;
}

/* The ring appears whole or not at all: it is laid out in a file without a name, which is then linked; a link refuses to replace. */
int ht_create(const char *path, const ht_options *options, ht_ring *ring) {
    char draft[64], folder[4096];
    const char *slash = strrchr(path, '/');
    memset(ring, 0, sizeof *ring);
    if (!fits(options)) return HT_IMPOSSIBLE;
    if ((size_t)snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path + 1) : 2, slash ? path : "./") >= sizeof folder) {
        errno = ENAMETOOLONG;
        return HT_SYSTEM;
    }
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) return HT_SYSTEM;
    int rc = fchmod(fd, options->mode) == 0 ? fill(fd, options, ring) : HT_SYSTEM;
    snprintf(draft, sizeof draft, "/proc/self/fd/%d", fd);
    if (rc == HT_OK && linkat(AT_FDCWD, draft, AT_FDCWD, path, AT_SYMLINK_FOLLOW) != 0) rc = HT_SYSTEM;
    int reason = errno;
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

/* ---- who is who ------------------------------------------------------------------------------------------------ */

/* State letter and start time in ticks from /proc/PID/stat; 0 if there is no such file. The name may hold spaces and brackets.
 * A zombie whose other threads go on, after its first one has ended, is no zombie to us: 'R'. */
static char process(const char *pid, uint64_t *started) {
    char path[64], text[1024], *at;
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    if (got <= 0) return 0;
    text[got] = 0;
    if (!(at = strrchr(text, ')')) || at[1] != ' ') return 0;
    char state = at[2];
    at += 2;
    for (int field = 3; field < 22 && at; field++) {
        if (field == 20 && strtoull(at, NULL, 10) > 1) state = 'R';
        at = strchr(at + 1, ' ');
    }
    if (!at) return 0;
    *started = strtoull(at, NULL, 10);
    return state;
}

static uint64_t namespace_bits(void) {
    struct stat found;
    return stat("/proc/self/ns/pid", &found) == 0 ? (uint64_t)found.st_ino & 0xffff : 0;
}

static uint64_t packed(uint64_t pid, uint64_t started) {
    return (pid & 0x3fffff) << 3 | namespace_bits() << 25 | (started & 0x7fffff) << 41;
}

uint64_t ht_identity(void) {
    static __thread uint64_t own;
    static __thread pid_t whose;
    uint64_t started = 0;
    if (whose != getpid()) { /* the first time, or after a fork */
        process("self", &started);
        own = packed((uint64_t)getpid(), started);
        whose = getpid();
    }
    return own;
}

/* Certainly dead? Another pid namespace's processes cannot be judged from here, and count as living. */
int ht_is_dead(uint64_t owner) {
    char pid[24];
    uint64_t started = 0;
    if ((owner >> 25 & 0xffff) != namespace_bits()) return 0;
    snprintf(pid, sizeof pid, "%llu", (unsigned long long)ht_pid_of(owner));
    char state = process(pid, &started);
    if (state) return state == 'Z' || state == 'X' || state == 'x' || packed(ht_pid_of(owner), started) != (owner & ~HT_STATE_MASK);
    /* /proc may be mounted with hidepid: only "no such process" is proof */
    return kill((pid_t)ht_pid_of(owner), 0) != 0 && errno == ESRCH;
}

static void put_name(char *at, const char *name) {
    memset(at, 0, HT_NAME);
    if (name) strncpy(at, name, HT_NAME - 1);
}

/* ---- the writer ------------------------------------------------------------------------------------------------ */

int ht_begin(const ht_ring *ring, int policy, const char *name, ht_output *out, uint64_t *holder) {
    ht_header *h = ring->header;
    uint64_t mine = ht_identity() | HT_WRITING;
    memset(out, 0, sizeof *out);
    *holder = HT_FREE;
    if (ring->readonly) return HT_READONLY;
    if ((unsigned)policy > HT_OVERWRITE) return HT_IMPOSSIBLE;
    while (!ht_swap_if(&h->writer, HT_FREE, mine)) { /* SYNC: slot owned */
        *holder = ht_load(&h->writer);
        if (*holder == HT_FREE) continue;
        if (!ht_is_dead(*holder)) return HT_TAKEN;
        if (ht_swap_if(&h->writer, *holder, mine)) break;
    }
    if (ht_resume(&out->w, h, mine, ring->registered) != HT_OK) {
        memset(out, 0, sizeof *out);
        ht_swap_if(&h->writer, mine, HT_FREE); /* SYNC: slot owned */
        return HT_DAMAGED;
    }
    out->policy = policy;
    put_name(h->writer_name, name);
    return HT_OK;
}

void ht_unblock(ht_output *out) {
    if (out->armed) ht_disarm_writer(out->w.h);
    out->armed = 0;
    out->blocked_ns = 0;
}

void ht_finish(ht_output *out) {
    if (!out->w.h) return;
    ht_unblock(out);
    ht_swap_if(&out->w.h->writer, out->w.owner, HT_FREE); /* SYNC: slot owned */
    memset(out, 0, sizeof *out);
}

void ht_dropped(ht_output *out, uint64_t count) { ht_store(&out->w.h->dropped, out->w.h->dropped + count); }

/* The slot is another's from now on, or nobody's: wakes whom that may concern. */
static void slot_taken(ht_header *h) {
    ht_wake(&h->data_event);
    ht_wake_writer(h, 0);
}

/* It stays the owner's until that notices or dies, so that a late store of its cursor can hurt nobody; its bit among the waiters
 * is the owner's too: cleared by us, it could be that of the slot's next owner. */
static int evict_slot(ht_header *h, int slot, uint64_t owner) {
    if (!ht_swap_if(&h->readers[slot].owner, owner, (owner & ~HT_STATE_MASK) | HT_EVICTED)) return 0; /* SYNC: slot owned */
    ht_add(&h->evicted, 1);
    slot_taken(h);
    return 1;
}

/* Frees a slot whose `owner` is us or dead. First it becomes ours, so that nobody can join there while its bit is cleared; dying
 * here leaves it to the next who reaps. */
static int free_slot(ht_header *h, int slot, uint64_t owner) {
    uint64_t mine = ht_identity() | HT_CLAIMING;
    if (!ht_swap_if(&h->readers[slot].owner, owner, mine)) return 0; /* SYNC: slot owned */
    ht_disarm_reader(h, slot);
    ht_swap_if(&h->readers[slot].owner, mine, HT_FREE); /* SYNC: slot owned */
    slot_taken(h);
    return 1;
}

/* Evicts lossless readers in the way: all of them (newest frames win), or those whose patience with us is over. Returns how
 * long the most impatient of the rest still has, at most `slice`. */
static int64_t evict_laggards(ht_output *out, int all, int64_t now, int64_t slice) {
    ht_header *h = out->w.h;
    uint32_t limit = ht_limit(h);
    for (uint32_t i = 0; i < limit; i++) {
        ht_slot *reader = &h->readers[i];
        uint64_t owner = ht_load(&reader->owner);
        if ((owner & HT_STATE_MASK) != HT_LOSSLESS || ht_load(&reader->cursor) >= out->w.needed) continue;
        int64_t left = reader->evict_after_ns ? reader->evict_after_ns - (now - out->blocked_ns) : slice;
        if (all || left <= 0) evict_slot(h, (int)i, owner);
        else if (left < slice) slice = left;
    }
    return slice;
}

int ht_room(ht_output *out, uint64_t bytes, int64_t deadline_ns) {
    ht_header *h = out->w.h;
    int rc = ht_reserve(&out->w, bytes);
    while (rc == HT_FULL && out->policy == HT_OVERWRITE) {
        evict_laggards(out, 1, 0, 0);
        rc = ht_reserve(&out->w, bytes);
    }
    if (rc == HT_FULL && out->policy == HT_BLOCK) {
        int64_t now = ht_now_ns();
        if (deadline_ns < 0 || now < deadline_ns) {
            if (!out->blocked_ns || out->blocked_at != out->w.head) out->blocked_ns = now;
            out->blocked_at = out->w.head;
            if (!out->armed) out->sure = ht_arm_writer(h);
            out->armed = 1;
            uint32_t event = ht_event(&h->space_event);
            rc = ht_reserve(&out->w, bytes); /* SYNC: space wake-up: having announced, look again */
            if (rc == HT_FULL) {
                ht_sleep(&h->space_event, event, evict_laggards(out, 0, now, ht_slice(deadline_ns, out->sure)));
                return HT_AGAIN;
            }
        }
    }
    if (out->armed || out->blocked_ns) ht_unblock(out);
    return rc;
}

/* ---- readers --------------------------------------------------------------------------------------------------- */

/* Claims a free slot, lowest first so that the writer scans few; -1 if there is none. */
static int claim_slot(ht_header *h) {
    for (int i = 0; i < HT_READERS; i++) {
        if (!ht_swap_if(&h->readers[i].owner, HT_FREE, ht_identity() | HT_CLAIMING)) continue; /* SYNC: slot owned */
        uint32_t limit = HT_RELAXED(&h->reader_limit);
        while (limit <= (uint32_t)i &&
               !__atomic_compare_exchange_n(&h->reader_limit, &limit, i + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
        }
        return i;
    }
    return -1;
}

static void missed(ht_slot *slot, uint64_t count) {
    ht_store(&slot->overruns, slot->overruns + 1);
    ht_store(&slot->missed, slot->missed + count);
}

/* Where a stream begins: behind the record, if there is one, that says where it does. */
static uint64_t oldest(const ht_header *h, ht_found *found) {
    uint64_t tail = ht_load(&h->tail);
    return ht_locate(h, tail, found) == HT_OK && found->flags & HT_BEFORE ? found->end : tail;
}

int ht_join(const ht_ring *ring, int lossless, uint64_t start, int64_t evict_after_ns, const char *name, ht_reader *r) {
    ht_header *h = ring->header;
    memset(r, 0, sizeof *r);
    if (ring->readonly) return HT_READONLY;
    int number = claim_slot(h);
    if (number < 0) {
        ht_reap(ring, NULL);
        if ((number = claim_slot(h)) < 0) return HT_NO_SLOT;
    }
    r->h = h;
    r->slot = &h->readers[number];
    r->number = number;
    r->lossless = lossless;
    r->spin_ns = SPIN_MOST_NS;
    r->registered = ring->registered;
    r->owner = ht_identity() | (lossless ? HT_LOSSLESS : HT_LOSSY);
    put_name(r->slot->name, name);
    ht_store(&r->slot->overruns, 0);
    ht_store(&r->slot->missed, 0);
    r->slot->evict_after_ns = evict_after_ns;
    int named = start < HT_START_OLDEST;
    uint64_t wanted = named ? start : start == HT_START_NOW ? ht_load(&h->head) : oldest(h, &r->found);
    ht_store(&r->slot->cursor, wanted);
    ht_swap_if(&r->slot->owner, ht_identity() | HT_CLAIMING, r->owner); /* from here on it gates */
    r->cursor = ht_pin(h, r->slot, wanted);
    if (named && r->cursor > wanted) missed(r->slot, r->cursor - wanted);
    /* A writer that saw `wanted` gave way to us; now that we want less it must hear of it, or it would sleep. */
    if (lossless && r->cursor > wanted) ht_wake_writer(h, r->registered);
    return HT_OK;
}

/* Whether ours or evicted, the slot is ours to free: only now can we no longer store a cursor into it. */
void ht_leave(ht_reader *r) {
    if (!r->h) return;
    if (!free_slot(r->h, r->number, r->owner)) free_slot(r->h, r->number, (r->owner & ~HT_STATE_MASK) | HT_EVICTED);
    memset(r, 0, sizeof *r);
}

int ht_seek(ht_reader *r, uint64_t seq) {
    if (!ht_held(r)) return HT_EVICTION;
    r->cursor = ht_pin(r->h, r->slot, seq);
    if (r->lossless) ht_wake_writer(r->h, r->registered);
    if (r->cursor > seq) missed(r->slot, r->cursor - seq);
    return HT_OK;
}

int ht_overrun(ht_reader *r, int again) {
    uint64_t to = ht_load(&r->h->tail);
    if (again) to += (ht_load(&r->h->head) - to) / 2;
    missed(r->slot, to - r->cursor);
    r->cursor = to;
    ht_store(&r->slot->cursor, to);
    return HT_OK;
}

int ht_wait(ht_reader *r, int64_t deadline_ns) {
    int rc = ht_look(r);
    if (rc == HT_NOTHING && !r->armed && spun(&r->spin_ns, &r->h->head, r->cursor, deadline_ns)) rc = ht_look(r);
    if (rc == HT_NOTHING && (deadline_ns < 0 || ht_now_ns() < deadline_ns)) {
        if (!r->armed) r->sure = ht_arm_reader(r->h, r->number);
        r->armed = 1;
        uint32_t event = ht_event(&r->h->data_event);
        rc = ht_look(r); /* SYNC: frame wake-up: having announced, look again */
        if (rc == HT_NOTHING) {
            ht_sleep(&r->h->data_event, event, ht_slice(deadline_ns, r->sure));
            rc = ht_look(r); /* whoever goes on to read must not stay among the waiters: each publish would be a system call */
            if (rc == HT_NOTHING) return HT_AGAIN;
        }
    }
    ht_unwait(r);
    return rc;
}

void ht_unwait(ht_reader *r) {
    if (r->armed) ht_disarm_reader(r->h, r->number);
    r->armed = 0;
}

uint64_t ht_seq_at(const ht_header *h, int64_t time_ns) {
    for (;;) {
        uint64_t head = HT_ACQUIRE(&h->head), low = HT_ACQUIRE(&h->tail_record), high = HT_ACQUIRE(&h->records), first = low;
        while (low < high) {
            uint64_t middle = low + (high - low) / 2;
            const ht_descriptor *d = ht_descriptor_of(h, middle);
            if (HT_RELAXED(&d->seq) < head && HT_RELAXED(&d->timestamp_ns) < time_ns) low = middle + 1;
            else high = middle;
        }
        uint64_t seq = HT_RELAXED(&ht_descriptor_of(h, low)->seq);
        HT_FENCE(ACQUIRE);
        if (HT_RELAXED(&h->tail_record) != first) continue;
        uint64_t tail = HT_RELAXED(&h->tail); /* a writer that died may have left tail_record behind it */
        return low >= HT_RELAXED(&h->records) || seq > head ? head : seq > tail ? seq : tail;
    }
}

/* ---- those who died -------------------------------------------------------------------------------------------- */

int ht_reap(const ht_ring *ring, ht_gone *gone) {
    ht_header *h = ring->header;
    int count = 0;
    uint32_t limit = ht_limit(h);
    if (ring->readonly) return 0;
    for (uint32_t i = 0; i < limit; i++) {
        ht_gone was = {ht_load(&h->readers[i].owner), (int)i, {0}};
        if (was.owner == HT_FREE || !ht_is_dead(was.owner)) continue;
        was.slot = h->readers[i]; /* a dead process's: nobody writes it */
        if (!free_slot(h, (int)i, was.owner)) continue;
        uint64_t state = was.owner & HT_STATE_MASK;
        if (state != HT_LOSSLESS && state != HT_LOSSY) continue; /* it had no hold, or has been counted */
        ht_add(&h->evicted, 1);
        if (gone) gone[count] = was;
        count++;
    }
    uint64_t writer = ht_load(&h->writer);
    if (writer != HT_FREE && ht_is_dead(writer)) ht_swap_if(&h->writer, writer, HT_FREE);
    return count;
}

int ht_evict(const ht_ring *ring, int slot) {
    if (ring->readonly) return HT_READONLY;
    if (slot < 0 || slot >= HT_READERS) return HT_IMPOSSIBLE;
    uint64_t owner = ht_load(&ring->header->readers[slot].owner), state = owner & HT_STATE_MASK;
    if (state == HT_LOSSLESS || state == HT_LOSSY) evict_slot(ring->header, slot, owner);
    return HT_OK;
}

const char *ht_explain(int code) {
    static const char *const words[] = {
        "done", "no frame yet", "overrun: older frames were reclaimed", "something wrote over the ring's memory",
        "no room: a lossless reader lags", "the frame's bytes do not match its checksum", "this reader was evicted",
        "not yet: call again", "a living process is the ring's writer", "all reader slots are taken", "this is no ring",
        "a ring of another layout version", "the header does not match its checksum", "the header contradicts itself",
        "the file is truncated", "no ring can be like that", "the system refused; see errno",
        "a frame takes half of the ring at most", "in this ring every frame has one length, and not this one",
        "the ring was opened read-only",
    };
    return code >= 0 && code < (int)(sizeof words / sizeof *words) ? words[code] : "unknown code";
}
