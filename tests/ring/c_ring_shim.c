/* The C API's inline functions and fields as functions, for ctypes. Adds nothing of its own. */
#include "halftrack_ring.h"

uint64_t c_size(int what) {
    static const uint64_t sizes[] = {sizeof(ht_output), sizeof(ht_reader), sizeof(ht_gone)};
    return sizes[what];
}

int c_reserve(ht_output *out, uint64_t bytes) { return out->held ? ht_reserve(&out->w, bytes) : HT_FULL; }
void c_spare(ht_output *out, uint32_t priority) { out->spare = priority; }
void *c_at(ht_output *out) { return out->w.at; }
uint64_t c_published(ht_output *out) { return out->w.head; }
uint64_t c_run(ht_output *out, uint64_t length) { return ht_run_frames(out->w.h, length); }
uint64_t c_publish(ht_output *out, uint64_t count, uint64_t length, uint32_t flags, uint64_t epoch, int64_t time) {
    return ht_publish(&out->w, count, length, flags, epoch, time);
}

static void tell(const ht_found *f, uint64_t seq, int64_t *into) {
    int gap = f->flags & HT_GAP;
    into[0] = (int64_t)f->end;
    into[1] = (int64_t)f->length;
    into[2] = (int64_t)f->epoch;
    into[3] = f->timestamp_ns;
    into[4] = gap;
    into[5] = (int64_t)(gap ? f->bytes : ht_frame_at(f, seq));
}
int c_look(ht_reader *r) { return ht_look(r); }
void c_found(const ht_reader *r, int64_t *into) { tell(&r->found, r->cursor, into); }
int c_peek(const ht_ring *ring, uint64_t seq, int64_t *into) {
    ht_found found;
    memset(&found, 0, sizeof found);
    int rc = ht_locate(ring->header, seq, &found);
    if (rc == HT_OK) tell(&found, seq, into);
    return rc;
}
int c_peek_intact(const ht_ring *ring, uint64_t seq) { return ht_intact(ring->header, seq); }
int c_intact(const ht_reader *r) { return ht_intact(r->h, r->cursor); }
int c_held(ht_reader *r) { return ht_held(r); }
void c_done(ht_reader *r, uint64_t seq) { ht_done(r, seq); }
void c_verify(ht_reader *r) { r->verify = 1; }
void c_reader(const ht_reader *r, uint64_t *into) {
    into[0] = r->cursor;
    into[1] = ht_load(&r->slot->overruns);
    into[2] = ht_load(&r->slot->missed);
    into[3] = (uint64_t)r->number;
    into[4] = (uint64_t)r->spin_ns;
}

void c_header(const ht_ring *ring, uint64_t *into) {
    const ht_header *h = ring->header;
    uint64_t words[] = {ht_load(&h->head), ht_load(&h->tail), h->capacity_bytes, h->slots, h->dropped, h->gap_frames, h->evicted,
                        ht_pid_of(ht_load(&h->writer)), h->generation, h->frame_bytes, h->flags & HT_CHECKED, h->base_seq,
                        ht_limit(h), h->data_head, ht_descriptor_of(h, h->tail_record)->offset,
                        ht_credit(h), h->most_lag, h->blocked, h->blocked_ns, h->writers_died, h->flags & HT_SHARED, (uint64_t)h->retain_ns};
    memcpy(into, words, sizeof words);
}
const char *c_text(const ht_ring *ring, int what) { return what ? ring->header->schema : ring->header->label; }
const char *c_writer_name(const ht_ring *ring) { return ring->header->writer_name; }
const char *c_slot(const ht_ring *ring, int number, uint64_t *into) {
    const ht_slot *slot = &ring->header->readers[number];
    into[0] = ht_load(&slot->owner);
    into[1] = ht_load(&slot->cursor);
    into[2] = ht_load(&slot->overruns);
    into[3] = ht_load(&slot->missed);
    into[4] = slot->priority;
    into[5] = ht_load(&slot->most_lag);
    return slot->name;
}

void c_stores_begin(ht_stores *s, uint64_t capacity, int kind) { ht_stores_begin(s, capacity, kind); }
int c_stores_count(ht_stores *s, uint64_t bytes, int64_t ns) { return ht_stores_count(s, bytes, ns), s->kind; }
void c_stream(char *into, const char *from, uint64_t bytes) { ht_stream(into, from, bytes); }
