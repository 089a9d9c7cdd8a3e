"""The floor under this controller's own clock: what it has said at most, in this run and in earlier ones. Says so, and decides nothing.

A clock that was set back costs little here: ages are counted on the monotonic clock while we run, revisions and reports by their numbers. But it
dates certificates and tokens, and ends them; so whoever looks after this machine is told, in the log.
"""

import logging

from halftrack_controller.quantities import age_text
from halftrack_controller.store_thread import StoreThread
from halftrack_model.errors import HalftrackError

OFF_MS = 300_000  # NTP steps a clock by less, once it runs
RAISE_EVERY_MS = 3_600_000

log = logging.getLogger("halftrack.clock")


class WallClock:
    """Looks at each of the loop's steps; writes once an hour."""

    def __init__(self, store: StoreThread) -> None:
        self._store = store
        self._floor_ms: int | None = None
        self._told = False

    async def look(self, now_ms: int) -> None:
        """Tell of a clock that is behind its floor, once until it is right again; raise the floor when that is due."""
        try:
            if self._floor_ms is None:
                self._floor_ms = await self._store.do(lambda store: store.time_floor_ms())
            behind_ms = self._floor_ms - now_ms
            if behind_ms >= OFF_MS and not self._told:
                log.error("%s", told(behind_ms))
            self._told = behind_ms >= OFF_MS
            if -behind_ms >= RAISE_EVERY_MS:
                await self._store.do(lambda store: store.raise_time_floor(now_ms))
                self._floor_ms = now_ms
        except HalftrackError as error:
            self._floor_ms = max(now_ms, self._floor_ms or 0)  # the next try, and the next line, in an hour
            log.warning("the time's floor cannot be kept: %s", error.message)


def told(behind_ms: int) -> str:
    """What is wrong, and what to do."""
    return (
        f"this machine's clock is {age_text(behind_ms)} behind what it has been before: set whichever was wrong. Until then new certificates and "
        "tokens end at other times than they should; hosts and what runs there do not mind"
    )
