"""A pair whose vertex is bounded, under a real agent: the member that takes too much is killed and said to be, and no frame is missed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from halftrack_agent.drivers.cgroups import Cgroups
from halftrack_controller import galaxy
from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.resources import Resources
from tests.agent_shell.test_agent import SOURCE, AgentProcess, publish, until
from tests.agent_shell.test_swap_on_one_host import SINK, recorded
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host

# At its 300th frame, the first member that comes there takes 400 MiB.
GREEDY = b"""
import os
class Greedy:
    def __init__(self, params): self.marker = params["marker"]
    def process(self, frame):
        if frame.seq == 300:
            try: os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError: pass
            else: self.kept = bytearray(400 << 20)
        return frame.seq.to_bytes(8, "big") + b"0"
"""


def graph(marker: Path) -> StreamGraph:
    limit = Resources(memory_bytes=192 << 20)
    return StreamGraph(
        "line",
        "home",
        (
            Vertex("source", Role.SOURCE, "counter", ("tank-a",), {}, 1 << 22, 4096),
            Vertex("pair", Role.PAIR, "greedy", ("tank-a",), {"marker": str(marker)}, 1 << 20, 4096, resources=limit),
            Vertex("sink", Role.SINK, "keeper", ("tank-a",), {}, 0, 0),
        ),
        (Edge("source", "pair"), Edge("pair", "sink")),
    )


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveController]:
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    controller = LiveController(tmp_path / "galaxy", heartbeat_ms=200)
    try:
        with controller.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a"), graph(tmp_path / "marker")])
            programs = (
                ("counter", "source:Source", SOURCE),
                ("greedy", "m:Greedy", GREEDY),
                ("keeper", "s:Sink", SINK),
            )
            for product, entry, program in programs:
                publish(client, tmp_path, product, entry, program)
        yield controller
    finally:
        controller.stop()


@pytest.mark.host
def test_the_member_is_killed_by_its_limit_and_the_pair_goes_on(live: LiveController, tmp_path: Path) -> None:
    # invariant: S1
    if problem := Cgroups("halftrack-test/limits").problem:
        pytest.skip(problem)
    Cgroups("halftrack-test/limits").close()
    agent = AgentProcess(tmp_path)
    with live.operator() as client:
        (tmp_path / "token").write_text(client.create_token("tank-a", 600).token)
        done = agent.command("enrol", "--token-file", str(tmp_path / "token"))
        assert done.returncode == 0, done.stderr
        agent.start()
        try:
            told = "killed by its memory limit of 192 MiB"
            until(lambda: any(told in each.detail for each in client.host("tank-a").reports), "its end is reported", 60)
            had = len(recorded(agent))
            until(lambda: len(recorded(agent)) > had + 9 * 300, "outputs go on", 30)
            found = recorded(agent)
            assert all(found[at : at + 8] == (at // 9).to_bytes(8, "big") for at in range(0, len(found), 9))
            until(
                lambda: agent.pid("line.pair.a@1.0.0") and agent.pid("line.pair.b@1.0.0"), "both members run again", 30
            )
        finally:
            agent.clear()
