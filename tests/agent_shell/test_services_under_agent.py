"""Services under a real agent and a real controller: served, probed, upgraded, cut off, booted anew without a link."""

import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from halftrack_agent.places import Places
from halftrack_controller import galaxy
from halftrack_model import canonical
from halftrack_model.disconnect import ColdBoot, Disconnect
from halftrack_model.graph import Role, StreamGraph, Vertex
from halftrack_model.ids import digest_of
from halftrack_model.observed import Health, Observed
from halftrack_model.probes import Checks, Probe, ProbeKind
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.report import Happened
from halftrack_model.seals import RELEASE
from tests.agent_shell.test_agent import AgentProcess, until
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host, returned

PAGE = (Path(__file__).parents[2] / "examples/services/page.py").read_bytes()
NAME = "page.page"
PROBE = Probe("http", ProbeKind.HTTP, port="{params.port}", path="/healthz", period_ms=500, failures=2)
STOP_AFTER_MS = 5_000


def release(version: str, greeting: str, path: str = "/healthz", archive: bytes = b"") -> Release:
    """Of the page itself, or of an archive that holds it."""
    command = ("python3", "{artifact}/app/page.py" if archive else "{artifact}", "{params.port}", greeting)
    checks = Checks((replace(PROBE, path=path),), grace_ms=2_000)
    made = Artifact(digest_of(archive or PAGE), len(archive or PAGE))
    strategy, unpack = SwapStrategy(), bool(archive)
    return Release(
        "page", version, made, "", {}, StateSchemas("", ()), strategy, command=command, health=checks, unpack=unpack
    )


def packed() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        info = tarfile.TarInfo("./app/page.py")
        info.size = len(PAGE)
        archive.addfile(info, io.BytesIO(PAGE))
    return made.getvalue()


