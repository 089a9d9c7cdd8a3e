"""The child that unpacks: `python -I -m halftrack_agent.drivers.unpack ARCHIVE FOLDER AGENT ROOM`. Writes below FOLDER, which is empty, and nowhere else, no more than ROOM bytes of
the disk, and for as long as the process AGENT lives: the next agent removes what is half done.

Before it reads the first byte it has dropped every capability, bound its memory and time, and, where the kernel has Landlock (5.13), given up every
place but FOLDER to write to, and all to execute. Files are made by descriptors, from the folder down, never through a link. Prints the listing of the
files, `[[SHA-256, EXECUTABLE, NAME], ...]` (`agent.unpacking` holds the files to it), when all of them are on the disk. Exit status: 0; 1 with the story; 3 when the disk did not keep it; 4 when there is no room.
"""

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import resource
import struct
import sys

from halftrack_agent.drivers import confine
from halftrack_agent.files import FULL
from halftrack_model import archives
from halftrack_model.errors import InvalidInput

REFUSED = 1
DISK_LOST = 3
NO_ROOM = 4
MEMBER_BYTES = 4096  # what a file or folder takes of a disk besides its bytes
MAX_MEMORY = 1 << 30
MAX_CPU_S = 900

# <linux/landlock.h>; the numbers of its system calls are the same on every architecture (<asm-generic/unistd.h>).
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE = 1 << 0, 1 << 1
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_MAKE_DIR, _MAKE_REG = 1 << 7, 1 << 8
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15  # since the second, third and fifth version

_libc = ctypes.CDLL(None, use_errno=True)


class _Room:
    """How much may still be written: what is left is for what must be written when there is no room."""

    def __init__(self, left_bytes: int) -> None:
        self._left = left_bytes

    def take(self, count: int) -> None:
        """Before so many bytes are written."""
        self._left -= count
        if self._left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def main(archive: str, folder: str, agent: str, room: str) -> int:
    """Unpack; returns the exit status."""
    confine.end_with(int(agent))
    with open(archive, "rb") as file:
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        _confine(top)
        listing: list[tuple[str, bool, str]] = []
        left = _Room(int(room))
        try:
            for member, blocks in archives.members(file, os.fstat(file.fileno()).st_size):
                if found := _made(top, member, blocks, left):
                    listing.append((found, member.executable, member.name))
        except InvalidInput as error:
            print(error.message, file=sys.stderr)
            return REFUSED
        except OSError as error:
            print(os.strerror(error.errno or 0), file=sys.stderr)
            return NO_ROOM if error.errno in FULL else REFUSED
        _shut(top)
        if _libc.syncfs(top) < 0:
            return _unsynced(ctypes.get_errno())
    json.dump(listing, sys.stdout)
    return 0


def _unsynced(number: int) -> int:
    if number in FULL:
        return NO_ROOM
    return REFUSED if number == errno.EROFS else DISK_LOST


def _confine(top: int) -> None:
    confine.drop_all_capabilities()
    for what, most in (
        (resource.RLIMIT_AS, MAX_MEMORY),
        (resource.RLIMIT_CPU, MAX_CPU_S),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, archives.MAX_BYTES),
    ):
        hard = resource.getrlimit(what)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))
    version = _libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION_FLAG))
    if version <= 0:
        return  # a kernel without it: what is left is the rules about names, and that files are made by descriptors
    handled = _EXECUTE | _WRITE_FILE | _REMOVE_AND_MAKE
    handled |= (_REFER if version > 1 else 0) | (_TRUNCATE if version > 2 else 0) | (_IOCTL_DEV if version > 4 else 0)
    ruleset = _checked(_libc.syscall(_CREATE, struct.pack("Q", handled), ctypes.c_size_t(8), ctypes.c_uint(0)))
    allowed = struct.pack("=Qi", _WRITE_FILE | _MAKE_DIR | _MAKE_REG, top)
    _checked(_libc.syscall(_ADD, ruleset, _RULE_PATH_BENEATH, allowed, ctypes.c_uint(0)))
    _checked(_libc.syscall(_RESTRICT, ruleset, ctypes.c_uint(0)))
    os.close(ruleset)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"landlock: {os.strerror(number)}")
    return result


def _made(top: int, member: archives.Member, blocks: archives.Blocks, room: _Room) -> str:
    """Make it; the digest of what it holds when it is a file."""
    room.take(MEMBER_BYTES)
    folders = member.parts if member.folder else member.parts[:-1]
    at = _entered(top, folders)
    try:
        if member.folder:
            return ""
        mode = 0o500 if member.executable else 0o400
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(member.parts[-1], flags, mode, dir_fd=at)
        hasher = hashlib.sha256()
        try:
            for block in blocks:
                hasher.update(block)
                room.take(len(block))
                rest = memoryview(block)
                while rest:
                    rest = rest[os.write(fd, rest) :]
        finally:
            os.close(fd)
        return hasher.hexdigest()
    finally:
        os.close(at)


def _shut(top: int) -> None:
    """Nobody without capabilities writes there from now on: a program that keeps files beside itself (Python, its bytecode) would damage what it runs from."""
    for _, names, _, at in os.fwalk(dir_fd=top):
        for name in names:
            os.chmod(name, 0o500, dir_fd=at)
    os.fchmod(top, 0o500)


def _entered(top: int, folders: tuple[str, ...]) -> int:
    """A descriptor of the folder, made with all above it."""
    at = os.dup(top)
    for name in folders:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=at)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
