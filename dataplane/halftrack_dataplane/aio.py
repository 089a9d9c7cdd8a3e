"""Frames for asyncio: `async for frame in aio.frames(reader)`.

Owns how long it keeps the loop, nothing else; the reader stays the caller's, who closes it.
"""

import asyncio
from collections.abc import AsyncIterator

from halftrack_dataplane.frames import Frame
from halftrack_dataplane.ring import Reader

AT_ONCE = 256  # frames between two turns of the loop: about a tenth of a millisecond of small ones


async def frames(reader: Reader) -> AsyncIterator[Frame]:
    """Frames and gap records of `reader`, for ever; waits without a thread of the caller's being held."""
    taken = 0
    while True:
        frame = reader.read(0)
        if frame is None:
            await readable(reader)
            continue
        yield frame
        taken += 1
        if taken % AT_ONCE == 0:
            await asyncio.sleep(0)


async def readable(reader: Reader) -> None:
    """Returns when frames may be there: after a `read(0)` that had none."""
    loop = asyncio.get_running_loop()
    descriptor, seen = reader.fileno(), asyncio.Event()
    loop.add_reader(descriptor, seen.set)
    try:
        await seen.wait()
    finally:
        loop.remove_reader(descriptor)
