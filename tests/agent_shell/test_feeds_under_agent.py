"""A source that reads a kept socket, under a real agent and controller: upgraded, killed, its keeper and its agent killed, and no packet is lost."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from halftrack_controller import galaxy
from halftrack_dataplane.status import Status, load
from halftrack_model import canonical
from halftrack_model.feed import Feed, Protocol
from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.ids import digest_of
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.seals import RELEASE
from tests.agent_shell.test_agent import AgentProcess, until
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host
from tests.dataplane.feeding_host import SIZE, FramesSender, Sender

# A line for each frame: its sequence, and the number that its payload says; or a gap, and how long it is.
SINK = b"""
import os
class Sink:
    def __init__(self, params, data_dir):
        self.file = open(os.path.join(data_dir, "out"), "a+")
        self.file.seek(0)
        lines = self.file.read().splitlines()
        self.next = sum(int(line.split()[1]) if line.startswith("gap") else 1 for line in lines)
    def next_seq(self): return self.next
    def consume(self, frame):
        assert frame.seq == self.next, (frame.seq, self.next)
        self.next += frame.gap or 1
        number = int.from_bytes(bytes(frame.payload[:8]), "little")
        self.file.write(f"gap {frame.gap}\\n" if frame.gap else f"{frame.seq} {number}\\n")
    def cuts(self, cuts): pass
    def flush(self): self.file.flush()
"""
SOURCE_NAME, KEEPER_NAME = "line.adc", "line.adc.feeds"


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def publish(client: Any, folder: Path, product: str, version: str, entry: str, program: bytes, **params: Any) -> None:
    path = folder / f"{product}.py"
    path.write_bytes(program)
    client.put_artifact(path)
    artifact = Artifact(digest_of(program), len(program))
    made = Release(product, version, artifact, entry, params, StateSchemas("", ()), SwapStrategy())
    client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))


@dataclass(frozen=True)
class Kind:
    """Of a feed: what is bound, what reads it, and who sends to it."""

    protocol: Protocol
    module: str
    capture: str
    params: dict[str, Any]
    sender: Callable[[int], Sender | FramesSender]
    port: int

    def program(self, comment: str = "") -> bytes:
        return f"from halftrack_dataplane.{self.module} import {self.capture}\n# {comment}\n".encode()


def datagrams() -> Kind:
    params = {"frame_bytes": SIZE, "numbers": "le64"}
    return Kind(Protocol.UDP, "captures", "Datagrams", params, Sender, free_port())


def connections() -> Kind:
    return Kind(
        Protocol.TCP, "stream_capture", "Connections", {"form": "framed"}, FramesSender, free_port(socket.SOCK_STREAM)
    )


@pytest.fixture(params=[datagrams, connections], ids=lambda made: str(made.__name__))
def kind(request: pytest.FixtureRequest) -> Kind:
    made: Kind = request.param()
    return made


@pytest.fixture
def live(tmp_path: Path, kind: Kind) -> Iterator[LiveController]:
    feed = Feed("data", kind.protocol, f"127.0.0.1:{kind.port}", 32 << 20 if kind.protocol is Protocol.UDP else 1 << 20)
    adc = Vertex("adc", Role.SOURCE, "capture", ("tank-a",), {}, 4 << 20, 1 << 16, feeds=(feed,))
    graph = StreamGraph(
        "line", "home", (adc, Vertex("sink", Role.SINK, "keeper", ("tank-a",), {}, 0, 0)), (Edge("adc", "sink"),)
    )
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    controller = LiveController(tmp_path / "galaxy", heartbeat_ms=200)
    try:
        with controller.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a"), graph])
            publish(client, tmp_path, "capture", "1.0.0", f"capture:{kind.capture}", kind.program(), **kind.params)
            publish(client, tmp_path, "keeper", "1.0.0", "sink:Sink", SINK)
        yield controller
    finally:
        controller.stop()


def lines(agent: AgentProcess) -> list[str]:
    """What the sink has made durable, whole lines only."""
    try:
        text = (agent.places.data("line.sink") / "out").read_text()
    except OSError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()


def status(agent: AgentProcess, workload: str) -> Status | None:
    try:
        return load((agent.places.status / f"{workload}.json").read_bytes())
    except (OSError, ValueError):
        return None


def flows(agent: AgentProcess, what: str) -> None:
    had = len(lines(agent))
    until(lambda: len(lines(agent)) > had + 200, f"packets arrive {what}", 40)


def changed(agent: AgentProcess, workload: str, before: int, what: str) -> None:
    until(lambda: agent.pid(workload) not in (0, before), what, 30)


# invariants: S1, S2, R2
def test_every_packet_arrives_once_while_capture_keeper_and_agent_are_upgraded_and_killed(
    agent: AgentProcess, live: LiveController, tmp_path: Path, kind: Kind
) -> None:
    until(lambda: agent.pid(KEEPER_NAME) and agent.pid(SOURCE_NAME), "the source and its keeper run", 40)
    until(lambda: status(agent, SOURCE_NAME), "it has its sockets", 40)
    sender = kind.sender(kind.port)
    with sender.sending():
        flows(agent, "at first")
        keeper, capture = agent.pid(KEEPER_NAME), agent.pid(SOURCE_NAME)
        with live.operator() as client:
            program, params = kind.program("1.1.0"), kind.params
            publish(client, tmp_path, "capture", "1.1.0", f"capture:{kind.capture}", program, **params)
        changed(agent, SOURCE_NAME, capture, "the new release runs")
        flows(agent, "in the new release")
        for _ in range(2):
            capture = agent.pid(SOURCE_NAME)
            os.kill(capture, signal.SIGKILL)
            changed(agent, SOURCE_NAME, capture, "the capture is started again")
            flows(agent, "after a kill")
        capture = agent.pid(SOURCE_NAME)
        agent.end(signal.SIGKILL)
        agent.start()
        flows(agent, "under another agent")
        assert (agent.pid(KEEPER_NAME), agent.pid(SOURCE_NAME)) == (keeper, capture)  # adopted, not started again
        os.kill(keeper, signal.SIGKILL)
        changed(agent, KEEPER_NAME, keeper, "the keeper is started again")
        (agent.places.status / f"{KEEPER_NAME}.json").unlink(missing_ok=True)  # of the one that is gone
        until(lambda: _has_it_back(agent, kind), "it has its socket back", 30)
        capture = agent.pid(SOURCE_NAME)
        os.kill(capture, signal.SIGKILL)
        changed(agent, SOURCE_NAME, capture, "the capture gets it from the new keeper")
        flows(agent, "through the new keeper")
    until(lambda: len(lines(agent)) >= sender.next, f"all {sender.next} arrive", 40)
    assert lines(agent) == [f"{number} {number}" for number in range(sender.next)]
    if kind.protocol is Protocol.UDP:
        kept = status(agent, KEEPER_NAME)
        assert kept is not None
        assert kept.counters["dropped"] == 0


def _has_it_back(agent: AgentProcess, kind: Kind) -> bool:
    """The socket; of a connection, too: the capture gives both to whoever keeps them next."""
    counter, least = ("data.dropped", 0) if kind.protocol is Protocol.UDP else ("data.connections", 1)
    found = status(agent, KEEPER_NAME)
    return found is not None and found.counters.get(counter, -1) >= least
