"""Artifacts: files named by their content. A file is there whole, verified and durable, or it is not there.

Uploads grow under `incoming/` and are renamed into place once their digest is right and they are on disk; what a crash left
there is removed at the start. Serves any offset, so that an interrupted transfer goes on where it ended.
"""

import asyncio
import errno
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from halftrack_controller.callers import HOST, OPERATOR, Context, Wire, answered, checked_caller, current_caller
from halftrack_controller.keys import fsync_folder
from halftrack_controller.parcels import Parcel, Parcels, bases, usable
from halftrack_controller.store_thread import StoreThread
from halftrack_model.errors import HostFault, InvalidInput, Refused
from halftrack_model.ids import checked_digest
from halftrack_proto import artifact_codec
from halftrack_proto import messages as said
from halftrack_proto.artifact_messages import OfferReply, OfferRequest
from halftrack_proto.channel import CHUNK_BYTES
from halftrack_proto.v1 import artifacts_pb2_grpc

MAX_ARTIFACT_BYTES = 256 << 20
MIN_CHUNK_BYTES = (
    1 << 10
)  # a host with a narrow window asks for small pieces; smaller than this costs more than it carries
MAX_BASES = 64  # that one wish may name
MAX_KNOWN = 4096  # files that need not be read again


class ArtifactFiles:
    """The files. Blocking: call from a thread."""

    def __init__(self, folder: Path) -> None:
        self._held = folder / "sha256"
        self._incoming = folder / "incoming"
        self._read: dict[Path, tuple[int, int, int]] = {}
        with _disk_faults():
            for path in (self._held, self._incoming):
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
            for made_in in (folder, folder.parent):  # their names, too, have to outlive what they will hold
                fsync_folder(made_in)
            for left in self._incoming.iterdir():
                left.unlink()

    def path(self, digest: str) -> Path:
        """Where the artifact is, if it is held."""
        return self._held / checked_digest(digest).removeprefix("sha256:")

    def holds(self, digest: str) -> bool:
        """Is the file really there, with every byte?"""
        return self.sound(self.path(digest), digest)

    def sound(self, path: Path, digest: str) -> bool:
        """Has that file the digest? Each is read whole when it is first asked for, and again when it is not the very file that was read (D1)."""
        try:
            stat = path.stat()
            signature = stat.st_ino, stat.st_size, stat.st_mtime_ns
            if self._read.get(path) == signature:
                return True
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest.removeprefix("sha256:"):
                    return False
        except OSError:
            return False
        if len(self._read) >= MAX_KNOWN:
            self._read.clear()
        self._read[path] = signature
        return True

    def upload(self, digest: str, total_bytes: int) -> "Upload":
        """A place for an artifact to arrive in."""
        if not 0 < total_bytes <= MAX_ARTIFACT_BYTES:
            raise InvalidInput("bad-size", f"an artifact has 1 to {MAX_ARTIFACT_BYTES} bytes, not {total_bytes}")
        with _disk_faults():
            descriptor, name = tempfile.mkstemp(dir=self._incoming)
        return Upload(os.fdopen(descriptor, "wb"), Path(name), self.path(digest), digest, total_bytes)


class Upload:
    """One artifact on its way in."""

    def __init__(self, file: BinaryIO, path: Path, target: Path, digest: str, total_bytes: int) -> None:
        self._file, self._path, self._target = file, path, target
        self._digest, self._total_bytes = digest, total_bytes
        self._hash, self._size = hashlib.sha256(), 0

    def add(self, data: bytes) -> None:
        """The next bytes."""
        self._size += len(data)
        if self._size > self._total_bytes:
            raise InvalidInput("bad-size", f"more than the announced {self._total_bytes} bytes have come")
        self._hash.update(data)
        with _disk_faults():
            self._file.write(data)

    def finish(self) -> int:
        """Verified and durable under its digest; its size."""
        if self._size != self._total_bytes:
            raise InvalidInput("cut-short", f"{self._size} of {self._total_bytes} bytes have come: send it again")
        if (found := "sha256:" + self._hash.hexdigest()) != self._digest:
            raise InvalidInput("wrong-digest", f"what came is {found}, not {self._digest}: nothing was kept")
        with _disk_faults():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._path.replace(self._target)
            fsync_folder(self._target.parent)
        return self._size

    def drop(self) -> None:
        """Leave nothing of an upload that did not finish; a no-op after one that did."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class _disk_faults:  # noqa: N801 - reads as a context
    """A disk's errors as ours."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            reason = "disk-full" if full else "cannot-write"
            raise HostFault(reason, f"the controller cannot keep the artifact: {error.strerror}") from None


