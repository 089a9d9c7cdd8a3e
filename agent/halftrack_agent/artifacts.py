"""Artifacts by content: fetched with resume, verified, and only then under their name, from where they may be executed (P1).

    STATE/artifacts/HEX        complete, verified, read-only
    STATE/artifacts/HEX.part   a transfer from the controller that was interrupted; continued from its end
    STATE/artifacts/HEX.lan    one from a sibling: apart, so that who lies costs nothing that came over the link
    STATE/artifacts/HEX.PARCEL.parcel, HEX.built   a parcel on its way, and what is rebuilt from one

Owns that folder and its bounds. Never decides what is needed, nor what is unpacked beside (`unpacking`).
"""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path

from halftrack_agent import files, retention
from halftrack_agent.notes import Note, retained_of
from halftrack_agent.unpacking import RESERVE_BYTES, Unpacked, free_bytes
from halftrack_model.errors import HostFault, Untrusted
from halftrack_model.ids import checked_digest

MAX_ARTIFACT_BYTES = 2 << 30
_BLOCK = 1 << 20
_NAME = re.compile("[0-9a-f]{64}")

Source = Callable[[str, int], AsyncIterator[tuple[int, bytes]]]
"""`(digest, offset) -> chunks`, each with the artifact's total length (0: not said again) and the bytes that follow."""


