# The bridge's C for Cython: frames in bytes, and what is in libzmq's hands. What they do is said in native/bridge_*.h.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from halftrack_dataplane.native cimport ht_header, ht_output

cdef extern from "bridge_data.h" nogil:
    enum:
        HT_WIRE_DATA, HT_WIRE_LATE, HT_WIRE_GAP, HT_WIRE_VERSION, HT_BATCH_RECORDS, HT_FRAME_COST, HT_WHOLE
    const uint64_t HT_BATCH_FRAMES, HT_BATCH_BYTES, HT_FRAME_MOST
    ctypedef struct ht_wire_header:
        uint16_t version
        uint8_t kind
        uint64_t first, amount
        uint32_t records
    ctypedef struct ht_wire_record:
        uint32_t count, length
        uint64_t epoch
        int64_t timestamp_ns
    ctypedef struct ht_wire:
        ht_wire_header head
        const char *payload
        uint64_t frames
    int ht_wire_is(const void *message, uint64_t bytes)
    ht_wire_record ht_wire_record_at(const ht_wire *w, uint32_t number)
    const char *ht_wire_read(const void *message, uint64_t bytes, ht_wire *w)
    uint64_t ht_wire_cost(const ht_wire *w)
    void ht_wire_write(void *into, int kind, uint64_t first, uint64_t amount, uint32_t records)

cdef extern from "bridge_flight.h" nogil:
    ctypedef struct ht_lane:
        uint64_t messages
    ctypedef struct ht_bundle:
        char bytes[1]
    ctypedef struct ht_parcel:
        char verdict
    ht_lane *ht_lane_new(int wake_fd, uint32_t enough)
    void ht_lane_drop(ht_lane *lane)
    int ht_lane_waits(ht_lane *lane)
    uint64_t ht_lane_messages(ht_lane *lane)
    uint64_t ht_lane_bytes(ht_lane *lane)
    ht_bundle *ht_bundle_new(uint64_t bytes)
    void ht_bundle_drop(ht_bundle *bundle)
    ht_parcel *ht_parcel_new(ht_lane *lane, ht_bundle *bundle, const ht_header *h, uint64_t seq, uint64_t bytes)
    void ht_payload_back(void *data, void *hint) noexcept
    void ht_verdict_back(void *data, void *hint) noexcept

cdef extern from "halftrack_ring.h" nogil:
    int ht_send(ht_output *out, const void *frames, uint64_t count, uint64_t length, uint64_t epoch, int64_t time, int64_t deadline_ns)
