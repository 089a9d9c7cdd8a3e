"""Releases that declare a verdict on themselves, under a real agent: what fails is taken back with its diff, and blue goes on without a gap."""

import os
import signal
import struct
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
from halftrack_model.verdict import Check, FieldTolerance, Verdict
from tests.agent_shell.test_agent import AgentProcess, until
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host

SOURCE = b"""
class Source:
    def __init__(self, params): pass
    def frames(self, next_seq):
        while True:
            yield next_seq.to_bytes(8, "little") * 50
            next_seq += 1
"""
# Each output: the input's number, a mean, and the release's minor version, which no tolerance lets pass and no check is told of.
MEMBER = """
import struct, time
class Mean:
    def __init__(self, params):
        self.mean, self.slow, self.fat = params["mean"] / 1000, params["slow_ms"] / 1000, bytearray(b"x") * (params["fat_mib"] << 20)
    def process(self, frame):
        time.sleep(self.slow)
        return struct.pack("<QdQ", frame.seq, self.mean, %d)
def sane(green):
    mean = struct.unpack("<QdQ", green.payload)[1]
    return None if mean < 6 else f"a mean of {mean}"
"""
SINK = b"""
import os
class Sink:
    def __init__(self, params, data_dir):
        self.file = open(os.path.join(data_dir, "out"), "a+b")
        self.next = self.file.seek(0, 2) // 24
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
NEAR = Verdict(
    check=Check.TOLERANCE,
    fields=(FieldTolerance("number", "<u8"), FieldTolerance("mean", "<f8", absolute="0.01"), FieldTolerance("rest", "<u8", 0, "99")),
    frames=20,
)  # fmt: skip
SANE = Verdict(check=Check.INVARIANT, entry="member:sane", frames=20)


def put(client: Any, folder: Path, product: str, entry: str, program: bytes, **fields: Any) -> None:
    path = folder / f"{product}.py"
    path.write_bytes(program)
    client.put_artifact(path)
    rest = {"version": "1.0.0", "params": {"rate_bytes_per_s": 20_000}, "strategy": SwapStrategy(), **fields}
    made = Release(
        product, artifact=Artifact(digest_of(program), len(program)), entry=entry, state=StateSchemas("", ()), **rest
    )
    client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))


class Line:
    """The stream, and its releases."""

    def __init__(self, live: LiveController, agent: AgentProcess, folder: Path) -> None:
        self.live, self.agent, self.folder = live, agent, folder
        self.number = 0

    def publish(self, verdict: Verdict | None = None, mean: int = 5_000, slow_ms: int = 0, fat_mib: int = 0) -> str:
        """The next release; returns its rollout."""
        strategy = SwapStrategy(shadow_ms=300, caught_up_ms=100, drain_ms=200, deadline_ms=30_000, verdict=verdict)
        program = (MEMBER % self.number).encode()
        params = {"mean": mean, "slow_ms": slow_ms, "fat_mib": fat_mib}
        with self.live.operator() as client:
            version = f"1.{self.number}.0"
            put(
                client, self.folder, "member", "member:Mean", program, version=version, params=params, strategy=strategy
            )
        self.number += 1
        return f"home.line.pair.{self.number}"

    def ended(self, rollout: str) -> tuple[str, str]:
        """How it ended, and why."""

        def look() -> tuple[str, str] | None:
            with self.live.operator() as client:
                (entry,) = client.rollouts(rollout)
            return (entry.phase, entry.reason) if entry.phase in ("succeeded", "failed", "aborted") else None

        found: tuple[str, str] = until(look, f"{rollout} has ended", 60)
        return found

    def outputs(self) -> list[tuple[int, float, int]]:
        """What the sink has stored."""
        try:
            data = (self.agent.places.data("line.sink") / "out").read_bytes()
        except OSError:
            return []
        return [struct.unpack_from("<QdQ", data, at) for at in range(0, len(data) // 24 * 24, 24)]

    def goes_on(self) -> None:
        """Whatever was passed is every number once, in order."""
        had = len(self.outputs())
        until(lambda: len(self.outputs()) > had + 20, "the stream goes on", 20)
        assert [row[0] for row in self.outputs()] == list(range(len(self.outputs())))


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    live, agent = LiveController(tmp_path / "galaxy", heartbeat_ms=200), AgentProcess(tmp_path)
    made = Line(live, agent, tmp_path)
    try:
        with live.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a"), GRAPH])
            put(client, tmp_path, "counter", "source:Source", SOURCE)
            put(client, tmp_path, "keeper", "sink:Sink", SINK)
            (tmp_path / "token").write_text(client.create_token("tank-a", 600).token)
        first = made.publish()
        done = agent.command("enrol", "--token-file", str(tmp_path / "token"))
        assert done.returncode == 0, done.stderr
        agent.start()
        assert made.ended(first)[0] == "succeeded"
        yield made
    finally:
        agent.clear()
        live.stop()


# invariant: S1
def test_what_a_verdict_does_not_let_pass_never_counts_and_what_it_does_is_swapped(line: Line) -> None:
    until(lambda: len(line.outputs()) > 20, "outputs arrive in the sink", 30)
    bad = line.ended(line.publish(NEAR, mean=5_020))
    assert bad[0] == "failed"
    assert "outputs of pair 1.1.0 on tank-a differ from 1.0.0's by more than they may" in bad[1]
    assert "mean: 5.0 → 5.02" in bad[1].splitlines()[1]
    line.goes_on()
    mad = line.ended(line.publish(SANE, mean=7_000))
    assert mad[0] == "failed"
    assert "break its invariant" in mad[1]
    assert mad[1].splitlines()[1].endswith("a mean of 7.0")
    line.goes_on()
    assert {row[2] for row in line.outputs()} == {0}, "nothing of either green has passed"
    with line.live.operator() as client:
        reports = [r for r in client.host("tank-a").reports if r.happened is Happened.SWAP_UNDONE]
    assert [r.detail for r in reports] == [bad[1], mad[1]]
    assert line.ended(line.publish(NEAR, mean=5_005)) == ("succeeded", "both seats run 1.3.0")
    until(lambda: line.outputs()[-1][1:] == (5.005, 3), "green's outputs count")
    line.goes_on()


# invariant: S1
def test_a_green_that_is_slow_or_fat_and_one_that_cannot_be_judged_are_taken_back(line: Line) -> None:
    slow = line.ended(line.publish(Verdict(frames=20, latency_p99_percent=200), slow_ms=15))
    assert slow[0] == "failed"
    assert "99 of 100 outputs of pair 1.1.0 on tank-a come within" in slow[1]
    line.goes_on()
    fat = line.ended(line.publish(Verdict(memory_percent=200, cpu_percent=1_000), fat_mib=128))
    assert fat[0] == "failed"
    assert "of memory, 1.0.0" in fat[1]
    rollout = line.publish(Verdict(check=Check.EQUAL, frames=100_000))
    killed = 0
    while killed < 4:
        pid = until(lambda: line.agent.pid("line.pair.judge@1.3.0"), "the judge runs")
        os.kill(pid, signal.SIGKILL)
        killed += 1
        until(lambda pid=pid: line.agent.pid("line.pair.judge@1.3.0") != pid, "its death is seen")
    unjudged = line.ended(rollout)
    assert unjudged[0] == "failed"
    assert "pair 1.3.0 could not be judged: its judge has ended 4 times, at last by " in unjudged[1]
    line.goes_on()
    assert {row[2] for row in line.outputs()} == {0}