class ArtifactStore:
    """The complete artifacts of one host. Several fetches may go on at once, of one digest only one."""

    def __init__(self, folder: Path, memory: Note[retention.Retained] | None = None) -> None:
        """`memory` is where it stands what must not go; by default, in a note beside `folder`."""
        self._folder = files.make_folder(folder)
        self._seen: dict[str, tuple[int, int, int]] = {}
        self.findings: tuple[str, ...] = ()
        self._unpacked, self._unpacks = Unpacked(folder.with_name("unpacked")), frozenset[str]()
        self._memory = memory or retained_of(folder.with_name("retained.json"))
        self._retained = self._memory.read() or retention.NOTHING  # the reserve has the newest all the same
        for path in sorted(self._folder.iterdir()):
            if not _NAME.fullmatch(path.name):  # a transfer's, or a disk's own (`lost+found`)
                continue
            if _is_whole(path):
                self._seen[f"sha256:{path.name}"] = _signature(path)
            else:
                with contextlib.suppress(OSError):  # a disk that takes no change: it is not used, and replaced later
                    path.unlink()
                self.findings += (f"artifact {path.name[:12]} was damaged on the disk and is not used",)
        self.findings += self._unpacked.findings

    @property
    def digests(self) -> frozenset[str]:
        """What is complete."""
        return frozenset(self._seen)

    @property
    def ready(self) -> frozenset[str]:
        """What is complete, and unpacked if it is to be."""
        return self.digests - (self._unpacks - self._unpacked.digests)

    def program(self, digest: str, unpacked: bool) -> Path:
        """The file of a complete artifact, or the folder that it is unpacked to; HostFault while there is none."""
        return self._unpacked.path(digest) if unpacked else self.path(digest)

    def look(self, digest: str, unpacked: bool) -> None:
        """Before it is executed: HostFault when the disk has another than was verified; `path` does that for a file."""
        if unpacked:
            self._unpacked.look(digest)

    async def unpack(self, digest: str) -> None:
        """Unpack a complete artifact if the plan in force wants that. InvalidInput when nobody may, HostFault when this host cannot now."""
        while digest in self._unpacks - self._unpacked.digests:
            try:
                await self._unpacked.unpack(digest, self.path(digest))
            except HostFault as error:
                if error.reason != "disk-full" or not self._gave_way(digest):
                    raise

    def path(self, digest: str) -> Path:
        """The file of a complete artifact; verified again when it is not the very file that was verified before (D1)."""
        path = self._path(digest)
        if digest not in self._seen:
            raise HostFault("artifact-missing", f"artifact {digest} is not complete here; it has to be fetched first")
        if not path.exists() or (_signature(path) != self._seen[digest] and not _is_whole(path)):
            self._seen.pop(digest)
            with contextlib.suppress(OSError):
                path.unlink()
            raise HostFault("artifact-damaged", f"artifact {digest} was changed on the disk; it is fetched again")
        self._seen[digest] = _signature(path)
        return path

    async def fetch(self, digest: str, size_bytes: int, source: Source, kind: str = ".part") -> None:
        """Bring `digest` in, going on where an earlier transfer of this kind ended.

        Untrusted when the other side's length or content is not what the plan said (what came is dropped); HostFault when there
        is no room. Whatever `source` raises passes through, and the part stays for the next time.
        """
        if digest in self._seen:
            return
        part = self._path(digest).with_suffix(kind)
        await self.receive(digest, size_bytes, part, source)
        self._finished(digest, part)

    def beside(self, digest: str, suffix: str) -> Path:
        """A file that belongs to the bringing of `digest`, and goes when that is complete or not wanted any more."""
        return self._path(digest).with_suffix(suffix)

    def begun(self, digest: str, suffix: str) -> int:
        """How many bytes of it have come."""
        try:
            return self.beside(digest, suffix).stat().st_size
        except OSError:
            return 0

    async def receive(self, digest: str, size_bytes: int, part: Path, source: Source) -> None:
        """Bring `part` to its full length and onto the disk, with that digest. Raises as `fetch` does."""
        try:
            found = await self._received(digest, size_bytes, part, source)
            self._check(digest, part, found, "sent")
        except OSError as error:
            raise files.fault(error, part) from error

    async def adopt(self, digest: str, built: Path) -> None:
        """Take what was rebuilt as `digest`; Untrusted, and it is gone, when it is something else."""
        try:
            found = await asyncio.to_thread(_synced_sha256_of, built)
            self._check(digest, built, found, "rebuilt")
        except OSError as error:
            raise files.fault(error, built) from error
        self._finished(digest, built)

    def _check(self, digest: str, path: Path, found: str, how: str) -> None:
        if found != self._path(digest).name:
            path.unlink()
            raise Untrusted("artifact-mismatch", f"what was {how} as {digest} has the digest sha256:{found}")

    def bases(self, digest: str, most: int) -> tuple[str, ...]:
        """What is complete and may serve to rebuild that one, the likeliest first."""
        return retention.bases(self._held(), self._retained, digest, most)

    def check_room(self, digest: str, more: int) -> None:
        """HostFault when there is no room for so many bytes more."""
        try:
            self._check_room(digest, more)
        except OSError as error:
            raise files.fault(error, self._folder) from error

    async def _received(self, digest: str, size_bytes: int, part: Path, source: Source) -> str:
        """Returns the SHA-256 of what `part` holds in the end."""
        offset = _begun(part, size_bytes)
        self._check_room(digest, size_bytes - offset)
        hasher = await asyncio.to_thread(_hasher_of_begun, part)
        with part.open("ab") as file:
            if offset < size_bytes:
                await _receive(source(digest, offset), size_bytes - offset, size_bytes, file.write, hasher.update)
            file.flush()
            await asyncio.to_thread(files.sync, file.fileno(), part)
        return hasher.hexdigest()

    def retain(
        self,
        plan: Mapping[str, Collection[str]],
        running: Collection[str] | None,
        unpacks: frozenset[str] = frozenset(),
    ) -> None:
        """A plan is in force whose products have these artifacts (`retention`), some to be unpacked. What a disk that takes no change keeps goes later."""
        self._unpacks = unpacks
        known = retention.retained(self._retained, plan, running)
        if known != self._retained:
            with contextlib.suppress(HostFault):
                self._memory.write(known)
        self._retained = known
        self._prune({digest for digests in plan.values() for digest in digests})

    def _prune(self, wanted: Collection[str]) -> None:
        names = {self._path(digest).name for digest in wanted}
        for path in self._folder.glob("*.*"):
            if path.name.partition(".")[0] not in names:
                with contextlib.suppress(OSError):
                    path.unlink()
        for digest in retention.doomed(self._held(), {*wanted, *self._retained.digests}):
            self._drop(digest)
        self._unpacked.retain(self._seen)

    def _held(self) -> Mapping[str, retention.Held]:
        return {digest: retention.Held(size, came) for digest, (_, size, came) in self._seen.items()}

    def _drop(self, digest: str) -> None:
        with contextlib.suppress(OSError):
            self._path(digest).unlink(missing_ok=True)
            self._seen.pop(digest, None)

    def _finished(self, digest: str, part: Path) -> None:
        try:
            self._finish(digest, part)
        except OSError as error:
            raise files.fault(error, part) from error
        for left in self._folder.glob(f"{self._path(digest).name}.*"):
            with contextlib.suppress(OSError):
                left.unlink()

    def _finish(self, digest: str, part: Path) -> None:
        path = self._path(digest)
        part.chmod(0o500)
        part.rename(path)
        files.sync_folder(self._folder)
        self._seen[digest] = _signature(path)

    def _gave_way(self, digest: str) -> bool:
        """Has an old one gone, and what it was unpacked to?"""
        spare = retention.spare(self._held(), {digest, *self._retained.digests})
        if spare:
            self._drop(spare[0])
            self._unpacked.retain(self._seen)
        return bool(spare) and spare[0] not in self._seen

    def _check_room(self, digest: str, more: int) -> None:
        """The reserve of old ones gives way to what is wanted now."""
        for old in retention.spare(self._held(), {digest, *self._retained.digests}):
            if self._has_room(more) or more > MAX_ARTIFACT_BYTES:
                break
            self._drop(old)
        if more > MAX_ARTIFACT_BYTES or not self._has_room(more):
            raise HostFault(
                "disk-full", f"no room for {more} more bytes of {digest}; free some space below {self._folder}"
            )

    def _has_room(self, more: int) -> bool:
        return more + RESERVE_BYTES <= free_bytes(self._folder)

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


def _hasher_of_begun(part: Path) -> "hashlib._Hash":
    try:
        return _hasher_of(part)
    except OSError as error:
        if error.errno in files.UNREADABLE:  # kept, it would stand in the way of every attempt
            part.unlink()
        raise


def _synced_sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        files.sync(file.fileno(), path)
    return _sha256_of(path)


def _sha256_of(path: Path) -> str:
    return _hasher_of(path).hexdigest()


def _is_whole(path: Path) -> bool:
    """Has it the digest of its name? A file that the disk does not give back has not."""
    try:
        return _sha256_of(path) == path.name
    except OSError as error:
        if error.errno in files.UNREADABLE:
            return False
        raise


def _signature(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
