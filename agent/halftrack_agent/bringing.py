"""How an artifact comes: from another host of the site, as a parcel that this host can rebuild it from, or whole; within the limit of the link.

Owns the order of ways (`sharing` decides between the site and the controller), and what is shown of transfers. What arrives is the store's to verify, whichever way it came: a way that turns out
to be wrong costs time, and the whole from the controller is the way that is always left.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass

from halftrack_agent import clock
from halftrack_agent.artifacts import ArtifactStore, Source
from halftrack_agent.limiter import Limiter
from halftrack_agent.rebuilding import rebuild
from halftrack_agent.sharing import Bring, Choice, Here, Stands, Take, Wait, choice, too_long
from halftrack_agent.siblings import NOT_GIVEN, TOO_LONG, Asked, Siblings
from halftrack_model.errors import HalftrackError, HostFault, Untrusted
from halftrack_proto.artifact_messages import OfferReply
from halftrack_proto.gauges import TransferGauge

MAX_BASES = 64  # that one wish names
SMALL_BYTES = (
    16 << 10
)  # no parcel: to rebuild it takes a process of its own, which takes longer than these take on most links
RATE_MS = 2_000  # a rate is shown over the last stretch of at least this long
WHOLE, PARCEL = "whole", "parcel"
LAN = ".lan"  # of files in the store: what a sibling sent
LOOK_S = 0.5  # while nobody says anything new
ROUND_MS = 30_000  # with no controller and nobody who has it: then that is told as what is missing, and it goes on

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
    brings: bool = False  # from the controller
    brought: int = 0  # ... so much, whatever way: it only rises
    waits: str = ""

    @property
    def finishing(self) -> bool:
        """All has come: what is left is not to be broken off."""
        return 0 < self.all <= self.done

    def begin(self, way: str, done: int, all_: int, now_ms: int) -> None:
        self.waits = ""
        self.way, self.done, self.all, self.since_ms, self.since_done, self.rate = way, done, all_, now_ms, done, 0

    def rests(self, why: str) -> None:
        """Nothing comes for now."""
        self.way, self.done, self.all, self.waits = "", 0, 0, why

    def came(self, count: int, now_ms: int) -> None:
        self.done += count
        gone_ms = now_ms - self.since_ms
        if gone_ms >= RATE_MS or not self.rate:
            self.rate = (self.done - self.since_done) * 1000 // max(1, gone_ms)
        if gone_ms >= RATE_MS:
            self.since_ms, self.since_done = now_ms, self.done


@dataclass(frozen=True)
class Site:
    """This host among those of its site. `linked`: is the controller there? `clock` is `sharing`'s."""

    host: str
    siblings: Siblings
    linked: Callable[[], bool]
    clock: Callable[[], int]


