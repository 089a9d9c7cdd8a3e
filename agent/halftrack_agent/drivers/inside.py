"""Looking from inside an instance: a socket in its network, a program beside it.

Run by path, `python -I -S inside.py PARENT PID GROUPS WORD...`: joins the control groups (`:` between them), then the namespaces of PID, drops every capability, and becomes the
program, which ends with PARENT. What a probe runs is the release's own, so it has what the release's instance has, and no more. Standard library only, for the reason that `procfs` gives.
"""

import ctypes
import os
import signal
import sys

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from halftrack_agent.drivers import confine, procfs

# <sched.h>
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
NET, MOUNTS, USER = "net", "mnt", "user"
_KINDS = {NET: _CLONE_NEWNET, MOUNTS: _CLONE_NEWNS, USER: _CLONE_NEWUSER}


def apart(pid: int, kind: str) -> bool:
    """Is the process in another namespace of this kind than we are?"""
    return os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/thread-self/ns/{kind}")


def enter(pid: int, kinds: "list[str]") -> None:
    """Join those namespaces of the process, for this thread; OSError when the kernel refuses."""
    flags = sum(_KINDS[kind] for kind in kinds)
    if not flags:
        return
    handle = os.pidfd_open(pid)
    try:
        if _libc.setns(handle, flags) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"its namespaces: {os.strerror(number)}")
    finally:
        os.close(handle)


def main(parent: int, pid: int, groups: "list[str]", argv: "list[str]") -> None:
    """Become the program."""
    for procs in groups:
        procfs.write(procs, "0")
    enter(pid, [kind for kind in (USER, NET, MOUNTS) if apart(pid, kind)])
    confine.drop_all_capabilities()
    confine.end_with(parent)  # last: the kernel forgets it when capabilities change
    os.chdir("/")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the interpreter ignores it, and exec would pass that on
    try:
        os.execvpe(argv[0], argv, os.environ)  # noqa: S606 - an argument list; no shell is meant
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", flush=True)
        os._exit(127)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), [group for group in sys.argv[3].split(":") if group], sys.argv[4:])
