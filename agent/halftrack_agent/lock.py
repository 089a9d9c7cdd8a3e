"""One agent for one state folder: a lock that the kernel gives back whatever happens to its holder."""

import contextlib
import fcntl
import os
from pathlib import Path

from halftrack_agent import files
from halftrack_model.errors import Refused


class StateLock:
    """Held from construction to `close`."""

    def __init__(self, state: Path) -> None:
        path = files.make_folder(state) / "lock"
        try:
            self._fd = files.lockable(path)
        except OSError as error:
            raise files.fault(error, path) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise Refused(
                "state-in-use",
                f"another halftrack-agent (pid {holder}) runs on {state}; stop it first, or give this one a state folder of its own",
            ) from None
        with contextlib.suppress(OSError):  # the number is for people; on a full disk the lock holds without it
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let the next agent in."""
        os.close(self._fd)


def holder(state: Path) -> int | None:
    """The pid of the agent that runs on `state`; None when none does."""
    try:
        fd = os.open(state / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return int(os.pread(fd, 32, 0).decode("ascii", "replace").strip() or 0)
    finally:
        os.close(fd)
    return None