class Bringing:
    """Brings artifacts in. `source` reads from the controller, in pieces as the limiter says."""

    def __init__(
        self, store: ArtifactStore, limiter: Limiter, offer: Offer, source: Source, site: Site | None = None
    ) -> None:
        self._store, self._limiter, self._offer, self._source, self._site = store, limiter, offer, source, site
        self._wanted: frozenset[str] = frozenset()
        self._moving: dict[str, _Moving] = {}
        self._spoiled: set[str] = set()  # artifacts of which a parcel was wrong: they come whole

    def gauges(self) -> tuple[TransferGauge, ...]:
        """What is under way, for people."""
        return tuple(self._gauge(digest, each) for digest, each in sorted(self._moving.items()))

    def _gauge(self, digest: str, each: _Moving) -> TransferGauge:
        waits = each.waits or (self._limiter.waits if each.way in ("", WHOLE, PARCEL) else "")
        return TransferGauge(digest, each.done, each.all, 0 if waits else each.rate, each.way, waits)

    def use(self, wanted: Collection[str]) -> None:
        """What the plan in force names."""
        self._wanted = frozenset(wanted)

    def standing(self, digest: str) -> tuple[Stands, int]:
        """How this host stands with an artifact (`serving.Standing`)."""
        moving = self._moving.get(digest)
        if digest in self._store.digests:
            return Stands.HAS, 0
        if moving is not None and moving.brings:
            return Stands.BRINGS, moving.brought
        if moving is None and digest not in self._wanted:
            return Stands.NOTHING, 0
        return (Stands.WANTS if self._site is None or self._site.linked() else Stands.CUT_OFF), 0

    async def bring(self, digest: str, size_bytes: int) -> None:
        """Complete `digest` in the store, and unpack it if need be. Raises as `fetch` and `unpack` of it do; what has come stays for the next time."""
        if digest not in self._store.digests:
            await self._fetch(digest, size_bytes)
        await self._store.unpack(digest)

    async def _fetch(self, digest: str, size_bytes: int) -> None:
        moving = self._moving[digest] = _Moving()
        try:
            if self._site is None or not self._site.siblings:
                await self._from_controller(digest, size_bytes, moving)
            else:
                await self._at_site(self._site, digest, size_bytes, moving)
        finally:
            self._moving.pop(digest, None)
        self._spoiled.discard(digest)

    async def _at_site(self, site: Site, digest: str, size_bytes: int, moving: _Moving) -> None:
        """From a sibling, or from the controller while no sibling has it or brings it."""
        task: asyncio.Task[None] | None = None
        async with site.siblings.asking(digest) as asked:
            since_ms, round_ms = site.clock(), clock.boot_ms()
            try:
                while digest not in self._store.digests:
                    chosen = self._chosen(site, digest, asked, moving, since_ms, task)
                    if task is not None and not isinstance(chosen, Bring):
                        await _broken_off(task)
                        task = None
                    match chosen:
                        case Take(host):
                            await self._from_sibling(site, host, asked, digest, size_bytes, moving, since_ms)
                            round_ms = clock.boot_ms()
                        case Bring():
                            task = task or asyncio.create_task(self._from_controller(digest, size_bytes, moving))
                            task = await self._went_on(site, task, asked)
                        case Wait(why):
                            moving.rests(why)
                            if not site.linked() and clock.boot_ms() - round_ms > ROUND_MS:
                                raise HostFault("unreachable", f"{digest}: {why}")
                            await _news(asked)
            finally:
                if task is not None:
                    await _broken_off(task)

    def _chosen(
        self, site: Site, digest: str, asked: Asked, moving: _Moving, since_ms: int, task: asyncio.Task[None] | None
    ) -> Choice:
        if task is not None and moving.finishing:
            return Bring()
        asked.news.clear()
        here = Here(site.host, task is not None or site.linked(), None if task is None else moving.brought, since_ms)
        return choice(digest, here, site.siblings.worth_asking(asked, bringing=task is not None), site.clock())

    async def _went_on(self, site: Site, task: asyncio.Task[None], asked: Asked) -> asyncio.Task[None] | None:
        """After a while of bringing from the controller; None when that has ended, with the link. Raises what else ended it."""
        news = asyncio.create_task(_news(asked))
        try:
            await asyncio.wait((task, news), return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        if not task.done():
            return task
        try:
            task.result()
        except HostFault as error:
            if error.reason != "unreachable" or site.linked():
                raise
        return None

    async def _from_sibling(
        self, site: Site, host: str, asked: Asked, digest: str, size_bytes: int, moving: _Moving, since_ms: int
    ) -> None:
        moving.begin(host, self._store.begun(digest, LAN), size_bytes, clock.boot_ms())
        asked.took.add(host)

        async def pieces(digest: str, offset: int) -> AsyncIterator[tuple[int, bytes]]:
            async with aclosing(site.siblings.pieces(host, digest, offset)) as source:  # type: ignore[type-var]
                async for total, data in source:
                    moving.came(len(data), clock.boot_ms())
                    yield total, data
                    if site.linked() and too_long(since_ms, site.clock()):
                        raise HostFault(TOO_LONG, f"{digest} has not come whole in all that time")

        try:
            await self._store.fetch(digest, size_bytes, pieces, LAN)
        except (HostFault, Untrusted) as error:
            if isinstance(error, HostFault) and error.reason not in NOT_GIVEN:
                raise
            log.warning("%s does not come from %s: %s", digest, host, error.message)
            site.siblings.failed(host, asked, error, digest)
        else:
            site.siblings.done(host)
            log.info("%s came from %s", digest, host)

    async def _from_controller(self, digest: str, size_bytes: int, moving: _Moving) -> None:
        moving.rests("")
        moving.brings = True
        moving.brought = max(moving.brought, self._store.begun(digest, ".part"))
        try:
            await self._limiter.ready()
            if not await self._by_parcel(digest, size_bytes, moving):
                moving.begin(WHOLE, self._store.begun(digest, ".part"), size_bytes, clock.boot_ms())
                await self._store.fetch(digest, size_bytes, self._paced(moving))
        finally:
            moving.brings = False

    async def _by_parcel(self, digest: str, size_bytes: int, moving: _Moving) -> bool:
        """Did it come as a parcel? False: fetch the whole."""
        if digest in self._spoiled or size_bytes <= SMALL_BYTES:
            return False
        parcel = await self._offer(digest, self._store.bases(digest, MAX_BASES))
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
        moving.brought = max(moving.brought, moving.done)
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
                    moving.brought += len(data)
                    yield total, data
                    await self._limiter.ready()

        return chunks


async def _broken_off(task: asyncio.Task[None]) -> None:
    """It goes on from where it is when it is begun again."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _news(asked: Asked) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOOK_S):
            await asked.news.wait()


def nothing_offered(error: HalftrackError) -> OfferReply:
    """What an error of an offer means: a controller that has no such thing, or cannot make one, still has the whole."""
    if isinstance(error, HostFault) and error.reason == "unreachable":
        raise error
    return OfferReply("", 0, "")
