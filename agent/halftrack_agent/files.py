"""Files that are either old or new, never half, and that are on the disk when we say so.

Owns the few system calls that durability takes (write, fsync, rename, fsync of the folder) and the names of what can go wrong.
Never decides what is written.
"""

import errno
import os
from pathlib import Path

from halftrack_model.errors import HostFault

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the kernel says when there is no room: on the device, in the quota, under the process's file size limit."""


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
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
                os.fsync(fd)
        finally:
            os.close(fd)
        fresh.rename(path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise fault(error, path) from error


def fault(error: OSError, path: Path) -> HostFault:
    """`error`, met at `path`, in words that say what the site's owner can do."""
    if error.errno in FULL:
        return HostFault("disk-full", f"no room for {path}: {error.strerror}; free some space, running workloads go on")
    return HostFault("disk-fault", f"{path}: {error.strerror}; check the disk and the permissions of the folder")
