"""What has just changed, told to whoever watches. Keeps nothing: a watcher sees what happens from when it came."""

import asyncio
import time
from collections.abc import AsyncIterator

from halftrack_model.errors import Refused
from halftrack_proto.messages import Change

QUEUE = 256  # a watcher that is this many changes behind is not reading
WATCHERS = 64


class News:
    """A fan-out with bounds. Telling never waits: a watcher that does not keep up is ended, with an error that says so."""

    def __init__(self) -> None:
        self._watchers: dict[asyncio.Queue[Change], list[bool]] = {}

    def tell(self, kind: str, subject: str, text: str) -> None:
        """Something has changed."""
        for queue, behind in list(self._watchers.items()):
            try:
                queue.put_nowait(Change(0, time.time_ns() // 1_000_000, kind, subject, text))
            except asyncio.QueueFull:
                behind[0] = True
                del self._watchers[queue]  # now: nobody may ever read it again

    def watch(self) -> AsyncIterator[Change]:
        """Changes from this call on, numbered from 1."""
        if len(self._watchers) >= WATCHERS:
            raise Refused("too-many-watchers", f"{WATCHERS} are watching already; end one")
        queue: asyncio.Queue[Change] = asyncio.Queue(QUEUE)
        self._watchers[queue] = [False]
        return self._changes(queue)

    async def _changes(self, queue: asyncio.Queue[Change]) -> AsyncIterator[Change]:
        behind, number = self._watchers[queue], 0
        try:
            while not behind[0]:
                change, number = await queue.get(), number + 1
                yield Change(number, change.at_ms, change.kind, change.subject, change.text)
        finally:
            self._watchers.pop(queue, None)
        raise Refused("too-slow", "this watch has fallen behind and missed changes: look again and watch anew")
