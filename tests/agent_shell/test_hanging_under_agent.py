"""Processes of a stream that stop moving without dying, under a real agent: each is missed, killed and started again, and the stream goes on."""

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
from halftrack_model.report import Happened
from halftrack_model.seals import RELEASE
from tests.agent_shell import waiting
from tests.agent_shell.driver_bench import FOREVER, Bench, go, python
from tests.agent_shell.test_agent import SINK, SOURCE, AgentProcess, publish, until
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host

HANG_AFTER_MS = 3_000  # little, and still more than a busy machine keeps a process from running
# No output for every tenth frame: there the merge waits for the word of both. Release 1.1.0 comes to a frame that it never ends.
MEMBER = """
class Tenths:
    def __init__(self, params): pass
    def process(self, frame):
        number = int.from_bytes(bytes(frame.payload[:8]), "big")
        while %d and number %% 100 == 50: pass
        return bytes(frame.payload) if number %% 10 else None
"""


def vertex(name: str, role: Role, product: str, *ring: int) -> Vertex:
    return Vertex(name, role, product, ("tank-a",), {}, *(ring or (0, 0)), hang_after_ms=HANG_AFTER_MS)


GRAPH = StreamGraph(
    "line",
    "home",
    (
        vertex("source", Role.SOURCE, "counter", 1 << 22, 4096),
        vertex(
            "pair", Role.PAIR, "member", 1 << 23, 1 << 15
        ),  # not full meanwhile: else the sink may lose what it had not flushed
        vertex("sink", Role.SINK, "keeper"),
    ),
    (Edge("source", "pair"), Edge("pair", "sink")),
)


def publish_member(client: Any, folder: Path, number: int) -> None:
    """Release 1.NUMBER.0."""
    program = (MEMBER % number).encode()
    path = folder / f"member-{number}.py"
    path.write_bytes(program)
    client.put_artifact(path)
    strategy = SwapStrategy(surge=1, shadow_ms=200, caught_up_ms=100, drain_ms=200, lag_frames=256)
    artifact = Artifact(digest_of(program), len(program))
    made = Release("member", f"1.{number}.0", artifact, "member:Tenths", {}, StateSchemas("", ()), strategy)
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
            publish_member(client, tmp_path, 0)
        yield controller
    finally:
        controller.stop()


def goes_on(agent: AgentProcess) -> None:
    had = agent.recorded()
    until(lambda: agent.recorded() > had + 100, "outputs go on", 60)


def stopped(agent: AgentProcess, *names: str) -> dict[str, int]:
    """Stop them where they are; the pids of those who hang now."""
    pids = {name: until(lambda name=name: agent.pid(name), f"{name} runs") for name in names}
    for pid in pids.values():
        os.kill(pid, signal.SIGSTOP)
    return pids


def replaced(agent: AgentProcess, pids: dict[str, int]) -> None:
    for name, pid in pids.items():
        until(lambda name=name, pid=pid: agent.pid(name) not in (0, pid), f"{name} is another process", 60)


def told(live: LiveController) -> dict[str, str]:
    """What was said of each that hung."""
    with live.operator() as client:
        return {
            each.subject: each.detail
            for each in client.host("tank-a").reports
            if each.happened is Happened.INSTANCE_HUNG
        }


# invariant: S1
def test_who_hangs_is_missed_and_the_stream_goes_on(live: LiveController, agent: AgentProcess, tmp_path: Path) -> None:
    goes_on(agent)
    member = stopped(agent, "line.pair.b@1.0.0")
    replaced(agent, member)  # until then, the merge waited at a tenth frame for its word, and so did all behind it
    goes_on(agent)
    others = stopped(agent, "line.source", "line.pair.merge", "line.sink")
    replaced(agent, others)
    goes_on(agent)
    hung = {*member, *others}
    until(lambda: told(live).keys() >= hung, "the controller hears of all", 30)
    assert "did not move for 3 s" in told(live)["line.pair.b@1.0.0"]
    with live.operator() as client:
        observed = client.host("tank-a").observed
        assert observed is not None
        assert {row.workload for row in observed.instances if row.hangs} >= hung

    found = (
        agent.places.data("line.sink") / "out"
    ).read_bytes()  # the sink asserts that no number is missing or comes twice
    numbers = [int.from_bytes(found[at : at + 8], "big") for at in range(0, len(found) // 8 * 8, 8)]
    assert numbers == [number for number in range(numbers[-1] + 1) if number % 10]

    with live.operator() as client:
        publish_member(client, tmp_path, 1)

        def ended() -> str:
            (entry,) = client.rollouts("home.line.pair.2")
            return entry.reason if entry.phase == "failed" else ""

        reason = until(ended, "the release that hangs is undone", 60)
        assert "did not move for 3 s" in reason, "by its own fault, and not for want of time"
    goes_on(agent)


def test_who_does_not_move_is_killed_with_all_that_it_has_begun(bench: Bench) -> None:
    """It is stopped, so it would hear no SIGTERM; its end is a death like any other, and nobody has told it to stop."""

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("a", f"import os\nos.fork()\n{FOREVER}"))
            await waiting.until(driver.pids, "it runs")
            pid = driver.pids()["a"]
            await waiting.until(lambda: os.getpgid(pid) == pid, "it leads a group of its own")
            os.killpg(pid, signal.SIGSTOP)
            driver.kill("nobody")
            driver.kill("a")
            assert not driver.seen()["a"].leaving
            await waiting.until(lambda: not driver.seen()["a"].running, "it has ended")
            assert (driver.seen()["a"].exit_code, driver.seen()["a"].signal) == (None, signal.SIGKILL)
            driver.kill("a")
            with pytest.raises(ProcessLookupError):
                os.killpg(pid, 0)

    go(work())
