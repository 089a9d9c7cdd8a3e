"""Other processes for the ring's tests, and payloads that prove themselves.

Peers are forked: dying is what they are for, and a fork costs a millisecond. They report through a pipe and never sleep.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import NoReturn

_BYTES = bytes(range(256)) * 32


def payload(seq: int, most: int = 1500) -> bytes:
    """What every test's frame number `seq` holds: the number, then a length and content that follow from it."""
    length = seq * 7919 % most
    return seq.to_bytes(8, "little") + _BYTES[seq % 251 : seq % 251 + length]


def _live(work: Callable[[int], None], report: int) -> NoReturn:
    code = 1
    with contextlib.suppress(BaseException):
        work(report)
        code = 0
    os._exit(code)


@contextlib.contextmanager
def peer(work: Callable[[int], None]) -> Iterator[tuple[int, int]]:
    """A process running `work(report_fd)`: (its pid, where to read its reports). Killed and buried at the end."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _live(work, writing)
    os.close(writing)
    try:
        yield pid, reading
    finally:
        kill(pid)
        os.close(reading)


def kill(pid: int) -> None:
    """SIGKILL, and wait until the kernel has buried it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def wait_forever() -> None:
    """Until killed."""
    while True:
        signal.pause()
