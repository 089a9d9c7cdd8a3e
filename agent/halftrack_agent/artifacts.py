"""Artifacts by content: fetched with resume, verified, and only then under their name, from where they may be executed (P1).

    STATE/artifacts/HEX        complete, verified, read-only
    STATE/artifacts/HEX.part   a transfer that was interrupted; continued from its end

Owns that folder and its bounds. Never decides what is needed, never unpacks anything.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

from halftrack_agent import files
from halftrack_model.errors import HostFault, Untrusted
from halftrack_model.ids import checked_digest

MAX_ARTIFACT_BYTES = 2 << 30
RESERVE_BYTES = 64 << 20  # of the disk stay free: the journal must be able to grow while artifacts come in
KEPT_UNWANTED = 8  # complete artifacts that no plan wants now: the way back needs no link
_BLOCK = 1 << 20

Source = Callable[[str, int], AsyncIterator[tuple[int, bytes]]]
"""`(digest, offset) -> chunks`, each with the artifact's total length (0: not said again) and the bytes that follow."""


class ArtifactStore:
    """The complete artifacts of one host. Several fetches may go on at once, of one digest only one."""

    def __init__(self, folder: Path) -> None:
        self._folder = files.make_folder(folder)
        self._seen: dict[str, tuple[int, int, int]] = {}
        self.findings: tuple[str, ...] = ()
        for path in sorted(self._folder.iterdir()):
            if path.suffix:
                continue
            if _sha256_of(path) == path.name:
                self._seen[f"sha256:{path.name}"] = _signature(path)
            else:
                path.unlink()
                self.findings += (f"artifact {path.name[:12]} was damaged on the disk and has been removed",)

    @property
    def digests(self) -> frozenset[str]:
        """What is complete."""
        return frozenset(self._seen)

    def path(self, digest: str) -> Path:
        """The file of a complete artifact; verified again when it is not the very file that was verified before (D1)."""
        path = self._path(digest)
        if digest not in self._seen:
            raise HostFault("artifact-missing", f"artifact {digest} is not complete here; it has to be fetched first")
        if not path.exists() or (_signature(path) != self._seen[digest] and _sha256_of(path) != path.name):
            self._seen.pop(digest)
            path.unlink(missing_ok=True)
            raise HostFault("artifact-damaged", f"artifact {digest} was changed on the disk; it is fetched again")
        self._seen[digest] = _signature(path)
        return path

    async def fetch(self, digest: str, size_bytes: int, source: Source) -> None:
        """Bring `digest` in, going on where an earlier transfer ended.

        Untrusted when the other side's length or content is not what the plan said (what came is dropped); HostFault when there
        is no room. Whatever `source` raises passes through, and the part stays for the next time.
        """
        if digest in self._seen:
            return
        part = self._path(digest).with_suffix(".part")
        try:
            found = await self._received(digest, size_bytes, part, source)
            if found != self._path(digest).name:
                part.unlink()
                raise Untrusted("artifact-mismatch", f"what was sent as {digest} has the digest sha256:{found}")
            self._finish(digest, part)
        except OSError as error:
            raise files.fault(error, part) from error

    async def _received(self, digest: str, size_bytes: int, part: Path, source: Source) -> str:
        """Bring `part` to its full length and onto the disk; returns the SHA-256 of what it then holds."""
        offset = _begun(part, size_bytes)
        self._check_room(digest, size_bytes - offset)
        hasher = await asyncio.to_thread(_hasher_of, part)
        with part.open("ab") as file:
            if offset < size_bytes:
                await _receive(source(digest, offset), size_bytes - offset, size_bytes, file.write, hasher.update)
            file.flush()
            await asyncio.to_thread(files.sync, file.fileno(), part)
        return hasher.hexdigest()

    def prune(self, wanted: Collection[str]) -> None:
        """Drop the oldest complete artifacts that nobody wants, and parts of what is not wanted; on a disk that takes no change, later."""
        names = {self._path(digest).name for digest in wanted}
        for path in self._folder.glob("*.part"):
            if path.stem not in names:
                with contextlib.suppress(OSError):
                    path.unlink()
        spare = sorted(
            (path for path in self._folder.iterdir() if path.name not in names and not path.suffix), key=_age
        )
        for path in spare[: max(0, len(spare) - KEPT_UNWANTED)]:
            with contextlib.suppress(OSError):
                path.unlink()
                self._seen.pop(f"sha256:{path.name}", None)

    def _finish(self, digest: str, part: Path) -> None:
        path = self._path(digest)
        part.chmod(0o500)
        part.rename(path)
        files.sync_folder(self._folder)
        self._seen[digest] = _signature(path)

    def _check_room(self, digest: str, more: int) -> None:
        free = os.statvfs(self._folder)
        if more > MAX_ARTIFACT_BYTES or more + RESERVE_BYTES > free.f_bavail * free.f_frsize:
            raise HostFault(
                "disk-full", f"no room for {more} more bytes of {digest}; free some space below {self._folder}"
            )

    def _path(self, digest: str) -> Path:
        return self._folder / checked_digest(digest).removeprefix("sha256:")


def _begun(part: Path, size_bytes: int) -> int:
    """How much of it an earlier transfer has brought; more than there is of it is dropped."""
    if not part.exists():
        return 0
    if (offset := part.stat().st_size) <= size_bytes:
        return offset
    part.unlink()
    return 0


async def _receive(
    chunks: AsyncIterator[tuple[int, bytes]],
    missing: int,
    total: int,
    write: Callable[[bytes], object],
    update: Callable[[bytes], object],
) -> None:
    """Write what comes, after the length was checked, and not a byte more than is missing."""
    first = True
    async for said, data in chunks:
        if first and said != total:
            raise Untrusted("artifact-length", f"the plan says {total} bytes, the sender {said}; nothing was taken")
        if len(data) > missing:
            raise Untrusted("artifact-length", f"the sender sends more than the {total} bytes that the plan says")
        first = False
        missing -= len(data)
        write(data)
        update(data)
    if missing:
        raise HostFault("transfer-ended", f"the transfer ended {missing} bytes early; it goes on from there")


def _hasher_of(path: Path) -> "hashlib._Hash":
    hasher = hashlib.sha256()
    if path.exists():
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                hasher.update(block)
    return hasher


def _sha256_of(path: Path) -> str:
    return _hasher_of(path).hexdigest()


def _signature(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _age(path: Path) -> int:
    return path.stat().st_mtime_ns
