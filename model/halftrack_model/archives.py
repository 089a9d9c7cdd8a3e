"""Archives that are unpacked: what may be in one, and its members, one after the other. Reads the file that it is given; writes nothing.

Folders and regular files, under names that lead downwards, and no more of them than was bound before: a link, a device, an absolute name, a name
twice, or more bytes than anybody means to send is nobody's honest release. Formats: tar (plain, gzip, xz, bzip2; POSIX.1-2001) and zip (PKWARE's APPNOTE),
so wheels too. Whoever writes members does that in a place where a mistake here can do no harm (the agent's `drivers.unpack`).
"""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from halftrack_model.errors import InvalidInput

MAX_MEMBERS = 100_000
MAX_NAME_BYTES = 1024
MAX_PART_BYTES = 255  # what file systems take
MAX_DEPTH = 32
MAX_BYTES = 4 << 30
MAX_RATIO = 200  # of text, xz reaches about 20
FREE_BYTES = 16 << 20  # a small archive may grow to this whatever its ratio
BLOCK = 1 << 20

_PACKED = (b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh", b"\x28\xb5\x2f\xfd")  # gzip, xz, bzip2, zstd

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError, ValueError, RuntimeError)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """A folder, or a file of that many bytes that may be executed or not. `parts` is its name, downwards from the archive's root."""

    parts: tuple[str, ...]
    folder: bool
    executable: bool

    @property
    def name(self) -> str:
        """As people write it."""
        return "/".join(self.parts)


Blocks = Iterator[bytes]


def members(file: IO[bytes], size_bytes: int) -> Iterator[tuple[Member, Blocks]]:
    """Each member with its bytes, which are to be read before the next; InvalidInput, with the story, at the first that must not be.

    `file` is the archive, which has `size_bytes`. A folder of a file need not have come before.
    """
    rules = _Rules(max(FREE_BYTES, min(MAX_BYTES, size_bytes * MAX_RATIO)))
    try:
        if _is_zip(file):
            file.seek(0)
            yield from _of_zip(file, rules)
        else:
            file.seek(0)
            yield from _of_tar(file, rules)
    except _BROKEN as error:
        raise _broken(error) from None


def hides(file: IO[bytes]) -> bool:
    """Is most of it packed, so that one changed byte changes all that follows? Then an upgrade moves nearly all of it (ADR 38)."""
    head = file.read(6)
    if head.startswith(_PACKED):
        return True
    if not _is_zip(file):
        return False
    with zipfile.ZipFile(file) as archive:
        sizes = [(info.compress_size, info.compress_type == zipfile.ZIP_STORED) for info in archive.infolist()]
    packed = sum(size for size, stored in sizes if not stored)
    return 2 * packed > sum(size for size, _ in sizes)


def check(file: IO[bytes], size_bytes: int) -> None:
    """Read it all; InvalidInput when it must not be unpacked."""
    for _, blocks in members(file, size_bytes):
        for _ in blocks:
            pass


def _is_zip(file: IO[bytes]) -> bool:
    """By its beginning first: a zip is known by its end, and so is a tar whose last file is one (a wheel among others)."""
    file.seek(0)
    head = file.read(tarfile.BLOCKSIZE)
    if head.startswith(_PACKED):
        return False
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return zipfile.is_zipfile(file)
    return False


class _Rules:
    """What was seen so far, and what may still come."""

    def __init__(self, left_bytes: int) -> None:
        self._left, self._most = left_bytes, left_bytes
        self._files: set[tuple[str, ...]] = set()
        self._folders: set[tuple[str, ...]] = {()}
        self._count = 0

    def member(self, name: str, kind: str, mode: int) -> Member | None:
        """What is called `name`; `kind` is "file", "folder", or the word for what is neither. None: the root itself."""
        self._count += 1
        if self._count > MAX_MEMBERS:
            raise _bad(f"it has more than {MAX_MEMBERS} members")
        if kind not in ("file", "folder"):
            raise _bad(f"{name[:80]!r} is {kind}: only files and folders are unpacked")
        parts = _parts(name, kind == "folder")
        if kind == "folder":
            self._enter(parts, name)
            return Member(parts, True, False) if parts else None
        self._enter(parts[:-1], name)
        if parts in self._files or parts in self._folders:
            raise _bad(f"{name[:80]!r} is in it twice")
        self._files.add(parts)
        return Member(parts, False, bool(mode & 0o111))

    def counted(self, blocks: Blocks) -> Blocks:
        """The blocks, for as long as they are not too many."""
        try:
            for block in blocks:
                self._left -= len(block)
                if self._left < 0:
                    raise _bad(f"unpacked it has more than {self._most} bytes, far more than its size lets expect")
                yield block
        except _BROKEN as error:
            raise _broken(error) from None

    def _enter(self, parts: tuple[str, ...], name: str) -> None:
        for depth in range(len(parts) + 1):
            if parts[:depth] in self._files:
                raise _bad(f"{name[:80]!r} would lie in a file")
            self._folders.add(parts[:depth])


def _bad(text: str) -> InvalidInput:
    return InvalidInput("bad-archive", text)


def _broken(error: Exception) -> InvalidInput:
    return _bad(f"it is no tar and no zip archive that can be read to its end: {error}")


def _parts(name: str, folder: bool) -> tuple[str, ...]:
    """The name's parts: a leading `./` and a folder's last `/` say nothing."""
    parts = name.removesuffix("/").split("/") if folder else name.split("/")
    while parts and parts[0] == ".":
        parts = parts[1:]
    if not parts or parts == [""]:
        if folder and not name.startswith("/"):
            return ()
        raise _bad(f"{name[:80]!r} is no name")
    if any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts):
        raise _bad(f"{name[:80]!r} does not lead downwards")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise _bad(f"{name[:80]!a} is not UTF-8") from None
    if max(sizes) > MAX_PART_BYTES or sum(sizes) + len(sizes) > MAX_NAME_BYTES or len(parts) > MAX_DEPTH:
        raise _bad(f"{name[:80]!r} is too long or too deep")
    return tuple(parts)


_TAR_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


def _of_tar(file: IO[bytes], rules: _Rules) -> Iterator[tuple[Member, Blocks]]:
    with tarfile.open(fileobj=file, mode="r:*") as archive:
        while (info := archive.next()) is not None:
            plain = info.isreg() and not info.issparse()
            kind = "file" if plain else "folder" if info.isdir() else _TAR_KINDS.get(info.type, "of an unknown kind")
            member = rules.member(info.name + "/" * info.isdir(), kind, info.mode)
            archive.members = []  # type: ignore[attr-defined]  # it would remember every one
            if member is not None:
                data = None if member.folder else archive.extractfile(info)
                yield member, rules.counted(_blocks(data, info.size))


def _of_zip(file: IO[bytes], rules: _Rules) -> Iterator[tuple[Member, Blocks]]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            kind = "folder" if info.is_dir() else "file"
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "a device, pipe or socket"
            elif info.flag_bits & 1:
                kind = "encrypted"
            member = rules.member(info.orig_filename, kind, mode)
            if member is None:
                continue
            if member.folder:
                yield member, iter(())
                continue
            with archive.open(info) as data:
                yield member, rules.counted(_blocks(data, info.file_size))


def _blocks(data: IO[bytes] | None, size_bytes: int) -> Blocks:
    left = size_bytes
    while data is not None and left:
        block = data.read(min(BLOCK, left))
        if not block:
            raise EOFError("a member is shorter than it says")
        left -= len(block)
        yield block
    if data is not None and data.read(1):
        raise _bad("a member is longer than it says")
