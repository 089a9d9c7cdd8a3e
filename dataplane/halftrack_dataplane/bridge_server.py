"""The bridge's serving end: any ring below a folder, and snapshots, to the hosts that are admitted by their keys.

One thread, one ROUTER. Owns sessions: at most one for each peer and ring, the newest. Decides nothing about streams: position
and pace are the receivers' to name.
"""

import re
import time
from pathlib import Path

import zmq

from halftrack_dataplane import bridge_snapshots, bridge_sockets
from halftrack_dataplane.bridge_session import Session
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
    WireError,
    decode,
    encode,
)
from halftrack_dataplane.curve import Admission
from halftrack_dataplane.frames import RingError
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import Stop
from halftrack_dataplane.status import Status, StatusFile

MAX_SESSIONS = 64  # as many as a ring has reader slots
TURN = 8  # messages to one receiver before the next one's turn
BUSY_POLL_MS, IDLE_POLL_MS = 2, 10  # how late a new frame may be noticed while frames flow, and while none do
IDLE_AFTER_S = 0.25
_RING_NAME = re.compile(r"[a-z0-9][a-z0-9.@_+-]*(/[a-z0-9][a-z0-9.@_+-]*){0,3}", re.IGNORECASE)


class Server:
    """The serving end of one host's bridge."""

    def __init__(self, spec: RunSpec, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._spec = spec
        self._admission = Admission(spec.peers_path)
        self._door = bridge_sockets.Door(context, self._admission)  # before the socket: nobody gets in unasked
        self._socket = bridge_sockets.server(context, spec)
        self._sessions: dict[bytes, Session] = {}  # by the connection's routing id
        self._past = {"frames": 0, "bytes": 0, "missed": 0}  # of sessions that have ended
        self._counters = {"refused_messages": 0, "refused_hellos": 0, "replaced": 0, "snapshots": 0}
        self._moved_at = 0.0
        self._tick_due = 0.0

    def run(self, stop: Stop) -> None:
        """Until asked to stop."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._door.socket, zmq.POLLIN)
        file = StatusFile(self._spec.status_path)
        try:
            while not stop.asked:
                idle = not self._sessions or time.monotonic() - self._moved_at > IDLE_AFTER_S
                ready = dict(poller.poll(IDLE_POLL_MS if idle else BUSY_POLL_MS))
                if self._door.socket in ready:
                    self._door.answer()
                if self._socket in ready:
                    self._receive()
                for routing in list(self._sessions):
                    self._serve(routing)
                self._tick()
                file.offer(self._status)
        finally:
            file.offer(self._status, last=True)
            for routing in list(self._sessions):
                self._end(routing)

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
                    session.credit += more_bytes
            case Heartbeat(session_id):
                if session := self._of(routing, session_id):
                    session.heard_at = now
                else:
                    self._send(routing, encode(Refusal(session_id, "there is no such session: say hello")))
            case SnapshotWanted() | SnapshotGet():
                self._counters["snapshots"] += isinstance(message, SnapshotWanted)
                self._send(routing, encode(bridge_snapshots.answer(self._spec.snapshot_dir, message)))
            case _:
                raise WireError("only servers say that")

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
            path = str(Path(self._spec.rings_dir) / f"{hello.ring}.ring")
            self._sessions[routing] = Session(hello, user, path, now)
        except FileNotFoundError:
            self._refuse(routing, hello.session, f"there is no ring {hello.ring} on this host now")
        except (RingError, OSError) as error:
            self._refuse(routing, hello.session, str(error))
        else:
            self._send(routing, encode(Heartbeat(hello.session)))

    def _refuse(self, routing: bytes, session_id: bytes, reason: str) -> None:
        self._counters["refused_hellos"] += 1
        self._send(routing, encode(Refusal(session_id, reason)))

    # ---- what goes out ----------------------------------------------------------------------------------------------

    def _serve(self, routing: bytes) -> None:
        session = self._sessions[routing]
        for _ in range(TURN):
            try:
                message = None if session.outbox else session.next_message()
            except RingError as error:
                message = Refusal(session.id, str(error))
            if message is not None:
                session.outbox = encode(message)
            if session.outbox is None or not self._send(routing, session.outbox):
                return
            session.outbox = None
            self._moved_at = session.sent_at = time.monotonic()
            if isinstance(message, Refusal):
                self._end(routing)
            if routing not in self._sessions:
                return

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
        self._tick_due = now + HEARTBEAT_S / 2
        changed = self._admission.refresh()
        for routing, session in list(self._sessions.items()):
            if now - session.heard_at > DEAD_S or (changed and self._admission.host_of(session.user) is None):
                self._end(routing)
            elif session.ring_is_gone():
                self._send(routing, encode(Refusal(session.id, f"the ring {session.ring_name} has gone")))
                self._end(routing)
            elif now - session.sent_at >= HEARTBEAT_S and self._send(routing, encode(Heartbeat(session.id))):
                session.sent_at = now

    def _end(self, routing: bytes) -> None:
        session = self._sessions.pop(routing, None)
        if session is not None:
            session.close()
            for name in self._past:
                self._past[name] += getattr(session, name)

    def _status(self) -> Status:
        sums = {
            name: past + sum(getattr(session, name) for session in self._sessions.values())
            for name, past in self._past.items()
        }
        counters = sums | self._counters | {"sessions": len(self._sessions), "refused_keys": self._door.refused}
        return Status(self._spec.name, self._spec.role, counters=counters)


def run(spec: RunSpec, stop: Stop) -> None:
    """The role's loop."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        Server(spec, context).run(stop)
    finally:
        context.destroy(0)
