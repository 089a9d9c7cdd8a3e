"""Gives artifacts to the other hosts of the site: complete and verified ones, in pieces that were asked for, to a few at once and not too fast.

Owns who is being served. Never decides who may ask: `peers` knows them by their keys. What is in the store was named by a plan of this host, and
whoever takes it verifies it.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from halftrack_agent import clock, pacing
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.sharing import PIECE_BYTES, Answer, Stands, Wish
from halftrack_model.errors import HostFault, InvalidInput
from halftrack_model.ids import checked_digest

MOST = 4  # transfers at once: the others find another host that has it meanwhile, or wait
LEFT_MS = 10_000  # without a wish: whoever was served has gone
BYTES_PER_S = 16 << 20  # of all together: the same cable carries streams, which come first

Standing = Callable[[str], tuple[Stands, int]]
"""`digest -> how this host stands with it, and how much of it has come`."""


class Serving:
    """Answers wishes. One that makes no sense raises InvalidInput."""

    def __init__(
        self,
        store: ArtifactStore,
        standing: Standing,
        now_ms: Callable[[], int] = clock.boot_ms,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._standing, self._now_ms, self._sleep = store, standing, now_ms, sleep
        self._served: dict[tuple[str, str], int] = {}  # who takes what -> when it asked last
        self._bucket = pacing.Bucket(0, now_ms())

    async def answer(self, host: str, wish: Wish) -> tuple[Answer, bytes]:
        """The answer, and the bytes."""
        digest = checked_digest(wish.digest)
        if wish.offset < 0 or not 0 <= wish.count <= PIECE_BYTES:
            raise InvalidInput("bad-wish", f"{wish.count} bytes from {wish.offset} on")
        stands, done = self._standing(digest)
        if stands is not Stands.HAS:
            return Answer(wish.number, stands, 0, done), b""
        if not self._has_time(host, digest, taken=wish.count > 0):
            return Answer(wish.number, Stands.BUSY, 0, 0), b""
        try:
            path = self._store.path(digest)
            if wish.count:
                await self._ready()
            size, data = await asyncio.to_thread(_read, path, wish.offset, wish.count)
        except (HostFault, OSError):  # it was damaged, or has had to go; the plan, if it is in it, brings it back
            return Answer(wish.number, Stands.NOTHING, 0, 0), b""
        self._bucket = pacing.taken(self._bucket, len(data))
        return Answer(wish.number, Stands.HAS, size, 0), data

    def _has_time(self, host: str, digest: str, *, taken: bool) -> bool:
        now_ms = self._now_ms()
        self._served = {who: at_ms for who, at_ms in self._served.items() if now_ms - at_ms < LEFT_MS}
        if (host, digest) not in self._served and len(self._served) >= MOST:
            return False
        if taken:
            self._served[host, digest] = now_ms
        return True

    async def _ready(self) -> None:
        while True:
            self._bucket = pacing.filled(self._bucket, BYTES_PER_S, self._now_ms())
            pause_ms = pacing.wait_ms(self._bucket, BYTES_PER_S)
            if not pause_ms:
                return
            await self._sleep(pause_ms / 1000)


def _read(path: Path, offset: int, count: int) -> tuple[int, bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        return size, os.pread(descriptor, count, offset) if count else b""
    finally:
        os.close(descriptor)
