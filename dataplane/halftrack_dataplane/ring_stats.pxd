from halftrack_dataplane.native cimport ht_header, ht_slot, uint64_t

cdef object ring_stats(ht_header *h)
cdef object slot_stats(int slot, uint64_t owner, const ht_slot *reader, uint64_t head)