def publish(live: LiveController, made: Release) -> None:
    with live.operator() as client:
        client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Site:
    """A controller, an agent, and a page on a port of the host's own network."""

    def __init__(
        self, folder: Path, disconnect: Disconnect | None = None, *, published: bool = True, state: Path | None = None
    ) -> None:
        galaxy.init(folder / "galaxy", "milkyway", ["127.0.0.1"])
        self.live = LiveController(folder / "galaxy", heartbeat_ms=200)
        self.agent = AgentProcess(folder)
        if state is not None:
            self.agent.places = Places(state, folder / "run")
        self.port = free_port()
        vertex = Vertex("page", Role.SERVICE, "page", ("tank-a",), {"port": self.port}, 0, 0, host_network=True)
        graph = StreamGraph("page", "home", (replace(vertex, disconnect=disconnect),), ())
        with self.live.operator() as client:
            (folder / "page.py").write_bytes(PAGE)
            client.put_artifact(folder / "page.py")
            client.apply([ENVIRONMENT, host("tank-a"), graph])
            token = client.create_token("tank-a", 600).token
        if published:
            publish(self.live, release("1.0.0", "hello"))
        done = self.agent.command("enrol", "--token", token)
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        self.agent.clear()
        self.live.stop()

    def page(self) -> str:
        """What the page says; empty while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as answer:
                return str(answer.read().decode().strip())
        except OSError:
            return ""

    def seen(self) -> Observed | None:
        """The host as it last showed itself."""
        try:
            return canonical.decode(Observed, self.agent.places.observed.read_bytes())
        except OSError:
            return None

    def health(self) -> tuple[Health, str]:
        found = self.seen()
        rows = [row for row in found.instances if row.workload == NAME] if found else []
        return (rows[0].health, rows[0].detail) if rows else (Health.UNKNOWN, "")

    def problems(self) -> str:
        found = self.seen()
        return "; ".join(found.problems) if found else ""

    def rollout(self) -> Any:
        with self.live.operator() as client:
            return client.rollouts()[-1]

    def cut(self) -> None:
        """The controller is gone; nobody answers at its port."""
        self.live.stop()


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    made = Site(tmp_path, getattr(request, "param", None))
    try:
        yield made
    finally:
        made.agent.clear()
        made.live.stop()


# invariant: R2
def test_a_page_is_served_upgraded_and_a_release_that_is_ill_goes_back(site: Site, tmp_path: Path) -> None:
    site.agent.start()
    until(lambda: site.page() == "hello", "it serves")
    until(lambda: site.health() == (Health.HEALTHY, ""), "its probe is good")
    until(lambda: site.rollout().phase == "succeeded", "the first release is in force")
    pid = site.agent.pid(NAME)
    site.agent.end(signal.SIGKILL)
    assert site.page() == "hello", "it needs no agent"
    site.agent.start()
    until(lambda: f"adopted: {NAME}" in (site.agent.folder / "agent.log").read_text(), "it is adopted")
    assert site.agent.pid(NAME) == pid

    archive = packed()
    (tmp_path / "page.tar.gz").write_bytes(archive)
    with site.live.operator() as client:
        client.put_artifact(tmp_path / "page.tar.gz")
    publish(site.live, release("1.1.0", "hello again", archive=archive))
    until(lambda: site.page() == "hello again", "the newer release serves, out of its folder")
    until(lambda: site.rollout().phase == "succeeded", "and is in force")
    publish(site.live, release("1.2.0", "ill", "/ill"))
    until(lambda: site.rollout().phase == "failed", "what its probe says fails it", 40.0)
    until(lambda: site.page() == "hello again", "the one before serves again")

    (program,) = site.agent.places.unpacked.glob("*/tree/app/page.py")
    program.chmod(0o600)
    program.write_text("raise SystemExit('never executed')")
    os.kill(site.agent.pid(NAME), signal.SIGKILL)
    until(lambda: site.page() == "hello again", "what was changed is unpacked anew")
    assert program.read_bytes() == PAGE
    log = site.agent.places.logs / f"{NAME}.log"
    assert "never executed" not in log.read_text()


# invariant: C1 R2
@pytest.mark.parametrize("site", [Disconnect(stop_after_ms=STOP_AFTER_MS)], indirect=True)
def test_cut_off_for_too_long_it_stops_and_comes_back_with_the_controller(site: Site, tmp_path: Path) -> None:
    site.agent.start()
    until(lambda: site.page() == "hello", "it serves")
    until(lambda: site.rollout().phase == "succeeded", "the controller knows")
    address, session = site.live.folder, site.live.session
    site.cut()
    until(lambda: site.page() == "", "it stops by itself", 30.0)
    until(lambda: "stopAfter" in site.problems(), "it says so")
    site.agent.end(signal.SIGKILL)
    site.agent.start()
    until(lambda: "running (pid" in site.agent.command("status").stdout, "another agent is there")
    until(lambda: "stopAfter" in site.problems(), "it remembers")
    assert site.page() == ""
    site.live = returned(address, session)
    until(lambda: site.page() == "hello", "it is in step, and serves again", 40.0)
    with site.live.operator() as client:
        told = until(lambda: [r.happened for r in client.host("tank-a").reports if r.subject == NAME], "history comes")
        until(lambda: Happened.INSTANCE_FREED in [r.happened for r in client.host("tank-a").reports], "all of it")
    assert Happened.INSTANCE_HELD in told


BOOTED = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x00020000) == 0 and libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None) == 0
assert libc.mount(sys.argv[1].encode(), b"/proc/sys/kernel/random/boot_id", None, 0x1000, None) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def boot(site: Site, number: int) -> None:
    """As after a reboot: no process of before is left, nor what was in memory, and the kernel's name for this boot is another."""
    agent = site.agent
    agent.clear()
    subprocess.run(["rm", "-rf", str(agent.places.run)], check=True)
    named = agent.folder / f"boot-{number}"
    named.write_text(f"{number:08x}-0000-4000-8000-000000000000\n")
    argv = [sys.executable, "-c", BOOTED, str(named), *agent.arguments("run", *agent.options)[1:]]
    with (agent.folder / "agent.log").open("ab") as log:
        agent.process = subprocess.Popen(argv, stderr=log)


