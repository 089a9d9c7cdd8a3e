"""Which process this is, and whether the one that owns a slot is dead. For cimport.

Owns the packing of an owner word's identity (see ring_layout.h) and the judgement; never takes anything from anybody.
"""

import os

from halftrack_dataplane.frames import RingError

from halftrack_dataplane.ring_layout cimport HT_STATE_MASK, uint64_t

_ALIVE_STATES = "RSDTtIWPK"  # of /proc/PID/stat; Z and X have let go of their memory

cdef int fork_count = 0
cdef uint64_t own_identity = 0


def _after_fork():
    global fork_count, own_identity
    fork_count += 1
    own_identity = 0


os.register_at_fork(after_in_child=_after_fork)


cdef int forks() noexcept:
    """How many forks lie between the import and this process: objects of a parent's count are not ours."""
    return fork_count


cdef object process_of(object pid):
    """(state, start time in ticks) from /proc/PID/stat, or None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()  # the name may hold spaces and brackets
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0].decode(), int(fields[19])


cdef uint64_t namespace() except? 0:
    return os.stat("/proc/self/ns/pid").st_ino & 0xffff


cdef uint64_t pack(uint64_t pid, uint64_t namespace, uint64_t started) noexcept:
    return (pid & 0x3fffff) << 3 | namespace << 25 | (started & 0x7fffff) << 41


cdef uint64_t identity() except 0:
    """This process, in the form in which it owns slots (see ring_layout.h)."""
    global own_identity
    if own_identity == 0:
        own_identity = pack(os.getpid(), namespace(), process_of("self")[1])
    return own_identity


cdef uint64_t pid_of(uint64_t owner) noexcept:
    return owner >> 3 & 0x3fffff


cdef bint is_dead(uint64_t owner) except -1:
    """Certainly dead? Another pid namespace's processes cannot be judged from here, and count as living."""
    if owner >> 25 & 0xffff != namespace():
        return False
    pid = pid_of(owner)
    process = process_of(pid)
    if process is not None:
        return process[0] not in _ALIVE_STATES or pack(pid, namespace(), process[1]) != owner & ~HT_STATE_MASK
    try:
        os.kill(pid, 0)  # /proc may be mounted with hidepid: only "no such process" is proof
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


cdef object forked():
    return RingError("this object was made before a fork, and belongs to the parent process; open the ring again")
