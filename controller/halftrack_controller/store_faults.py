"""What can go wrong between the store and its disk, in words for who must act: SQLite's errors as ours. Never retries anything."""

import logging
import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from halftrack_model.errors import HalftrackError, HostFault, Refused

DISK_LOST = 3  # the exit status
_SYNC_FAILED = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)

log = logging.getLogger("halftrack.controller")


class DiskLost(SystemExit):
    """A disk did not keep what was written: it ends the program (ADR 36), and the next one reads what the disk has."""

    def __init__(self, what: object) -> None:
        super().__init__(DISK_LOST)
        log.critical(
            "the disk did not keep what was written (%s). Nothing in memory is relied on any more: the controller ends, and the next one reads "
            "what the disk has. Check the disk; hosts go on",
            what,
        )


def from_disk(store: Path) -> None:
    """Let SQLite read the disk, not what the kernel remembers of a sync that failed: it would go on behind pages that were never written."""
    for path in (store, store.with_name(f"{store.name}-wal")):
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


@contextmanager
def faults() -> Generator[None]:
    """SQLite's errors as ours: who must act is the machine's owner, and nothing has been half written."""
    try:
        yield
    except HalftrackError:
        raise
    except sqlite3.IntegrityError as error:
        raise Refused("conflict", f"the store refuses this change: {error}") from None
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) in _SYNC_FAILED:
            raise DiskLost(error) from None
        raise _fault(error) from None


def _fault(error: sqlite3.Error) -> HostFault:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code; extended ones are in the higher bits
    if code == sqlite3.SQLITE_FULL:
        return HostFault("disk-full", "no room left for the controller's store: free some; nothing was changed")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return HostFault("store-damaged", f"the controller's store is damaged ({error}): restore it from a copy")
    return HostFault("store-failed", f"the controller's store cannot be used: {error}")