class ArtifactService(artifacts_pb2_grpc.ArtifactsServicer):
    """`Artifacts` for hosts and operators."""

    def __init__(self, galaxy: str, files: ArtifactFiles, parcels: Parcels, store: StoreThread) -> None:
        self._galaxy, self._files, self._parcels, self._store = galaxy, files, parcels, store
        self._checking = asyncio.Lock()  # a hundred hosts that ask for one artifact at once have it read once
        self._packing = asyncio.Lock()  # one at a time: packing takes a processor and the memory of two artifacts

    async def Offer(self, request: Wire, context: Context) -> Wire:  # noqa: N802 - gRPC's name
        """The cheapest way to an artifact."""
        wish = artifact_codec.offer_request_of(request)
        return artifact_codec.offer_reply_message(await answered(context, lambda: self._offer(context, wish)))

    async def _offer(self, context: Context, wish: OfferRequest) -> OfferReply:
        await current_caller(context, self._galaxy, (HOST, OPERATOR), self._store)
        if len(wish.bases) > MAX_BASES:
            raise InvalidInput("too-many-bases", f"{len(wish.bases)} bases: name {MAX_BASES} at most")
        wanted = self._files.path(wish.digest)
        if await self._store.do(lambda store: store.artifact_size(wish.digest)) is None:
            raise Refused("unknown-artifact", f"{wish.digest} is not held here: publish the release that names it")
        kin = await self._store.do(lambda store: store.kin_of_artifact(wish.digest))
        likely = [self._files.path(digest) for digest in bases(map(checked_digest, wish.bases), kin)]
        base = next(filter(usable, likely), None) if usable(wanted) else None
        async with self._packing:
            parcel = await asyncio.to_thread(self._packed, wanted, base)
        return OfferReply(parcel.digest, parcel.size_bytes, parcel.base) if parcel else OfferReply("", 0, "")

    def _packed(self, wanted: Path, base: Path | None) -> Parcel | None:
        if not self._files.sound(wanted, wanted.name):
            return None  # whoever asks for the whole is told
        with _disk_faults():
            return self._parcels.packed(wanted, base if base and self._files.sound(base, base.name) else None)

    async def Fetch(  # noqa: N802 - gRPC's name
        self, request: Wire, context: Context
    ) -> AsyncIterator[Wire]:
        """The artifact's bytes from an offset on, its whole size first."""
        wish = artifact_codec.fetch_request_of(request)
        file, size = await answered(context, lambda: self._opened(context, wish))
        with file:
            yield artifact_codec.fetch_chunk_message(said.FetchChunk(size, b""))
            piece = min(max(wish.chunk_bytes or CHUNK_BYTES, MIN_CHUNK_BYTES), CHUNK_BYTES)
            left = wish.most_bytes if wish.most_bytes > 0 else size
            while data := await asyncio.to_thread(file.read, min(piece, left)):
                left -= len(data)
                yield artifact_codec.fetch_chunk_message(said.FetchChunk(0, data))

    async def _opened(self, context: Context, wish: said.FetchRequest) -> tuple[BinaryIO, int]:
        await current_caller(context, self._galaxy, (HOST, OPERATOR), self._store)
        path: Path | None = self._files.path(wish.digest)
        size = await self._store.do(lambda store: store.artifact_size(wish.digest))
        if size is None:
            path = await asyncio.to_thread(self._parcels.path, wish.digest)
        if path is None:
            raise Refused("unknown-artifact", f"{wish.digest} is not held here: publish the release that names it")
        await self._check(path, wish.digest)
        try:
            file = path.open("rb")
            size = os.fstat(file.fileno()).st_size if size is None else size
        except OSError as error:
            raise HostFault("artifact-lost", f"{wish.digest} cannot be read: {error.strerror}") from None
        if not 0 <= wish.offset <= size:
            file.close()
            raise InvalidInput("bad-offset", f"offset {wish.offset} is outside the artifact's {size} bytes")
        file.seek(wish.offset)
        return file, size

    async def _check(self, path: Path, digest: str) -> None:
        """HostFault rather than bytes that a host would find to be wrong once it has them all."""
        async with self._checking:
            sound = await asyncio.to_thread(self._files.sound, path, digest)
        if not sound:
            await asyncio.to_thread(self._parcels.forget, digest)
            raise HostFault(
                "artifact-lost", f"{digest} is damaged on the controller's disk, or gone: publish its release once more"
            )

    async def Put(  # noqa: N802
        self, requests: AsyncIterator[Wire], context: Context
    ) -> Wire:
        """Take an artifact in, from an operator."""
        return artifact_codec.put_reply_message(await answered(context, lambda: self._put(requests, context)))

    async def _put(self, requests: AsyncIterator[Wire], context: Context) -> said.PutReply:
        checked_caller(context, self._galaxy, (OPERATOR,))
        chunks = (artifact_codec.put_chunk_of(message) async for message in requests)
        first = await anext(chunks, said.PutChunk("", 0, b""))
        digest = checked_digest(first.digest)
        held = await self._store.do(lambda store: store.artifact_size(digest))
        if held is not None and await asyncio.to_thread(self._files.holds, digest):
            return said.PutReply(digest, held, already_held=True)
        upload = await asyncio.to_thread(self._files.upload, digest, first.total_bytes)
        try:
            await asyncio.to_thread(upload.add, first.data)
            async for chunk in chunks:
                await asyncio.to_thread(upload.add, chunk.data)
            size = await asyncio.to_thread(upload.finish)
        finally:
            await asyncio.to_thread(upload.drop)
        await self._store.do(lambda store: store.add_artifact(digest, size))
        return said.PutReply(digest, size, already_held=False)
