"""Room kept back on the disk of STATE, for what must be written when there is none: a plan that leads back, the records of its swap, its instances.

Owns one file of real blocks, and when it is given up and made again. It is given up whole: its worth is the moment in which a decision must become
durable, and what fills a disk fills any rest of it, too. Artifacts keep away from the room below `artifacts.RESERVE_BYTES` by themselves.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from halftrack_model.errors import HostFault

NAME = "reserve"
BYTES = (
    8 << 20
)  # the largest plan takes 5.6 MiB in the journal; a swap's records and the folders of its instances some kB
SCARCE_BYTES = 1 << 20  # free: less than what a plan of some workloads takes to be begun


class Reserve:
    """The reserve of one agent."""

    def __init__(self, state: Path) -> None:
        self._path = state / NAME
        self._given = False
        with contextlib.suppress(OSError):
            if self._path.stat().st_size != BYTES:
                self._path.unlink()  # another version's
        self.keep()

    @property
    def problem(self) -> str:
        """In words for the site's owner; empty while the reserve is there."""
        if self._path.exists():
            return ""
        what = "was given up for a plan" if self._given else "could not be kept"
        return f"the disk of {self._path.parent} is (nearly) full: the reserve of {BYTES >> 20} MiB {what}; free some space"

    def keep(self) -> None:
        """Make it, if it is not there and the disk has twice the room."""
        if self._path.exists() or self._free() < 2 * BYTES:
            return
        with contextlib.suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, BYTES)
                self._given = False
            except OSError:
                self._path.unlink()
            finally:
                os.close(fd)

    def write(self, work: Callable[[], object]) -> None:
        """Do `work`, which writes something that must be written: with the reserve's room when there is no other."""
        try:
            work()
        except HostFault as error:
            if error.reason != "disk-full" or not self._give():
                raise
            work()
        if self._free() < SCARCE_BYTES:
            self._give()  # what was written has to be carried out, which takes some room, too

    def _give(self) -> bool:
        try:
            self._path.unlink()
        except OSError:
            return False
        self._given = True
        return True

    def _free(self) -> int:
        try:
            found = os.statvfs(self._path.parent)
        except OSError:
            return 0
        return found.f_bavail * found.f_frsize
