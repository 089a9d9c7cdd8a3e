"""The bridge's serving end: any ring below a folder, and snapshots, to the hosts that are admitted by their keys.

One thread, one ROUTER. Owns sessions: at most one for each peer and ring, the newest. Decides nothing about streams: position
and pace are the receivers' to name. Frames go out through each ring's outlet, without the GIL; all else is said here.
"""

import contextlib
import os
import re
import time
from pathlib import Path

import zmq

from halftrack_dataplane import bridge_sockets
from halftrack_dataplane.bridge_data import OtherVersion, WireError
from halftrack_dataplane.bridge_outlet import Outlet
from halftrack_dataplane.bridge_session import Session, Source
from halftrack_dataplane.bridge_snapshots import Shelf
from halftrack_dataplane.bridge_wire import (
    DEAD_S,
    HEARTBEAT_S,
    Credit,
    Heartbeat,
    Hello,
    Message,
    Refusal,
    SnapshotGet,
    SnapshotWanted,
    StandingWanted,
    decode,
    encode,
    refusal_in,
)
from halftrack_dataplane.curve import Admission
from halftrack_dataplane.frames import RingError
from halftrack_dataplane.libzmq import keep_freed
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import EXIT_SPEC, Stop, Unable
from halftrack_dataplane.status import Status, StatusFile

MAX_SESSIONS = 64  # as many as a ring has reader slots
LOOK_S = 0.001  # while frames flow, what receivers say is looked at this often; credit is half a window ahead
MAX_LINGER_US = 100_000  # far below a heartbeat
_RING_NAME = re.compile(r"[a-z0-9][a-z0-9.@_+-]*(/[a-z0-9][a-z0-9.@_+-]*){0,3}", re.IGNORECASE)


