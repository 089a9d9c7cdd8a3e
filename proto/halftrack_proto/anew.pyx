"""A program that ends of a signal, or begins anew as the same process, out of the signal's handler: whatever its interpreter hangs in, or who holds its lock.

The handler is C, and calls nothing but what signal-safety(7) allows, who handled the signal before, and close_range(2), which is a bare system call. What is written to stderr
meanwhile waits for nobody: a reader that has gone away may be just what the program hangs in. By exec(2) every other thread ends, and what the program had open
closes; the process keeps its number, its children and its resource limits.
"""

from libc.signal cimport SIG_DFL, SIG_IGN, raise_, signal
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

cdef extern from "<fcntl.h>" nogil:
    int fcntl(int, int, ...)
    int F_GETFL, F_SETFL, O_NONBLOCK

cdef extern from "<unistd.h>" nogil:
    int execve(const char *, char **, char **)
    long syscall(long, ...)
    ssize_t write(int, const void *, size_t)

cdef extern from *:
    """
    #include <sys/syscall.h>
    #ifndef SYS_close_range
    #define SYS_close_range 436
    #endif
    static const char ENDS[] = "it has not moved for longer than it may: it ends\\n";
    static const char BEGINS[] = "it has not moved for longer than it may: it begins anew, as the same process\\n";
    """
    long SYS_close_range
    const char ENDS[]
    const char BEGINS[]

__all__ = ["on_signal"]

cdef enum:
    STDERR = 2
    ON_EXEC = 4  # CLOSE_RANGE_CLOEXEC; a kernel before 5.11 refuses it, and Python's own descriptors close all the same

ctypedef void (*Handler)(int) noexcept nogil

cdef bint _said = False
cdef char **_argv = NULL
cdef char **_environment = NULL
cdef Handler _before = NULL


def on_signal(int number, list argv, dict environment):
    """From now on `number` makes this process execute `argv` (bytes; the first is a path) in `environment` (bytes to bytes); empty: end, as of that signal.

    So it ends, too, where that cannot be executed. Who has handled the signal until now is called before. Said once in a process's life.
    """
    global _said, _argv, _environment, _before
    if _said:
        raise RuntimeError("it is said already what comes of that signal")
    if argv:
        _environment = _words([name + b"=" + value for name, value in environment.items()])
        _argv = _words(argv)
    _said = True
    _before = <Handler>signal(number, _begin)


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
    _tell(number)
    sigemptyset(&this)
    sigaddset(&this, number)
    pthread_sigmask(SIG_UNBLOCK, &this, NULL)  # a mask outlives exec; the next life is to hear its alarm, too
    if _argv != NULL:
        syscall(SYS_close_range, <unsigned int>3, ~<unsigned int>0, <unsigned int>ON_EXEC)
        execve(_argv[0], _argv, _environment)
    signal(number, SIG_DFL)
    raise_(number)


cdef void _tell(int number) noexcept nogil:
    """Of the flags of what stderr is, which others may share, all are put back."""
    cdef int flags = fcntl(STDERR, F_GETFL)
    if flags < 0:
        return
    fcntl(STDERR, F_SETFL, flags | O_NONBLOCK)
    if _argv != NULL:
        write(STDERR, BEGINS, sizeof(BEGINS) - 1)
    else:
        write(STDERR, ENDS, sizeof(ENDS) - 1)
    if _before != <Handler>SIG_DFL and _before != <Handler>SIG_IGN:
        _before(number)
    fcntl(STDERR, F_SETFL, flags)
