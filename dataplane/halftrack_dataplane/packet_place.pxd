# The memory that a capture of packets works in, and what it asks of the kernel. A place may outlive its process: `capture_place` reads its layout,
# so whatever changes in it changes there, and its magic with it.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from posix.time cimport timespec

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_TRUNC, MSG_WAITFORONE, SOL_SOCKET
    ctypedef unsigned int socklen_t
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct cmsghdr:
        int cmsg_level, cmsg_type
    cmsghdr *CMSG_FIRSTHDR(msghdr *message)
    unsigned char *CMSG_DATA(cmsghdr *control)
    int recvmmsg(int fd, mmsghdr *messages, unsigned int count, int flags, timespec *timeout)

cdef extern from *:
    """
    #ifndef SO_RXQ_OVFL
    #define SO_RXQ_OVFL 40
    #endif
    static inline uint32_t ht_le32(const unsigned char *at) { uint32_t v; memcpy(&v, at, 4); return v; } /* the ring wants little-endian machines */
    static inline uint64_t ht_le64(const unsigned char *at) { uint64_t v; memcpy(&v, at, 8); return v; }
    static inline uint64_t ht_be64(const unsigned char *at) { return __builtin_bswap64(ht_le64(at)); }
    #define HT_PLACE 0x31304543414c5048ULL /* "HPLACE01" */
    /* A killed process has done its stores in the order of its instructions, so only the compiler must be told. */
    static inline void ht_in_order(void) { __asm__ __volatile__("" ::: "memory"); }
    """
    const int SO_RXQ_OVFL
    const uint64_t HT_PLACE
    uint32_t ht_le32(const unsigned char *at) nogil
    uint64_t ht_le64(const unsigned char *at) nogil
    uint64_t ht_be64(const unsigned char *at) nogil
    void ht_in_order() nogil

cdef struct Row:  # what ring sequence a number has: number + shift
    uint64_t shift, epoch

cdef struct Place:  # the head of a place; then the messages, what precedes each, the kept ones' numbers and times, a batch, the kept ones
    uint64_t magic, frame_bytes, window, kind, started, armed, kernel_seen, socket, which
    Row rows[2]
    uint64_t reserved[3]

cdef enum:
    BATCH = 64  # packets of one call: what a system call costs is by then a small part
    CONTROL = 64  # room for the count of what the kernel dropped
    PREFIX = 8
    SLICE = 100000000  # ns until signals and progress are seen to, and until a hole is given up when nothing comes
    ARRIVAL = 1
    LITTLE = 2
    BIG = 3
    VDIF = 4


cdef inline uint64_t leaps_until(uint64_t *leaps, int count, uint64_t passed) noexcept nogil:
    while count and leaps[count - 1] > passed:
        count -= 1
    return count
