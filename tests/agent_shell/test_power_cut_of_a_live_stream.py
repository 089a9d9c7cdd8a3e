"""A power cut takes rings, snapshots and processes, and leaves the disk. What cannot be had again is lost and told; the stream goes on behind it, by itself."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from halftrack_controller import galaxy
from halftrack_model.feed import Feed, Protocol
from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.release import OnStateLoss
from halftrack_model.report import Happened
from tests.agent_shell.test_agent import AgentProcess, until
from tests.agent_shell.test_feeds_under_agent import Kind, connections, datagrams, lines, publish, status
from tests.agent_shell.test_state_lost_under_agent import publish_member
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host

# As that of test_feeds_under_agent: what a member has made of a frame begins with the frame's number, and has its count behind.
SINK = b"""
import os
class Sink:
    def __init__(self, params, data_dir):
        self.file = open(os.path.join(data_dir, "out"), "a+")
        self.file.seek(0)
        lines = [line.split() for line in self.file.read().splitlines()]
        self.next = int(lines[-1][0]) + int(lines[-1][1]) if lines else 0
    def next_seq(self): return self.next
    def consume(self, frame):
        assert frame.seq == self.next, (frame.seq, self.next)
        self.next += frame.gap or 1
        self.file.write(f"{frame.seq} {frame.gap} gap\\n" if frame.gap else f"{frame.seq} 1 {int.from_bytes(frame.payload[8:16], 'big')}\\n")
    def cuts(self, cuts): pass
    def flush(self): self.file.flush()
"""


def arrivals() -> Kind:
    """Packets without numbers: the sender's is in the payload only."""
    kind = datagrams()
    return Kind(
        kind.protocol, kind.module, kind.capture, {"frame_bytes": 72, "numbers": "none"}, kind.sender, kind.port
    )


@pytest.fixture(params=[arrivals, connections], ids=lambda made: str(made.__name__))
def kind(request: pytest.FixtureRequest) -> Kind:
    made: Kind = request.param()
    return made


@pytest.fixture
def live(tmp_path: Path, kind: Kind) -> Iterator[LiveController]:
    feed = Feed("data", kind.protocol, f"127.0.0.1:{kind.port}", 32 << 20 if kind.protocol is Protocol.UDP else 1 << 20)
    vertices = (
        Vertex("adc", Role.SOURCE, "capture", ("tank-a",), {}, 4 << 20, 1 << 14, feeds=(feed,)),
        Vertex("pair", Role.PAIR, "member", ("tank-a",), {}, 1 << 20, 1 << 12),
        Vertex("sink", Role.SINK, "keeper", ("tank-a",), {}, 0, 0),
    )
    graph = StreamGraph("line", "home", vertices, (Edge("adc", "pair"), Edge("pair", "sink")))
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    controller = LiveController(tmp_path / "galaxy", heartbeat_ms=200)
    try:
        with controller.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a"), graph])
            publish(client, tmp_path, "capture", "1.0.0", f"capture:{kind.capture}", kind.program(), **kind.params)
            publish(client, tmp_path, "keeper", "1.0.0", "sink:Sink", SINK)
            publish_member(client, tmp_path, OnStateLoss.RESUME)
        yield controller
    finally:
        controller.stop()


def power_cut(agent: AgentProcess) -> None:
    """All that runs, and all that is in memory."""
    agent.end(signal.SIGKILL)
    for record in agent.places.instances.glob("*"):
        if pid := agent.pid(record.name):
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"{record.name} is gone")  # type: ignore[misc]
    shutil.rmtree(agent.places.run)


# invariant: S1 S2 R1
def test_a_live_stream_goes_on_behind_all_that_a_power_cut_has_taken(
    agent: AgentProcess, live: LiveController, kind: Kind
) -> None:
    until(lambda: agent.pid("line.adc.feeds") and agent.pid("line.adc"), "the source and its keeper run", 40)
    until(lambda: status(agent, "line.adc"), "it has its sockets", 40)
    flowed(agent, kind, "at first")
    for cut in ("a first", "a second"):
        had = lines(agent)
        power_cut(agent)
        agent.start()
        until(lambda: status(agent, "line.adc"), "it has its sockets again", 40)
        flowed(agent, kind, f"after {cut} power cut")
        rows = [line.split() for line in lines(agent)]
        assert lines(agent)[: len(had)] == had
        gap, first = rows[len(had) : len(had) + 2]
        assert gap[2] == "gap", f"what it has taken is declared: {gap}"
        assert first[2] == "1", "the state is made anew"
        counts = [int(row[2]) for row in rows[len(had) + 1 :]]
        assert counts == list(range(1, len(counts) + 1)), "and knows all that has come since"
        with live.operator() as client:
            lost = f"{gap[0]} to {int(gap[0]) + int(gap[1]) - 1}"
            until(lambda lost=lost: lost in told(client.host("tank-a").reports), f"it hears of {lost}", 30)  # type: ignore[misc]
            assert "made anew" in told(client.host("tank-a").reports)


def flowed(agent: AgentProcess, kind: Kind, what: str) -> None:
    """A sender of its own for each life: its connection ends with the host."""
    had = len(lines(agent))
    with kind.sender(kind.port).sending():
        until(lambda: len(lines(agent)) > had + 200, f"outputs arrive {what}", 60)


def told(reports: object) -> str:
    return "; ".join(
        report.detail
        for report in reports  # type: ignore[attr-defined]
        if report.happened in (Happened.FRAMES_LOST, Happened.STATE_LOST)
    )
