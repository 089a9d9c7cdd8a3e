"""Disks for the spool's tests: one that knows what is durable and can crash, one that fails or kills at the n-th call."""

import errno
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from halftrack_dataplane.spool_files import Disk
from halftrack_dataplane.spool_writer import Spooler


class Remembering(Disk):
    """Knows up to where each file was written and synced, so that a test can take away what was not."""

    def __init__(self) -> None:
        self._written: dict[int, int] = {}
        self._synced: dict[int, int] = {}

    def write(self, fd: int, parts: Sequence[memoryview | bytes], offset: int) -> int:
        """Write, and remember how far."""
        count = super().write(fd, parts, offset)
        file = os.fstat(fd).st_ino
        self._written[file] = max(self._written.get(file, 0), offset + count)
        return count

    def sync(self, fd: int) -> None:
        """Sync, and remember what was written by then."""
        super().sync(fd)
        file = os.fstat(fd).st_ino
        self._synced[file] = self._written.get(file, 0)

    def crash(self, spooler: Spooler, keep: float) -> None:
        """End a spooler as a crash does, and of what it had not synced leave the share `keep`, byte by byte."""
        path = spooler._active.path
        abandon(spooler)
        file = path.stat().st_ino
        synced, written = self._synced.get(file, 0), self._written.get(file, 0)
        cut = synced + int((written - synced) * keep)
        with path.open("r+b") as torn:
            torn.seek(cut)
            torn.write(bytes(written - cut))
        self._written[file] = cut  # and what is left is not synced for having survived


def abandon(spooler: Spooler) -> None:
    """What the kernel does for a process that was killed: its lock and its reader's slot go, nothing else."""
    spooler._closing.close()


class Failing(Disk):
    """Before its n-th call of the methods named, it does something: raises, or kills the process. Then it is a disk as before."""

    def __init__(self, at: int, then: Callable[[], None], methods: Sequence[str] = ()) -> None:
        self.calls = 0
        self._at, self._then, self._methods = at, then, methods

    def _count(self, method: str) -> None:
        if not self._methods or method in self._methods:
            self.calls += 1
            if self.calls == self._at:
                self._then()

    def allocate(self, path: Path, size: int) -> int:
        """See Disk."""
        self._count("allocate")
        return super().allocate(path, size)

    def write(self, fd: int, parts: Sequence[memoryview | bytes], offset: int) -> int:
        """See Disk. When it is this one's turn, half is written first."""
        whole = b"".join(parts)
        half = len(whole) // 2
        if half and self.calls + 1 == self._at:
            super().write(fd, [whole[:half]], offset)
        self._count("write")
        return super().write(fd, parts, offset)

    def sync(self, fd: int) -> None:
        """See Disk."""
        self._count("sync")
        super().sync(fd)

    def publish(self, path: Path, name: str) -> None:
        """See Disk."""
        self._count("publish")
        super().publish(path, name)

    def remove(self, path: Path) -> None:
        """See Disk."""
        self._count("remove")
        super().remove(path)


def killed() -> None:
    """SIGKILL, from oneself."""
    os.kill(os.getpid(), signal.SIGKILL)


def full() -> None:
    """No space left."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def broken() -> None:
    """The disk says so."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))
