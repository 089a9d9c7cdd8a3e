"""A whole agent on a disk that is full, or that takes nothing more: what runs goes on, what must be written has the reserve, and the controller is told."""

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from halftrack_agent.drivers.instances import Folder
from halftrack_agent.drivers.rooms import Room
from halftrack_agent.places import Places
from halftrack_controller import galaxy
from halftrack_model.report import Happened
from tests.agent_shell import waiting
from tests.agent_shell.driver_bench import Bench, go, killed, python
from tests.agent_shell.test_agent import SOURCE, AgentProcess, publish, until
from tests.agent_shell.test_services_under_agent import NAME, Site, boot
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, graph, host
from tests.crash.scenarios import SINK as QUIET_SINK
from tests.small_disk import found_at_fault, grown, loop_disk, small_disk


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveController]:
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    controller = LiveController(tmp_path / "galaxy", heartbeat_ms=200)
    try:
        with controller.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a"), graph("tank-a")])
            for product, entry, program in (("counter", "source:Source", SOURCE), ("keeper", "sink:Sink", QUIET_SINK)):
                publish(client, tmp_path, product, entry, program)
        yield controller
    finally:
        controller.stop()


def filled(disk: Path) -> None:
    """To the last block."""
    free = os.statvfs(disk)
    with (disk / "filler").open("wb", buffering=0) as filler:
        os.posix_fallocate(filler.fileno(), 0, free.f_bavail * free.f_frsize)


def consumed(folder: Path) -> int:
    """The frames that the sink says it has had."""
    try:
        return int(json.loads((folder / "run/status/line.sink.json").read_bytes())["seq_in"])
    except (OSError, ValueError):
        return 0


# invariants: R2, D1
def test_on_a_full_disk_a_plan_that_needs_no_new_program_is_carried_out(live: LiveController, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "100m") as disk:
        agent = AgentProcess(tmp_path)
        agent.places = Places(disk / "state", tmp_path / "run")
        try:
            with live.operator() as client:
                (tmp_path / "token").write_text(client.create_token("tank-a", 600).token)
                assert agent.command("enrol", "--token-file", str(tmp_path / "token")).returncode == 0
                agent.start()
                until(lambda: agent.pid("line.source") and agent.pid("line.sink"), "they run")
                before = client.host("tank-a").entry.accepted_revision
                source = agent.pid("line.source")
                filled(disk)
                changed = graph("tank-a")
                first = dataclasses.replace(changed.vertices[0], params={"rate_bytes_per_s": 300_000})
                client.apply([dataclasses.replace(changed, vertices=(first, *changed.vertices[1:]))])

                def obeyed() -> bool:
                    entry = client.host("tank-a").entry
                    return entry.accepted_revision > before and agent.pid("line.source") not in (0, source)

                until(obeyed, "the plan is in force, and what it changes runs")
                until(
                    lambda: any("was given up" in text for text in client.host("tank-a").entry.problems), "it is told"
                )
                grown(disk, "200m")
                until(
                    lambda: not any("reserve" in text for text in client.host("tank-a").entry.problems),
                    "it is made again",
                )
                accepted = [each for each in client.host("tank-a").reports if each.happened is Happened.PLAN_ACCEPTED]
                assert len({each.subject for each in accepted}) == len(accepted) >= 2, (
                    "what waited in memory came, once"
                )
            shown = tmp_path / "run/observed.json"  # not at every step
            until(lambda: json.loads(shown.read_bytes())["revision"] > before, "whoever asks on the host sees it")
        finally:
            agent.clear()


# invariants: R1, D1
def test_a_host_that_boots_without_a_link_on_a_full_disk_serves(live: LiveController, tmp_path: Path) -> None:
    """Whatever was to be begun found no room, though some had been kept back."""
    with small_disk(tmp_path / "disk", "100m") as disk:
        agent = AgentProcess(tmp_path)
        agent.places = Places(disk / "state", tmp_path / "run")
        try:
            with live.operator() as client:
                (tmp_path / "token").write_text(client.create_token("tank-a", 600).token)
            assert agent.command("enrol", "--token-file", str(tmp_path / "token")).returncode == 0
            agent.start()
            until(lambda: agent.pid("line.source") and agent.pid("line.sink"), "they run")
            live.stop()
            agent.clear()
            shutil.rmtree(agent.places.run)
            for folder in agent.places.instances.iterdir():
                shutil.rmtree(folder)  # of another boot; others have taken the room before it is needed again
            filled(disk)
            agent.start()
            until(lambda: agent.pid("line.source") and agent.pid("line.sink"), "they run after the boot")
            until(lambda: "in part" in agent.places.observed.read_text(), "it is told")
        finally:
            agent.clear()


