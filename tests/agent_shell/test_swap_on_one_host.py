"""A pair whose members are on one host, taken to a newer release by a real agent: one cut, nothing lost, nothing twice."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from halftrack_controller import galaxy
from halftrack_model import canonical
from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.ids import digest_of
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.seals import RELEASE
from tests.agent_shell.test_agent import SOURCE, AgentProcess, publish, until
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host

# Each output tells how many inputs there were before it, and of which release it is.
MEMBER = """
class Counter:
    def __init__(self, params): self.count = 0
    def process(self, frame):
        assert int.from_bytes(bytes(frame.payload[:8]), "big") == self.count == frame.seq
        self.count += 1
        return (self.count - 1).to_bytes(8, "big") + b"%d"
    def snapshot(self): return self.count.to_bytes(8, "big")
    def restore(self, state, *, same_release):
        self.count = int.from_bytes(state, "big")
        return 0
"""
SINK = b"""
import os
class Sink:
    def __init__(self, params, data_dir):
        self.file = open(os.path.join(data_dir, "out"), "a+b")
        self.next = self.file.seek(0, 2) // 9
    def next_seq(self): return self.next
    def consume(self, frame):
        assert frame.seq == self.next and not frame.gap, (frame.seq, self.next, frame.gap)
        self.next += 1
        self.file.write(bytes(frame.payload))
    def cuts(self, cuts): pass
    def flush(self): self.file.flush()
"""
GRAPH = StreamGraph(
    "line",
    "home",
    (
        Vertex("source", Role.SOURCE, "counter", ("tank-a",), {}, 1 << 22, 4096),
        Vertex("pair", Role.PAIR, "member", ("tank-a",), {}, 1 << 20, 4096),
        Vertex("sink", Role.SINK, "keeper", ("tank-a",), {}, 0, 0),
    ),
    (Edge("source", "pair"), Edge("pair", "sink")),
)


def publish_member(client: Any, folder: Path, number: int, surge: int) -> None:
    """Release 1.NUMBER.0, whose outputs end in that digit."""
    program = (MEMBER % number).encode()
    path = folder / f"member-{number}.py"
    path.write_bytes(program)
    client.put_artifact(path)
    strategy = SwapStrategy(surge=surge, shadow_ms=200, caught_up_ms=100, drain_ms=200, lag_frames=256)
    state = StateSchemas("count/1", ("count/1",))
    artifact = Artifact(digest_of(program), len(program))
    made = Release("member", f"1.{number}.0", artifact, "member:Counter", {}, state, strategy)
    client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveController]:
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    controller = LiveController(tmp_path / "galaxy", heartbeat_ms=200)
    try:
        with controller.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a"), GRAPH])
            for product, entry, program in (("counter", "source:Source", SOURCE), ("keeper", "sink:Sink", SINK)):
                publish(client, tmp_path, product, entry, program)
            publish_member(client, tmp_path, 0, 1)
        yield controller
    finally:
        controller.stop()


def recorded(agent: AgentProcess) -> bytes:
    """Whole outputs that the sink has stored, nine bytes each."""
    try:
        data = (agent.places.data("line.sink") / "out").read_bytes()
    except OSError:
        return b""
    return data[: len(data) // 9 * 9]


@pytest.mark.parametrize("surge", [1, 2])
def test_a_pair_on_one_host_is_swapped_while_members_are_killed(
    live: LiveController, agent: AgentProcess, tmp_path: Path, surge: int
) -> None:
    # invariant: S1
    until(lambda: len(recorded(agent)) > 900, "outputs arrive in the sink", 30)
    with live.operator() as client:

        def phase(number: int) -> str:
            (entry,) = client.rollouts(f"home.line.pair.{number}")
            return entry.phase

        until(lambda: phase(1) == "succeeded", "the first release is in force: before, there is nothing to swap")
        os.kill(agent.pid("line.pair.b@1.0.0"), signal.SIGKILL)
        publish_member(client, tmp_path, 1, surge)
        until(lambda: recorded(agent)[-1:] == b"1", "the cut is made", 60)
        os.kill(agent.pid("line.pair.a@1.1.0"), signal.SIGKILL)
        until(lambda: phase(2) == "succeeded", "the swap is done", 60)
    had = len(recorded(agent))
    until(lambda: len(recorded(agent)) > had + 900, "the stream goes on", 30)
    found = recorded(agent)
    outputs = [found[at : at + 9] for at in range(0, len(found), 9)]
    assert [int.from_bytes(each[:8], "big") for each in outputs] == list(range(len(outputs)))
    changes = [n for n in range(1, len(outputs)) if outputs[n][8] != outputs[n - 1][8]]
    # A counting green that is killed gives the output back to blue at an exact number, and takes it again at another (ADR 5).
    assert len(changes) in (1, 3), changes
    assert (outputs[0][8:], outputs[-1][8:]) == (b"0", b"1")
