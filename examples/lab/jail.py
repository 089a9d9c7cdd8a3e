"""A world of its own for the demo: PID, mount, network, IPC and host-name namespaces that end with the process that asked.

Owns how that world is made and how it ends. Everything inside is a descendant of its PID 1, so that the kernel itself takes
all of it down when PID 1 dies; and PID 1 dies with the launcher, even if that is killed with SIGKILL. Mounts are private to
the world and vanish with it. What is inside is not its concern: it runs one function and hands its exit status on.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from examples.lab import kernel

NAMESPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWPID
USERS_LIMIT = Path("/proc/sys/user/max_user_namespaces")
# Debian's own switch, and Ubuntu's: both refuse unprivileged user namespaces with EPERM and say nothing.
USERS_SWITCHES = (
    (Path("/proc/sys/kernel/unprivileged_userns_clone"), "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    (
        Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


class CannotIsolate(Exception):  # noqa: N818 - reads as what it is at the place where it is raised
    """The machine does not let us make namespaces; the message says what to change."""


def missing() -> str:
    """Why this machine cannot run the lab, and the command that changes it; empty when nothing is known to be missing."""
    if sys.platform != "linux":
        return "The demo needs Linux: it is made of network namespaces."
    if os.geteuid() == 0:
        return ""
    for switch, off, remedy in USERS_SWITCHES:
        if switch.exists() and switch.read_text().strip() == off:
            return f"Unprivileged user namespaces are switched off. Run as root, or: sudo {remedy}"
    if USERS_LIMIT.exists() and USERS_LIMIT.read_text().strip() == "0":
        return "No user namespace is allowed. Run as root, or: sudo sysctl -w user.max_user_namespaces=10000"
    return ""


def run_isolated(main: Callable[[], int]) -> int:
    """Run `main` in a world of its own and return its exit status; nothing of that world is left when this returns."""
    if reason := missing():
        raise CannotIsolate(reason)
    heart, guard = (
        os.pipe()
    )  # the world ends when the last write end of this pipe is closed: the launcher holds the only one
    launcher = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(guard)
        os._exit(_guarded(lambda: _keeper(main, heart, launcher)))
    os.close(heart)
    try:
        with _passing_on(child):
            return _status(os.waitpid(child, 0)[1])
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        raise
    finally:
        os.close(guard)


def _keeper(main: Callable[[], int], heart: int, launcher: int) -> int:
    """Between the launcher and PID 1: only the child of a process that has unshared its PIDs is PID 1."""
    kernel.die_with_parent()
    if os.getppid() != launcher:
        return 1  # it died before we could ask to be told
    os.setsid()  # the terminal's Ctrl-C reaches the launcher alone, which passes it on once
    uid, gid = os.geteuid(), os.getegid()
    try:
        kernel.unshare(NAMESPACES if uid == 0 else NAMESPACES | kernel.CLONE_NEWUSER)
    except OSError as error:
        print(
            f"This machine refuses to make namespaces ({error}). Run as root, or outside a restricted container.",
            file=sys.stderr,
        )
        return 1
    if uid != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    first = os.fork()
    if first == 0:
        os._exit(_guarded(lambda: _init(main, heart)))
    os.close(heart)
    with _passing_on(first):
        return _status(os.waitpid(first, 0)[1])


def _init(main: Callable[[], int], heart: int) -> int:
    """PID 1: private mounts, then `main` in a child; reaps everybody, ends with `main` or with the launcher."""
    kernel.die_with_parent()
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    for folder in ("/dev/shm", "/run"):  # noqa: S108 - made private right here
        kernel.mount("tmpfs", folder, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    watcher = os.fork()
    if watcher == 0:
        os.read(heart, 1)  # returns when the launcher is gone
        os.kill(1, signal.SIGTERM)
        os._exit(0)
    os.close(heart)
    worker = os.fork()
    if worker == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os._exit(_guarded(main))
    signal.signal(signal.SIGINT, lambda *_: _kill(worker, signal.SIGINT))
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == worker:
            return _status(status)


class _passing_on:  # noqa: N801 - used as a statement
    """While active, SIGINT and SIGTERM to us go to `pid` as SIGINT, so that the world ends in its own order."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __enter__(self) -> None:
        def forward(_number: int, _frame: FrameType | None) -> None:
            _kill(self.pid, signal.SIGINT)

        self.before = [(number, signal.signal(number, forward)) for number in (signal.SIGINT, signal.SIGTERM)]

    def __exit__(self, *_error: object) -> None:
        for number, handler in self.before:
            signal.signal(number, handler)


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _guarded(main: Callable[[], int]) -> int:
    """The status of `main` in a forked child, which must never return into its parent's code."""
    try:
        return main()
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:  # noqa: BLE001 - the child's last line of defence; the traceback is what there is to tell
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _status(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code