# invariants: R2, D1
def test_on_a_disk_that_became_read_only_workloads_run_on_and_nothing_is_promised(
    live: LiveController, tmp_path: Path
) -> None:
    with loop_disk(tmp_path / "disk") as disk:
        agent = AgentProcess(tmp_path)
        agent.places = Places(disk / "state", tmp_path / "run")
        try:
            with live.operator() as client:
                (tmp_path / "token").write_text(client.create_token("tank-a", 600).token)
                assert agent.command("enrol", "--token-file", str(tmp_path / "token")).returncode == 0
                agent.start()
                names = ("line.source", "line.sink")
                until(lambda: consumed(tmp_path) > 100, "both have begun: who begins needs the disk")
                before, was = {name: agent.pid(name) for name in names}, client.host("tank-a").entry.accepted_revision
                assert was
                found_at_fault(disk)
                changed = graph("tank-a")
                first = dataclasses.replace(changed.vertices[0], params={"rate_bytes_per_s": 300_000})
                client.apply([dataclasses.replace(changed, vertices=(first, *changed.vertices[1:]))])
                until(lambda: client.host("tank-a").entry.refusal_reason == "disk-fault", "the plan is refused")
                entry = client.host("tank-a").entry
                assert "Read-only" in entry.refusal_message
                assert entry.accepted_revision == was, "what is not on the disk is not acknowledged"
                until(lambda: any("Read-only" in text for text in client.host("tank-a").entry.problems), "it is told")
                assert agent.process is not None
                assert agent.process.poll() is None
                agent.end()
                agent.start()
                until(
                    lambda: "adopted: line.sink, line.source" in (tmp_path / "agent.log").read_text(),
                    "they are adopted",
                )
                assert {name: agent.pid(name) for name in names} == before
                until(
                    lambda: any("takes no change" in text for text in client.host("tank-a").entry.problems),
                    "it is told again",
                )
        finally:
            agent.clear()


# invariants: R1, D1
@pytest.mark.host
def test_what_ends_on_a_disk_that_is_read_only_is_begun_again_and_all_of_it_after_a_boot(tmp_path: Path) -> None:
    with loop_disk(tmp_path / "disk") as disk:
        site = Site(tmp_path, state=disk / "state")
        agent, in_memory = site.agent, tmp_path / "run/instances"
        try:
            agent.start()
            until(lambda: site.page() == "hello", "it serves")
            found_at_fault(disk)
            os.kill(agent.pid(NAME), signal.SIGKILL)
            until(lambda: (in_memory / NAME).exists() and site.page() == "hello", "it serves again")
            first = Folder(in_memory / NAME).who()
            assert first
            agent.end(signal.SIGKILL)
            agent.start()
            until(lambda: "takes no change" in site.problems(), "it is told")
            assert Folder(in_memory / NAME).who() == first, "it is adopted"
            site.cut()
            agent.end(signal.SIGKILL)
            killed(in_memory)
            boot(site, 1)
            until(lambda: site.page() == "hello", "it serves after a boot without a link")
            assert Folder(in_memory / NAME).who() != first
        finally:
            killed(in_memory)
            site.close()


# invariants: R2, D1
@pytest.mark.host
@pytest.mark.parametrize("looked", ["at once", "by the next agent"])
def test_how_a_job_ends_is_known_though_its_disk_became_read_only_meanwhile(tmp_path: Path, looked: str) -> None:
    """It does not run twice, until the host boots."""
    with loop_disk(tmp_path / "disk") as disk:
        bench, begun, gate = Bench(disk), tmp_path / "begun", tmp_path / "gate"
        bench.spare = Room(tmp_path / "spare", tmp_path / "spare-logs")
        waits = f"import os, sys\nopen({str(begun)!r}, 'w')\nwhile not os.path.exists({str(gate)!r}): pass\nsys.exit(5)"

        async def main() -> None:
            first = driver = bench.driver()
            driver.start(python("a", waits))
            await waiting.until(begun.exists, "it has begun")
            found_at_fault(disk)
            if looked != "at once":
                driver = bench.driver()
            gate.touch()
            await waiting.until(lambda: not first.seen()["a"].running, "it has ended")
            await first.close() if looked != "at once" else None
            if looked != "at once":
                assert await driver.adopt() == ()
            assert driver.seen()["a"].exit_code == 5
            assert Folder(disk / "run/a").ending() is None
            driver.forget("a")
            await waiting.until(lambda: not driver.busy, "it is forgotten")
            assert not list(bench.spare.instances.iterdir()), "it may be ordered again"
            await driver.close()

        go(main())
