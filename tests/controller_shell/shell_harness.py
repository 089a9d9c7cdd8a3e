"""A controller on loopback in a thread of its own, and a scripted agent that speaks to it over real mutual TLS."""

import asyncio
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from halftrack_controller import ca, daemon, galaxy
from halftrack_controller.daemon import Listening, Running
from halftrack_controller.operator_client import OperatorClient
from halftrack_controller.snapshot import Environment, Host
from halftrack_model import canonical
from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.ids import digest_of
from halftrack_model.observed import Observed
from halftrack_model.plan import Plan
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.seals import RELEASE
from halftrack_proto import artifact_codec, codec
from halftrack_proto import messages as said
from halftrack_proto.channel import CLIENT_OPTIONS
from halftrack_proto.status import error_of
from halftrack_proto.tokens import token_of
from halftrack_proto.v1 import artifacts_pb2_grpc, enrolment_pb2_grpc, session_pb2, session_pb2_grpc

T = TypeVar("T")
CURVE = "a" * 40
DEADLINE_S = 10.0
HEARTBEAT_MS = 200
BEAT_S = 0.05
ENVIRONMENT = Environment("home", {"cloud": "none"}, "stable")


def eventually(probe: Callable[[], T], deadline_s: float = DEADLINE_S) -> T:
    """The first truthy answer of `probe`; a failure when there is none in time."""
    end = time.monotonic() + deadline_s
    while not (answer := probe()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)
    return answer


def host(name: str) -> Host:
    return Host(name, "home", {}, "10.0.0.1:7450", "10.0.0.1:7451", "")


def graph(on: str) -> StreamGraph:
    """The smallest stream: a source and a sink on one host."""
    return StreamGraph(
        "line",
        "home",
        (
            Vertex("source", Role.SOURCE, "counter", (on,), {}, 1 << 16, 64),
            Vertex("sink", Role.SINK, "keeper", (on,), {}, 0, 0),
        ),
        (Edge("source", "sink"),),
    )


class LiveController:
    """`daemon.start` and `stop` in a thread; everything else goes over the network."""

    def __init__(self, folder: Path, heartbeat_ms: int = HEARTBEAT_MS, ports: tuple[int, int] = (0, 0)) -> None:
        self.folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        try:
            self.running: Running = self.wait(
                daemon.start(folder / "controller", Listening("127.0.0.1", *ports), heartbeat_ms)
            )
        except BaseException:
            self._end_loop()
            raise
        self.session = f"127.0.0.1:{self.running.ports[0]}"
        self.enrolment = f"127.0.0.1:{self.running.ports[1]}"

    def wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def limit_pages(self, pages: int) -> None:
        """Let the store's file not grow beyond so many pages, or beyond what it has."""
        self.wait(self.running.store.do(lambda store: store.limit_pages(pages)))

    def stop(self) -> None:
        """End it; a no-op when it has ended."""
        if self._thread.is_alive():
            self.wait(self.running.stop())
            self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def operator(self) -> OperatorClient:
        mine = galaxy.load_operator(self.folder / "operator")
        return OperatorClient(dataclasses.replace(mine, endpoint=self.session))


