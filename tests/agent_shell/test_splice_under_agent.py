"""A graph that is edited twice while it runs on a real host: the inlet goes on with new orders, whoever is killed, and the sink has each number once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from halftrack_controller import galaxy
from halftrack_model.edits import Edit, Insert, Remove
from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.observed import Owner
from tests.agent_shell.test_agent import SINK, SOURCE, AgentProcess, publish, until
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host

ECHO = b"""
class Echo:
    def __init__(self, params): pass
    def process(self, frame): return bytes(frame.payload)
    def snapshot(self): return b""
    def restore(self, state): pass
"""
GRAPH = StreamGraph(
    "line", "home",
    (
        Vertex("source", Role.SOURCE, "counter", ("tank-a",), {}, 8 << 20, 8192),
        Vertex("sink", Role.SINK, "keeper", ("tank-a",), {}, 0, 0),
    ),
    (Edge("source", "sink"),), live=True,
)  # fmt: skip
BETWEEN = Vertex("echo", Role.SINGLE, "echo", ("tank-a",), {}, 8 << 20, 8192)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveController]:
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    controller = LiveController(tmp_path / "galaxy", heartbeat_ms=200)
    try:
        with controller.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a"), GRAPH])
            programs = (
                ("counter", "source:Source", SOURCE),
                ("keeper", "sink:Sink", SINK),
                ("echo", "echo:Echo", ECHO),
            )
            for product, entry, program in programs:
                publish(client, tmp_path, product, entry, program)
        yield controller
    finally:
        controller.stop()


def owner(live: LiveController) -> Owner | None:
    """What the controller has heard of the sink's inlet."""
    with live.operator() as client:
        seen = client.host("tank-a").observed
    return next((each for each in seen.owners if each.ring == "line/sink.in"), None) if seen else None


def edit(live: LiveController, change: Edit) -> int:
    """The generation that it makes."""
    with live.operator() as client:
        return client.edit_graph(client.live_graph("line"), change).revision


def kill(agent: AgentProcess, workload: str) -> None:
    before = agent.pid(workload)
    os.kill(before, signal.SIGKILL)
    until(lambda: agent.pid(workload) not in (0, before), f"{workload} is started again", 30)


def test_an_inlet_goes_over_twice_and_loses_nothing(agent: AgentProcess, live: LiveController) -> None:
    # invariant: S1
    # invariant: R2
    until(lambda: agent.recorded() > 100, "frames arrive in the sink", 30)
    inlet, sink = agent.pid("line.sink.in"), agent.pid("line.sink")
    made = edit(live, Insert("source", "sink", BETWEEN))
    found = until(lambda: (each := owner(live)) and each.generation == made and each, "the new way counts", 60)
    assert (agent.pid("line.sink.in"), agent.pid("line.sink")) == (inlet, sink), "nobody was ended for it"
    until(lambda: agent.recorded() > found.first + 50, "it goes on", 30)
    kill(agent, "line.sink.in")
    kill(agent, "line.echo")
    had = agent.recorded()
    until(lambda: agent.recorded() > had + 50, "it goes on by the new way", 30)
    made = edit(live, Remove("echo"))
    agent.end(signal.SIGKILL)
    os.kill(agent.pid("line.sink.in"), signal.SIGKILL)  # and nobody is there to see it
    agent.start()
    found = until(lambda: (each := owner(live)) and each.generation == made and each, "the old way counts again", 60)
    until(lambda: agent.recorded() > found.first + 50, "it goes on", 30)
    until(lambda: not agent.pid("line.echo"), "who was put in between leaves", 30)
    assert agent.pid("line.sink") == sink
    data = (agent.places.data("line.sink") / "out").read_bytes()
    numbers = [int.from_bytes(data[at : at + 8], "big") for at in range(0, len(data) // 8 * 8, 8)]
    assert numbers == list(range(len(numbers)))
