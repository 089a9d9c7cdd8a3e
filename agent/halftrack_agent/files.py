"""Files that are either old or new, never half, and that are on the disk when we say so.

Owns the few system calls that durability takes (write, fsync, rename, fsync of the folder) and the names of what can go wrong.
Never decides what is written.

A sync that fails ends the program (ADR 36): the kernel may have dropped the pages, calls them clean, and shows them to whoever reads the
file until it forgets them. What is on the disk then, only the disk knows, and only a program that has forgotten everything can ask it.
"""

import contextlib
import errno
import hashlib
import logging
import os
from pathlib import Path

from halftrack_model.errors import HostFault, InvalidInput

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the kernel says when there is no room: on the device, in the quota, under the process's file size limit."""
UNREADABLE = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN})
"""What it says of sectors that do not come back, or come back as what was not written."""
DISK_LOST = 3  # the exit status

log = logging.getLogger("halftrack.agent")


class DiskLost(SystemExit):
    """A disk did not keep what was written. Not an error that anybody may handle: it ends the program from whichever task it is met in."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(DISK_LOST)
        log.critical(
            "%s: the disk did not keep what was written (%s). Nothing in memory is relied on any more: this program ends, and the next one "
            "reads what the disk has. Check the disk; running workloads go on",
            path,
            error.strerror,
        )


def sync(fd: int, path: Path) -> None:
    """Put what was written to `fd` on the disk. A disk that is full or read-only says so in an OSError, and has lost nothing that it had."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno in FULL or error.errno == errno.EROFS:
            raise
        raise DiskLost(path, error) from None


def from_disk(fd: int) -> None:
    """Let the next read of `fd` see the disk, not what the kernel remembers of a sync that failed."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(fd, folder)
    finally:
        os.close(fd)


def make_folder(folder: Path, mode: int = 0o700) -> Path:
    """`folder`, made with its parents when missing; each name is durable before anything can be put below it."""
    try:
        if not folder.is_dir():
            make_folder(folder.parent)
            folder.mkdir(mode=mode, exist_ok=True)
            sync_folder(folder.parent)
    except OSError as error:
        raise fault(error, folder) from error
    return folder


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`; a short write is continued."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def replace(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Put `data` at `path`, whole or not at all. Not `durable`: for folders that do not outlive a reboot anyway."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            os.fchmod(fd, mode)
            write_all(fd, data)
            if durable:
                sync(fd, path)
        finally:
            os.close(fd)
        fresh.rename(path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise fault(error, path) from error


def sweep(folder: Path) -> None:
    """Away with what a `replace` has left in `folder` that was killed on its way. For who alone writes there."""
    for path in folder.glob(".*.new"):
        with contextlib.suppress(OSError):
            path.unlink()


def lockable(path: Path) -> int:
    """A descriptor to lock; of a disk that takes no change, too, as long as the file is there."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def takes_changes(folder: Path) -> bool:
    """Can anything be written there, full or not? Asked by a file without a name: of ext4 in an emergency neither access(2) nor statvfs(3) tell."""
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        return error.errno != errno.EROFS  # it is full, or knows of no such files, or has no such folder yet
    return True


def fault(error: OSError, path: Path) -> HostFault:
    """`error`, met at `path`, in words that say what the site's owner can do."""
    if error.errno in FULL:
        return HostFault("disk-full", f"no room for {path}: {error.strerror}; free some space, running workloads go on")
    return HostFault("disk-fault", f"{path}: {error.strerror}; check the disk and the permissions of the folder")


def summed(line: bytes) -> bytes:
    """One line, and one that tells whether it is still what was written."""
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


def unsummed(data: bytes) -> bytes:
    """The line; InvalidInput when a byte has changed. What was written before lines had sums is taken as it is."""
    line, end, _ = data.partition(b"\n")
    if end and data != summed(line):
        raise InvalidInput("damaged", "it has changed since it was written")
    return line
