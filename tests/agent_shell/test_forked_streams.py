"""A stream's process that was forked from the agent's zygote is what an executed one is: compared, and killed in the same ways."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from halftrack_agent.drivers.cgroups import Cgroups
from halftrack_agent.drivers.exec import ExecDriver
from halftrack_agent.drivers.instances import Launch
from halftrack_agent.drivers.rooms import Room, Rooms
from halftrack_dataplane import zygote
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec, dump
from halftrack_model.workload import Workload
from tests.agent_shell.driver_bench import Bench, command, ended, go, killed
from tests.agent_shell.waiting import until

pytestmark = pytest.mark.host
PROBE = '''
import json, os, resource, signal, sys, threading, time

class Probe:
    """Writes what kind of process it is in, and stays."""

    def __init__(self, params):
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        kept = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "SigBlk", "SigIgn", "SigCgt", "Threads", "Umask", "Seccomp", "NSpid")
        found = {name: status[name].strip() for name in kept if name != "NSpid"}
        found["fds"] = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in sorted(os.listdir("/proc/self/fd"), key=int)[:-1]}
        found["environment"] = dict(os.environ)
        found["leads"] = [os.getsid(pid) == os.getpgid(pid) == pid for pid in (os.getpid(), os.getppid())]
        found["cwd"], found["argv"], found["flags"] = os.getcwd(), sys.argv, repr(sys.flags)
        found["path"] = sys.path
        found["nice"], found["oom"] = os.nice(0), open("/proc/self/oom_score_adj").read()
        found["limits"] = [resource.getrlimit(number) for number in range(16)]
        found["interfaces"] = sorted(os.listdir("/proc/self/net/dev_snmp6")) if os.path.isdir("/proc/self/net/dev_snmp6") else []
        found["title"] = open("/proc/self/cmdline").read().rstrip("\\0").split("\\0")
        found["stdout"] = [sys.stdout.line_buffering, sys.stdout.write_through, sys.stderr.encoding]
        found["parent_title"] = open(f"/proc/{os.getppid()}/cmdline").read().split("\\0")[1:4]
        print("the probe speaks")
        with open(params["to"] + ".new", "w") as file:
            json.dump(found, file)
        os.rename(params["to"] + ".new", params["to"])

    def frames(self, *_):
        while True:
            time.sleep(0.01)
            yield b"x"
'''


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, own_network=True)
    yield made
    killed(tmp_path)


def driver_of(bench: Bench, *, stream: bool) -> ExecDriver:
    """A driver whose workloads are sources that run the probe; by a fork, if `stream`."""
    rings = bench.folder / "rings"
    rings.mkdir(exist_ok=True)
    (bench.folder / "probe.py").write_text(PROBE)

    def launch(workload: Workload) -> Launch:
        ring = rings / f"{workload.name}.ring"
        if not ring.exists():
            Ring.create(ring, capacity_bytes=1 << 16, slots=64).close()
        path = str(bench.folder / "run" / workload.name / "run.json")
        spec = RunSpec(
            role="source",
            name=workload.name,
            program=str(bench.folder / "probe.py"),
            entry="probe:Probe",
            params={"to": str(bench.folder / f"{workload.name}.seen")},
            output_ring=str(ring),
            status_path=str(bench.folder / f"{workload.name}.status"),
        )
        argv = (sys.executable, "-I", "-u", "-m", "halftrack_dataplane.run", path)
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HALFTRACK_WORKLOAD": workload.name}
        return Launch(argv, environment, True, dump(spec), hidden=(str(bench.folder / "secret"),), stream=stream)

    return ExecDriver(
        Rooms(Room(bench.folder / "run", bench.folder / "logs"), bench.spare),
        Cgroups(bench.cgroup),
        launch,
        lambda: None,
        bench.deaths.append,
    )


async def seen_by_probe(bench: Bench, driver: ExecDriver, name: str) -> dict[str, Any]:
    at = bench.folder / f"{name}.seen"
    at.unlink(missing_ok=True)
    driver.start(command(name))
    await until(at.exists, f"{name} speaks")
    found: dict[str, Any] = json.loads(at.read_text())
    return found


def test_a_forked_process_differs_in_nothing_from_an_executed_one(bench: Bench) -> None:
    seen: dict[bool, dict[str, Any]] = {}

    async def work() -> None:
        for stream in (False, True):
            driver = driver_of(bench, stream=stream)
            driver._starter._zygote._environment["STRAY"] = "the zygote's own"
            seen[stream] = await seen_by_probe(bench, driver, "probe")
            assert "the probe speaks" in (bench.folder / "logs" / "probe.log").read_text()
            await ended(driver)
            (bench.folder / "logs" / "probe.log").unlink()

    go(work())
    assert seen[True] == seen[False]
    assert seen[True]["CapEff"] == seen[True]["CapBnd"] == "0000000000000000"
    assert seen[True]["leads"] == [True, True]
    assert seen[True]["title"][-1].endswith("probe/run.json")


def test_it_was_forked(bench: Bench) -> None:
    """The comparison would hold for two that were executed, too."""

    async def work() -> None:
        driver = driver_of(bench, stream=True)
        await seen_by_probe(bench, driver, "probe")
        pid = driver.pids()["probe"]
        assert _imported(pid)
        assert _imported(_parent(pid)), "its shim is a fork, too"
        await ended(driver)

    go(work())


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _imported(pid: int) -> bool:
    """Has it mapped what only the whole of the data plane needs? An executed source has no use for the merge, a shim for none of it."""
    return "merge_flow" in Path(f"/proc/{pid}/maps").read_text()


def test_a_forked_process_is_found_again_restarted_and_ended(bench: Bench) -> None:
    async def work() -> None:
        driver = driver_of(bench, stream=True)
        await seen_by_probe(bench, driver, "probe")
        pid = driver.pids()["probe"]
        await driver.close()  # and its zygote with it
        after = driver_of(bench, stream=True)
        assert await after.adopt() == ("probe",)
        assert after.pids()["probe"] == pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not after.seen()["probe"].running, "its death is seen")
        assert after.seen()["probe"].signal == signal.SIGKILL
        after.forget("probe")  # and its control group with it
        await seen_by_probe(bench, after, "probe")
        assert after.pids()["probe"] != pid
        await ended(after)

    go(work())


def test_without_a_zygote_it_is_executed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zygote, "MESSAGE_BYTES", 1)  # no message has room: every ask is refused

    async def work() -> None:
        driver = driver_of(bench, stream=True)
        await seen_by_probe(bench, driver, "probe")
        assert not _imported(driver.pids()["probe"])
        await ended(driver)

    go(work())


def test_a_zygote_that_does_not_answer_costs_a_start_and_no_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have forked or not. Whoever it forked would tell; since nobody does, the instance has ended, and the next one is another zygote's."""

    async def work() -> None:
        driver = driver_of(bench, stream=True)
        await seen_by_probe(bench, driver, "first")
        process = driver._starter._zygote._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(zygote, "ANSWER_S", 0.2)
            assert driver._starter._zygote._channel is not None
            driver._starter._zygote._channel.settimeout(0.2)
            driver.start(command("second"))
            await until(lambda: not driver.seen()["second"].running, "it was not started")
        assert driver.seen()["second"].detail == "its shim ended at once"
        driver.forget("second")
        await seen_by_probe(bench, driver, "second")
        assert driver.seen()["first"].running
        await ended(driver)

    go(work())


def test_starts_at_one_time_share_a_zygote(bench: Bench) -> None:
    async def work() -> None:
        driver = driver_of(bench, stream=True)
        names = [f"probe-{number}" for number in range(4)]
        await asyncio.gather(*(seen_by_probe(bench, driver, name) for name in names))
        assert all(_imported(pid) for pid in driver.pids().values())
        await ended(driver)

    go(work())
