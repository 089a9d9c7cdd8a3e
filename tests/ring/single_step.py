"""Stops another process between any two of its instructions and keeps what the ring's file looked like there.

That is what a SIGKILL at that instruction would leave: stores become visible in program order on the machines that the
layout is for, and the file is the memory. No sampling and no luck: every instruction of an operation is visited.
"""

import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path

TRACE_ME, STEP, CONTINUE = 0, 9, 7
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int) -> None:
    if _libc.ptrace(request, pid, None, None) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def moments(path: Path, prepare: Callable[[], Callable[[], object]], *, most: int = 300_000) -> list[bytes]:
    """All distinct contents of the file at `path` while a process does what `prepare` returned, which then is dead."""
    pid = os.fork()
    if pid == 0:
        try:
            act = prepare()
            act()  # once before, so that nothing is done for the first time while it is watched
            _ptrace(TRACE_ME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            act()
            os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            os._exit(1)
    try:
        return _watch(pid, path, most)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _watch(pid: int, path: Path, most: int) -> list[bytes]:
    _, status = os.waitpid(pid, 0)
    assert os.WIFSTOPPED(status), "the process ended before it could be watched"
    seen: list[bytes] = []
    with path.open("rb", buffering=0) as file:
        size = path.stat().st_size
        for _ in range(most):
            content = os.pread(file.fileno(), size, 0)
            if not seen or content != seen[-1]:
                seen.append(content)
            _ptrace(STEP, pid)
            _, status = os.waitpid(pid, 0)
            assert os.WIFSTOPPED(status), "the process ended while it was watched"
            if os.WSTOPSIG(status) == signal.SIGSTOP:
                return seen
    raise AssertionError(f"not done after {most} instructions")
