"""The whole agent as a process, with a real controller: enrolled, obeying, killed, back, cut off. R2 above all."""

import argparse
import asyncio
import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from halftrack_agent import daemon, files, identity
from halftrack_agent import enrol as enrolment
from halftrack_agent.places import Places
from halftrack_controller import ca, galaxy
from halftrack_model import canonical
from halftrack_model.errors import HostFault, Refused
from halftrack_model.ids import digest_of
from halftrack_model.observed import Health
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.report import Happened
from halftrack_model.seals import RELEASE
from halftrack_proto.tokens import token_of
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, graph, host

SOURCE = b"""
class Source:
    def __init__(self, params): pass
    def frames(self, next_seq):
        while True:
            yield next_seq.to_bytes(8, "big") * 100
            next_seq += 1
    def counters(self):
        return {"refused": 3}
"""
SINK = b"""
import os
class Sink:
    def __init__(self, params, data_dir):
        self.file = open(os.path.join(data_dir, "out"), "a+b")
        self.file.seek(max(0, self.file.seek(0, 2) // 8 * 8 - 8))
        last = self.file.read(8)
        self.next = int.from_bytes(last, "big") + 1 if last else 0
    def next_seq(self): return self.next
    def consume(self, frame):
        assert frame.seq == self.next, (frame.seq, self.next)
        self.next += frame.gap or 1
        if not frame.gap:
            self.file.write(bytes(frame.payload)[:8])
    def cuts(self, cuts): pass
    def flush(self): self.file.flush()
"""


CGROUP = f"halftrack-test/agent-{os.getpid()}"  # of this run: others may share the machine


def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)
    return found


class AgentProcess:
    """`halftrack-agent` on folders of its own."""

    def __init__(self, folder: Path, group: str = CGROUP) -> None:
        self.places = Places(folder / "state", folder / "run")
        self.folder, self.group = folder, group
        self.options = ("--listen", "127.0.0.1", "--agent-port", "0", "--bridge-port", "0", "--cgroup", group)
        self.process: subprocess.Popen[bytes] | None = None

    def arguments(self, *rest: str) -> list[str]:
        places = ["--state", str(self.places.state), "--run", str(self.places.run)]
        return [sys.executable, "-m", "halftrack_agent.daemon", *rest, *places]

    def command(self, *rest: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.arguments(*rest), capture_output=True, text=True, check=False)

    def start(self, *more: str) -> None:
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(self.arguments("run", *more, *self.options), stderr=log)

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def pid(self, workload: str) -> int:
        """The workload's process, 0 while there is none."""
        folder = self.places.instances / workload
        try:
            who = json.loads((folder / "instance.json").read_bytes())
        except (OSError, ValueError):
            return 0
        return 0 if (folder / "exit.json").exists() else int(who["pid"])

    def recorded(self) -> int:
        try:
            return (self.places.data("line.sink") / "out").stat().st_size // 8
        except OSError:
            return 0

    def clear(self) -> None:
        """Leave nothing, whatever a test has left."""
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)
        for record in self.places.instances.glob("*/instance.json"):
            who = json.loads(record.read_bytes())
            for pid in (who["pid"], who["shim_pid"]):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        for root in Path("/sys/fs/cgroup").glob(f"*/{self.group}"):
            for group in [*(group for group in root.iterdir() if group.is_dir()), root]:
                until(lambda group=group: _gone(group), f"{group} is empty")
            _gone(root.parent)


def _gone(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveController]:
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    controller = LiveController(tmp_path / "galaxy", heartbeat_ms=200)
    try:
        with controller.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a"), host("tank-b"), graph("tank-a")])
            for product, entry, program in (("counter", "source:Source", SOURCE), ("keeper", "sink:Sink", SINK)):
                publish(client, tmp_path, product, entry, program)
        yield controller
    finally:
        controller.stop()


def publish(client: Any, folder: Path, product: str, entry: str, program: bytes) -> None:
    path = folder / f"{product}.py"
    path.write_bytes(program)
    client.put_artifact(path)
    artifact = Artifact(digest_of(program), len(program))
    made = Release(
        product, "1.0.0", artifact, entry, {"rate_bytes_per_s": 400_000}, StateSchemas("", ()), SwapStrategy()
    )
    client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))


@pytest.fixture
def agent(tmp_path: Path, live: LiveController) -> Iterator[AgentProcess]:
    agent = AgentProcess(tmp_path)
    with live.operator() as client:
        token = client.create_token("tank-a", 600).token
    (tmp_path / "token").write_text(token)
    done = agent.command("enrol", "--token-file", str(tmp_path / "token"))
    assert done.returncode == 0, done.stderr
    yield agent
    agent.clear()


def reports(live: LiveController) -> list[Happened]:
    with live.operator() as client:
        return [report.happened for report in client.host("tank-a").reports]


