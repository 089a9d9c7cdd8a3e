"""Two real agents of one site and a real controller: its link carries an artifact once, and less often than that when there is none."""

import random
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from halftrack_agent import identity
from halftrack_controller import galaxy, render
from halftrack_model import canonical
from halftrack_model.graph import Role, StreamGraph, Vertex
from halftrack_model.ids import digest_of
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.seals import RELEASE
from tests.agent_shell.test_agent import CGROUP, AgentProcess, until
from tests.agent_shell.test_thin_link import Served
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host
from tests.dataplane.bad_link import BadLink

PROGRAM = b"import signal\nsignal.pause()\n# " + random.Random(9).randbytes(150_000).hex().encode()
DIGEST = digest_of(PROGRAM)
NAME = "clock.clock"
HOSTS = ("tank-a", "tank-b")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Tank:
    """A controller and two agents that run the same service."""

    def __init__(self, folder: Path) -> None:
        galaxy.init(folder / "galaxy", "milkyway", ["127.0.0.1"])
        self.live = LiveController(folder / "galaxy", heartbeat_ms=200)
        self.agents = {name: AgentProcess(folder / name, f"{CGROUP}-{name}") for name in HOSTS}
        ports = {name: free_port() for name in HOSTS}
        declared = [replace(host(name), agent=f"127.0.0.1:{ports[name]}", site="ridge") for name in HOSTS]
        vertex = Vertex("clock", Role.SERVICE, "clock", HOSTS, {}, 0, 0, instances=2)
        command = (sys.executable, "-I", "-S", "{artifact}")
        made = Release(
            "clock",
            "1.0.0",
            Artifact(DIGEST, len(PROGRAM)),
            "",
            {},
            StateSchemas("", ()),
            SwapStrategy(),
            command=command,
        )
        with self.live.operator() as client:
            (folder / "clock.py").write_bytes(PROGRAM)
            client.put_artifact(folder / "clock.py")
            client.apply([ENVIRONMENT, *declared, StreamGraph("clock", "home", (vertex,), ())])
            for name, agent in self.agents.items():
                agent.folder.mkdir()
                listen, address, port, _, *others = agent.options
                agent.options = (listen, address, port, str(ports[name]), *others)
                done = agent.command("enrol", "--token", client.create_token(name, 600).token)
                assert done.returncode == 0, done.stderr
            self.way = self._link_of("tank-a")
            client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))

    def _link_of(self, name: str) -> BadLink:
        """That host reaches the controller through it."""
        way, trust = BadLink(self.live.session), self.agents[name].places.identity / "trust.json"
        member = identity.membership(trust.parent)
        trust.write_bytes(canonical.encode(replace(member, endpoint=way.address)))
        return way

    def close(self) -> None:
        for agent in self.agents.values():
            agent.clear()
        self.way.close()
        self.live.stop()


@pytest.fixture
def tank(tmp_path: Path) -> Iterator[Tank]:
    made = Tank(tmp_path)
    try:
        yield made
    finally:
        made.close()


def cut_off(tank: Tank) -> None:
    """One host's link swallows everything, and the two agents reach each other as before: that is told, and nothing comes of it."""
    pids = {name: agent.pid(NAME) for name, agent in tank.agents.items()}
    with tank.live.operator() as client:
        until(lambda: all(e.connected and not e.watched for e in client.hosts("")), "both are here")
        revisions = {each.name: each.revision for each in client.hosts("")}
        tank.way.swallows = frozenset({"to", "from"})
        until(lambda: client.host("tank-a").entry.sighted_by, "its sibling says that it sees it")
        entry = client.host("tank-a").entry
        assert (entry.connected, entry.sighted_by, entry.watched) == (False, "tank-b", True)
        assert render.link_text(entry).startswith("cut off from here; seen by tank-b ")
        tank.way.swallows = frozenset()
        until(lambda: client.host("tank-a").entry.connected, "it is back")
        until(lambda: not client.host("tank-a").entry.watched, "nobody looks for it any more")
        assert client.host("tank-a").entry.sighted_by == ""
        assert {each.name: each.revision for each in client.hosts("")} == revisions
    assert pids == {name: agent.pid(NAME) for name, agent in tank.agents.items()}


# invariant: P1 D1 O1
def test_the_controller_is_asked_once_and_not_needed_for_the_second_host_and_siblings_see_who_is_cut_off(
    tank: Tank, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served([])
    served.watch(monkeypatch)
    for agent in tank.agents.values():
        agent.start()
    until(lambda: all(agent.pid(NAME) for agent in tank.agents.values()), "it runs on both hosts")
    assert [offset for _, offset in served.wishes] == [0], "the link carried it once"
    logs = {name: (agent.folder / "agent.log").read_text() for name, agent in tank.agents.items()}
    (came,) = [line for log in logs.values() for line in log.splitlines() if f"{DIGEST} came from tank-" in line]
    assert came
    cut_off(tank)

    second = tank.agents["tank-b"]
    pid = second.pid(NAME)
    second.end()
    tank.live.stop()
    place = second.places.artifacts / DIGEST.removeprefix("sha256:")
    place.chmod(0o700)
    place.write_bytes(b"what a bad disk made of it")
    second.start()
    until(lambda: place.exists() and place.read_bytes() == PROGRAM, "with no controller, it comes from the other host")
    assert second.pid(NAME) == pid, "and what ran, runs on"
