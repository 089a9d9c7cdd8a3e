"""A spool's folder: its segments, who spools into it, how that stands, and how far its consumers have got.

Owns every call to the file system, and what must be on the disk before what. Never decides what is written or what goes: that is
spool_segments.py.

    00000000000000004711.seg    segments (spool_segments.py); one with ".part" behind it was never finished
    lock                        held by the spooler for as long as it lives
    mark                        how the spooler stands, for whoever looks; a mapping, never waited for, worth nothing after a power cut
    consumers/NAME              places; held by the consumer while it reads
"""

import fcntl
import mmap
import os
import re
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from halftrack_dataplane.spool_packing import start_writing
from halftrack_dataplane.spool_segments import (
    HEAD_BYTES,
    NAME_PATTERN,
    PLACE_BYTES,
    Head,
    Place,
    SpoolBusy,
    SpoolError,
    SpoolMissing,
    first_of,
    pack_head,
    pack_place,
    place_offset,
    read_head,
    read_place,
    segment_name,
)

START_BYTES = 1 << 20  # so much is better begun at once than with the sync; less would be many small requests
CONSUMERS = 1024  # registered at one time; each costs the spooler a look once a second

_PART = ".part"
_FLOCK = struct.Struct("hhqqi4x")  # struct flock on 64-bit Linux; its pid stays 0 for locks of open files
_MARK_FIELDS = ("state", "pid", "durable_seq", "frames", "bytes", "lost", "missed", "corrupt", "since_ns")
STATES = ("gone", "spooling", "full", "disk full", "failed")  # of a spooler; the mark has the number


class Disk:
    """What a spool asks of the file system, one method for each thing that can fail or be the last before a crash."""

    def allocate(self, path: Path, size: int) -> int:
        """A new file with room for `size` bytes, all zero, open for reading and writing."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        return fd

    def write(self, fd: int, parts: Sequence[memoryview | bytes], offset: int) -> int:
        """Write, and say how many bytes that were."""
        count = os.pwritev(fd, parts, offset)
        if count >= START_BYTES:
            start_writing(fd, offset, count)
        return count

    def sync(self, fd: int) -> None:
        """Until it returns, nothing that was written to `fd` counts as written."""
        os.fdatasync(fd)

    def publish(self, path: Path, name: str) -> None:
        """Give a file that is on the disk its name, on the disk, too."""
        os.rename(path, path.with_name(name))
        self.sync_folder(path.parent)

    def sync_folder(self, path: Path) -> None:
        """Put the names in a folder on the disk."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def remove(self, path: Path) -> None:
        """Take a file away. If a power cut brings it back, it goes again."""
        path.unlink(missing_ok=True)


class Lock:
    """The lock of a spool's folder: held by one spooler, and seen by whoever asks, who never stands in its way."""

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except OSError:
            os.close(self._fd)
            raise SpoolBusy(f"another process spools into {folder}; a spool has one spooler") from None

    @staticmethod
    def held(folder: Path) -> bool:
        """Does a spooler live?"""
        try:
            fd = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind: int = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0]
            return kind != fcntl.F_UNLCK
        finally:
            os.close(fd)

    def release(self) -> None:
        """Let the next one in."""
        os.close(self._fd)


class Mark:
    """How a spooler stands: numbers in a mapped page, each written by it alone, each current, together a moment's blur."""

    def __init__(self, folder: Path, *, writable: bool = False) -> None:
        flags = os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY
        fd = os.open(folder / "mark", flags | os.O_CLOEXEC, 0o600)
        try:
            if writable:
                os.posix_fallocate(fd, 0, HEAD_BYTES)  # reserved: a full disk must not end us by a signal
            kind = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
            self._map = mmap.mmap(fd, HEAD_BYTES, prot=kind)
        finally:
            os.close(fd)
        self._words = memoryview(self._map).cast("Q")

    def put(self, **values: int) -> None:
        """Show these numbers."""
        for name, value in values.items():
            self._words[_MARK_FIELDS.index(name)] = value

    def get(self, name: str) -> int:
        """One of the numbers."""
        return self._words[_MARK_FIELDS.index(name)]

    def close(self) -> None:
        """Done with it."""
        self._words.release()
        self._map.close()


def segment_path(folder: Path, first: int) -> Path:
    """Where the segment is that begins with `first`."""
    return folder / segment_name(first)


