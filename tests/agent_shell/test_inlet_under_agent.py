"""A vertex with two inputs on a real host: the agent makes the inlet's ring, runs the inlet, and starts it again when it is killed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from halftrack_controller import galaxy
from halftrack_model.graph import Edge, Join, JoinBy, Policy, Role, Sample, StreamGraph, Vertex
from tests.agent_shell.test_agent import SOURCE, AgentProcess, publish, until
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host

# One line for each joined frame: the numbers of its parts, and what their payloads say that these are.
SINK = b"""
import os
from halftrack_dataplane.parts import parts
class Sink:
    def __init__(self, params, data_dir):
        self.file = open(os.path.join(data_dir, "out"), "a+")
        self.file.seek(0)
        self.next = len(self.file.readlines())
    def next_seq(self): return self.next
    def consume(self, frame):
        assert frame.seq == self.next and not frame.gap, (frame.seq, self.next, frame.gap)
        self.next += 1
        told = [f"{part.input}:{part.seq}:{int.from_bytes(bytes(part.payload[:8]), 'big')}" for part in parts(frame)]
        self.file.write(" ".join(told) + "\\n")
    def cuts(self, cuts): pass
    def flush(self): self.file.flush()
"""


def source(name: str) -> Vertex:
    return Vertex(name, Role.SOURCE, "counter", ("tank-a",), {}, 8 << 20, 8192)


def joined(join: Join) -> StreamGraph:
    """Two sources, one sink."""
    sink = Vertex("sink", Role.SINK, "keeper", ("tank-a",), {}, 0, 0, join)
    edges = (Edge("left", "sink"), Edge("right", "sink"))
    return StreamGraph("line", "home", (source("left"), source("right"), sink), edges)


def sampled() -> StreamGraph:
    """Every fourth frame of one source."""
    sink = Vertex("sink", Role.SINK, "keeper", ("tank-a",), {}, 0, 0)
    edge = Edge("left", "sink", Policy.SAMPLE, Sample(every=4))
    return StreamGraph("line", "home", (source("left"), sink), (edge,))


@pytest.fixture
def live(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LiveController]:
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    controller = LiveController(tmp_path / "galaxy", heartbeat_ms=200)
    try:
        with controller.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a"), request.param])
            for product, entry, program in (("counter", "source:Source", SOURCE), ("keeper", "sink:Sink", SINK)):
                publish(client, tmp_path, product, entry, program)
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


def outlives_its_inlet(agent: AgentProcess, frames: int) -> list[str]:
    """What the sink has, after the inlet was killed twice in mid-stream."""
    until(lambda: len(lines(agent)) > frames, "joined frames arrive in the sink", 30)
    for _ in range(2):
        before, had = agent.pid("line.sink.in"), len(lines(agent))
        os.kill(before, signal.SIGKILL)
        until(lambda before=before: agent.pid("line.sink.in") not in (0, before), "the inlet is started again")
        until(lambda had=had: len(lines(agent)) > had + frames, "it goes on", 30)
    return lines(agent)


@pytest.mark.parametrize("live", [joined(Join(JoinBy.SEQUENCE))], indirect=True, ids=["sequence"])
def test_two_inputs_by_sequence_are_joined_and_outlive_their_inlet(agent: AgentProcess) -> None:
    # invariant: S1
    found = outlives_its_inlet(agent, 50)
    assert found == [f"0:{n}:{n} 1:{n}:{n}" for n in range(len(found))]


@pytest.mark.parametrize("live", [joined(Join(JoinBy.ORDER))], indirect=True, ids=["order"])
def test_two_inputs_in_order_of_time_bring_each_frame_once(agent: AgentProcess) -> None:
    # invariant: S1
    found = outlives_its_inlet(agent, 50)
    for which in ("0", "1"):
        mine = [line for line in found if line.partition(":")[0] == which]
        assert mine == [f"{which}:{n}:{n}" for n in range(len(mine))]
        assert len(mine) > 20


@pytest.mark.parametrize("live", [sampled()], indirect=True, ids=["sample"])
def test_a_sampled_edge_brings_every_fourth_frame(agent: AgentProcess) -> None:
    # invariant: S1
    found = outlives_its_inlet(agent, 20)
    assert found == [f"0:{4 * n}:{4 * n}" for n in range(len(found))]
