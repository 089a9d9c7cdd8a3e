"""The sockets of a bridge: CURVE on both ends, nothing queued for a peer that is not there, a cut link noticed soon.

A TCP connection that was cut waits ever longer before it tries again; a new one does not. So both ends give a silent
connection up after a second, and the receiver opens another.
"""

import time

import zmq
from zmq.utils import z85

from halftrack_dataplane.bridge_data import MAX_BODY_BYTES
from halftrack_dataplane.bridge_wire import DEAD_S, HEARTBEAT_S, MAX_HEADER_BYTES
from halftrack_dataplane.curve import Admission, KeyFileError, read_secret
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import EXIT_SPEC, Unable

QUEUED = 64  # messages a socket may hold; credit bounds their bytes
SERVED = 256  # of a server, for each receiver: frames in flight, whose number the sender bounds, never fill half of it


def _secured(context: zmq.Context[zmq.Socket[bytes]], kind: int, spec: RunSpec) -> zmq.Socket[bytes]:
    socket = context.socket(kind)
    try:
        socket.curve_secretkey = read_secret(spec.curve_secret_path).encode()
    except KeyFileError as error:
        raise Unable(EXIT_SPEC, str(error)) from None
    socket.curve_publickey = spec.curve_public.encode()
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = QUEUED
    socket.immediate = True
    dead_ms = int(DEAD_S * 1000)
    socket.handshake_ivl = socket.heartbeat_timeout = socket.heartbeat_ttl = dead_ms
    socket.heartbeat_ivl = int(HEARTBEAT_S * 1000)
    socket.setsockopt(zmq.TCP_MAXRT, 2 * dead_ms)
    return socket


def client(
    context: zmq.Context[zmq.Socket[bytes]], spec: RunSpec, connect: str, server_public: str
) -> zmq.Socket[bytes]:
    """A DEALER that speaks to one server and to nobody who lacks that key."""
    socket = _secured(context, zmq.DEALER, spec)
    socket.curve_serverkey = server_public.encode()
    socket.maxmsgsize = MAX_BODY_BYTES + MAX_HEADER_BYTES
    socket.connect_timeout = int(DEAD_S * 1000)
    socket.reconnect_ivl, socket.reconnect_ivl_max = 50, 500  # of refused connections; silent ones are closed
    socket.connect(f"tcp://{connect}")
    return socket


def server(context: zmq.Context[zmq.Socket[bytes]], spec: RunSpec) -> zmq.Socket[bytes]:
    """The ROUTER that listens; who may connect is its Door's to say."""
    socket = _secured(context, zmq.ROUTER, spec)
    socket.curve_server = True
    socket.zap_domain = b"bridge"
    socket.router_mandatory = True  # a full queue and a vanished peer are told, not swallowed
    socket.maxmsgsize = MAX_HEADER_BYTES
    socket.sndhwm = SERVED
    end = time.monotonic() + 5.0  # a killed predecessor's port is free at once, a stopping one's soon
    while True:
        try:
            socket.bind(f"tcp://{spec.listen}")
        except zmq.ZMQError as error:
            if time.monotonic() > end:
                raise Unable(
                    EXIT_SPEC, f"cannot listen on {spec.listen}: {error}; is another bridge running?"
                ) from None
            time.sleep(0.05)
        else:
            return socket


class Door:
    """Answers ZeroMQ's authentication protocol (RFC 27): a connection's key is a peer's, or it goes no further."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], admission: Admission) -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind("inproc://zeromq.zap.01")
        self._admission = admission
        self.refused = 0

    def answer(self) -> None:
        """Answer all requests that wait; the key becomes the connection's user."""
        while self.socket.poll(0):
            version, request, _domain, _address, _identity, mechanism, *credentials = self.socket.recv_multipart()
            key = z85.encode(credentials[0]).decode() if mechanism == b"CURVE" and credentials else ""
            self._admission.refresh()
            admitted = bool(key) and self._admission.host_of(key) is not None
            self.refused += not admitted
            verdict = (b"200", b"OK", key.encode()) if admitted else (b"400", b"not a peer of this host", b"")
            self.socket.send_multipart([version, request, *verdict, b""])