class Server:
    """The serving end of one host's bridge. The param `linger_us`: how long small frames may wait for others to travel with."""

    def __init__(self, spec: RunSpec, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        linger = spec.params.get("linger_us", 0)
        if type(linger) is not int or not 0 <= linger <= MAX_LINGER_US:
            raise Unable(EXIT_SPEC, f"param 'linger_us' must be an integer from 0 to {MAX_LINGER_US}, not {linger!r}")
        self._spec = spec
        self._linger_us = linger
        self._admission = Admission(spec.peers_path)
        self._door = bridge_sockets.Door(context, self._admission)  # before the socket: nobody gets in unasked
        self._socket = bridge_sockets.server(context, spec)
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poller = zmq.Poller()
        for place in (self._socket, self._door.socket, self._wake_fd):
            self._poller.register(place, zmq.POLLIN)
        self._rings: set[int] = set()  # descriptors of rings that are waited for
        self._sessions: dict[bytes, Session] = {}  # by the connection's routing id
        self._sources: dict[str, Source] = {}  # by path
        self._parting: list[Outlet] = []  # of nobody, and with messages in flight out of their rings
        self._past = {"frames": 0, "bytes": 0, "missed": 0}  # of sessions that have ended
        self._counters = {"refused_messages": 0, "refused_hellos": 0, "replaced": 0}
        self._shelf = Shelf(spec.snapshot_dir, spec.rings_dir)
        self._look_due = 0.0
        self._tick_due = 0.0

    def run(self, stop: Stop) -> None:
        """Until asked to stop."""
        file = StatusFile(self._spec.status_path)
        try:
            while not stop.asked:
                moved = sum([outlet.pump() for outlet in self._outlets()])
                now = time.monotonic()
                if not moved or now >= self._look_due:
                    self._look_due = now + LOOK_S
                    self._look(0.0 if moved or self._shelf.busy else self._wait_s())
                    self._see_to_troubles()
                self._serve_snapshots()
                self._tick()
                file.offer(self._status)
        finally:
            file.offer(self._status, last=True)
            for routing in list(self._sessions):
                self._end(routing)

    def close(self) -> None:
        """After the context has ended, and with it whatever was in flight."""
        os.close(self._wake_fd)
        self._shelf.close()
        self._parting.clear()

    # ---- waiting ----------------------------------------------------------------------------------------------------

    def _outlets(self) -> set[Outlet]:
        return {session.source.outlet for session in self._sessions.values()}

    def _wait_s(self) -> float:
        """There is nothing to send: for how long may all sleep? Rings that are waited for will wake us."""
        outlets = self._outlets()
        rings = {fd for outlet in outlets if (fd := outlet.rest()) >= 0}
        for fd in self._rings - rings:
            self._poller.unregister(fd)
        for fd in rings - self._rings:
            self._poller.register(fd, zmq.POLLIN)
        self._rings = rings
        now_ns = time.monotonic_ns()
        due = [due_s for outlet in outlets if (due_s := outlet.due_s(now_ns)) is not None]
        tick_s = (
            max(0.0, self._tick_due - now_ns / 1e9) + LOOK_S
        )  # a poll counts whole milliseconds: one too late, not twice
        return min([tick_s, *due])

    def _look(self, wait_s: float) -> None:
        """Wait that long at most, and answer whoever speaks."""
        if 0 < wait_s < LOOK_S:  # frames linger for less than a poll can count
            time.sleep(wait_s)
            wait_s = 0.0
        ready = dict(self._poller.poll(int(wait_s * 1000)))
        if self._wake_fd in ready:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
        if self._door.socket in ready:
            self._door.answer()
        if self._socket in ready:
            self._receive()

    # ---- what comes in ----------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        for _ in range(4 * MAX_SESSIONS):  # then the streams have their turn again
            try:
                routing, *parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            user = str(parts[0].get("User-Id")) if parts else ""
            try:
                if self._admission.host_of(user) is None:
                    raise WireError("a connection whose key is no longer admitted")
                self._heard(routing.bytes, user, decode([part.bytes for part in parts]))
            except OtherVersion as error:
                self._counters["refused_messages"] += 1
                if error.session:
                    self._send(routing.bytes, refusal_in(error.version, error.session, str(error)))
            except WireError:
                self._counters["refused_messages"] += 1

    def _heard(self, routing: bytes, user: str, message: Message) -> None:
        now = time.monotonic()
        match message:
            case Hello():
                self._begin(routing, user, message, now)
            case Credit(session_id, more_bytes):
                if session := self._of(routing, session_id):
                    session.heard_at = now
                    session.lane.grant(more_bytes)
            case Heartbeat(session_id):
                if session := self._of(routing, session_id):
                    session.heard_at = now
                else:
                    self._send(routing, encode(Refusal(session_id, "there is no such session: say hello")))
            case SnapshotWanted():
                self._send(routing, encode(self._shelf.offer(message)))
            case StandingWanted():
                self._send(routing, encode(self._shelf.stands(message)))
            case SnapshotGet():
                self._shelf.ask(routing, message)
            case _:
                raise WireError("only servers say that")

    def _serve_snapshots(self) -> None:
        """One piece, and then the streams have their turn again."""
        if found := self._shelf.next_part(time.monotonic()):
            routing, asked, part = found
            if not self._send(routing, encode(part)):
                self._shelf.put_back(routing, asked)

    def _of(self, routing: bytes, session_id: bytes) -> Session | None:
        session = self._sessions.get(routing)
        return session if session is not None and session.id == session_id else None

    def _begin(self, routing: bytes, user: str, hello: Hello, now: float) -> None:
        for other, session in list(self._sessions.items()):
            if other == routing or (session.user, session.ring_name) == (user, hello.ring):
                self._end(other)
                self._counters["replaced"] += 1
        try:
            if not _RING_NAME.fullmatch(hello.ring):
                raise RingError(f"{hello.ring!r} is not a ring's name")
            if len(self._sessions) >= MAX_SESSIONS:
                raise RingError(f"{MAX_SESSIONS} receivers are served already")
            source = self._source(str(Path(self._spec.rings_dir) / f"{hello.ring}.ring"))
            try:
                self._sessions[routing] = Session(hello, routing, user, source, now)
            except RingError:
                self._prune(source)
                raise
        except FileNotFoundError:
            self._refuse(routing, hello.session, f"there is no ring {hello.ring} on this host now")
        except (RingError, OSError) as error:
            self._refuse(routing, hello.session, str(error))
        else:
            if not self._send(routing, encode(Heartbeat(hello.session))):  # the receiver takes no frames before it
                self._end(routing)

    def _source(self, path: str) -> Source:
        """The ring at `path`, opened once for all who receive it."""
        source = self._sources.get(path)
        if source is None or source.is_gone():
            source = Source(path, self._socket, self._wake_fd, self._linger_us)
            self._sources[path] = source
        return source

    def _refuse(self, routing: bytes, session_id: bytes, reason: str) -> None:
        self._counters["refused_hellos"] += 1
        self._send(routing, encode(Refusal(session_id, reason)))

    # ---- what goes out ----------------------------------------------------------------------------------------------

    def _see_to_troubles(self) -> None:
        for routing, session in list(self._sessions.items()):
            reason = session.end_of_service()
            if reason:
                self._send(routing, encode(Refusal(session.id, reason)))
            if reason is not None:
                self._end(routing)

    def _send(self, routing: bytes, parts: list[bytes]) -> bool:
        """False when the peer's queue is full. A peer that has gone needs nothing: what was for it counts as sent."""
        try:
            self._socket.send_multipart([routing, *parts], zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError:
            self._end(routing)
        return True

    def _tick(self) -> None:
        now = time.monotonic()
        if now < self._tick_due:
            return
        self._tick_due = now + HEARTBEAT_S
        self._shelf.forget(now)
        changed = self._admission.refresh()
        for routing, session in list(self._sessions.items()):
            if now - session.heard_at > DEAD_S or (changed and self._admission.host_of(session.user) is None):
                self._end(routing)
            elif session.source.is_gone():
                self._send(routing, encode(Refusal(session.id, f"the ring {session.ring_name} has gone")))
                self._end(routing)
            else:
                self._send(routing, encode(Heartbeat(session.id)))
        self._parting = [outlet for outlet in self._parting if outlet.in_flight]

    def _end(self, routing: bytes) -> None:
        session = self._sessions.pop(routing, None)
        if session is None:
            return
        session.close()
        for name in self._past:
            self._past[name] += getattr(session.lane, name)
        self._prune(session.source)

    def _prune(self, source: Source) -> None:
        """A ring that nobody receives is let go, once what is in flight out of it is back."""
        if not any(other.source is source for other in self._sessions.values()):
            self._parting.append(source.outlet)
            if self._sources.get(source.path) is source:
                del self._sources[source.path]

    def _status(self) -> Status:
        sums = {
            name: past + sum(getattr(session.lane, name) for session in self._sessions.values())
            for name, past in self._past.items()
        }
        counters = (
            sums
            | self._counters
            | {
                "sessions": len(self._sessions),
                "refused_keys": self._door.refused,
                "snapshots": self._shelf.offered,
                "snapshot_parts": self._shelf.parts,
            }
        )
        return Status(self._spec.name, self._spec.role, counters=counters)


def run(spec: RunSpec, stop: Stop) -> None:
    """The role's loop."""
    keep_freed()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    server = None
    try:
        server = Server(spec, context)
        server.run(stop)
    finally:
        context.destroy(0)
        if server is not None:
            server.close()
