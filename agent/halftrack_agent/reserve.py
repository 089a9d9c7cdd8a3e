"""Room kept back on the disk of STATE, for what must be written when there is none: a plan that leads back, the records of its swap, its instances.

Owns one file of real blocks, and when it is given up and made again. A part of it is for instances: a host that boots with a full disk serves. The rest
is given up whole: its worth is the moment in which a decision must become durable, and what fills a disk fills any rest of it, too. Artifacts keep away from
the room below `unpacking.RESERVE_BYTES` by themselves.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from halftrack_model.errors import HostFault

NAME = "reserve"
BYTES = 8 << 20
BEGIN_BYTES = (
    2 << 20
)  # of it: an instance's folder takes 40 kB. The largest plan takes 5.6 MiB in the journal, a swap's records some kB
LITTLE_BYTES = 256 << 10  # free: less than what some instances take
assert BYTES - BEGIN_BYTES > 5.7 * (1 << 20)  # noqa: S101 - for those who change one of them
SCARCE_BYTES = 1 << 20  # free: less than what a plan of some workloads takes to be begun


class Reserve:
    """The reserve of one agent."""

    def __init__(self, state: Path) -> None:
        self._path = state / NAME
        self._given = False
        with contextlib.suppress(OSError):
            if self._path.stat().st_size not in (BYTES, BYTES - BEGIN_BYTES):
                self._path.unlink()  # another version's
        self.keep()

    @property
    def problem(self) -> str:
        """In words for the site's owner; empty while the reserve is there."""
        if self._size() == BYTES:
            return ""
        what = "could not be kept"
        if self._size():
            what = "was given up in part, for what had to be begun"
        elif self._given:
            what = "was given up for a plan"
        return f"the disk of {self._path.parent} is (nearly) full: the reserve of {BYTES >> 20} MiB {what}; free some space"

    def keep(self) -> None:
        """Make it, if it is not there, or not whole, and the disk has twice the room."""
        if self._size() == BYTES or self._free() < 2 * BYTES:
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

    def begin(self) -> None:
        """Something is about to be begun that takes a little room: a part of the reserve is given for it, if there is no other."""
        if self._free() < LITTLE_BYTES and self._size() == BYTES:
            with contextlib.suppress(OSError):
                os.truncate(self._path, BYTES - BEGIN_BYTES)

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

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def _free(self) -> int:
        try:
            found = os.statvfs(self._path.parent)
        except OSError:
            return 0
        return found.f_bavail * found.f_frsize
