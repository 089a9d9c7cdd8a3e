"""Looks at streams: an operator's wish, passed to the host that has the ring, and the frames that come back.

Owns the wishes that are open. A look holds up nobody: the host reads as a lossy reader, and whoever is slow here slows only the call
that brings the frames, until the host's reader is overrun, which is counted and shown.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from halftrack_controller import placement, standing
from halftrack_controller.session import Sessions
from halftrack_controller.snapshot import Snapshot
from halftrack_model.errors import HostFault, InvalidInput, Refused
from halftrack_model.graph import Role
from halftrack_proto.graph_messages import GraphQuery
from halftrack_proto.shown import MAX_BYTES_EACH, Shown, WantFrames, WatchRequest

LOOKS = 64  # at once, at all hosts; each costs a reader's place in some ring
LOOKS_A_HOST = 8
QUEUED = 4  # messages between a host and an operator
FIRST_S = 5.0  # a host that has the ring answers at once, with or without frames


@dataclass
class _Look:
    host: str
    queue: asyncio.Queue[Shown] = field(default_factory=lambda: asyncio.Queue(QUEUED))


class Looks:
    """All looks that are open."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._open: dict[str, _Look] = {}

    async def frames(self, snapshot: Snapshot, asked: WatchRequest) -> AsyncIterator[Shown]:
        """What the host shows, until the operator goes, the host ends it, or the host is gone (HostFault)."""
        host, ring = located(snapshot, asked)
        mine = sum(look.host == host for look in self._open.values())
        if len(self._open) >= LOOKS or mine >= LOOKS_A_HOST:
            raise Refused(
                "too-many-looks", f"{mine} people look at {host} already, {len(self._open)} in all: wait for one to go"
            )
        watch, look = secrets.token_hex(8), _Look(host)
        self._open[watch] = look
        try:
            if not self._sessions.ask(host, WantFrames(watch, ring, asked.frames, asked.bytes_each)):
                raise HostFault(
                    "not-connected", f"{host}, where {asked.vertex} is, is not connected: look when it is back"
                )
            shown = await self._first(look, host)
            while True:
                yield shown
                if shown.problem:
                    return
                shown = await self._next(look, host)
        finally:
            del self._open[watch]

    async def take(self, host: str, shown: Shown) -> bool:
        """What a host shows; waits while the operator is slow. False when nobody looks any more."""
        while (look := self._open.get(shown.watch)) is not None and look.host == host:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await look.queue.put(shown)
                return True
        return False

    async def _first(self, look: _Look, host: str) -> Shown:
        try:
            async with asyncio.timeout(FIRST_S):
                return await look.queue.get()
        except TimeoutError:
            raise HostFault(
                "no-answer", f"{host} shows nothing: its agent may be too old for this, or its link has just gone"
            ) from None

    async def _next(self, look: _Look, host: str) -> Shown:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    return await look.queue.get()
            if not self._sessions.connected(host):
                raise HostFault("not-connected", f"{host} is not connected any more; its streams go on")


def located(snapshot: Snapshot, asked: WatchRequest) -> tuple[str, str]:
    """The host and the ring of what the vertex produces. Refused when there is none."""
    if asked.frames < 0 or not 0 <= asked.bytes_each <= MAX_BYTES_EACH:
        raise InvalidInput("bad-look", f"frames from 0 on, and at most {MAX_BYTES_EACH} bytes of each")
    graph = standing.graph_meant(snapshot, GraphQuery(asked.environment, asked.graph))
    vertex = next((vertex for vertex in graph.vertices if vertex.name == asked.vertex), None)
    if vertex is None:
        names = ", ".join(sorted(each.name for each in graph.vertices))
        raise Refused("unknown-vertex", f"{graph.name} has no vertex {asked.vertex!r}; it has {names}")
    if vertex.role is Role.SINK:
        raise Refused("no-stream", f"{vertex.name} is a sink and produces nothing: look at what feeds it")
    return placement.home(graph, vertex), placement.ring_name(graph.name, vertex.name)
