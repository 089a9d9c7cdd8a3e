"""`halftrack stream tap`: an operator looks at a ring on a real host through a real controller, and holds nobody up."""

import dataclasses
import json
import struct
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from halftrack_controller import galaxy
from halftrack_controller.cli import main
from halftrack_model import canonical
from halftrack_model.errors import HalftrackError, HostFault, Refused
from halftrack_proto.shown import Shown, WatchRequest
from tests.agent_shell.test_agent import AgentProcess, agent, live, until  # noqa: F401 - fixtures
from tests.controller_shell.shell_harness import LiveController

SOURCE = WatchRequest("", "line", "source", 5, 8)


@pytest.fixture
def running(agent: AgentProcess) -> AgentProcess:  # noqa: F811
    agent.start()
    until(lambda: agent.recorded() > 100, "frames arrive in the sink")
    return agent


def config(live: LiveController) -> str:  # noqa: F811
    """The operator's folder, pointing at where this controller listens."""
    path = live.folder / "operator/config.json"
    known = canonical.decode(galaxy.OperatorFile, path.read_bytes())
    path.write_bytes(canonical.encode(dataclasses.replace(known, endpoint=live.session)))
    return str(path.parent)


def looked(live: LiveController, asked: WatchRequest, limit: int = 1000) -> list[Shown]:  # noqa: F811
    with live.operator() as client:
        shown = client.watch_stream(asked)
        return [each for each, _ in zip(shown, range(limit), strict=False)]


def test_frames_are_shown_as_they_are_and_the_stream_goes_on(live: LiveController, running: AgentProcess) -> None:  # noqa: F811
    frames = [frame for each in looked(live, SOURCE) for frame in each.frames]
    assert len(frames) == 5
    assert [frame.seq for frame in frames] == list(range(frames[0].seq, frames[0].seq + 5))
    for frame in frames:
        assert (frame.size_bytes, frame.payload) == (800, frame.seq.to_bytes(8, "big"))
    recorded = running.recorded()
    until(lambda: running.recorded() > recorded + 100, "the sink goes on")


def test_a_look_that_nobody_reads_holds_nothing_up(live: LiveController, running: AgentProcess) -> None:  # noqa: F811
    """The operator takes one message and then none: the queue, the call and the reader fill, and the stream passes by."""
    with live.operator() as client:
        shown = client.watch_stream(WatchRequest("", "line", "source", 0, 800))
        next(shown)
        recorded = running.recorded()
        until(lambda: running.recorded() > recorded + 1000, "the sink goes on")
        shown.close()
    assert looked(live, SOURCE)[-1].problem == "5 frames were shown"


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        (dataclasses.replace(SOURCE, graph="nothing"), Refused, "no graph 'nothing'"),
        (dataclasses.replace(SOURCE, vertex="nothing"), Refused, "line has no vertex 'nothing'; it has sink, source"),
        (dataclasses.replace(SOURCE, vertex="sink"), Refused, "sink is a sink and produces nothing"),
        (dataclasses.replace(SOURCE, bytes_each=1 << 30), HalftrackError, "at most 1048576 bytes of each"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(
    live: LiveController,  # noqa: F811
    asked: WatchRequest,
    error: type[HalftrackError],
    told: str,
) -> None:
    with pytest.raises(error, match=told):
        looked(live, asked)


def test_a_host_that_is_away_is_told(live: LiveController, agent: AgentProcess) -> None:  # noqa: F811
    with pytest.raises(HostFault, match="tank-a, where source is, is not connected"):
        looked(live, SOURCE)
    agent.start()
    until(lambda: agent.recorded() > 100, "frames arrive in the sink")
    ended: list[object] = []
    began = threading.Event()

    def look() -> None:
        try:
            with live.operator() as client:
                for _ in client.watch_stream(dataclasses.replace(SOURCE, frames=0)):
                    began.set()
        except HostFault as fault:
            ended.append(fault.message)

    looking = threading.Thread(target=look)
    looking.start()
    assert began.wait(20), "nothing is shown"
    agent.end(9)
    looking.join(20)
    assert ended == ["tank-a is not connected any more; its streams go on"]


def test_the_verb_shows_lines_json_and_records(live: LiveController, running: AgentProcess, tmp_path: Path) -> None:  # noqa: F811
    words = ["--config", config(live), "stream", "tap", "line", "source", "--frames", "3"]
    shown = CliRunner().invoke(main, [*words, "--bytes", "8"])
    assert shown.exit_code == 0, shown.output
    first, *rest = shown.stdout.splitlines()
    assert (len(rest), "800 B" in first, first.endswith("…")) == (2, True, True)
    seq = int(first.split()[0])
    assert seq.to_bytes(8, "big").hex(" ", 4) in first
    spelled = CliRunner().invoke(main, [*words, "-o", "json"])
    assert [json.loads(line)["size_bytes"] for line in spelled.stdout.splitlines()] == [800] * 3
    path = tmp_path / "night.frames"
    recorded = CliRunner().invoke(main, [*words, "--record", str(path)])
    assert recorded.exit_code == 0, recorded.output
    data = path.read_bytes()
    assert len(data) == 3 * 804
    assert [struct.unpack_from("<I", data, n * 804)[0] for n in range(3)] == [800] * 3
    again = CliRunner().invoke(main, [*words, "--record", str(path)])
    assert (again.exit_code, "is there already and is not overwritten" in again.stderr) == (1, True)
