"""What an instance may use at most: the files of both versions of control groups, and the kernel's own word on it; and what a host is itself short of."""

import asyncio
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent.drivers.cgroups import Cgroups, Layout, limits
from halftrack_agent.drivers.shim import told
from halftrack_model.resources import Resources, effective, faults
from halftrack_model.workload import Workload
from tests.agent_shell.driver_bench import FOREVER, Bench, go, python
from tests.agent_shell.waiting import until

AMOUNT = st.one_of(st.just(0), st.integers(1, 1 << 40))
RESOURCES = st.builds(Resources, AMOUNT, AMOUNT, AMOUNT)


@given(RESOURCES)
def test_what_is_not_said_is_not_bounded_and_what_is_said_has_its_file(resources: Resources) -> None:
    for unified, memory, cpu in ((True, "memory.max", "cpu.max"), (False, "memory.limit_in_bytes", "cpu.cfs_quota_us")):
        files = limits(resources, unified)
        assert ("pids.max" in files) == (resources.pids > 0)
        assert (memory in files) == (resources.memory_bytes > 0)
        assert (cpu in files) == (resources.cpu_milli > 0)
        if resources.memory_bytes:
            assert int(files[memory]) == resources.memory_bytes
        if resources.cpu_milli:
            quota, period = files["cpu.max"].split() if unified else (files[cpu], files["cpu.cfs_period_us"])
            assert int(quota) * 1000 == resources.cpu_milli * int(period)


@given(st.none() | RESOURCES, st.none() | RESOURCES)
def test_the_vertex_has_the_last_word_field_by_field(vertex: Resources | None, release: Resources | None) -> None:
    found = effective(vertex, release)
    assert (found is None) == (vertex is None and release is None)
    for name in ("cpu_milli", "memory_bytes", "pids"):
        said = [getattr(each, name) for each in (vertex, release) if each is not None and getattr(each, name)]
        assert getattr(found, name, 0) == next(iter(said), 0)


def test_limits_that_make_no_sense_are_told_all_at_once() -> None:
    assert list(faults(Resources(500, 256 << 20, 64))) == []
    assert list(faults(None)) == []
    (text,) = faults(Resources())
    assert "say nothing" in text
    found = list(faults(Resources(1, 1 << 20, 2)))
    assert [word for text in found for word in ("cpu", "memory", "pids") if f"its {word} must" in text] == [
        "cpu",
        "memory",
        "pids",
    ]


def test_who_has_no_name_has_no_group_and_certainly_not_that_of_all(tmp_path: Path) -> None:
    """An instance whose record is damaged, and the switch of version 2 that kills whatever is below."""
    (tmp_path / "cgroup.kill").write_text("")
    (tmp_path / "a.1").mkdir()
    groups = Cgroups("halftrack-test/none")
    groups.close()
    groups._layout = Layout((tmp_path,), True)
    groups.kill("")
    assert (groups.procs(""), groups.pids(""), groups.remove("")) == ((), (), True)
    assert (tmp_path / "cgroup.kill").read_text() == ""


def test_version_2_gets_its_own_files_and_a_host_without_them_says_so(tmp_path: Path) -> None:
    groups = Cgroups("halftrack-test/none")
    groups.close()
    groups._layout, groups.problem = Layout((tmp_path,), True), ""
    folder = tmp_path / "a.1"
    folder.mkdir()
    for name in ("memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "pids.max"):
        (folder / name).write_text("max")
    assert groups.make("a.1", Resources(250, 64 << 20, 0)) == (folder / "cgroup.procs",)
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert found["cpu.max"] == "25000 100000"
    assert (found["memory.max"], found["memory.swap.max"], found["memory.oom.group"]) == (str(64 << 20), "0", "1")
    assert found["pids.max"] == "4096"
    assert groups.problem == ""
    groups.make("b.1", Resources(250, 64 << 20, 0))
    assert groups.problem == "b.1 is not bounded in cpu and memory: this host's control groups have no such limit"


def test_an_exit_beside_the_limit_says_both() -> None:
    assert told(-9, True, 256 << 20, "last") == "killed by its memory limit of 256 MiB"
    assert told(-9, False, 256 << 20, "last") == "last"
    assert told(1, True, 1 << 20, "MemoryError") == (
        "a process of it was killed by its memory limit of 1 MiB; its log's last line: MemoryError"
    )


# ------------------------------------------------------------------------------------------------------ the kernel's own word


def bounded(workload: Workload, *amounts: int) -> Workload:
    return replace(workload, resources=Resources(*amounts))


def grouped(bench: Bench) -> Cgroups:
    groups = Cgroups(bench.cgroup)
    if groups.problem:
        pytest.skip(groups.problem)
    return groups


def ended(bench: Bench, workload: Workload, check: Callable[[str], None]) -> None:
    """Run it beside another that has no limits, to its end; `check` gets what is said of that."""
    grouped(bench)

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("other", FOREVER))
            driver.start(workload)
            await until(lambda: "a" in driver.seen() and not driver.seen()["a"].running, "it has ended")
            check(f"{driver.seen()['a'].signal} {driver.seen()['a'].exit_code} {driver.seen()['a'].detail}")
            assert driver.seen()["other"].running
            assert not driver.problems

    go(work())


