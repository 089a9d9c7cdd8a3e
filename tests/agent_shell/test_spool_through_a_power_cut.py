"""What waits in an edge's spool is on a disk: after a power cut its consumer gets it, and only what nobody had synced is lost and told."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from halftrack_controller import galaxy
from halftrack_dataplane.status import load
from halftrack_model.graph import Spool
from tests.agent_shell.test_agent import SOURCE, AgentProcess, publish, until
from tests.agent_shell.test_power_cut_of_a_live_stream import power_cut
from tests.agent_shell.test_spool_under_agent import SINK, SPOOL, graph_of, reached, rows
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host

LIVE = SOURCE.replace(b"class Source:", b"class Source:\n    live = True")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveController]:
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    controller = LiveController(tmp_path / "galaxy", heartbeat_ms=200)
    try:
        with controller.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a"), graph_of(Spool(4 << 20))])
            for product, entry, program in (("counter", "source:Source", LIVE), ("keeper", "sink:Sink", SINK)):
                publish(client, tmp_path, product, entry, program)
        yield controller
    finally:
        controller.stop()


def durable(agent: AgentProcess) -> int:
    """Up to where the spool says that it has all."""
    try:
        return load((agent.places.status / f"{SPOOL}.json").read_bytes()).seq_out
    except OSError:
        return 0


# invariants: S1, S2, R1
def test_what_waits_on_the_disk_comes_after_a_power_cut(live: LiveController, agent: AgentProcess) -> None:
    until(lambda: len(rows(agent)) > 50, "frames arrive in the sink", 30)
    for _ in range(2):
        os.kill(agent.pid("line.sink"), signal.SIGSTOP)
        had = reached(agent)
        until(lambda had=had: durable(agent) > had + 1500, "the disk has far more than rings hold", 40)  # type: ignore[misc]
        kept = durable(agent)
        power_cut(agent)
        agent.start()
        until(lambda kept=kept: reached(agent) > kept + 200, "the stream goes on", 60)  # type: ignore[misc]
        behind = [(int(seq), int(told), int(count), what) for seq, told, count, what in rows(agent) if int(seq) >= had]
        at = had
        for seq, told, count, what in behind:
            assert seq == at
            assert told == at if what == "came" else seq >= kept, "what was on the disk came, and the rest is told"
            at += count
        assert [what for _, _, _, what in behind].count("lost") == 1