# invariant: C1 D1
@pytest.mark.host
def test_after_a_boot_without_a_link_the_last_plan_runs_again(site: Site) -> None:
    """Bug 1 of DESIGN.md section 10. Without a link there is no lease either, so the address that it listens on is not there (RFC 5737: it is nobody's)."""
    site.agent.start()
    until(lambda: site.page() == "hello", "it serves")
    site.cut()
    site.agent.options = ("--listen", "192.0.2.1", "--agent-port", "7451", *site.agent.options[4:])
    boot(site, 1)
    until(lambda: site.page() == "hello", "it serves after a boot, with nobody's help")
    until(lambda: site.health() == (Health.HEALTHY, ""), "and is well")
    until(lambda: "cannot listen on 192.0.2.1:7451" in site.problems(), "and says what is missing")


# invariant: C1
@pytest.mark.host
@pytest.mark.parametrize("site", [Disconnect(cold_boot=ColdBoot.WAIT)], indirect=True)
def test_after_a_boot_it_waits_for_its_controller_where_that_is_declared(site: Site) -> None:
    site.agent.start()
    until(lambda: site.page() == "hello", "it serves")
    address, session = site.live.folder, site.live.session
    site.cut()
    boot(site, 1)
    until(lambda: "coldBoot" in site.problems(), "it says what it waits for")
    assert site.page() == ""
    site.live = returned(address, session)
    until(lambda: site.page() == "hello", "a word from the controller is enough", 40.0)


# invariants: R1, R2
def test_what_is_taken_away_or_changed_while_it_is_cut_off_is_so_afterwards_and_the_rest_runs_on(
    site: Site, tmp_path: Path
) -> None:
    """Bugs 2 and 3 of DESIGN.md section 10. The agent is away meanwhile, which cuts its host off as well as anything."""

    def apply(*hosts: str, greeting: str, name: str = "other") -> None:
        params: dict[str, str | int | bool] = {"port": other_port, "greeting": greeting}
        vertex = Vertex(name, Role.SERVICE, "page", hosts, params, 0, 0, host_network=True)
        with site.live.operator() as client:
            client.apply([host("tank-b"), StreamGraph(name, "home", (vertex,), ())])

    def plans() -> int:
        with site.live.operator() as client:
            return [report.happened for report in client.host("tank-a").reports].count(Happened.PLAN_ACCEPTED)

    other, other_port = "other.other", free_port()
    site.agent.start()
    until(lambda: site.page() == "hello", "it serves")
    apply("tank-a", greeting="one")
    until(lambda: site.agent.pid(other), "so does another")
    page, first = site.agent.pid(NAME), site.agent.pid(other)
    site.agent.end(signal.SIGKILL)
    apply("tank-a", greeting="two")
    apply("tank-a", greeting="three")
    site.agent.start()
    until(lambda: site.agent.pid(other) not in (0, first), "it is begun anew with what counts now")
    second = site.agent.pid(other)
    until(lambda: plans() == 3, "of the two changes that it has missed, one came")
    site.agent.end(signal.SIGKILL)
    apply("tank-b", greeting="three")
    site.agent.start()
    until(lambda: not Path(f"/proc/{second}").exists(), "it is gone")
    until(lambda: not (site.agent.places.instances / other).exists(), "all of it")
    assert site.agent.pid(NAME) == page, "nothing else was touched"
    site.agent.end(signal.SIGKILL)
    with site.live.operator() as client:
        token = client.create_token("tank-b", 600).token
    elsewhere = AgentProcess(tmp_path / "elsewhere").command("enrol", "--token", token)
    assert elsewhere.returncode == 0, elsewhere.stderr
    apply("tank-b", greeting="hello", name="page")
    site.agent.start()
    until(lambda: not Path(f"/proc/{page}").exists(), "the last one goes like any other")
    until(lambda: not (site.agent.places.instances / NAME).exists(), "all of it, too")
    apply("tank-a", greeting="again", name="page")
    until(lambda: site.agent.pid(NAME), "and comes back")