class SegmentFile:
    """A segment, open: for reading through a mapping, and for the spooler to write."""

    def __init__(self, folder: Path, first: int, *, writable: bool = False) -> None:
        self.path = segment_path(folder, first)
        self.fd = os.open(self.path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            self.bytes = os.fstat(self.fd).st_size
            self.head = read_head(os.pread(self.fd, HEAD_BYTES, 0), self.path.name)
            self.data = mmap.mmap(self.fd, self.bytes, prot=mmap.PROT_READ)
        except BaseException:
            os.close(self.fd)
            raise

    @classmethod
    def create(cls, folder: Path, head: Head, size: int, disk: Disk) -> Self:
        """A new one, on the disk with its head and its name when this returns."""
        part = folder / (segment_name(head.first) + _PART)
        fd = disk.allocate(part, size)
        try:
            disk.write(fd, [pack_head(head)], 0)
            disk.sync(fd)
        finally:
            os.close(fd)
        disk.publish(part, segment_name(head.first))
        return cls(folder, head.first, writable=True)

    def grow(self, size: int = 0) -> bool:
        """Make it `size` bytes, if it has less, and map what there is; True if that is more than before."""
        if size > self.bytes:
            os.posix_fallocate(self.fd, 0, size)
        found = os.fstat(self.fd).st_size
        if found <= self.bytes:
            return False
        self.bytes, self.data = found, mmap.mmap(self.fd, found, prot=mmap.PROT_READ)
        return True

    def close(self) -> None:
        """Done with it. The mapping ends with the last view of it."""
        os.close(self.fd)


class Folder:
    """A spool's folder as it is on the disk now."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Make it, on the disk, if it is not there."""
        if not (self.path / "consumers").is_dir():
            (self.path / "consumers").mkdir(parents=True, mode=0o700, exist_ok=True)
            Disk().sync_folder(self.path)
            Disk().sync_folder(self.path.parent)

    def firsts(self) -> list[int]:
        """The first sequences of all segments, in order."""
        try:
            names = os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError):
            raise SpoolMissing(f"there is no spool at {self.path}; `halftrack-stream spool` makes one") from None
        return sorted(first for name in names if (first := first_of(name)) is not None)

    def oldest(self) -> int:
        """The sequence that the spool begins with; SpoolMissing while there is none."""
        firsts = self.firsts()
        if not firsts:
            raise SpoolMissing(f"{self.path} holds no segment: no spooler has begun there")
        return firsts[0]

    def unfinished(self) -> list[Path]:
        """Segments that a spooler died at before it had given them their name."""
        return [path for path in self.path.glob(f"*{_PART}") if first_of(path.name.removesuffix(_PART)) is not None]

    def consumers(self) -> dict[str, Place]:
        """All registered consumers and how far each has got."""
        found = {}
        for path in sorted((self.path / "consumers").glob("*")):
            with suppress(FileNotFoundError):  # it was forgotten while we looked
                place = read_place(path.read_bytes()) if re.fullmatch(NAME_PATTERN, path.name) else None
                if place is not None:
                    found[path.name] = place
        return found

    def forget(self, name: str) -> None:
        """Take a consumer out: nothing is kept for it any more. SpoolError if there is none of that name, SpoolBusy while it reads."""
        if name not in self.consumers():
            raise SpoolError(f"{self.path} has no consumer {name!r}")
        Bookmark(self.path, name).remove()


class Bookmark:
    """One consumer's place, held by one reader at a time."""

    def __init__(self, folder: Path, name: str) -> None:
        if not re.fullmatch(NAME_PATTERN, name):
            raise ValueError(
                f"{name!r} is no name of a consumer: letters, digits and . _ @ -, at most 63, no . in front"
            )
        self._path = folder / "consumers" / name
        self.fresh = not self._path.exists()
        if self.fresh and len(list(self._path.parent.glob("*"))) >= CONSUMERS:
            raise SpoolError(f"{folder} has {CONSUMERS} consumers, and no room for more; forget some")
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise SpoolBusy(f"another process reads {folder} as {name!r}; a consumer is one process") from None
        self.place = read_place(os.pread(self._fd, 2 * PLACE_BYTES, 0))

    def commit(self, seq: int, again: int | None = None, *, durable: bool = True) -> None:
        """Everything below `seq` is done with, if `durable` on the disk when this returns. What is at `again` or above is in memory alone.

        A place never goes back. Whoever does not say `again` keeps nothing in memory.
        """
        was = self.place
        place = Place(1 if was is None else was.number + 1, seq, seq if again is None else min(seq, again))
        if was is not None:
            place = replace(place, seq=max(was.seq, seq), again=max(was.again, place.again))
            if (place.seq, place.again) == (was.seq, was.again):
                return
        os.pwrite(self._fd, pack_place(place), place_offset(place.number))
        if self.place is None:
            os.fsync(self._fd)
            Disk().sync_folder(self._path.parent)
        elif durable:
            os.fdatasync(self._fd)
        self.place = place

    def remove(self) -> None:
        """Nobody reads under this name any more."""
        self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let the next one of this name in."""
        os.close(self._fd)