def returned(folder: Path, session: str, heartbeat_ms: int = 200) -> LiveController:
    """A controller that is back at the address that its agents know."""
    return LiveController(folder, heartbeat_ms, (int(session.rpartition(":")[2]), 0))


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What an agent keeps after enrolment."""

    name: str
    key_pem: bytes
    certificate_pem: bytes
    ca_pem: bytes
    reply: said.EnrolReply


def signing_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "whatever it says")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.DER)


def enrol(
    live: LiveController,
    token_text: str,
    name: str,
    key: ec.EllipticCurvePrivateKey | None = None,
    curve: str = CURVE,
    csr: bytes | None = None,
) -> Credentials:
    """Enrol as `name`, trusting only the CA in the token."""
    token, key = token_of(token_text), key or ec.generate_private_key(ec.SECP256R1())
    ca_pem = ca.pem(x509.load_der_x509_certificate(token.ca_der))
    with grpc.secure_channel(live.enrolment, grpc.ssl_channel_credentials(ca_pem), CLIENT_OPTIONS) as channel:
        request = said.EnrolRequest(token.secret, name, csr or signing_request(key), curve)
        stub = enrolment_pb2_grpc.EnrolmentStub(channel)
        try:
            reply = codec.enrol_reply_of(stub.Enrol(codec.enrol_request_message(request), timeout=DEADLINE_S))
        except grpc.RpcError as error:
            raise error_of(error) from None
    certificate = ca.pem(x509.load_der_x509_certificate(reply.certificate_der))
    return Credentials(name, ca.key_pem(key), certificate, ca_pem, reply)


def channel_as(live: LiveController, who: Credentials) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(who.ca_pem, who.key_pem, who.certificate_pem)
    return grpc.secure_channel(live.session, credentials, CLIENT_OPTIONS)


class Agent:
    """One session, driven by a test: `say`, then `expect` a kind of message (heartbeats pass by). It says by itself that it is there, if it `beats`."""

    def __init__(self, live: LiveController, who: Credentials, *, beats: bool = True) -> None:
        self._beats = beats
        self._channel = channel_as(live, who)
        self._out: queue.Queue[said.AgentSays | None] = queue.Queue()
        stub = session_pb2_grpc.SessionStub(self._channel)
        self._call = stub.Connect(self._outgoing())
        self._passed_by: list[said.ControllerSays] = []
        self._in: queue.Queue[said.ControllerSays | Exception] = queue.Queue()
        self._thread = threading.Thread(target=self._incoming)
        self._thread.start()

    def _outgoing(self) -> Iterator[session_pb2.AgentMessage]:
        greeted = False
        while True:
            try:
                message = self._out.get(timeout=BEAT_S if greeted and self._beats else None)
            except queue.Empty:
                message = said.Alive()
            if message is None:
                return
            greeted = True
            yield codec.agent_message(message)

    def _incoming(self) -> None:
        try:
            for message in self._call:
                self._in.put(codec.controller_of(message))
            self._in.put(EOFError("the controller has ended the session"))
        except grpc.RpcError as error:
            self._in.put(error_of(error))

    @property
    def open(self) -> bool:
        """Has neither side ended the call?"""
        return bool(self._call.is_active())

    def say(self, message: said.AgentSays) -> None:
        self._out.put(message)

    def hello(self, name: str, revision: int = 0, digest: str = "") -> said.Welcome:
        self.say(said.Hello(name, "boot", "0.1.0", revision, digest, 1, 1))
        return self.expect(said.Welcome)

    def expect(self, kind: type[T]) -> T:
        """The next message of that kind; raises what ended the session when that comes first."""
        end = time.monotonic() + DEADLINE_S
        while True:
            message = self._in.get(timeout=max(0.0, end - time.monotonic()))
            if isinstance(message, kind):
                return message
            if isinstance(message, Exception):
                raise message
            self._passed_by.append(message)

    def heard(self, during: Callable[[], object]) -> list[said.ControllerSays]:
        """Everything that has passed by since the last `heard`, `during` included, but heartbeats and questions."""
        during()
        messages, self._passed_by = self._passed_by, []
        return [message for message in messages if not isinstance(message, (said.Alive, said.WantObserved))]

    def beats(self, count: int, digest: str = "") -> None:
        """Live through so many of the controller's heartbeats."""
        for _ in range(count):
            self.say(said.Heartbeat(digest, ()))
            self.expect(said.Alive)

    def close(self) -> None:
        self._out.put(None)
        self._call.cancel()
        self._thread.join()
        self._channel.close()


def release(product: str, version: str, content: bytes) -> Release:
    return Release(
        product,
        version,
        Artifact(digest_of(content), len(content)),
        "module:Class",
        {},
        StateSchemas("", ()),
        SwapStrategy(),
    )


def publish(client: OperatorClient, folder: Path, product: str, version: str) -> Release:
    """Send an artifact and publish a release of it."""
    content = f"# {product} {version}\n".encode()
    path = folder / f"{product}-{version}.py"
    path.write_bytes(content)
    client.put_artifact(path)
    made = release(product, version, content)
    client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))
    return made


def fetch(live: LiveController, who: Credentials, digest: str, offset: int) -> tuple[int, bytes]:
    """The whole size, and the bytes from `offset` on."""
    with channel_as(live, who) as channel:
        request = artifact_codec.fetch_request_message(said.FetchRequest(digest, offset))
        try:
            stub = artifacts_pb2_grpc.ArtifactsStub(channel)
            chunks = [artifact_codec.fetch_chunk_of(chunk) for chunk in stub.Fetch(request, timeout=DEADLINE_S)]
        except grpc.RpcError as error:
            raise error_of(error) from None
    return chunks[0].total_bytes, b"".join(chunk.data for chunk in chunks)


def observed(name: str, revision: int = 0, problems: tuple[str, ...] = ()) -> Observed:
    return Observed(name, revision, (), (), problems)


def plan_of(push: said.PlanPush) -> Plan:
    return cast(Plan, canonical.decode(Plan, push.sealed.payload))
