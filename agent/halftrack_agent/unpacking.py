"""Unpacked artifacts: a folder for each, complete and verified before it has its name, again by each agent that finds it, and whenever it is not as it was.

    STATE/unpacked/HEX/files.json   what was unpacked: the digest, the right and the name of each file
    STATE/unpacked/HEX/tree/        that
    STATE/unpacked/.HEX.new         one that is being made, or was when the power went: removed
    STATE/unpacked/.HEX.gone        one that is being removed

Owns that folder. What is in an archive is read by a child alone (`drivers.unpack`).
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Collection
from pathlib import Path

from halftrack_agent import files
from halftrack_agent.children import asked
from halftrack_agent.drivers import unpack
from halftrack_model.errors import HostFault, InvalidInput
from halftrack_model.ids import checked_digest

PATIENCE_S = 900
MAX_LISTING = 64 << 20
MAX_SAID = 1000
RESERVE_BYTES = 64 << 20  # of the disk stay free: the journal must be able to grow while artifacts are brought
_LISTING, _TREE = "files.json", "tree"
_BLOCK = 1 << 20


class Unpacked:
    """The folders of one host."""

    def __init__(self, folder: Path, only: str = "") -> None:
        """All that are in `folder`, or `only` the one: then nothing else is looked at."""
        self._folder = files.make_folder(folder)
        self._seen: dict[str, str] = {}  # with how the folder looked when it was read
        self._making: set[str] = set()
        self.findings: tuple[str, ...] = ()
        for path in sorted(self._folder.iterdir()) if not only else [self._path(only)]:
            if path.name.startswith("."):
                _remove(path)
            elif path.exists():
                looks = _looks(path)  # before it is read: what changes meanwhile is read once more
                if trouble := _trouble(path):
                    self._drop(path)
                    self.findings += (_found(path, trouble),)
                else:
                    self._seen[f"sha256:{path.name}"] = looks

    @property
    def digests(self) -> frozenset[str]:
        """What is complete."""
        return frozenset(self._seen)

    def path(self, digest: str) -> Path:
        """The folder of an artifact that is complete; HostFault while it is not."""
        if digest not in self._seen:
            raise HostFault("artifact-packed", f"artifact {digest} is not unpacked here yet")
        return self._path(digest) / _TREE

    def look(self, digest: str) -> None:
        """Before something of it is executed: read it again if it does not look as it did. HostFault when it is not what it was (D1)."""
        path = self.path(digest).parent
        if (looks := _looks(path)) == self._seen[digest]:
            return
        if trouble := _trouble(path):
            del self._seen[digest]
            self._drop(path)
            raise HostFault("artifact-damaged", _found(path, trouble))
        self._seen[digest] = looks

    async def unpack(self, digest: str, archive: Path) -> None:
        """Make the folder of `digest` from its file. InvalidInput when nobody may unpack that; HostFault when this host cannot now."""
        if digest in self._seen:
            return
        final, fresh = self._path(digest), self._fresh(digest)
        self._making.add(digest)
        try:
            _remove(fresh)
            (fresh / _TREE).mkdir(mode=0o700, parents=True)
            listing = await self._made(digest, archive, fresh / _TREE)
            files.replace(fresh / _LISTING, listing)
            files.sync_folder(fresh)
            if final.exists():  # one that could not be removed when it was found damaged, or went out of use
                self._drop(final)
            fresh.rename(final)
            files.sync_folder(self._folder)
        except OSError as error:
            raise files.fault(error, fresh) from error
        finally:
            _remove(fresh)
            self._making.discard(digest)
        self._seen[digest] = _looks(final)

    def retain(self, wanted: Collection[str]) -> None:
        """Remove all others, but for those from which something runs; and what an earlier removal has left."""
        made = {self._fresh(digest) for digest in self._making}
        try:
            found = sorted(self._folder.iterdir())
        except OSError:  # a disk that cannot be read: all of it goes later
            return
        for path in found:
            digest = f"sha256:{path.name}"
            if path.name.startswith("."):
                if path not in made:
                    _remove(path)
            elif digest not in wanted and not _runs(path):
                self._seen.pop(digest, None)
                self._drop(path)

    async def _made(self, digest: str, archive: Path, folder: Path) -> bytes:
        """Let the child unpack it; returns its listing."""
        room = max(0, free_bytes(folder) - RESERVE_BYTES)
        argv = (sys.executable, "-I", "-m", unpack.__name__, str(archive), str(folder), str(os.getpid()), str(room))
        try:
            status, listing, said = await asked(argv, PATIENCE_S, MAX_LISTING)
        except TimeoutError:
            raise HostFault(
                "unpacking-stuck", f"{digest} was not unpacked within {PATIENCE_S} s; it is tried again"
            ) from None
        if status == unpack.NO_ROOM:
            raise HostFault(
                "disk-full",
                f"no room to unpack {digest}; free some space below {self._folder}, running workloads go on",
            )
        if status == unpack.DISK_LOST:
            raise files.DiskLost(folder, OSError(5, "syncfs"))
        if status:
            text = said.decode("utf-8", "replace").strip()[-MAX_SAID:] or f"its unpacking ended with status {status}"
            raise InvalidInput("bad-archive", f"{digest} cannot be unpacked: {text}")
        return listing

    def _drop(self, path: Path) -> None:
        """Away with it, never half of it under its name."""
        gone = path.with_name(f".{path.name}.gone")
        _remove(gone)
        with contextlib.suppress(OSError):
            path.rename(gone)
            files.sync_folder(self._folder)
        _remove(gone)

    def _fresh(self, digest: str) -> Path:
        return self._folder / f".{self._path(digest).name}.new"

    def _path(self, digest: str) -> Path:
        return self._folder / checked_digest(digest).removeprefix("sha256:")


def free_bytes(folder: Path) -> int:
    """Of the disk below `folder`, for whoever has no privileges there."""
    free = os.statvfs(folder)
    return free.f_bavail * free.f_frsize


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for top, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                Path(top).chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _found(path: Path, trouble: str) -> str:
    return f"what artifact {path.name[:12]} was unpacked to {trouble}: it is unpacked again"


def _looks(path: Path) -> str:
    """What stays the same while nobody touches the folder, without reading a file: what git's index keeps of each. Empty when it cannot be looked at.

    A start waits for this. Measured: 19 ms of a core for 3,000 files; reading their 100 MB takes 270.
    """
    hasher, folders = hashlib.sha256(), [os.fspath(path)]
    try:
        while folders:
            folder = folders.pop()
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda each: each.name):
                    about = entry.stat(follow_symlinks=False)
                    kept = (
                        entry.path,
                        about.st_mode,
                        about.st_dev,
                        about.st_ino,
                        about.st_size,
                        about.st_mtime_ns,
                        about.st_ctime_ns,
                    )
                    hasher.update(repr(kept).encode(errors="surrogateescape"))
                    if stat.S_ISDIR(about.st_mode):
                        folders.append(entry.path)
    except OSError:
        return ""
    return hasher.hexdigest()


def _trouble(path: Path) -> str:
    """What is wrong with an unpacked artifact; empty when nothing is. Every byte of it is read."""
    try:
        listing = json.loads((path / _LISTING).read_bytes())
        wanted = {str(name): (str(digest), bool(executable)) for digest, executable, name in listing}
    except (OSError, ValueError, TypeError):
        return "is without its listing"
    tree, found = path / _TREE, 0
    try:
        for top, _, names in os.walk(tree, onerror=_raise):
            for name in names:
                file = Path(top, name)
                digest, executable = wanted.get(str(file.relative_to(tree)), ("", False))
                mode = file.lstat().st_mode
                if not stat.S_ISREG(mode) or bool(mode & 0o100) != executable or _sha256_of(file) != digest:
                    return "is damaged"
                found += 1
    except OSError:
        return "cannot be read"
    return "" if found == len(wanted) else "lacks files"


def _raise(error: OSError) -> None:
    raise error


def _sha256_of(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    return hasher.hexdigest()


def _runs(path: Path) -> bool:
    """Does a process execute a file of this folder, or hold one mapped? In doubt: yes."""
    needle = os.fsencode(path) + b"/"
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if needle in (process / "maps").read_bytes() or needle in (process / "cmdline").read_bytes():
                    return True
            except ProcessLookupError:
                continue
            except FileNotFoundError:
                continue
            except PermissionError:
                continue  # another user's: it cannot be ours
            except OSError:
                return True
    return False
