"""Showing an operator what comes into a ring here: a few frames, at a rate that a thin link bears. Never gates a stream.

Owns the looks that are open on this host. Each is a lossy reader of its own: a look that does not keep up is overrun, which is counted
and shown. The looks end with the session that they came by.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc

from halftrack_agent import clock
from halftrack_dataplane import aio
from halftrack_dataplane.frames import RingError
from halftrack_dataplane.ring import Reader, Ring
from halftrack_proto import shown_codec
from halftrack_proto.shown import MAX_BYTES_AT_ONCE, MAX_FRAMES_AT_ONCE, Shown, ShownFrame, WantFrames
from halftrack_proto.v1 import session_pb2, session_pb2_grpc

LOOKS = 8  # at once; the controller keeps to the same number
BYTES_PER_S = 1_000_000  # of all that one look shows: eyes need less, and the link has plans and reports to carry
LONGEST_S = 3600.0  # a look that somebody has forgotten
OVERHEAD_BYTES = 32  # of a frame's numbers in a message
QUIET_S = 1.0  # with nothing to show, so often a message says that we are there

log = logging.getLogger("halftrack.agent.showing")


class Showing:
    """The looks of one agent. `path` says where the ring of a name is, or None when the plan in force has none of that name."""

    def __init__(self, path: Callable[[str], Path | None]) -> None:
        self._path = path
        self._tasks: set[asyncio.Task[None]] = set()

    def show(self, wish: WantFrames, channel: grpc.aio.Channel) -> None:
        """Begin to show; what stands in the way is told to the operator."""
        task = asyncio.get_running_loop().create_task(self._show(wish, channel))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all looks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _show(self, wish: WantFrames, channel: grpc.aio.Channel) -> None:
        call: Any = session_pb2_grpc.SessionStub(channel).Show(self._messages(wish))
        try:
            await call
        except grpc.aio.AioRpcError as error:
            log.info("a look at %s has ended: %s", wish.ring, error.details())

    async def _messages(self, wish: WantFrames) -> AsyncIterator[session_pb2.Shown]:
        path = self._path(wish.ring)
        if len(self._tasks) > LOOKS:
            yield _problem(wish, f"{LOOKS} people look at this host already")
        elif path is None:
            yield _problem(wish, f"there is no ring {wish.ring} here now: nobody has begun to write it")
        else:
            try:
                with Ring.open(str(path)) as ring, ring.reader(policy="lossy", name=f"look-{wish.watch}") as reader:
                    async for each in _shown(wish, reader):
                        yield shown_codec.shown_message(each)
            except RingError as error:
                yield _problem(wish, f"ring {wish.ring} cannot be read: {error}")


def _problem(wish: WantFrames, text: str) -> session_pb2.Shown:
    return shown_codec.shown_message(Shown(wish.watch, (), 0, text))


async def _shown(wish: WantFrames, reader: Reader) -> AsyncIterator[Shown]:
    """What is there, again and again, until there is no more to be shown. The last has a problem that says so, if it is one."""
    began_ms, left, told = clock.boot_ms(), wish.frames, 0
    while clock.boot_ms() - began_ms < LONGEST_S * 1000:
        frames = _batch(wish, reader, left)
        missed = reader.overruns - told
        told += missed
        yield Shown(wish.watch, frames, missed, "")
        left -= len(frames)
        if wish.frames and left <= 0:
            yield Shown(wish.watch, (), 0, f"{wish.frames} frames were shown")
            return
        sent = sum(len(frame.payload) + OVERHEAD_BYTES for frame in frames)
        await asyncio.sleep(sent / BYTES_PER_S)
        if not frames:
            await _more(reader)
    yield Shown(wish.watch, (), 0, f"it was looked at for {LONGEST_S:.0f} s: look again")


def _batch(wish: WantFrames, reader: Reader, left: int) -> tuple[ShownFrame, ...]:
    frames: list[ShownFrame] = []
    size = 0
    most = min(MAX_FRAMES_AT_ONCE, left) if wish.frames else MAX_FRAMES_AT_ONCE
    while len(frames) < most and size < MAX_BYTES_AT_ONCE - wish.bytes_each:
        frame = reader.read(0)
        if frame is None:
            break
        payload = bytes(frame.payload[: wish.bytes_each])
        frames.append(ShownFrame(frame.seq, frame.epoch, frame.timestamp_ns, frame.gap, len(frame.payload), payload))
        size += len(payload) + OVERHEAD_BYTES
    return tuple(frames)


async def _more(reader: Reader) -> None:
    try:
        async with asyncio.timeout(QUIET_S):
            await aio.readable(reader)
    except TimeoutError:
        return
