"""Waiting for a condition, with a deadline: what tests do instead of sleeping."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path


async def until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Return when `condition` holds; fail, naming `what`, when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.005)


async def opened_by_a_reader(pipe: Path) -> int:
    """The writer's end of a named pipe that somebody reads, or is about to; whoever that is waits there for us."""
    found: list[int] = []

    def opened() -> bool:
        try:
            found.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    await until(opened, f"somebody reads {pipe}", 30.0)
    return found[0]
