"""A zygote: a process that has imported what the roles of the data plane need, and forks itself for each that is started.

What a member's start costs is mostly its interpreter's start and its imports (measured: 130 of 150 ms of processor time), on a machine that a stream
keeps busy, just when a member has died or is to be replaced. A fork costs two of them. The name is Android's, the protocol our own: one message
for each process to start, its words divided by zero bytes and its descriptors beside it; one answer, the pid, with a descriptor of the process.

Owns forking and the channel; what the forked process does is `begin`'s. Holds no secret and no thread: it is executed afresh, never a copy of its owner,
and ends when its owner does. What all forks share: the layout of memory and Python's hash seed.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from halftrack_dataplane import run

READY_S = 30.0  # to have imported everything; measured: 0.2 s, and fifty times that on a machine at its limit
ANSWER_S = 5.0  # to have forked; measured: 3 ms
MESSAGE_BYTES = 1 << 16  # of words; the kernel's bound for one message is three times that
MAX_FDS = 8
BENCH = "halftrack_dataplane.zygote"  # the module of `main`
TITLE_BYTES = 512  # of room for what `ps` shows of a fork
_PADDING = "-" * TITLE_BYTES
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_NAME = 15
_COMM_BYTES = 15


class ZygoteGone(OSError):  # noqa: N818 - it says what happened
    """It cannot fork for us: it has not started, has ended, or has not understood. Nothing was started."""


@dataclass(frozen=True, slots=True)
class Forked:
    """A process that was started. It is the zygote's child, not ours: whoever wants to know of its end keeps `pidfd`."""

    pid: int
    pidfd: int

    def ends(self, seconds: float | None) -> bool:
        """Has it ended, or does it within so many seconds? None: wait for it."""
        poller = select.poll()  # not select, which knows no descriptor above 1023
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(None if seconds is None else seconds * 1000))

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)


class Zygote:
    """The owner's end. Its methods block, and may be called from any thread; the process is started when it is first needed.

    `module` is run with `-m`; its `main` calls `serve`. `isolated` keeps environment and user's site folder out, as `python -I`.
    """

    def __init__(self, module: str, environment: dict[str, str], *, isolated: bool = True) -> None:
        self._command = [sys.executable, *(["-I"] if isolated else []), "-u", "-m", module]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._lock = threading.Lock()

    def start(self, words: Sequence[str], fds: Sequence[int]) -> Forked | None:
        """Fork a process that does what `words` say, with `fds`; None when it has not answered, and may or may not have forked.

        ZygoteGone when it has certainly not. After either, the next call begins with a new zygote.
        """
        message = "\0".join(words).encode("utf-8", "surrogateescape")
        if len(message) > MESSAGE_BYTES or len(fds) > MAX_FDS:
            raise ZygoteGone(f"{len(message)} bytes and {len(fds)} descriptors are more than a message has room for")
        with self._lock:
            channel = self._ready()
            try:
                socket.send_fds(channel, [message], list(fds))
            except OSError as error:
                self._end()
                raise ZygoteGone(f"its zygote is gone: {error}") from None
            return self._answer(channel)

    def close(self) -> None:
        """End it; who was forked lives on."""
        with self._lock:
            self._end()

    def _answer(self, channel: socket.socket) -> Forked | None:
        try:
            data, fds, _, _ = socket.recv_fds(channel, 64, 1, socket.MSG_CMSG_CLOEXEC)
            return Forked(int(data), fds[0])
        except (OSError, ValueError, IndexError):
            self._end()
            return None

    def _ready(self) -> socket.socket:
        if self._channel is not None and self._process is not None and self._process.poll() is None:
            return self._channel
        self._end()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._channel = ours
            ours.settimeout(READY_S)
            self._process = subprocess.Popen(
                [*self._command, str(theirs.fileno()), _PADDING],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=self._environment,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        try:
            if ours.recv(64) != b"ready":
                raise OSError("it ended while it started")
        except OSError as error:
            self._end()
            raise ZygoteGone(f"no zygote: {error}") from None
        ours.settimeout(ANSWER_S)
        return ours

    def _end(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def serve(channel: socket.socket, begin: Callable[[list[str], list[int]], None]) -> None:
    """The zygote's own loop: fork for each message, until the owner closes its end. `begin` runs in the fork, and is not to return."""
    for module in run.MODULES.values():
        importlib.import_module(f"halftrack_dataplane.{module}")
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # it ends with its owner, not with a terminal
    gc.collect()
    gc.freeze()  # a collection in a fork must not touch, and so copy, what all of them share
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    children: dict[int, int] = {}  # pidfd → pid
    channel.send(b"ready")
    while True:
        # Who has ended first: whoever asks for a fork may look at what its deaths have left.
        for fd, _ in sorted(poller.poll(), key=lambda each: each[0] not in children):
            if fd in children:
                poller.unregister(fd)
                os.waitpid(children.pop(fd), 0)
                os.close(fd)
                continue
            data, fds, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
            if not data:
                return
            pid = os.fork()
            if pid == 0:
                _begin(channel, children, begin, data.decode("utf-8", "surrogateescape").split("\0"), fds)
            for got in fds:
                os.close(got)
            pidfd = os.pidfd_open(pid)  # of that very process: nobody but us reaps it
            children[pidfd] = pid
            poller.register(pidfd, select.POLLIN)
            socket.send_fds(channel, [str(pid).encode()], [pidfd])


def _begin(
    channel: socket.socket,
    others: Iterable[int],
    begin: Callable[[list[str], list[int]], None],
    words: list[str],
    fds: list[int],
) -> NoReturn:
    """In the fork: be as a process that was just executed, then do what it is for."""
    try:
        channel.close()
        for fd in others:
            os.close(fd)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        begin(words, fds)
    finally:
        os._exit(127)


def entitle(words: Sequence[str]) -> None:
    """Show these words as this process's command line, in the room that its own once took; cut off where that ends.

    What setproctitle(3) of the BSDs does. proc(5): arg_start and arg_end are fields 48 and 49 of /proc/self/stat.
    """
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # counted from field 3, which follows the name
    if not 0 < start < end:
        return  # a kernel that does not tell
    room = end - start
    text = "\0".join(words).encode("utf-8", "surrogateescape")[: room - 1]
    ctypes.memmove(start, text.ljust(room, b"\0"), room)
    name = os.path.basename(words[0]).encode("utf-8", "surrogateescape")[:_COMM_BYTES]
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name, 0, 0, 0)


def main() -> None:
    """The zygote of a bench without agents: `python -m halftrack_dataplane.zygote CHANNEL_FD`. A fork runs the spec that its one word names.

    Its descriptors: what it prints goes to the first, its exit status to the second, which a signal leaves empty.
    """

    def begin(words: list[str], fds: list[int]) -> None:
        for target in (1, 2):
            os.dup2(fds[0], target)
        os.close(fds[0])
        entitle(["python3", "-m", "halftrack_dataplane.run", *words])
        status = run.outcome(words)
        os.write(fds[1], bytes([status]))
        os._exit(status)

    serve(socket.socket(fileno=int(sys.argv[1])), begin)


if __name__ == "__main__":
    main()
