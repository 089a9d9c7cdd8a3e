"""A service on one of two real hosts: the one that is lost is replaced, and what was declared says who goes on when it is back."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from halftrack_controller import galaxy
from halftrack_model import canonical
from halftrack_model.disconnect import Disconnect, Reconcile
from halftrack_model.graph import Role, StreamGraph, Vertex
from halftrack_model.ids import digest_of
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.seals import RELEASE
from tests.agent_shell.test_agent import CGROUP, AgentProcess, until
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host

PROGRAM = b"import signal\nsignal.pause()\n"
NAME = "clock.clock"
HOSTS = ("tank-a", "tank-b")
LOST_AFTER_MS = 5_000


class Hosts:
    """A controller and two agents, each with folders of its own."""

    def __init__(self, folder: Path, reconcile: Reconcile) -> None:
        galaxy.init(folder / "galaxy", "milkyway", ["127.0.0.1"])
        self.live = LiveController(folder / "galaxy", heartbeat_ms=500)
        self.agents = {name: AgentProcess(folder / name, f"{CGROUP}-{name}") for name in HOSTS}
        rule = Disconnect(LOST_AFTER_MS, 0, replace=True, reconcile=reconcile)
        vertex = Vertex("clock", Role.SERVICE, "clock", HOSTS, {}, 0, 0, instances=1, disconnect=rule)
        command = (sys.executable, "-I", "-S", "{artifact}")
        artifact = Artifact(digest_of(PROGRAM), len(PROGRAM))
        made = Release("clock", "1.0.0", artifact, "", {}, StateSchemas("", ()), SwapStrategy(), command=command)
        with self.live.operator() as client:
            (folder / "clock.py").write_bytes(PROGRAM)
            client.put_artifact(folder / "clock.py")
            client.apply([ENVIRONMENT, *map(host, HOSTS), StreamGraph("clock", "home", (vertex,), ())])
            for name, agent in self.agents.items():
                agent.folder.mkdir()
                done = agent.command("enrol", "--token", client.create_token(name, 600).token)
                assert done.returncode == 0, done.stderr
                agent.start()
            # A host that has not come yet when another has is as lost as one that has gone.
            until(lambda: all(entry.connected for entry in client.hosts("")), "both are here", 40.0)
            client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))

    def running(self) -> tuple[str, ...]:
        """Where it runs, by the processes."""
        return tuple(name for name, agent in self.agents.items() if agent.pid(NAME))

    def close(self) -> None:
        for agent in self.agents.values():
            agent.clear()
        self.live.stop()


@pytest.fixture
def hosts(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hosts]:
    made = Hosts(tmp_path, request.param)
    try:
        yield made
    finally:
        made.close()


# invariant: O1 R3
@pytest.mark.parametrize("hosts", [Reconcile.KEEP_ORIGINAL], indirect=True)
def test_a_lost_host_is_replaced_and_goes_on_when_it_is_back(hosts: Hosts) -> None:
    """Lost is not dead: its instance runs on, and nobody can be told so. When it is back, both are seen, and one stops."""
    until(lambda: hosts.running() == ("tank-a",), "it runs on the first host, and there only")
    original = hosts.agents["tank-a"].pid(NAME)
    hosts.agents["tank-a"].end(signal.SIGKILL)
    until(lambda: hosts.running() == HOSTS, "another host runs it once the first is lost", 40.0)
    hosts.agents["tank-a"].start()
    until(lambda: hosts.running() == ("tank-a",), "the replacement is idle again", 40.0)
    assert hosts.agents["tank-a"].pid(NAME) == original, "and the original was not touched"


# invariant: R3
@pytest.mark.parametrize("hosts", [Reconcile.KEEP_REPLACEMENT], indirect=True)
def test_a_lost_host_is_told_that_another_has_taken_its_place(hosts: Hosts) -> None:
    """Its plan has nothing but that service, and tells it to stop all the same."""
    until(lambda: hosts.running() == ("tank-a",), "it runs on the first host")
    hosts.agents["tank-a"].end(signal.SIGKILL)
    until(lambda: hosts.running() == HOSTS, "another host runs it once the first is lost", 40.0)
    hosts.agents["tank-a"].start()
    until(lambda: hosts.running() == ("tank-b",), "the original has heard of it, and stops", 40.0)
