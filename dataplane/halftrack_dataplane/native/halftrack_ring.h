/* Rings for programs in C and C++: make, open, write, read, wait, leave. Link with libhalftrack_ring.a.
 *
 * ABI version 2: HT_ABI_VERSION is the headers', ht_abi() the library's; they must be equal, since the inline functions and the
 * library share structures. Any change of a structure's size or of a function's meaning makes a new version; new functions and
 * codes do not. Structures are the caller's, zeroed by the function that first fills them. Processes need not agree on the ABI, only
 * on the layout: a ring made by one layout version is refused by another (HT_OTHER_VERSION). Every function returns an HT_ code; HT_SYSTEM leaves its reason in errno. An object belongs
 * to one thread at a time. After a fork, the child opens the ring again.
 *
 * Frames pass through ring_protocol.h's inline functions (ht_write, ht_reserve and ht_publish; ht_look and ht_done below): none
 * of them makes a system call unless somebody sleeps. dataplane/README.md says what may die when.
 */
#ifndef HALFTRACK_RING_H
#define HALFTRACK_RING_H

#include "ring_cuts.h"
#include "ring_protocol.h"

#define HT_ABI_VERSION 2

enum {
    HT_EVICTION = 6,       /* this reader was evicted: leave, and join again to go on */
    HT_AGAIN = 7,          /* a slice of waiting is over: see to signals, then call again */
    HT_TAKEN = 8,          /* a living process is the ring's writer */
    HT_NO_SLOT = 9,        /* all reader slots are held by living processes */
    HT_NO_RING = 10,       /* what is there is no ring */
    HT_OTHER_VERSION = 11, /* a ring of another layout version */
    HT_BAD_CHECKSUM = 12,
    HT_CONTRADICTION = 13, /* the header's numbers do not fit each other */
    HT_TRUNCATED = 14,
    HT_IMPOSSIBLE = 15, /* options that no ring can have */
    HT_SYSTEM = 16,     /* see errno */
    /* HT_TOO_LARGE = 17 and HT_WRONG_LENGTH = 18 are ring_protocol.h's */
    HT_READONLY = 19, /* the ring was opened read-only */
};

enum { HT_BLOCK = 0, HT_DROP = 1, HT_OVERWRITE = 2 };

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    uint64_t capacity_bytes; /* rounded up to whole pages; a frame takes half of it at most */
    uint64_t slots;          /* records that are retained at most: a power of two, from 2 on */
    uint64_t base_seq;
    uint64_t generation;
    uint64_t frame_bytes; /* of every frame; 0: frames of any length */
    uint32_t flags;       /* HT_CHECKED, HT_SHARED */
    uint32_t mode;        /* of the file, as chmod takes it */
    const char *label;    /* less than HT_RING_LABEL bytes; NULL: none */
    const char *schema;   /* less than HT_SCHEMA bytes; NULL: none */
    int64_t retain_ns;    /* records older than the newest by more go, unless a lossless reader needs them; 0: when room is wanted */
} ht_options;

typedef struct {
    ht_header *header;
    uint64_t bytes;
    int readonly;
    int registered; /* with membarrier */
    uint32_t found_version; /* the layout's, also of a ring that was refused for it */
} ht_ring;

typedef struct {
    ht_header *h;
    ht_slot *slot;
    uint64_t owner; /* the word in slot->owner while it is ours */
    int number;
    int lossless;
    int registered;
    int armed, sure;
    int verify;      /* compare each record's checksum with its bytes */
    int evicted;
    uint64_t cursor; /* the next sequence that this reader wants */
    ht_found found;
    int32_t spin_ns;  /* how long waiting awake has proved worth while */
    uint32_t reserved;
    uint64_t checked; /* the record after the last one that was compared */
} ht_reader;

/* What to do when there is no room; how long that has lasted; and, in a shared ring, whose turn it is. */
typedef struct {
    ht_writer w;
    int policy; /* HT_BLOCK, HT_DROP, HT_OVERWRITE */
    int armed, sure;
    uint32_t spare; /* of a writer that overwrites: readers of this priority or more are waited for instead of evicted */
    int shared;
    int held;  /* has this writer the turn? In a ring of one writer always */
    int known;   /* has it seen what the ring holds? */
    int sending; /* did ht_send take the turn, and will give it back? */
    int64_t gave_ns; /* when it woke others for theirs; 0: not */
    int32_t spin_ns;   /* how long waiting awake has proved worth while */
    uint32_t waited_ms; /* for this sequence, in calls that were given up: a reader's patience does not begin anew with each */
    int64_t blocked_ns; /* since when; 0: not */
    uint64_t blocked_at; /* for which sequence */
} ht_output;

typedef struct {
    uint64_t owner;
    int number;
    ht_slot slot;
} ht_gone;

HT_ASSERT(sizeof(ht_options) == 72 && sizeof(ht_ring) == 32 && sizeof(ht_found) == 72, "ABI version 2");
HT_ASSERT(sizeof(ht_writer) == 208 && sizeof(ht_output) == 272 && sizeof(ht_reader) == 152 && sizeof(ht_gone) == 144, "ABI version 2");

