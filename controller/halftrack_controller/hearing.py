"""Reads what a host says in its session: whole messages, until it hangs up or falls silent, whatever TCP believes. Decides nothing about them."""

import asyncio
import logging
import time

import grpc

from halftrack_controller.callers import Context
from halftrack_proto import codec, listening, parts_codec
from halftrack_proto.messages import AgentSays

log = logging.getLogger("halftrack.session")


async def first_word(context: Context, within_s: float) -> AgentSays | None:
    """What the agent says first; None when it has hung up, or says nothing."""
    try:
        async with asyncio.timeout(within_s):
            message = await context.read()
    except TimeoutError:
        return None
    return None if message is grpc.aio.EOF else codec.agent_of(message)


async def next_word(context: Context, heartbeat_ms: int, host: str) -> AgentSays | None:
    """What the agent says next; None when it has hung up, or fallen silent."""
    joining, whole = parts_codec.from_agent(), None
    try:
        while whole is None:
            message = await listening.word(context.read(), heartbeat_ms, _now_ms)
            if message is grpc.aio.EOF:
                return None
            whole = joining.whole(message)
    except listening.Silent as silent:
        log.info("host=%s has said nothing for %d ms", host, silent.silent_ms)
        return None
    return codec.agent_of(whole)


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
