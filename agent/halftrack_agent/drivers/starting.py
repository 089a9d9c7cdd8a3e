"""Shims as they begin: executed, or forked from a zygote; either way a process that outlives the agent and is not to be waited for.

Owns which of the two it is, and the one thing that the agent may still do to a shim that does not answer.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from halftrack_agent.drivers.zygote import MODULE
from halftrack_dataplane.zygote import Forked, Zygote, ZygoteGone

GRACE_S = 2.0  # between SIGKILL and its effect
_SHIM = Path(__file__).with_name("shim.py")


class Shim:
    """A shim that was started. Who it is, it tells by its instance's folder; these descriptors only serve until then, and to reap it."""

    def __init__(self, popen: subprocess.Popen[bytes] | None = None, forked: Forked | None = None) -> None:
        self._popen, self._forked = popen, forked

    def kill(self) -> None:
        """SIGKILL, and wait for its end, for a bounded time."""
        if self._popen is not None:
            self._popen.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(GRACE_S)
        elif self._forked is not None:
            self._forked.signal(signal.SIGKILL)
            self._forked.ends(GRACE_S)

    def ended(self) -> None:
        """It is known to have: let the kernel forget it."""
        if self._popen is not None:
            self._popen.poll()

    def let_go(self) -> None:
        """It outlives us on purpose: nobody shall wait for it or warn about it."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.returncode = 0
        if self._forked is not None:
            os.close(self._forked.pidfd)
            self._forked = None


class Starter:
    """Starts shims; blocks, for as long as a fork takes, or an exec: call it in a thread."""

    def __init__(self) -> None:
        self._zygote = Zygote(MODULE, {"LANG": "C.UTF-8"})

    def start(self, folder: Path, ready: int, lock: int, *, stream: bool) -> Shim:
        """A shim for the order in `folder`, with these two descriptors. `stream`: the order runs a process of the data plane."""
        if stream:
            with contextlib.suppress(ZygoteGone):  # nothing has begun: the other way does as well
                forked = self._zygote.start([str(folder)], [ready, lock])
                # One that has not answered may have forked all the same. Then the shim tells who it is; if not, its end of `ready` closes.
                return Shim(forked=forked)
        return Shim(_executed(folder, ready, lock))

    def close(self) -> None:
        """The zygote ends; shims do not."""
        self._zygote.close()


class Inherited:
    """Children that a program before had, which became this one by exec (`agent.launching`): shims. Nobody else will reap them."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = set(pids)

    def reap(self) -> None:
        """Let the kernel forget those that have ended."""
        for pid in sorted(self._pids):
            try:
                done, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                done = pid
            if done:
                self._pids.discard(pid)


async def readable(fd: int) -> None:
    """Return when `fd` has something to read, or its other end is closed."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _resolve, future)
    try:
        await future
    finally:
        loop.remove_reader(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _executed(folder: Path, ready: int, lock: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_SHIM), str(folder), str(ready), str(lock)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        pass_fds=(ready, lock),
        start_new_session=True,
    )
