# libzmq's calls on messages, out of the very library that pyzmq uses: a socket of one copy of it is nothing to another.

ctypedef struct zmq_msg_t:
    void *words[8]  # 64 bytes, aligned as pointers are: libzmq's ABI since 4.1

ctypedef void (*free_fn)(void *data, void *hint) noexcept nogil

ctypedef struct Calls:
    int (*init)(zmq_msg_t *) noexcept nogil
    int (*init_size)(zmq_msg_t *, size_t) noexcept nogil
    int (*init_data)(zmq_msg_t *, void *, size_t, free_fn, void *) noexcept nogil
    int (*send)(zmq_msg_t *, void *, int) noexcept nogil
    int (*recv)(zmq_msg_t *, void *, int) noexcept nogil
    int (*close)(zmq_msg_t *) noexcept nogil
    int (*more)(const zmq_msg_t *) noexcept nogil
    void *(*data)(zmq_msg_t *) noexcept nogil
    size_t (*size)(const zmq_msg_t *) noexcept nogil
    int (*error)() noexcept nogil

cdef enum:
    DONTWAIT = 1
    SNDMORE = 2

cdef const Calls *calls() except NULL
cdef void *socket_of(object socket) except NULL
