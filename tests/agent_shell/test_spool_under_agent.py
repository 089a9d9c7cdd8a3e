"""An edge with a spool on a real host: a consumer away for far longer than any ring holds costs the source nothing, and gets every number once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from halftrack_controller import galaxy
from halftrack_dataplane.refill import AT_WORK
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.status import load
from halftrack_model.graph import Edge, Full, Role, Spool, StreamGraph, Vertex
from tests.agent_shell.test_agent import SOURCE, AgentProcess, publish, until
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host

# One line for each frame, its number and what its payload says that this is, or for what was lost, from where and how much.
SINK = b"""
import os
class Sink:
    def __init__(self, params, data_dir):
        self.file = open(os.path.join(data_dir, "out"), "a+")
        self.file.seek(0)
        last = self.file.read().rpartition("\\n")[0].rpartition("\\n")[2].split()
        self.next = int(last[0]) + int(last[2]) if last else 0
    def next_seq(self): return self.next
    def consume(self, frame):
        told = 0 if frame.gap else int.from_bytes(bytes(frame.payload[:8]), "big")
        self.file.write(f"{frame.seq} {told} {frame.gap or 1} {'lost' if frame.gap else 'came'}\\n")
    def cuts(self, cuts): pass
    def flush(self): self.file.flush()
"""
SPOOL = "line.sink.spool-source"


def graph_of(spool: Spool | None) -> StreamGraph:
    """A ring of 160 ms, and as much for the consumer."""
    source = Vertex("source", Role.SOURCE, "counter", ("tank-a",), {}, 1 << 16, 128)
    sink = Vertex("sink", Role.SINK, "keeper", ("tank-a",), {}, 0, 0)
    edge = Edge("source", "sink", credit_bytes=1 << 16, spool=spool)
    return StreamGraph("line", "home", (source, sink), (edge,))


@pytest.fixture
def live(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LiveController]:
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    controller = LiveController(tmp_path / "galaxy", heartbeat_ms=200)
    try:
        with controller.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a"), graph_of(request.param)])
            for product, entry, program in (("counter", "source:Source", SOURCE), ("keeper", "sink:Sink", SINK)):
                publish(client, tmp_path, product, entry, program)
        yield controller
    finally:
        controller.stop()


def rows(agent: AgentProcess) -> list[list[str]]:
    try:
        text = (agent.places.data("line.sink") / "out").read_text()
    except OSError:
        return []
    return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]


def reached(agent: AgentProcess) -> int:
    found = rows(agent)
    return int(found[-1][0]) + int(found[-1][2]) if found else 0


def lost(agent: AgentProcess) -> list[list[str]]:
    """What was declared lost behind the first frame, after it is shown that nothing else is missing, and nothing there twice."""
    found = rows(agent)
    while found and found[0][3] == "lost":
        del found[0]  # before the stream's first reader
    at = int(found[0][0])
    for seq, told, count, what in found:
        assert int(seq) == at
        assert what == "lost" or int(told) == at
        at += int(count)
    return [row for row in found if row[3] == "lost"]


def goes_on_without(agent: AgentProcess, ring: Ring, frames: int) -> None:
    """The consumer stands still while so many are published; then it goes on."""
    pid, begin = agent.pid("line.sink"), ring.head
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: ring.head > begin + frames, "the source goes on", 30)
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("live", [Spool(64 << 20)], indirect=True, ids=["roomy"])
def test_a_consumer_that_is_away_for_long_gets_every_number_once(live: LiveController, agent: AgentProcess) -> None:
    # invariant: S1
    until(lambda: len(rows(agent)) > 50, "frames arrive in the sink", 30)
    with Ring.open(agent.places.ring("line/source")) as ring:
        blocked = ring.stats().blocked
        goes_on_without(agent, ring, 1500)
        os.kill(agent.pid("line.sink.in"), signal.SIGKILL)  # far behind, it finds its place in its own ring
        head = ring.head
        until(lambda: reached(agent) > head, "all of it arrives", 30)
        assert lost(agent) == []
        assert ring.stats().blocked == blocked, "the source has waited for nobody"
    assert agent.places.spools.joinpath(SPOOL, AT_WORK).is_dir()
    with live.operator() as client:
        client.apply([graph_of(None)])
    until(lambda: not agent.places.spools.joinpath(SPOOL).exists(), "what no plan names any more is taken away", 30)


@pytest.mark.parametrize("live", [Spool(1 << 17, full=Full.DROP_OLDEST)], indirect=True, ids=["small"])
def test_what_a_small_spool_drops_is_a_gap_that_is_counted(live: LiveController, agent: AgentProcess) -> None:
    # invariant: S2
    until(lambda: len(rows(agent)) > 50, "frames arrive in the sink", 30)
    with Ring.open(agent.places.ring("line/source")) as ring:
        blocked = ring.stats().blocked
        goes_on_without(agent, ring, 1500)
        head = ring.head
        until(lambda: reached(agent) > head, "what there is arrives", 30)
        assert ring.stats().blocked == blocked

    def gone() -> int:
        return sum(int(count) for _, _, count, _ in lost(agent))

    assert gone() > 500

    def counted() -> bool:  # both, since a busy machine may lose more meanwhile
        at = load((agent.places.status / "line.sink.in.json").read_bytes())
        return at.inputs["source"]["missed"] == gone()

    until(counted, "it is counted", 30)

    def told() -> bool:
        with live.operator() as client:
            return any(report.subject == SPOOL for report in client.host("tank-a").reports)

    until(told, "and reported", 30)
