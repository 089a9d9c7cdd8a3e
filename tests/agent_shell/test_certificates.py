"""A real agent whose certificate is over, on hosts whose clocks are years wrong, comes back by itself; its workloads notice nothing."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from halftrack_agent import core, identity
from halftrack_agent.journal import Journal
from halftrack_agent.notes import clock_of
from halftrack_controller import ca, galaxy
from halftrack_controller.service import wall_ms
from halftrack_model.observed import Health
from tests.agent_shell.test_agent import SINK, SOURCE, AgentProcess, publish, until
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, graph, host
from tests.fleet import installing

LIFE_S = 2
WORKLOADS = ("line.source", "line.sink")
SIXTY_YEARS_S = 60 * 365 * 86_400


class Timed(AgentProcess):
    """An agent on a host whose wall clock may be wrong."""

    def start_at(self, offset_s: int) -> None:
        """Start it, with a wall clock that is so far ahead of the real one."""
        library = installing.clock(self.folder / "clock.so")
        words = {"LD_PRELOAD": str(library), "FLEET_CLOCK_S": str(offset_s)}
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(self.arguments("run", *self.options), stderr=log, env=os.environ | words)

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def pids(self) -> list[int]:
        return [self.pid(name) for name in WORKLOADS]

    def ends_ms(self) -> int:
        return ca.ends_ms(x509.load_pem_x509_certificate((self.places.identity / "cert.pem").read_bytes()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A galaxy whose hosts get certificates for two seconds."""
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    settings = tmp_path / "galaxy/controller/galaxy.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"host_certificate_s": LIFE_S}))
    return tmp_path / "galaxy"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Timed]:
    agent = Timed(tmp_path)
    yield agent
    agent.clear()


def begun(live: LiveController, agent: Timed) -> None:
    """Enrolled, and with a stream that runs."""
    with live.operator() as client:
        client.apply([ENVIRONMENT, host("tank-a"), host("tank-b"), graph("tank-a")])
        for product, entry, program in (("counter", "source:Source", SOURCE), ("keeper", "sink:Sink", SINK)):
            publish(client, agent.folder, product, entry, program)
        (agent.folder / "token").write_text(client.create_token("tank-a", 600).token)
    done = agent.command("enrol", "--token-file", str(agent.folder / "token"))
    assert done.returncode == 0, done.stderr
    agent.start()
    until(lambda: agent.recorded() > 100, "frames arrive in the sink")


def problems(live: LiveController) -> str:
    """What the operator is told of the host while it is connected."""
    with live.operator() as client:
        entry = client.host("tank-a").entry
    return "; ".join(entry.problems) if entry.connected and entry.health is Health.HEALTHY else "?"


def test_what_is_over_blocks_nothing_whatever_the_clock_says(
    folder: Path, agent: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renewed early while there is a link; over while there is none; a cold boot without one; back with a clock far ahead, and one of 1970."""
    # invariant: C1 C2 R2
    live = LiveController(folder, heartbeat_ms=200)
    try:
        begun(live, agent)
        until(lambda: "the certificate is renewed" in agent.log.rpartition("in session")[2], "it renews in its session")
    finally:
        live.stop()
    before = agent.pids()
    agent.end(signal.SIGKILL)
    for pid in before:  # a reboot, as far as processes can see it
        os.kill(pid, signal.SIGKILL)
    until(lambda: wall_ms() > agent.ends_ms(), "the certificate is over")
    over = agent.ends_ms()

    agent.start_at(SIXTY_YEARS_S)
    until(lambda: all(agent.pids()) and not set(agent.pids()) & set(before), "the plan is obeyed at a cold boot")
    recorded = agent.recorded()
    until(lambda: agent.recorded() > recorded + 100, "the stream goes on")
    running = agent.pids()
    assert agent.ends_ms() == over
    live = LiveController(folder, heartbeat_ms=200, ports=live.running.ports)
    try:
        until(
            lambda: "years ahead of the controller's" in problems(live), "it rejoins, and says that its clock is wrong"
        )
        assert agent.ends_ms() > over
        agent.end(signal.SIGKILL)
        agent.start_at(86_400 - wall_ms() // 1000)
        until(lambda: "years behind the controller's" in problems(live), "and with one that begins at the beginning")
        floor = clock_of(agent.places.clock).read()
        assert floor is not None
        assert abs(floor.wall_ms - wall_ms()) < 600_000, "what a wrong clock says is no reason to believe it"
    finally:
        live.stop()
    assert agent.pids() == running
    agent.end(signal.SIGKILL)
    plan_without_tls(folder, agent, monkeypatch)


def plan_without_tls(folder: Path, agent: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are sealed, and that does not end: what an agent starts with when every certificate has, the CA's too, or is lost."""
    authority = galaxy.load(folder / "controller").authority
    monkeypatch.setattr(ca, "NEVER", datetime(2021, 1, 1, tzinfo=UTC))
    (agent.places.identity / "ca.pem").write_bytes(ca.pem(ca.new_authority("milkyway", authority.key).certificate))
    (agent.places.identity / "cert.pem").unlink()
    journal = Journal(agent.places.state)
    try:
        trust = identity.load(agent.places.identity).trust()
        assert core.recovered(trust, journal.entries, 0, 0, journal.floor).plan is not None
    finally:
        journal.close()
