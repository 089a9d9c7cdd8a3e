"""Agents to each other, over CurveZMQ: what a swap's leader decides, how a member's seat stands, and what siblings ask.

Owns the sockets and who is admitted: the hosts of the plan, each by its key. Who speaks is told by the key that opened the
connection, never by the message. What is said are levels, said again until they change, so nothing is queued: a word that cannot go
out now is dropped, and the newest takes its place. Siblings ask on connections of their own, so that no artifact stands in the way of a
word. Never judges what is said.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import zmq
import zmq.asyncio
from zmq.utils import z85

from halftrack_agent.events import PeerAnswered, PeerTold
from halftrack_agent.sharing import Answer, Wish
from halftrack_agent.siblings import ANSWER, WISH
from halftrack_model import canonical
from halftrack_model.errors import InvalidInput
from halftrack_model.plan import Peer
from halftrack_model.swap import SeatStatus, SwapRecord

Heard = PeerTold | PeerAnswered
Answering = Callable[[str, Wish], Awaitable[tuple[Answer, bytes]]]
"""`(host, wish) -> the answer, and the bytes`; InvalidInput for a wish that makes no sense: it gets none."""

MAX_MESSAGE_BYTES = 64 << 10  # a record with a long reason has two kilobytes
SILENT_MS = 1_000  # a connection that has not answered a ping for that long is given up and made anew
PING_MS = 300  # three may be lost
MAX_WISHES = 128  # being answered at once; who waits in vain asks again
LISTEN_AGAIN_S = 1.0  # an address comes with a cable, a lease, or the end of who has it now
_ZAP = "inproc://zeromq.zap.01"
_TOLD, _ANSWERED = b"record", b"status"

log = logging.getLogger("halftrack.agent")


@dataclass(frozen=True, slots=True)
class _Line:
    """A connection to another agent, and what it was made for."""

    peer: Peer
    socket: zmq.asyncio.Socket


class Peers:
    """This agent's ears and its lines to others. `heard` is called for every word from an admitted host."""

    def __init__(self, secret: bytes, public: bytes, heard: Callable[[Heard], None]) -> None:
        self._secret, self._public, self._heard = secret, public, heard
        self._context = zmq.asyncio.Context()
        self._admitted: dict[str, str] = {}  # key -> host
        self._siblings: dict[str, str] = {}  # likewise
        self._answering: Answering | None = None
        self._answers: set[asyncio.Task[None]] = set()
        self._lines: dict[str, _Line] = {}
        self._ears: list[zmq.asyncio.Socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.refused = 0  # messages that were not understood
        self.problems: tuple[str, ...] = ()

    def open(self, listen: str, port: int) -> int:
        """Listen, at once or as soon as that can be; returns the port, which is a free one for 0.

        An address that is not there yet (a host that boots without a link has no lease), or is somebody else's, keeps this host from hearing others, and
        from nothing else: its workloads do not wait for it.
        """
        door, ear = self._context.socket(zmq.REP), self._socket(zmq.ROUTER)
        self._ears = [door, ear]
        ear.curve_server = True
        ear.sndhwm = 8  # a sibling that asks and does not take the answers gets no more of them
        door.bind(_ZAP)
        place = f"tcp://{listen}:{port or '*'}"
        heard = self._hears(ear, place)
        if heard and not port:
            port = int(bytes(ear.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").rpartition(b":")[2])
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep_door(door)), loop.create_task(self._listen(ear, place, heard))]
        return port

    async def serve(self) -> None:
        """Until closed. Raises what ended an ear: an agent that is deaf to the others must not look as if it heard them."""
        await asyncio.gather(*self._tasks)

    def use(self, peers: Mapping[str, Peer], siblings: Mapping[str, Peer] | None = None) -> None:
        """Admit and reach exactly these hosts from now on; siblings may only ask."""
        self._siblings = {peer.curve_public: host for host, peer in (siblings or {}).items()}
        self._admitted = {peer.curve_public: host for host, peer in peers.items()}
        for host in [host for host, line in self._lines.items() if peers.get(host) != line.peer]:
            self._lines.pop(host).socket.close(0)
        for host in peers.keys() - self._lines.keys():
            self._lines[host] = _Line(peers[host], self.reach(peers[host]))

    def answer_by(self, answering: Answering) -> None:
        """Who answers siblings."""
        self._answering = answering

    def tell(self, host: str, record: SwapRecord) -> bool:
        """Say a record; False when it could not go out now (it will be said again)."""
        return self._say(host, _TOLD, canonical.encode(record))

    def answer(self, host: str, status: SeatStatus) -> bool:
        """Say how a seat stands; False when it could not go out now (it will be said again)."""
        return self._say(host, _ANSWERED, canonical.encode(status))

    async def close(self) -> None:
        """Hang up."""
        tasks = (*self._tasks, *self._answers)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for socket in (*self._ears, *(line.socket for line in self._lines.values())):
            socket.close(0)
        self._context.destroy(0)

    def _hears(self, ear: zmq.asyncio.Socket, place: str) -> bool:
        """Bind it, if that can be done now."""
        try:
            ear.bind(place)
        except zmq.ZMQError as error:
            text = f"cannot listen on {place.removeprefix('tcp://')} for other agents ({error}): is the address ours, and the port free?"
            if self.problems != (text,):
                log.error("%s", text)
            self.problems = (text,)
            return False
        self.problems = ()
        return True

    def _say(self, host: str, kind: bytes, text: bytes) -> bool:
        line = self._lines.get(host)
        if line is None:
            return False
        try:
            # The plain socket's non-blocking send: an asyncio send would wait in a queue for a connection, and say old things then.
            zmq.Socket.shadow(line.socket.underlying).send_multipart([kind, text], flags=zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def _socket(self, kind: int) -> zmq.asyncio.Socket:
        socket = self._context.socket(kind)
        socket.curve_secretkey, socket.curve_publickey = self._secret, self._public
        socket.maxmsgsize = MAX_MESSAGE_BYTES
        socket.linger = 0
        socket.heartbeat_ivl, socket.heartbeat_timeout, socket.heartbeat_ttl = PING_MS, SILENT_MS, SILENT_MS
        socket.handshake_ivl = SILENT_MS
        return socket

    def reach(self, peer: Peer) -> zmq.asyncio.Socket:
        """A new connection to that agent; whoever asked for it closes it."""
        socket = self._socket(zmq.DEALER)
        socket.curve_serverkey = peer.curve_public.encode("ascii")
        socket.immediate = True  # nothing is queued for a connection that does not stand
        socket.sndhwm = 1
        socket.connect_timeout = SILENT_MS
        socket.reconnect_ivl, socket.reconnect_ivl_max = 100, 500
        socket.connect(f"tcp://{peer.agent}")
        return socket

    async def _keep_door(self, door: zmq.asyncio.Socket) -> None:
        """Answer ZeroMQ's authentication protocol (RFC 27): each connection's key is admitted or not, and becomes its user's name."""
        while True:
            version, request, _domain, _address, _identity, mechanism, *credentials = await door.recv_multipart()
            key = z85.encode(credentials[0]).decode("ascii") if mechanism == b"CURVE" and credentials else ""
            admitted = key in self._admitted or key in self._siblings
            # 300, not 400: libzmq takes a final refusal as a reason never to connect again, but a host whose plan has come a moment
            # before ours knocks too early, and must be let in when it knocks again.
            verdict = (b"200", b"OK") if admitted else (b"300", b"not a peer")
            await door.send_multipart([version, request, *verdict, key.encode("ascii") if admitted else b"", b""])

    async def _listen(self, ear: zmq.asyncio.Socket, place: str, hears: bool) -> None:
        while not hears:
            await asyncio.sleep(LISTEN_AGAIN_S)
            hears = self._hears(ear, place)
        while True:
            frames = await ear.recv_multipart(copy=False)
            try:
                if len(frames) == 3 and frames[1].bytes == WISH:
                    self._wished(ear, frames)
                else:
                    self._heard(self._understood(frames))
            except InvalidInput:
                self.refused += 1

    def _wished(self, ear: zmq.asyncio.Socket, frames: list[zmq.Frame]) -> None:
        host = self._siblings.get(_key(frames[2]))
        if host is None or self._answering is None or len(self._answers) >= MAX_WISHES:
            raise InvalidInput("bad-message", "a wish that is not answered")
        wish = canonical.decode(Wish, frames[2].bytes)
        work = self._answered(ear, frames[0].bytes, self._answering(host, wish))
        task = asyncio.get_running_loop().create_task(work)
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answered(self, ear: zmq.asyncio.Socket, who: bytes, coming: Awaitable[tuple[Answer, bytes]]) -> None:
        try:
            answer, data = await coming
        except InvalidInput:
            self.refused += 1
            return
        with contextlib.suppress(zmq.Again):  # it does not take what it has asked for
            await ear.send_multipart([who, ANSWER, canonical.encode(answer), data], flags=zmq.DONTWAIT)

    def _understood(self, frames: list[zmq.Frame]) -> Heard:
        if len(frames) != 3:
            raise InvalidInput("bad-message", f"{len(frames)} frames")
        host = self._admitted.get(_key(frames[2]))
        if host is None:
            raise InvalidInput("bad-message", "a connection whose host is no peer any more")
        kind, text = frames[1].bytes, frames[2].bytes
        if kind == _TOLD:
            return PeerTold(host, canonical.decode(SwapRecord, text))
        if kind == _ANSWERED:
            return PeerAnswered(host, canonical.decode(SeatStatus, text))
        raise InvalidInput("bad-message", f"{kind!r} is nothing we know")


def _key(frame: zmq.Frame) -> str:
    """The key that opened the connection on which this came."""
    with contextlib.suppress(zmq.ZMQError):
        return str(frame.get("User-Id"))
    return ""
