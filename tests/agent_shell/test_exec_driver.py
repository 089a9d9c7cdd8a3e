"""The exec driver with real processes: started, found again, told about, ended."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halftrack_agent import clock
from halftrack_agent.drivers import cgroups, processes, procfs, shim, starting
from halftrack_agent.drivers import exec as exec_driver
from halftrack_agent.drivers.instances import Folder, Launch
from halftrack_model.errors import InvalidInput
from tests.agent_shell.driver_bench import FOREVER, Bench, command, go, python
from tests.agent_shell.waiting import until


def test_an_exit_is_told_with_its_code_and_the_line_that_explains_it(bench: Bench) -> None:
    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("a", "print('begin', flush=True)\nraise ValueError('the input has no header')"))
            driver.start(python("b", "pass"))
            driver.start(command("c", "/no/such/program"))
            await until(lambda: not any(seen.running for seen in driver.seen().values()), "three exits")
            seen = driver.seen()
            assert (seen["a"].exit_code, seen["a"].signal) == (1, None)
            assert seen["a"].detail == "ValueError: the input has no header"
            assert (seen["b"].exit_code, seen["b"].detail) == (0, "")
            assert seen["c"].exit_code == 127
            assert "could not be executed" in seen["c"].detail

    go(work())


def test_a_death_by_signal_is_told_as_one_and_wakes_at_once(bench: Bench) -> None:
    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("a", FOREVER))
            await until(driver.pids, "it runs")
            pid = driver.pids()["a"]
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not driver.seen()["a"].running, "the death is seen")
            assert (driver.seen()["a"].exit_code, driver.seen()["a"].signal) == (None, signal.SIGKILL)
            assert bench.deaths == [pid]

    go(work())


def test_starting_what_is_starting_or_runs_is_no_second_start(bench: Bench) -> None:
    async def work() -> None:
        async with bench.running() as driver:
            for _ in range(3):
                driver.start(python("a", FOREVER))
            assert driver.seen()["a"].running
            await until(driver.pids, "it runs")
            pid = driver.pids()["a"]
            driver.start(python("a", FOREVER))
            await asyncio.sleep(0)
            assert driver.pids() == {"a": pid}

    go(work())


def test_stop_asks_first_and_then_insists(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exec_driver, "GRACE_S", 0.3)
    deaf = "import signal, os\nsignal.signal(15, signal.SIG_IGN)\nos.fork()\nprint('deaf', flush=True)\nwhile True: signal.pause()"
    polite = (
        "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(0))\nprint('polite', flush=True)\nsignal.pause()"
    )

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("deaf", deaf))
            driver.start(python("polite", polite))
            logs = [bench.folder / "logs" / f"{name}.log" for name in ("deaf", "polite")]
            await until(lambda: all(log.exists() and log.stat().st_size for log in logs), "both are set up")
            group = driver.pids()["deaf"]
            for name in ("deaf", "polite"):
                driver.stop(name)
                driver.stop(name)
            await until(lambda: not any(seen.running for seen in driver.seen().values()), "both ended")
            assert driver.seen()["polite"].exit_code == 0
            assert driver.seen()["deaf"].signal == signal.SIGKILL
            with pytest.raises(ProcessLookupError):  # nobody of the process group is left
                os.killpg(group, 0)

    go(work())


# invariant: S1
def test_an_agent_that_comes_back_knows_who_was_told_to_stop_and_insists(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A swap must not take the output back to a blue that runs and is about to end."""
    monkeypatch.setattr(exec_driver, "GRACE_S", 0.3)
    deaf = "import signal\nsignal.signal(15, signal.SIG_IGN)\nprint('deaf', flush=True)\nwhile True: signal.pause()"

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("a", deaf))
            log = bench.folder / "logs" / "a.log"
            await until(lambda: log.exists() and log.stat().st_size, "it is set up")
            assert not driver.seen()["a"].leaving
            with monkeypatch.context() as patch:
                patch.setattr(exec_driver, "GRACE_S", 60.0)  # this agent does not live to insist
                driver.stop("a")
                assert driver.seen()["a"].leaving
                await until(lambda: Folder(bench.folder / "run" / "a").leaves(), "it is being stopped")
            other = bench.driver()
            await other.adopt()
            assert other.seen()["a"].running
            assert other.seen()["a"].leaving
            await until(lambda: not other.seen()["a"].running, "it ended")
            assert not other.seen()["a"].leaving, "it has left"
            await other.close()

    go(work())


