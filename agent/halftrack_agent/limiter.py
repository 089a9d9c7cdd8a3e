"""The limit on what artifacts take of the link: one for all transfers of a host, by the windows of its plan.

Owns the bucket, and what is shown of waiting. The wall clock picks the window and nothing else: a clock that is wrong makes artifacts come at
another hour, and never decides what is run (C1).
"""

import asyncio
from collections.abc import Awaitable, Callable

from halftrack_agent import clock, pacing
from halftrack_model.bandwidth import DAY_MINUTES, BandwidthWindow, clock_text, limit_at, opens_at

LOOK_MS = 1_000  # while nothing may come: another plan, or another minute, may allow it


class Limiter:
    """Await `ready` before each piece, and say what `came`."""

    def __init__(
        self,
        now_ms: Callable[[], int] = clock.boot_ms,
        wall_ms: Callable[[], int] = clock.wall_ms,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._now_ms, self._wall_ms, self._sleep = now_ms, wall_ms, sleep
        self._windows: tuple[BandwidthWindow, ...] = ()
        self._bucket = pacing.Bucket(0, now_ms())
        self.waits = ""

    def use(self, windows: tuple[BandwidthWindow, ...]) -> None:
        """The windows of the plan in force; what has come already stays counted."""
        self._windows = windows

    @property
    def limit(self) -> int | None:
        """Bytes in a second now; None: as fast as the link is."""
        return limit_at(self._windows, self._minute())

    @property
    def piece_bytes(self) -> int:
        """What to ask for at once."""
        return pacing.piece_bytes(self.limit)

    @property
    def at_once_bytes(self) -> int:
        """How much may be under way; 0: as much as comes."""
        return pacing.at_once_bytes(self.limit)

    async def ready(self) -> None:
        """Returns when the next piece may come."""
        try:
            while (limit := self.limit) is not None:
                self._bucket = pacing.filled(self._bucket, limit, self._now_ms())
                pause_ms = pacing.wait_ms(self._bucket, limit)
                if not pause_ms:
                    return
                self.waits = "" if limit else self._closed_text()
                await self._sleep(min(pause_ms if limit else LOOK_MS, LOOK_MS) / 1000)
        finally:
            self.waits = ""

    def came(self, count: int) -> None:
        """So many bytes have come over the link."""
        limit = self.limit
        if limit is None:
            self._bucket = pacing.Bucket(0, self._now_ms())
        else:
            self._bucket = pacing.taken(pacing.filled(self._bucket, limit, self._now_ms()), count)

    def _minute(self) -> int:
        return self._wall_ms() // 60_000 % DAY_MINUTES

    def _closed_text(self) -> str:
        opens = opens_at(self._windows, self._minute())
        return "paused by its windows" if opens is None else f"paused until {clock_text(opens)} UTC"
