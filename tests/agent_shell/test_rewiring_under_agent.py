"""A live graph on a real host, rewired by two people while frames flow: the sink has every number once, in order.

Each frame collects the marks of the vertices that it has passed, so that the sink's file says from which number on an edit counted.
"""

import os
import signal
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from halftrack_controller import galaxy
from halftrack_controller.operator_client import OperatorClient
from halftrack_model import rewiring
from halftrack_model.edits import Edit, Insert, Remove, Reroute, SetPolicy, Split
from halftrack_model.errors import Refused
from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from tests.agent_shell.test_agent import SOURCE, AgentProcess, publish, until
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host

PASS = b"""
class Pass:
    def __init__(self, params): self.mark = params["mark"].encode()
    def process(self, frame): return bytes(frame.payload) + self.mark
"""
SINK = b"""
import os
class Sink:
    def __init__(self, params, data_dir):
        self.file = open(os.path.join(data_dir, "out"), "a+")
        self.file.seek(0)
        self.next = len(self.file.readlines())
    def next_seq(self): return self.next
    def consume(self, frame):
        assert frame.seq == self.next, (frame.seq, self.next)
        self.next += frame.gap or 1
        if frame.gap:
            self.file.write("".join(f"{frame.seq + n} lost\\n" for n in range(frame.gap)))
            return
        payload = bytes(frame.payload)
        self.file.write(f"{frame.seq} {int.from_bytes(payload[:8], 'big')} {payload[800:].decode() or '-'}\\n")
    def cuts(self, cuts): pass
    def flush(self): self.file.flush()
"""


def vertex(name: str, role: Role = Role.SINGLE) -> Vertex:
    product = {Role.SOURCE: "counter", Role.SINK: "keeper"}.get(role, "passer")
    ring = (
        (0, 0) if role is Role.SINK else (1 << 24, 16384)
    )  # half a minute: what is killed starts again in time on a busy machine
    return Vertex(name, role, product, ("tank-a",), {"mark": name[0]} if role is Role.SINGLE else {}, *ring)


LINE = StreamGraph(
    "line",
    "home",
    (vertex("source", Role.SOURCE), vertex("sink", Role.SINK), vertex("display", Role.SINK)),
    (Edge("source", "sink"), Edge("source", "display")),
    live=True,
)


class Person:
    """Somebody who edits, and hears from which number on it counts."""

    def __init__(self, client: OperatorClient) -> None:
        self.client = client

    def edits(self, edit: Edit) -> int:
        """Ask for it; the revision that it made."""
        return self.client.edit_graph(self.client.live_graph("line"), edit).revision

    def counts(self, vertex: str, revision: int) -> int:
        """The number from which on the vertex reads what that revision has asked for."""

        def told() -> tuple[int, ...]:
            view = self.client.graph("", "line")
            standing = {each.vertex: each for each in view.inputs}.get(vertex)
            settled = all(each.vertex != vertex for each in rewiring.going(view.graph))
            return (standing.first,) if standing and settled and standing.in_force >= revision else ()

        (first,) = until(told, f"{vertex} reads what revision {revision} says", 60)
        return int(first)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveController]:
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    controller = LiveController(tmp_path / "galaxy", heartbeat_ms=200)
    try:
        with controller.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a"), LINE])
            programs = (
                ("counter", "source:Source", SOURCE),
                ("keeper", "sink:Sink", SINK),
                ("passer", "pass:Pass", PASS),
            )
            for product, entry, program in programs:
                publish(client, tmp_path, product, entry, program)
        yield controller
    finally:
        controller.stop()


def lines(agent: AgentProcess, sink: str) -> list[list[str]]:
    """What a sink has made durable, whole lines only."""
    try:
        text = (agent.places.data(f"line.{sink}") / "out").read_text()
    except OSError:
        return []
    return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]


def flows(agent: AgentProcess, frames: int = 100) -> None:
    had = {sink: len(lines(agent, sink)) for sink in ("sink", "display")}
    until(lambda: all(len(lines(agent, sink)) > had[sink] + frames for sink in had), "frames arrive in both sinks", 40)


def test_frames_flow_while_two_people_rewire_the_graph(agent: AgentProcess, live: LiveController) -> None:
    # invariant: S1, R2
    with live.operator() as first, live.operator() as second:
        one, other = Person(first), Person(second)
        flows(agent)
        pids = {name: agent.pid(f"line.{name}") for name in ("source", "sink", "display")}
        seen = first.live_graph("line")
        inserted = one.edits(Insert("source", "sink", vertex("clean")))
        with pytest.raises(Refused, match="Since then:"):
            second.edit_graph(seen, Remove("display"))
        lossy = other.edits(SetPolicy("source", "display", credit_bytes=1 << 18))
        told = [(one.counts("sink", inserted), "c")]
        other.counts("display", lossy)
        os.kill(agent.pid("line.sink.in"), signal.SIGKILL)
        rerouted, parted = other.edits(Reroute("source", "display", "clean")), one.edits(Split("clean", 2, 0, 8))
        told.append((one.counts("sink", parted), "c"))
        other.counts("display", max(rerouted, parted))
        told.append((one.counts("sink", one.edits(Insert("clean-0", "sink", vertex("late")))), ""))
        flows(agent)
        reverted = second.settle_graph(second.live_graph("line"), False).revision
        told.append((other.counts("sink", reverted), "-"))
        other.counts("display", reverted)
        flows(agent)
        until(lambda: agent.pid("line.late") == 0, "what has left is gone")
        assert {name: agent.pid(f"line.{name}") for name in pids} == pids
    for sink in ("sink", "display"):
        found = lines(agent, sink)
        assert [line[:2] for line in found] == [[str(n), str(n)] for n in range(len(found))]
    marks = [line[2] for line in lines(agent, "sink")]
    runs = [(mark, len(list(group))) for mark, group in groupby("-" if mark == "-" else "*" for mark in marks)]
    assert [mark for mark, _ in runs] == ["-", "*", "-"]
    assert (runs[0][1], runs[0][1] + runs[1][1]) == (told[0][0], told[-1][0])
    assert {"c", "cl"} <= set(marks[told[2][0] : told[3][0]])