int ht_abi(void);

int ht_create(const char *path, const ht_options *options, ht_ring *ring);
int ht_create_fd(const char *name, const ht_options *options, ht_ring *ring, int *fd); /* a memfd, to be passed on */
int ht_open(const char *path, int readonly, ht_ring *ring);
int ht_attach(int fd, int readonly, ht_ring *ring); /* the descriptor stays the caller's */
void ht_detach(ht_ring *ring);
int ht_prefault(const ht_ring *ring); /* maps every page now instead of in the middle of a frame */

int ht_begin(const ht_ring *ring, int policy, const char *name, ht_output *out, uint64_t *holder);
void ht_finish(ht_output *out);
int ht_room(ht_output *out, uint64_t bytes, int64_t deadline_ns); /* HT_OK: reserved. One slice of waiting at most */
/* ht_write that waits: HT_AGAIN after each slice (call again with the same), HT_FULL by policy or at the deadline. */
int ht_send(ht_output *out, const void *frames, uint64_t count, uint64_t length, uint64_t epoch, int64_t time, int64_t deadline_ns);
void ht_unblock(ht_output *out); /* gives up after HT_AGAIN: nobody needs to wake this writer, and it is another's turn */
void ht_dropped(ht_output *out, uint64_t count);
/* Shared rings: whoever has the turn publishes, frames of one turn follow each other. ht_send takes it and gives it back; ht_room takes it and keeps it if
 * it returns HT_OK, as ht_take_turn does: then ht_send and ht_publish use it until ht_pass_turn. Neither HT_FULL nor an error keeps it. One slice
 * of waiting at most: HT_AGAIN; HT_FULL at the deadline. In rings of one writer both do nothing. */
int ht_take_turn(ht_output *out, int64_t deadline_ns);
void ht_pass_turn(ht_output *out);
uint64_t ht_credit(const ht_header *h); /* bytes that fit before a lossless reader is in the way */

/* Joins at `start`, clamped to what is retained; HT_START_NOW and HT_START_OLDEST are words of their own. */
#define HT_START_NOW UINT64_MAX
#define HT_START_OLDEST (UINT64_MAX - 1)
int ht_join(
    const ht_ring *ring, int lossless, uint64_t start, int64_t evict_after_ns, uint32_t priority, const char *name, ht_reader *reader
);
void ht_leave(ht_reader *reader);
int ht_seek(ht_reader *reader, uint64_t seq);
int ht_wait(ht_reader *reader, int64_t deadline_ns); /* HT_OK: a record is at the cursor. One slice of waiting at most */
void ht_unwait(ht_reader *reader);                   /* gives up after HT_AGAIN: nobody needs to wake this reader */
int ht_overrun(ht_reader *reader, int again);        /* lossy: goes on at the oldest; half way to the head, `again` */

/* First sequence of the first retained record whose time is at or after `time_ns`; the head if there is none. */
uint64_t ht_seq_at(const ht_header *h, int64_t time_ns);

/* Frees what dead processes hold. Returns how many readers that were, and who: `gone` has room for HT_READERS, or is NULL. */
int ht_reap(const ht_ring *ring, ht_gone *gone);
int ht_evict(const ht_ring *ring, int slot);
int ht_is_dead(uint64_t owner);
uint64_t ht_identity(void);
static inline uint64_t ht_pid_of(uint64_t owner) { return owner >> 3 & 0x3fffff; }
const char *ht_explain(int code);

/* Does the record that was found match its checksum, if this reader wants to know? Once a record. */
static inline int ht_verified(ht_reader *r) {
    if (!r->verify || r->checked == r->found.record + 1) return 1;
    if (!ht_sound(&r->found)) return 0;
    r->checked = r->found.record + 1;
    return 1;
}

/* After using bytes that a lossless reader's cursor held: was the slot still its own all the time? Not if it was evicted. */
static inline int ht_held(ht_reader *r) {
    HT_FENCE(ACQUIRE); /* SYNC: slot owned: whatever was read before is older than this look */
    if (HT_RELAXED(&r->slot->owner) == r->owner) return 1;
    r->evicted = 1;
    return 0;
}

/* Is a record at the reader's cursor? HT_OK: ht_frame_at(&r->found, r->cursor) is its first byte, and frames up to
 * r->found.end follow. Makes no system call. */
static inline int ht_look(ht_reader *r) {
    int rc = ht_locate(r->h, r->cursor, &r->found);
    if (rc == HT_OK && !ht_verified(r)) rc = ht_intact(r->h, r->found.first) ? HT_CORRUPT : HT_BEHIND;
    return ht_held(r) ? rc : HT_EVICTION;
}

/* Done with everything below `seq`. */
static inline void ht_done(ht_reader *r, uint64_t seq) {
    r->cursor = seq;
    ht_advance(r->h, r->slot, seq, r->lossless, r->registered);
}

#ifdef __cplusplus
}
#endif

#endif
