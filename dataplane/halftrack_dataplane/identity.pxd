from libc.stdint cimport uint64_t

cdef int forks() noexcept
cdef uint64_t identity() except 0
cdef uint64_t pid_of(uint64_t owner) noexcept
cdef bint is_dead(uint64_t owner) except -1
cdef object forked()
