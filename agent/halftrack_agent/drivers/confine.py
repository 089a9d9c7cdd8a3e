"""What an instance is kept from: other networks, the host's own keys, every capability, ever gaining one. Runs in the forked child, before exec.

Standard library only, and few of its modules, for the reason that `procfs` gives: it is loaded with `python -I -S`. Each function raises OSError
when the kernel refuses; the shim then does not start the workload.
"""

import ctypes
import fcntl
import os
import signal
import struct

if __name__ == "__main__":  # the probe of `halftrack_agent.abilities`: started by path, like the shim
    import sys

    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from halftrack_agent.drivers import procfs

# <sched.h>, <sys/mount.h>, <sys/prctl.h>, <linux/capability.h>, <sys/socket.h>, <linux/sockios.h>, <net/if.h>
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_SETPCAP = 8
_CAP_SYS_ADMIN = 21
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SLAVE = 0x80000
_AF_INET = 2
_SOCK_DGRAM = 2
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def effective() -> int:
    """The set of capabilities in force, as a bit mask."""
    for line in procfs.read("/proc/self/status").decode("ascii", "replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def become_subreaper() -> None:
    """Orphans among our descendants become our children: PID 1 of a container may reap late or never."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "PR_SET_CHILD_SUBREAPER")


def end_with(parent: int) -> None:
    """This process is killed when the thread of `parent` that began it ends, or now, if that is over: what it writes, the next one writes anew."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG")
    if os.getppid() != parent:  # ended before the kernel knew
        os.kill(os.getpid(), signal.SIGKILL)


def enter_own_network() -> None:
    """A network namespace with nothing but a loopback interface. Without CAP_SYS_ADMIN: inside a user namespace of its own."""
    if effective() >> _CAP_SYS_ADMIN & 1:
        _checked(_libc.unshare(_CLONE_NEWNET), "a network namespace")
    else:
        user, group = os.getuid(), os.getgid()
        _checked(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET), "a user and network namespace")
        procfs.write("/proc/self/setgroups", "deny")
        procfs.write("/proc/self/uid_map", f"{user} {user} 1")
        procfs.write("/proc/self/gid_map", f"{group} {group} 1")
    control = _checked(_libc.socket(_AF_INET, _SOCK_DGRAM, 0), "a socket")
    try:
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0)))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
    finally:
        os.close(control)


def hide(paths: list[str], hosts: str = "") -> None:
    """Each of these files is empty from here on, for this process and what it starts; /etc/hosts is `hosts`, if that is a file.

    Needs CAP_SYS_ADMIN; without it: nothing.

    The workload has the agent's user, so permissions cannot keep it from the agent's key; a mount namespace can, and without
    capabilities nobody in it takes the mount away. What the host mounts later is still seen (a slave, not private).
    """
    if not (paths or hosts) or not effective() >> _CAP_SYS_ADMIN & 1:
        return
    _checked(_libc.unshare(_CLONE_NEWNS), "a mount namespace")
    _checked(_libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None), "a mount namespace of its own")
    for path in paths:
        if os.path.exists(path):
            _checked(_libc.mount(b"/dev/null", os.fsencode(path), None, _MS_BIND, None), f"hiding {path}")
    if hosts:
        _checked(_libc.mount(os.fsencode(hosts), b"/etc/hosts", None, _MS_BIND, None), "an /etc/hosts of its own")


def drop_all_capabilities() -> None:
    """Every set of capabilities empty, the bounding set first: root without it gains nothing from exec. Then no_new_privs."""
    if effective() >> _CAP_SETPCAP & 1:
        capability = 0
        while _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:  # until the kernel knows no more
            _checked(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "PR_CAPBSET_DROP")
            capability += 1
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)  # kernels before 4.3 have none
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, struct.pack("6I", *[0] * 6)), "capset")
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


if __name__ == "__main__":
    enter_own_network()
    drop_all_capabilities()
