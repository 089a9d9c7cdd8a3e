"""Both members and the agent killed: nothing is lost; and with their snapshots gone a release that says so goes on, and the controller hears what is lost."""

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from halftrack_controller import galaxy
from halftrack_model import canonical
from halftrack_model.graph import Role, StreamGraph, Vertex
from halftrack_model.ids import digest_of
from halftrack_model.release import Artifact, OnStateLoss, Release, StateSchemas, SwapStrategy
from halftrack_model.report import Happened
from halftrack_model.seals import RELEASE
from tests.agent_shell.test_agent import SOURCE, AgentProcess, publish, until
from tests.agent_shell.test_swap_on_one_host import GRAPH
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host

# Each output tells the input's number, and how many inputs its state knows.
MEMBER = b"""
class Counter:
    def __init__(self, params): self.count = 0
    def process(self, frame):
        self.count += 1
        return frame.seq.to_bytes(8, "big") + self.count.to_bytes(8, "big")
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
        self.next = self.file.seek(0, 2) // 32
    def next_seq(self): return self.next
    def consume(self, frame):
        assert frame.seq == self.next, (frame.seq, self.next)
        self.next += max(frame.gap, 1)
        for number in range(frame.seq, self.next):
            self.file.write(number.to_bytes(8, "big") + bytes([frame.gap > 0]) * 8 + bytes(frame.payload).ljust(16, b"\\0"))
    def cuts(self, cuts): pass
    def flush(self): self.file.flush()
"""
PAIR = ("line.pair.a@1.0.0", "line.pair.b@1.0.0")


def publish_member(client: Any, folder: Path, on_loss: OnStateLoss) -> None:
    """Release 1.0.0."""
    path = folder / "member.py"
    path.write_bytes(MEMBER)
    client.put_artifact(path)
    state = StateSchemas("count/1", ("count/1",), on_loss=on_loss)
    artifact = Artifact(digest_of(MEMBER), len(MEMBER))
    made = Release("member", "1.0.0", artifact, "member:Counter", {}, state, SwapStrategy())
    client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))


def graph(slots: int, rate_bytes_per_s: int) -> StreamGraph:
    """Rings of so many frames behind a source that is so quick; 0: as fast as it is let."""

    def one(vertex: Vertex) -> Vertex:
        params = {"rate_bytes_per_s": rate_bytes_per_s} if vertex.role is Role.SOURCE else {}
        return replace(vertex, params=params, ring_slots=min(vertex.ring_slots, slots))

    return replace(GRAPH, vertices=tuple(map(one, GRAPH.vertices)))


@pytest.fixture
def live(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LiveController]:
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    controller = LiveController(tmp_path / "galaxy", heartbeat_ms=200)
    try:
        with controller.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a"), graph(*request.param)])
            for product, entry, program in (("counter", "source:Source", SOURCE), ("keeper", "sink:Sink", SINK)):
                publish(client, tmp_path, product, entry, program)
            publish_member(client, tmp_path, OnStateLoss.RESTART)
        yield controller
    finally:
        controller.stop()


def rows(agent: AgentProcess) -> list[tuple[int, bool, int, int]]:
    """(number, declared lost, input, inputs that the state knew) of what the sink has stored."""
    try:
        data = (agent.places.data("line.sink") / "out").read_bytes()
    except OSError:
        return []
    cut = [data[at : at + 32] for at in range(0, len(data) // 32 * 32, 32)]
    words = [[int.from_bytes(row[at : at + 8], "big") for at in (0, 16, 24)] for row in cut]
    return [(number, row[8] > 0, seq, known) for row, (number, seq, known) in zip(cut, words, strict=True)]


def parted(found: list[tuple[int, bool, int, int]]) -> tuple[int, list[int]]:
    """How many numbers are declared lost at the stream's start, before any output, and the numbers that are behind one."""
    early = next((number for number, declared, _, _ in found if not declared), len(found))
    return early, [number for number, declared, _, _ in found[early:] if declared]


def goes_on(found: list[tuple[int, bool, int, int]]) -> bool:
    """Is there a declared loss behind an output, and are there outputs enough behind it?"""
    _, lost = parted(found)
    return bool(lost) and len(found) > lost[0] + 300


def killed(agent: AgentProcess) -> None:
    """The agent first, so that nobody starts the members again."""
    agent.end(signal.SIGKILL)
    for name in PAIR:
        os.kill(agent.pid(name), signal.SIGKILL)


@pytest.mark.parametrize("live", [(4096, 800 * 400)], indirect=True)
def test_what_outlives_members_and_agent_is_enough_to_go_on_as_if_nothing_had_been(agent: AgentProcess) -> None:
    # invariant: S1
    until(lambda: len(rows(agent)) > 200, "outputs arrive", 60)
    killed(agent)
    agent.start()
    had = len(rows(agent))
    until(lambda: len(rows(agent)) > had + 200, "the stream goes on", 60)
    found = rows(agent)
    assert found == [(number, False, number, number + 1) for number in range(len(found))], "nothing lost, a whole state"


@pytest.mark.parametrize("live", [(512, 0)], indirect=True)
def test_a_lost_state_is_made_anew_behind_a_declared_number_and_reported(
    live: LiveController, agent: AgentProcess
) -> None:
    # invariant: S1 S2
    until(
        lambda: len(rows(agent)) > parted(rows(agent))[0] + 1200,
        "outputs arrive, and the first input has left its ring",
        60,
    )
    killed(agent)
    shutil.rmtree(agent.places.snapshots("line", "pair"))
    agent.start()
    until(lambda: goes_on(rows(agent)), "the stream goes on behind what is lost", 60)  # not with what was on its way
    found = rows(agent)
    assert [row[0] for row in found] == list(range(len(found))), "in order, each once"
    early, (lost,) = parted(found)  # a source as quick as this begins without members, and they without the sink
    before, after = found[early:lost], found[lost + 1 :]
    for life in (before, after):
        assert [row[3] for row in life] == list(range(life[0][3], life[0][3] + len(life)))
        assert [row[2] for row in life] == list(range(life[0][2], life[0][2] + len(life)))
    assert after[0][3] == 1, "a state that knows nothing from before"
    first = after[0][2]
    assert first > before[-1][2]
    with live.operator() as client:

        def told(happened: Happened) -> str:
            reports = [report for report in client.host("tank-a").reports if report.happened is happened]
            return reports[-1].detail if reports else ""

        until(lambda: f"output {lost} is declared lost" in told(Happened.STATE_LOST), "the controller hears of it", 30)
        assert f"from input {first} on" in told(Happened.STATE_LOST)
        until(lambda: told(Happened.FRAMES_LOST).endswith(str(lost)), "and which number is lost", 30)
