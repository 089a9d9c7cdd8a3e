"""What an instance is kept from: capabilities, networks, other groups; and what is told about strangers in ours."""

import asyncio
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from halftrack_agent import abilities
from halftrack_agent.drivers import cgroups, egress
from halftrack_agent.drivers.cgroups import Cgroups, layout
from tests.agent_shell.driver_bench import FOREVER, Bench, go, lines, python
from tests.agent_shell.waiting import until


@pytest.mark.host
def test_it_has_no_capability_and_no_network_but_its_own(bench: Bench) -> None:
    bench.own_network = True

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("a", FOREVER))
            await until(driver.pids, "it runs")
            pid = driver.pids()["a"]
            await until(lambda: b"signal" in Path(f"/proc/{pid}/cmdline").read_bytes(), "it executes")
            status = dict(line.split(":\t", 1) for line in lines(f"/proc/{pid}/status") if ":\t" in line)
            for held in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                assert int(status[held], 16) == 0, held
            assert status["NoNewPrivs"] == "1"
            assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
            assert [line.split(":")[0].strip() for line in lines(f"/proc/{pid}/net/dev")[2:]] == ["lo"]
            assert os.getsid(pid) == pid

    go(work())


@pytest.mark.host
def test_the_key_of_the_host_looks_empty_to_it(bench: Bench) -> None:
    bench.own_network = True
    key = bench.folder / "key.pem"
    key.write_text("secret")
    bench.hidden = (str(key), str(bench.folder / "never made"))

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("a", f"print(repr(open({str(key)!r}).read()), flush=True)"))
            await until(lambda: "a" in driver.seen() and not driver.seen()["a"].running, "it has ended")
            assert (bench.folder / "logs" / "a.log").read_text().strip() == "''"
            assert key.read_text() == "secret"

    go(work())


@pytest.mark.host
def test_the_only_way_out_is_a_door(bench: Bench) -> None:
    """A server on the host's loopback is out of reach, except through the door that was ordered."""
    bench.own_network = True
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(20)
    direct = f"127.0.0.1:{server.getsockname()[1]}"
    bench.doors = egress.doors([direct, "127.0.0.1:1"])
    code = f"""
import socket
def ask(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as line:
            line.sendall(b"hello")
            return line.recv(100)
    except OSError as error:
        return error.errno
print(ask({server.getsockname()[1]}), ask({egress.FIRST_PORT}), ask({egress.FIRST_PORT + 1}), flush=True)
"""

    def answer() -> None:
        with server, server.accept()[0] as line:
            line.sendall(line.recv(100).upper())

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("a", code))
            await asyncio.to_thread(answer)
            await until(lambda: not driver.seen()["a"].running, "it has asked")
            refused, through, nobody = driver.seen()["a"].detail.split(" ")
            assert (refused, through) == ("111", "b'HELLO'")
            assert nobody in ("b''", "104")  # ended, or reset: by when the other end finds that nobody is there

    go(work())


def test_a_door_outlives_a_caller_that_did_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "RETRY_S", 0.01)
    calls: list[int] = []

    class Busy(socket.socket):
        def accept(self) -> tuple[socket.socket, Any]:
            calls.append(1)
            if len(calls) == 1:
                raise ConnectionAbortedError(103, "Software caused connection abort")
            return super().accept()

    server, listener = socket.create_server(("127.0.0.1", 0)), Busy()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    egress.open_doors([listener], [("", f"127.0.0.1:{server.getsockname()[1]}")])
    with server, socket.create_connection(listener.getsockname(), 5) as line, server.accept()[0] as other:
        line.sendall(b"hello")
        assert other.recv(100) == b"hello"


@pytest.mark.host
def test_it_is_in_a_control_group_that_is_gone_with_it(bench: Bench) -> None:
    groups = Cgroups(bench.cgroup)
    if groups.problem:
        pytest.skip(groups.problem)

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(
                python(
                    "a", "import os, signal\nif os.fork() == 0: os.setsid()\nprint('up', flush=True)\nsignal.pause()"
                )
            )
            log = bench.folder / "logs" / "a.log"
            await until(lambda: log.exists() and log.read_text().count("up") == 2, "parent and child run")
            pid = driver.pids()["a"]
            assert any(bench.cgroup in line for line in lines(f"/proc/{pid}/cgroup"))
            os.kill(pid, signal.SIGKILL)  # its child has left the session, not the group
            await until(lambda: not driver.seen()["a"].running, "its death is seen")

    go(work())
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{bench.cgroup}"))


# invariant: R3
@pytest.mark.host
def test_empty_groups_are_swept_and_unknown_processes_reported(bench: Bench) -> None:
    groups = Cgroups(bench.cgroup)
    if groups.problem:
        pytest.skip(groups.problem)
    groups.make("empty.1")
    sleeper = subprocess.Popen(["sleep", "60"])
    for procs in groups.make("stranger.1"):
        procs.write_text(str(sleeper.pid))

    async def work() -> None:
        async with bench.running() as driver:
            await driver.adopt()
            assert [problem for problem in driver.problems if "stranger.1" in problem]
            assert not [problem for problem in driver.problems if "empty.1" in problem]
            assert sleeper.poll() is None

    go(work())
    sleeper.kill()
    sleeper.wait()
    assert groups.sweep(()) == ()
    groups.close()


def test_a_controller_that_cannot_be_had_keeps_no_other_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, had, write = tmp_path / "halftrack" / "0", set[str](), Path.write_text
    root.mkdir(parents=True)
    for folder in (tmp_path, root.parent, root):
        (folder / "cgroup.controllers").write_text("cpuset cpu memory pids\n")

    def kernel(path: Path, text: str, **_: str) -> int:
        if path.name == "cgroup.subtree_control":
            if "+cpu" in text.split():
                raise OSError(22, "Invalid argument")
            had.add(f"{path.parent.relative_to(tmp_path)}: {text}")
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", kernel)
    cgroups._enable(root)
    assert {f"{folder}: +pids" for folder in (".", "halftrack", "halftrack/0")} <= had


@pytest.mark.parametrize(
    ("mounts", "roots", "unified"),
    [
        ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0", ["/sys/fs/cgroup/h"], True),
        (
            "".join(f"cgroup /c/{n} cgroup rw,{n} 0 0\n" for n in ("cpu,cpuacct", "memory", "pids", "freezer"))
            + "cgroup2 /c/unified cgroup2 rw 0 0",
            ["/c/cpu,cpuacct/h", "/c/memory/h", "/c/pids/h", "/c/freezer/h"],
            False,
        ),
        ("cgroup /c/cpu cgroup rw,cpu 0 0\ncgroup2 /c/unified cgroup2 rw 0 0", [], False),
        ("tmpfs /tmp tmpfs rw 0 0", [], False),
    ],
)
def test_where_control_groups_belong(mounts: str, roots: list[str], unified: bool) -> None:
    found = layout(mounts, "h")
    assert [str(root) for root in found.roots] == roots
    assert found.unified == unified


@pytest.mark.parametrize(("failures", "told"), [(0, ""), (2, ""), (3, "timed out after 10")])
def test_a_host_that_is_too_busy_to_answer_has_not_said_no(
    monkeypatch: pytest.MonkeyPatch, failures: int, told: str
) -> None:
    answers = [subprocess.TimeoutExpired("confine", 10)] * failures

    def asked() -> str:
        if answers:
            raise answers.pop()
        return ""

    monkeypatch.setattr(abilities, "_own_network", asked)
    found = abilities.own_network()
    assert (told in found, bool(found)) == (True, bool(told))
