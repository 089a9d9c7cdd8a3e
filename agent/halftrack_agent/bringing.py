"""How an artifact comes: as a parcel that this host can rebuild it from, or whole; within the limit of the link.

Owns the order of ways, and what is shown of transfers. What arrives is the store's to verify, whichever way it came: a way that turns out
to be wrong costs time, and the whole from the controller is the way that is always left.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from halftrack_agent import clock
from halftrack_agent.artifacts import ArtifactStore, Source
from halftrack_agent.limiter import Limiter
from halftrack_agent.rebuilding import rebuild
from halftrack_model.errors import HalftrackError, HostFault, Untrusted
from halftrack_proto.artifact_messages import OfferReply
from halftrack_proto.gauges import TransferGauge

MAX_BASES = 64  # that one wish names
RATE_MS = 2_000  # a rate is shown over the last stretch of at least this long
WHOLE, PARCEL = "whole", "parcel"

Offer = Callable[[str, tuple[str, ...]], Awaitable[OfferReply]]
"""`(digest, digests held) -> the cheapest way`; a controller that knows of none, or is of before, answers with an empty reply."""

log = logging.getLogger("halftrack.agent")


@dataclass
class _Moving:
    """One transfer, as it is shown."""

    way: str = ""
    done: int = 0
    all: int = 0
    since_ms: int = 0
    since_done: int = 0
    rate: int = 0

    def begin(self, way: str, done: int, all_: int, now_ms: int) -> None:
        self.way, self.done, self.all, self.since_ms, self.since_done, self.rate = way, done, all_, now_ms, done, 0

    def came(self, count: int, now_ms: int) -> None:
        self.done += count
        gone_ms = now_ms - self.since_ms
        if gone_ms >= RATE_MS or not self.rate:
            self.rate = (self.done - self.since_done) * 1000 // max(1, gone_ms)
        if gone_ms >= RATE_MS:
            self.since_ms, self.since_done = now_ms, self.done


class Bringing:
    """Brings artifacts in. `source` reads from the controller, in pieces as the limiter says."""

    def __init__(self, store: ArtifactStore, limiter: Limiter, offer: Offer, source: Source) -> None:
        self._store, self._limiter, self._offer, self._source = store, limiter, offer, source
        self._moving: dict[str, _Moving] = {}
        self._spoiled: set[str] = set()  # artifacts of which a parcel was wrong: they come whole

    def gauges(self) -> tuple[TransferGauge, ...]:
        """What is under way, for people."""
        waits = self._limiter.waits
        return tuple(
            TransferGauge(digest, each.done, each.all, 0 if waits else each.rate, each.way, waits)
            for digest, each in sorted(self._moving.items())
        )

    async def bring(self, digest: str, size_bytes: int) -> None:
        """Complete `digest` in the store, and unpack it if need be. Raises as `fetch` and `unpack` of it do; what has come stays for the next time."""
        if digest not in self._store.digests:
            await self._fetch(digest, size_bytes)
        await self._store.unpack(digest)

    async def _fetch(self, digest: str, size_bytes: int) -> None:
        moving = self._moving[digest] = _Moving()
        try:
            await self._limiter.ready()
            if not await self._by_parcel(digest, size_bytes, moving):
                moving.begin(WHOLE, self._store.begun(digest, ".part"), size_bytes, clock.boot_ms())
                await self._store.fetch(digest, size_bytes, self._paced(moving))
        finally:
            self._moving.pop(digest, None)
        self._spoiled.discard(digest)

    async def _by_parcel(self, digest: str, size_bytes: int, moving: _Moving) -> bool:
        """Did it come as a parcel? False: fetch the whole."""
        if digest in self._spoiled:
            return False
        parcel = await self._offer(digest, tuple(sorted(self._store.digests))[:MAX_BASES])
        left = size_bytes - self._store.begun(digest, ".part")
        suffix = f".{parcel.digest.removeprefix('sha256:')}.parcel"
        if not parcel.digest or not 0 < parcel.size_bytes < left + self._store.begun(digest, suffix):
            return False
        try:
            self._store.check_room(digest, parcel.size_bytes + size_bytes)
        except HostFault:
            return False  # the whole takes less room
        try:
            await self._take(digest, size_bytes, parcel, suffix, moving)
        except Untrusted as error:
            log.warning("the parcel of %s is not used: %s", digest, error.message)
            self._spoiled.add(digest)
            return False
        return True

    async def _take(self, digest: str, size_bytes: int, parcel: OfferReply, suffix: str, moving: _Moving) -> None:
        store = self._store
        base = store.path(parcel.base) if parcel.base in store.digests else None
        if parcel.base and base is None:
            raise Untrusted("parcel-without-base", f"it is made for who has {parcel.base}, which is not here")
        part, built = store.beside(digest, suffix), store.beside(digest, ".built")
        moving.begin(PARCEL, store.begun(digest, suffix), parcel.size_bytes, clock.boot_ms())
        await store.receive(parcel.digest, parcel.size_bytes, part, self._paced(moving))
        try:
            await rebuild(base, part, built, size_bytes)
            await store.adopt(digest, built)
        except Untrusted:
            part.unlink(missing_ok=True)
            raise

    def _paced(self, moving: _Moving) -> Source:
        """The controller's source, within the limit, counted."""

        async def chunks(digest: str, offset: int) -> AsyncIterator[tuple[int, bytes]]:
            async with aclosing(self._source(digest, offset)) as source:  # type: ignore[type-var]
                async for total, data in source:
                    self._limiter.came(len(data))
                    moving.came(len(data), clock.boot_ms())
                    yield total, data
                    await self._limiter.ready()

        return chunks


def nothing_offered(error: HalftrackError) -> OfferReply:
    """What an error of an offer means: a controller that has no such thing, or cannot make one, still has the whole."""
    if isinstance(error, HostFault) and error.reason == "unreachable":
        raise error
    return OfferReply("", 0, "")
