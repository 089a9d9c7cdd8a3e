"""A real process as the bench sees it that has started it, by a fork of a zygote: the same few words as for a child of its own.

Owns its descriptors. How it ended comes by a pipe that only the process itself writes: one that a signal has ended has written nothing.
"""

import os
from pathlib import Path

from halftrack_dataplane.zygote import Zygote

KILLED = -1  # the status of a process that a signal has ended; by which, only its parent knows


class Started:
    """One process."""

    def __init__(self, zygote: Zygote, spec: Path, log: Path) -> None:
        said, told = os.pipe()
        os.set_blocking(said, False)  # whom it has forked itself may outlive it, and hold the other end
        out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            forked = zygote.start([str(spec)], [out, told])
            if forked is None:
                raise OSError(f"the zygote did not answer; {spec} may run or not")
        except OSError:
            os.close(said)
            raise
        finally:
            os.close(out)
            os.close(told)
        self._said, self._forked = said, forked
        self._status: int | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._forked.pid

    def poll(self) -> int | None:
        """Its exit status, KILLED, or None while it runs."""
        return self._ended(0)

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when it has ended."""
        if self._status is None:
            self._forked.signal(number)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for its end; False when it has not come in time."""
        return self._ended(seconds) is not None

    def _ended(self, seconds: float | None) -> int | None:
        if self._status is None and self._forked.ends(seconds):
            try:
                said = os.read(self._said, 1)
            except BlockingIOError:
                said = b""
            self._status = said[0] if said else KILLED
            os.close(self._said)
            os.close(self._forked.pidfd)
        return self._status