# invariant: R2 P3
def test_from_enrolment_to_a_stream_that_outlives_its_agent(live: LiveController, agent: AgentProcess) -> None:
    agent.start()
    until(lambda: agent.recorded() > 100, "frames arrive in the sink")
    before = {name: agent.pid(name) for name in ("line.source", "line.sink")}
    second = agent.command("run")
    assert second.returncode == 1
    assert "another halftrack-agent (pid" in second.stderr

    agent.end(signal.SIGKILL)
    recorded = agent.recorded()
    until(lambda: agent.recorded() > recorded + 100, "the stream goes on without an agent")
    agent.start()
    until(lambda: "running (pid" in agent.command("status").stdout, "the agent is back")
    until(lambda: "adopted: line.sink, line.source" in (agent.folder / "agent.log").read_text(), "it has adopted")
    os.kill(before["line.sink"], signal.SIGKILL)
    sink = until(lambda: (pid := agent.pid("line.sink")) != before["line.sink"] and pid, "the sink is started again")
    recorded = agent.recorded()
    until(lambda: agent.recorded() > recorded + 100, "it goes on where it was")
    assert agent.pid("line.source") == before["line.source"]
    until(
        lambda: {Happened.INSTANCE_EXITED, Happened.FRAMES_REFUSED} <= set(reports(live)), "the controller hears of it"
    )

    assert agent.end(signal.SIGTERM) == 0
    made = [path for root in (agent.places.state, agent.places.run) for path in (root, *root.rglob("*"))]
    assert [path for path in made if path.stat().st_mode & 0o077] == [], "nothing of it is for other users"
    assert (agent.pid("line.source"), agent.pid("line.sink")) == (before["line.source"], sink)
    assert reports(live).count(Happened.PLAN_ACCEPTED) >= 1


# invariant: R2 R3
def test_a_controller_that_vanishes_and_returns_changes_nothing(live: LiveController, agent: AgentProcess) -> None:
    agent.start()
    until(lambda: agent.recorded() > 100, "frames arrive in the sink")

    def healthy() -> bool:
        with live.operator() as client:
            return client.host("tank-a").entry.health is Health.HEALTHY

    until(healthy, "the controller sees a healthy host")
    before = {name: agent.pid(name) for name in ("line.source", "line.sink")}
    agent.end(signal.SIGKILL)
    member = identity.load(agent.places.identity).member
    away = canonical.encode(
        type(member)(**{f: getattr(member, f) for f in member.__slots__} | {"endpoint": "127.0.0.1:1"})
    )
    files.replace(agent.places.identity / "trust.json", away)  # nobody answers there
    agent.start()
    until(lambda: "no session" in (agent.folder / "agent.log").read_text(), "it has tried")
    os.kill(before["line.sink"], signal.SIGKILL)
    until(lambda: agent.pid("line.sink") not in (0, before["line.sink"]), "it acts without a controller")
    assert agent.pid("line.source") == before["line.source"]