@pytest.mark.parametrize("grouped", [True, False])
def test_who_has_left_the_process_group_ends_with_its_workload(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, grouped: bool
) -> None:
    """Also where the host has no control groups for us, as for most ordinary users."""
    if not grouped:
        monkeypatch.setattr(cgroups, "layout", lambda _mounts, _name: cgroups.Layout((), False))
    daemon = "import os, signal\nif os.fork() == 0:\n os.setsid()\n print(os.getpid(), flush=True)\n signal.pause()\nsignal.pause()"

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("a", daemon))
            log = bench.folder / "logs" / "a.log"
            await until(lambda: log.exists() and log.stat().st_size, "it has gone its own way")
            left = int(log.read_text())
            driver.stop("a")
            await until(lambda: not driver.seen()["a"].running, "it ended")
            with pytest.raises(ProcessLookupError):
                os.kill(left, 0)

    go(work())


def test_a_shim_that_answers_too_late_starts_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy host it may still be on its way when the next one is ordered: two of one workload would write one ring."""
    trace, slow = bench.folder / "trace", bench.folder / "slow.py"
    slow.write_text(
        f"import runpy, time\ntime.sleep(0.6)\nrunpy.run_path({str(starting._SHIM)!r}, run_name='__main__')"
    )
    code = f"import os, time\nopen({str(trace)!r}, 'a').write('up ')\ntime.sleep(60)"

    async def work() -> None:
        async with bench.running() as driver:
            with monkeypatch.context() as patch:
                patch.setattr(exec_driver, "READY_S", 0.1)
                patch.setattr(starting, "_SHIM", slow)
                driver.start(python("a", code))
                await until(lambda: not driver.seen()["a"].running, "it was given up")
            assert "did not answer" in driver.seen()["a"].detail
            await asyncio.sleep(1.0)
            assert not trace.exists()
            driver.forget("a")
            driver.start(python("a", code))
            await until(trace.exists, "the next one runs")
            await asyncio.sleep(0.2)
            assert trace.read_text() == "up "

    go(work())


# invariant: R2
def test_a_killed_agents_instances_are_adopted_not_restarted(bench: Bench) -> None:
    """The first agent is a real process, killed with SIGKILL right after it has told that the instance runs."""
    code = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from tests.agent_shell.driver_bench import Bench, FOREVER, python, until
async def main():
    driver = Bench(Path({str(bench.folder)!r})).driver()
    for name in ("lives", "orphaned", "killed"):
        driver.start(python(name, FOREVER))
    driver.start(python("exits", "import sys; sys.exit(7)"))
    await until(lambda: len(driver.pids()) == 3 and not driver.seen()["exits"].running, "they run")
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    agent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert agent.stdout is not None
    assert agent.stdout.readline() == b"ready\n"
    agent.kill()
    agent.wait()
    agent.stdout.close()
    who = {name: Folder(bench.folder / "run" / name).who() for name in ("lives", "orphaned", "killed")}
    orphan, victim = who["orphaned"], who["killed"]
    assert orphan is not None
    assert victim is not None
    os.kill(orphan.shim.pid, signal.SIGKILL)
    os.kill(victim.workload.pid, signal.SIGKILL)

    async def work() -> None:
        async with bench.running() as driver:
            this_boot = clock.boot_id()
            await until(lambda: not processes.alive(orphan.shim, this_boot), "the shim is dead")
            await until(lambda: Folder(bench.folder / "run" / "killed").ending() is not None, "the exit is recorded")
            adopted = await driver.adopt()
            assert sorted(adopted) == ["lives", "orphaned"]
            assert driver.pids() == {name: item.workload.pid for name, item in who.items() if item and name != "killed"}
            seen = driver.seen()
            assert seen["lives"].digest == python("lives", FOREVER).digest()
            assert seen["exits"].exit_code == 7
            assert seen["killed"].signal == signal.SIGKILL
            assert any("orphaned" in problem for problem in driver.problems)
            os.kill(orphan.workload.pid, signal.SIGKILL)
            await until(lambda: not driver.seen()["orphaned"].running, "the orphan's death is seen")
            assert (driver.seen()["orphaned"].exit_code, driver.seen()["orphaned"].signal) == (None, None)

    go(work())


# invariant: R2
@pytest.mark.parametrize("fault", ["agent gone", "shim fails"])
def test_a_record_of_an_end_is_only_written_about_what_has_ended(bench: Bench, fault: str) -> None:
    """The agent is killed before the shim could tell it that it is ready; or the shim itself fails after the start."""
    folder = Folder(bench.folder / "run" / "a")
    order = exec_driver.Ordered("a", "sha256:0", "a.1", 1, clock.boot_id())
    doors = (
        () if fault == "agent gone" else (("127.0.0.1:0", "no port"),)
    )  # opened inside, not outside: after the start
    log = bench.folder / "a.log"
    launch = Launch(python("a", FOREVER).argv, {}, own_network=False, doors=doors)
    folder.write_order(order, launch, log, 1 << 20, ())
    ready_read, ready_write = os.pipe()
    lock = folder.lock()
    assert lock is not None
    os.close(ready_read)
    argv = [sys.executable, "-I", "-S", shim.__file__, str(folder.path), str(ready_write), str(lock)]
    started = subprocess.Popen(argv, pass_fds=(ready_write, lock))
    os.close(ready_write)
    os.close(lock)

    async def work() -> None:
        async with bench.running() as driver:
            await until(folder.who, "it has told who it is")
            await driver.adopt()
            if fault == "agent gone":
                assert driver.seen()["a"].running
                return
            await until(lambda: not driver.seen()["a"].running, "it has failed")
            who = folder.who()
            assert who is not None
            assert not processes.alive(who.workload, clock.boot_id())
            assert (driver.seen()["a"].exit_code, driver.seen()["a"].signal) == (None, None)

    go(work())
    started.wait(10)


def test_a_folder_whose_shim_never_came_is_not_taken_for_a_running_instance(bench: Bench) -> None:
    folder = Folder(bench.folder / "run" / "a")
    order = exec_driver.Ordered("a", "sha256:0", "a.1", 1, clock.boot_id())
    folder.write_order(order, Launch(("x",), {}, own_network=False), bench.folder / "a.log", 1, ())
    other = Folder(bench.folder / "run" / "b")
    before_reboot = exec_driver.Ordered("b", "sha256:0", "b.1", 1, "another boot")
    other.write_order(before_reboot, Launch(("x",), {}, own_network=False), bench.folder / "b.log", 1, ())
    done = Folder(bench.folder / "run" / "c")
    before_reboot = exec_driver.Ordered("c", "sha256:0", "c.1", 1, "another boot")
    done.write_order(before_reboot, Launch(("x",), {}, own_network=False), bench.folder / "c.log", 1, ())
    procfs.write_record(str(done.path / "exit.json"), {"code": 0, "signal": None, "detail": ""}, durable=True)

    async def work() -> None:
        async with bench.running() as driver:
            assert await driver.adopt() == ()
            assert not driver.seen()["a"].running
            assert "b" not in driver.seen()  # it ran when the machine went down: nothing is known to be wrong with it
            assert driver.seen()["c"].exit_code == 0  # a job that was done before stays done
            driver.start(python("a", FOREVER))
            await until(driver.pids, "its name is free")

    go(work())


def test_a_shim_that_dies_under_us_costs_the_workload_nothing(bench: Bench) -> None:
    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("a", FOREVER))
            await until(driver.pids, "it runs")
            who = Folder(bench.folder / "run" / "a").who()
            assert who is not None
            os.kill(who.shim.pid, signal.SIGKILL)
            await until(lambda: driver.problems, "noticed")
            assert driver.seen()["a"].running
            assert processes.alive(who.workload, clock.boot_id())
            driver.stop("a")
            await until(lambda: not driver.seen()["a"].running, "it can be stopped all the same")

    go(work())


def test_a_log_stays_within_its_bounds(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * 5000 + b"\nlast words\n   ^^^^^^\n")
    assert shim.tail_line(str(log), 0) == "last words"
    assert shim.rotated(str(log), 1000)
    assert log.stat().st_size == 0
    assert (tmp_path / "a.log.1").stat().st_size == 1000
    assert not shim.rotated(str(log), 1000)
    assert shim.tail_line(str(log), 4000) == ""


def test_what_no_process_can_be_given_is_no_ones_exit(bench: Bench) -> None:
    async def work() -> None:
        async with bench.running() as driver:
            driver.start(command("a", "echo", "x\0y"))
            await until(lambda: not driver.seen()["a"].running, "it is given up")
            seen = driver.seen()["a"]
            assert (seen.exit_code, seen.signal) == (None, None)
            assert "not started" in seen.detail

    go(work())


def test_names_that_would_leave_the_folder_are_refused(bench: Bench) -> None:
    async def work() -> None:
        async with bench.running() as driver:
            for name in ("../a", "a/b", ".hidden", "", "a" * 201):
                with pytest.raises(InvalidInput):
                    driver.start(python(name, FOREVER))

    go(work())


def test_a_killed_instance_is_back_soon(bench: Bench) -> None:
    """From the kill to the new instance's first line, without the program's own imports; the bound is for a busy machine."""

    async def work() -> None:
        async with bench.running() as driver:
            code = "import signal\nprint('up', flush=True)\nsignal.pause()"
            log = bench.folder / "logs" / "a.log"
            driver.start(python("a", code))
            await until(lambda: log.exists() and log.read_text() == "up\n", "it is up")
            begun = time.monotonic()
            os.kill(driver.pids()["a"], signal.SIGKILL)
            await until(lambda: not driver.seen()["a"].running, "its death is seen")
            driver.forget("a")
            driver.start(python("a", code))
            await until(lambda: log.read_text() == "up\nup\n", "it is up again")
            assert time.monotonic() - begun < 2.0

    go(work())


@given(st.dictionaries(st.text().filter(lambda name: name != "sum"), st.none() | st.integers() | st.text(), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_the_shims_records_are_json(tmp_path: Path, tree: dict[str, str | int | None]) -> None:
    procfs.write_record(str(tmp_path / "record"), tree, durable=False)
    data = (tmp_path / "record").read_bytes()
    found = json.loads(data)
    assert (len(found.pop("sum")), found, procfs.is_whole(data)) == (8, tree, True)


def test_the_room_for_the_record_of_an_end_is_taken_before_the_workload_executes(bench: Bench) -> None:
    """Else a full disk would make an end that nobody saw of every exit: a finished job would run again."""
    folder = bench.folder / "run" / "a"
    names, mark = ("exit.json", "ended.json"), bench.folder / "mark"

    async def work() -> None:
        async with bench.running() as driver:
            code = (
                f"import os, signal\nsignal.signal(15, lambda *_: os._exit(3))\nos.mkdir({str(mark)!r})\nsignal.pause()"
            )
            driver.start(python("a", code))
            await until(mark.exists, "it runs")
            reserved = {name: (folder / f"{name}.new").stat() for name in names}
            assert all(each.st_blocks * 512 >= procfs.RECORD_BYTES for each in reserved.values())
            driver.stop("a")
            await until(lambda: not driver.seen()["a"].running, "it ended")
            written = {name: (folder / name).stat() for name in names}
            assert [written[name].st_ino for name in names] == [reserved[name].st_ino for name in names]
            assert all(each.st_size < 300 for each in written.values()), "and what was not needed is given back"

    go(work())


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(st.tuples(words, words)))
def test_an_order_says_exactly_what_was_ordered(fields: list[tuple[str, str]]) -> None:
    found = procfs.read_order(procfs.write_order(fields))
    assert found == {name: [value for other, value in fields if other == name] for name, _ in fields}
