"""A program that begins anew, as the same process, out of a signal's handler: whatever its interpreter hangs in, or who holds its lock.

The handler is C, and calls nothing but what signal-safety(7) allows, and close_range(2), which is a bare system call. By exec(2) every other thread ends, and what the program had open
closes; the process keeps its number, its children and its resource limits.
"""

from libc.signal cimport SIG_DFL, raise_, signal
from libc.stdlib cimport calloc
from libc.string cimport strdup

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int sigemptyset(sigset_t *)
    int sigaddset(sigset_t *, int)
    int SIG_UNBLOCK

cdef extern from "<pthread.h>" nogil:
    int pthread_sigmask(int, const sigset_t *, sigset_t *)

cdef extern from "<unistd.h>" nogil:
    int execve(const char *, char **, char **)
    long syscall(long, ...)

cdef extern from *:
    """
    #include <sys/syscall.h>
    #ifndef SYS_close_range
    #define SYS_close_range 436
    #endif
    """
    long SYS_close_range

__all__ = ["on_signal"]

cdef enum:
    ON_EXEC = 4  # CLOSE_RANGE_CLOEXEC; a kernel before 5.11 refuses it, and Python's own descriptors close all the same

cdef char **_argv = NULL
cdef char **_environment = NULL


def on_signal(int number, list argv, dict environment):
    """From now on `number` makes this process execute `argv` (bytes; the first is a path) in `environment` (bytes to bytes).

    Where that cannot be executed, the signal ends the process, as it does by itself. Called once in a process's life, before anything else handles `number`.
    """
    global _argv, _environment
    if _argv != NULL:
        raise RuntimeError("it is said already how this process begins anew")
    if not argv:
        raise ValueError("nothing to execute")
    _environment = _words([name + b"=" + value for name, value in environment.items()])
    _argv = _words(argv)
    signal(number, _begin)


cdef char **_words(list texts) except NULL:
    """A vector of C strings, which stands as long as the process does."""
    cdef char **words = <char **>calloc(len(texts) + 1, sizeof(char *))
    if words == NULL:
        raise MemoryError
    for at, text in enumerate(texts):
        words[at] = strdup(<bytes>text)
        if words[at] == NULL:
            raise MemoryError
    return words


cdef void _begin(int number) noexcept nogil:
    cdef sigset_t this
    sigemptyset(&this)
    sigaddset(&this, number)
    pthread_sigmask(SIG_UNBLOCK, &this, NULL)  # a mask outlives exec; the next life is to hear its alarm, too
    syscall(SYS_close_range, <unsigned int>3, ~<unsigned int>0, <unsigned int>ON_EXEC)
    execve(_argv[0], _argv, _environment)
    signal(number, SIG_DFL)
    raise_(number)