def test_enrolment_can_be_repeated_after_any_interruption(
    tmp_path: Path, live: LiveController, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at each of the files in turn: the same token, once more, goes on; and the key stays the one first made."""
    with live.operator() as client:
        token = token_of(client.create_token("tank-b", 600).token)
    keys = set()
    for name in ("curve.key", "cert.pem", "ca.pem", "trust.json"):

        def full(path: Path, data: bytes, name: str = name, real: Any = files.replace) -> None:
            if path.name == name:
                raise HostFault("disk-full", "no room")
            real(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(files, "replace", full)
            with pytest.raises(HostFault, match="no room"):
                asyncio.run(enrolment.enrol(tmp_path / "id", token))
        assert not identity.enrolled(tmp_path / "id")
        keys.add((tmp_path / "id/key.pem").read_bytes())
    member = asyncio.run(enrolment.enrol(tmp_path / "id", token))
    assert (member.galaxy, member.host) == ("milkyway", "tank-b")
    assert keys == {(tmp_path / "id/key.pem").read_bytes()}
    assert asyncio.run(enrolment.enrol(tmp_path / "id", token)) == member
    other = type(token)(token.galaxy, token.endpoint, token.ca_der, "tank-a", token.secret)
    with pytest.raises(Refused, match="this host is tank-b"):
        asyncio.run(enrolment.enrol(tmp_path / "id", other))


# invariant: D1
@pytest.mark.parametrize("name", ["key.pem", "trust.json"])
def test_what_an_enrolled_host_is_has_a_copy_before_its_agent_has_ever_run(agent: AgentProcess, name: str) -> None:
    path = agent.places.identity / name
    good = path.read_bytes()
    path.write_bytes(good[:40] + bytes([good[40] ^ 8]) + good[41:])
    agent.start()
    until(lambda: agent.recorded() > 0, "it runs what its galaxy says")
    assert path.read_bytes() == good
    assert agent.end() == 0


def test_what_enrolment_says_when_it_cannot(tmp_path: Path, live: LiveController) -> None:
    agent = AgentProcess(tmp_path)
    assert "not an enrolment token" in agent.command("enrol", "--token", "hello").stderr
    assert "belongs to no galaxy yet" in agent.command("run").stderr
    with live.operator() as client:
        token = client.create_token("tank-b", 600).token
    wrong = token[:-40] + ("A" * 10) + token[-30:]
    assert agent.command("enrol", "--token", wrong).returncode == 1
    assert not identity.enrolled(agent.places.identity)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    told = agent.command("enrol", "--token-file", str(tmp_path / "binary"))
    assert (told.returncode, "holds no token" in told.stderr) == (1, True)


def test_a_host_that_has_lost_its_place_enrols_again_with_a_fresh_token(tmp_path: Path, live: LiveController) -> None:
    """Somebody has used its name for another machine, and was wrong: what the controller tells it to do must work."""
    with live.operator() as client:
        member = asyncio.run(enrolment.enrol(tmp_path / "one", token_of(client.create_token("tank-b", 600).token)))
        asyncio.run(enrolment.enrol(tmp_path / "two", token_of(client.create_token("tank-b", 600).token)))
        assert _speaks(live, tmp_path / "two")
        assert not _speaks(live, tmp_path / "one")
        again = asyncio.run(enrolment.enrol(tmp_path / "one", token_of(client.create_token("tank-b", 600).token)))
    assert again == member
    assert _speaks(live, tmp_path / "one")
    assert not _speaks(live, tmp_path / "two")


def _speaks(live: LiveController, folder: Path) -> bool:
    """Does the controller take this identity for tank-b?"""
    held = live.wait(live.running.store.do(lambda store: store.key_digest("tank-b")))
    return bool(held == ca.key_digest(identity.own_key(folder / "key.pem").public_key()))


def test_an_enrolled_host_without_a_link_stays_what_it_is(
    tmp_path: Path, live: LiveController, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live.operator() as client:
        token = token_of(client.create_token("tank-b", 600).token)
    member = asyncio.run(enrolment.enrol(tmp_path / "id", token))
    monkeypatch.setattr(enrolment, "TIMEOUT_S", 0.3)
    cut_off = dataclasses.replace(token, endpoint="127.0.0.1:1")
    assert asyncio.run(enrolment.enrol(tmp_path / "id", cut_off)) == member
    with pytest.raises(HostFault, match="no answer"):
        asyncio.run(enrolment.enrol(tmp_path / "other", cut_off))


@pytest.mark.parametrize("name", ["trust.json", "key.pem", "curve.key"])
def test_a_damaged_identity_is_told_and_mended_as_it_says(tmp_path: Path, live: LiveController, name: str) -> None:
    with live.operator() as client:
        token = token_of(client.create_token("tank-b", 600).token)
        member = asyncio.run(enrolment.enrol(tmp_path / "id", token))
        (tmp_path / "id" / name).write_text("not what it was")
        with pytest.raises(HostFault, match="enrol"):
            identity.load(tmp_path / "id")
        if name != "trust.json":  # a key is never replaced unasked
            with pytest.raises(HostFault, match="move it away and enrol again"):
                asyncio.run(enrolment.enrol(tmp_path / "id", token))
            (tmp_path / "id" / name).rename(tmp_path / name)
        fresh = token_of(client.create_token("tank-b", 600).token)
        assert asyncio.run(enrolment.enrol(tmp_path / "id", fresh)).plan_keys == member.plan_keys
    identity.load(tmp_path / "id")


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("--agent-port", "65536"), 2, "is not a port"),
        (("--bridge-port", "-5"), 2, "is not a port"),
        (("--state", "/dev/null"), 1, "/dev/null: File exists; check the disk and the permissions"),
        (("--state", "/proc/nothing"), 1, "/proc/nothing: No such file or directory; check the disk"),
    ],
)
def test_what_cannot_be_is_told_without_a_traceback(
    tmp_path: Path, words: tuple[str, str], status: int, told: str
) -> None:
    agent = AgentProcess(tmp_path)
    done = subprocess.run([*agent.arguments("run"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_somebody_elses_state_is_not_taken_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may look everywhere, so the refusal is the system call's stand-in."""
    monkeypatch.setattr(Path, "stat", _denied)
    with pytest.raises(HostFault, match="Permission denied; run this as the agent's user"):
        identity.enrolled(tmp_path)
    with pytest.raises(HostFault, match="Permission denied"):
        galaxy.load(tmp_path)
    with pytest.raises(HostFault, match="Permission denied"):
        galaxy.load_operator(tmp_path)


def _denied(path: Path, **_: object) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def test_every_option_says_what_it_is_for() -> None:
    parsers = [daemon._parser()]
    for parser in parsers:
        assert "Example:" in str(parser.epilog)
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            else:
                assert action.help, f"{parser.prog} {'/'.join(action.option_strings)}"
    assert len(parsers) == 5