def says(wanted: str) -> Callable[[str], None]:
    def check(found: str) -> None:
        assert found == wanted

    return check


@pytest.mark.host
def test_who_takes_more_memory_than_its_limit_is_killed_and_that_is_what_is_said(bench: Bench) -> None:
    greedy = python("a", "print('up', flush=True)\nkept = bytearray(200 << 20)\nprint('still here', flush=True)")
    ended(bench, bounded(greedy, 0, 48 << 20), says("9 None killed by its memory limit of 48 MiB"))
    assert "still here" not in (bench.folder / "logs" / "a.log").read_text()


@pytest.mark.host
def test_a_child_that_is_killed_for_it_is_told_beside_the_exit(bench: Bench) -> None:
    code = "import os\nif os.fork() == 0: kept = bytearray(200 << 20)\nos.wait()\nprint('my child is gone', flush=True)\nos._exit(3)"
    text = "None 3 a process of it was killed by its memory limit of 48 MiB; its log's last line: my child is gone"
    ended(bench, bounded(python("a", code), 0, 48 << 20), says(text))


@pytest.mark.host
@pytest.mark.parametrize("reserved", [True, False])
def test_memory_that_the_agent_has_reserved_is_not_the_instances(bench: Bench, reserved: bool) -> None:
    """As a ring's is: its pages are charged to whoever reserved them. What nobody has reserved is charged to whoever touches it first."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="halftrack-limits-") as shared:
        if reserved:
            os.posix_fallocate(shared.fileno(), 0, 100 << 20)
        else:
            shared.truncate(100 << 20)
        code = f"import mmap\nfile = open({shared.name!r}, 'r+b')\nroom = mmap.mmap(file.fileno(), 0)\n"
        code += "for at in range(0, len(room), 4096): room[at] = 1\nprint('touched all', flush=True)"
        outcome = "None 0 touched all" if reserved else "9 None killed by its memory limit of 48 MiB"
        ended(bench, bounded(python("a", code), 0, 48 << 20), says(outcome))


@pytest.mark.host
def test_who_starts_too_many_processes_may_not(bench: Bench) -> None:
    code = """
import os, signal
made = 0
try:
    while made < 100:
        if os.fork() == 0: signal.pause()
        made += 1
except OSError: pass
print(made, flush=True)
"""
    ended(bench, bounded(python("a", code), 0, 0, 16), says("None 0 15"))


@pytest.mark.host
def test_who_wants_more_of_the_processor_waits_for_it(bench: Bench) -> None:
    grouped(bench)

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(bounded(python("a", "while True: pass"), 100))
            await until(driver.pids, "it runs")

            def throttled() -> int:
                (stat,) = Path("/sys/fs/cgroup").glob(f"**/{bench.cgroup}/a.*/cpu.stat")
                return next(
                    int(line.split()[1]) for line in stat.read_text().splitlines() if line.startswith("nr_throttled")
                )

            await until(lambda: throttled() > 3, "the kernel has it wait")
            assert not driver.problems

    go(work())


@pytest.mark.parametrize("short", ["descriptors", "threads"])
def test_a_host_that_is_short_of_something_starts_it_once_it_is_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, short: str
) -> None:
    """It had looked as if it ran, for ever."""

    def none_left(*_words: object) -> None:
        raise OSError(24, "Too many open files") if short == "descriptors" else RuntimeError("can't start new thread")

    async def work() -> None:
        async with bench.running() as driver:
            with monkeypatch.context() as patch:
                patch.setattr(*((os, "pipe") if short == "descriptors" else (asyncio, "to_thread")), none_left)
                driver.start(python("a", FOREVER))
                await until(lambda: not driver.seen()["a"].running, "it is given up")
            assert "not started" in driver.seen()["a"].detail
            driver.start(python("a", FOREVER))
            await until(lambda: "a" in driver.pids(), "it runs")

    go(work())
