"""Waits for the next word of the other side, as long as `halftrack_model.pulse` says, and reads whatever has come before it judges."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from halftrack_model import pulse

T = TypeVar("T")


class Silent(Exception):  # noqa: N818 - a finding, not an error
    """Nothing was heard for so long."""

    def __init__(self, silent_ms: int) -> None:
        super().__init__()
        self.silent_ms = silent_ms


async def word(
    reading: Coroutine[Any, Any, T],
    heartbeat_ms: int,
    now_ms: Callable[[], int],
    elsewhere_ms: Callable[[], int] = lambda: 0,
) -> T:
    """What `reading` comes to. Silent when it comes to nothing; `elsewhere_ms` is when the other side was last heard on another call."""
    coming = asyncio.get_running_loop().create_task(reading)
    ear = pulse.begun(heartbeat_ms, now_ms())
    try:
        while True:
            if (heard_ms := elsewhere_ms()) > ear.heard_ms:
                ear = ear.heard(heard_ms)
            await asyncio.wait([coming], timeout=max(0.0, (ear.due_ms - now_ms()) / 1000))
            if coming.done():
                return coming.result()
            if elsewhere_ms() > ear.heard_ms:
                continue
            after = ear.looked(now_ms())
            if after is None:
                raise Silent(now_ms() - ear.heard_ms)
            ear = after
    finally:
        if not coming.cancel() and not coming.cancelled():
            coming.exception()  # if we were cancelled in the moment that it failed, nobody else asks
