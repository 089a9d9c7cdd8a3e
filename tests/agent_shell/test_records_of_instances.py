"""Damaged records of instances: no byte changes unseen, nothing is executed of an order that has changed, and nobody runs twice for want of a record.

With real shims; without control groups, too, where nothing but its record and its lock tells whose process is whose.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halftrack_agent import clock
from halftrack_agent.drivers import cgroups, instances, procfs, shim, traces
from halftrack_agent.drivers import exec as exec_driver
from halftrack_agent.drivers.instances import Ending, Folder, Launch, Ordered, Who
from tests.agent_shell.driver_bench import FOREVER, Bench, go, python
from tests.agent_shell.waiting import until

BOOT = "0a1b2c3d-0000-4000-8000-000000000000"
RECORDS: dict[str, dict[str, str | int | None]] = {
    "spec.json": {"workload": "a", "digest": "sha256:0", "cgroup": "a.1", "started_ms": 1234, "boot_id": BOOT},
    "instance.json": {"workload": "a", "digest": "d", "boot_id": BOOT, "pid": 4321, "start_ticks": 99, "shim_pid": 4320, "shim_start_ticks": 98},
    "exit.json": {"code": 7, "signal": None, "detail": 'it said ,"sum":"00000000"} last'},
    "ended.json": {"workload": "a", "digest": "d", "boot_id": BOOT, "code": 7, "signal": None, "detail": "last"},
}  # fmt: skip
ORDER = [("workload", "a"), ("argv", "x"), ("argv", "sum"), ("cgroup", "/sys/fs/cgroup/halftrack/a.123/cgroup.procs")]
twice = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def flipped(data: bytes, where: int, bits: int) -> bytes:
    at = where % len(data)
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


def read(folder: Folder, name: str) -> "Ordered | Who | Ending | None":
    looks: dict[str, Callable[[], Ordered | Who | Ending | None]] = {
        "spec.json": folder.ordered,
        "instance.json": folder.who,
        "exit.json": folder.ending,
        "ended.json": folder.ending,
    }
    return looks[name]()


# invariant: D1
@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_record_in_which_any_one_bit_has_changed_is_none(tmp_path: Path, name: str) -> None:
    folder, data = Folder(tmp_path), procfs.record(RECORDS[name])
    (tmp_path / name).write_bytes(data)
    assert read(folder, name) is not None
    for where in range(len(data)):
        for bits in (1, 2, 32):  # digits, quotes and commas, letters: what turns one of them into another of its kind
            (tmp_path / name).write_bytes(flipped(data, where, bits))
            assert read(folder, name) is None


# invariant: D1
@twice
@given(st.sampled_from(sorted(RECORDS)), st.integers(0), st.integers(1, 255))
def test_a_record_in_which_any_one_byte_has_changed_is_none(tmp_path: Path, name: str, where: int, bits: int) -> None:
    (tmp_path / name).write_bytes(flipped(procfs.record(RECORDS[name]), where, bits))
    assert read(Folder(tmp_path), name) is None


@twice
@given(st.sampled_from(sorted(RECORDS)), st.integers(0), st.integers(0, 255))
def test_a_record_from_before_they_had_sums_is_read_if_it_has_its_form(
    tmp_path: Path, name: str, where: int, bits: int
) -> None:
    data = json.dumps(RECORDS[name]).encode()
    (tmp_path / name).write_bytes(flipped(data, where, bits))
    found = read(Folder(tmp_path), name)
    assert found is None or isinstance(found, Ordered | Who | Ending)
    assert bits or found is not None


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_what_has_no_form_is_no_order(before: bytes, after: bytes) -> None:
    for data in (b"", b"no end", before, before + b",sum\0" + after, before + procfs.write_order(ORDER)[-13:]):
        try:
            assert set(procfs.read_order(data)) <= procfs._BEFORE_SUMS
            assert data.endswith(b"\0")
        except ValueError:
            continue


# invariants: D1, P1
@given(st.integers(0), st.integers(1, 255))
def test_an_order_in_which_any_byte_has_changed_is_none(where: int, bits: int) -> None:
    data = procfs.write_order(ORDER)
    assert procfs.read_order(data)["argv"] == ["x", "sum"]
    with pytest.raises(ValueError, match=r"changed|shorter|longer|argument"):
        procfs.read_order(flipped(data, where, bits))


def test_an_order_from_before_they_had_sums_is_read() -> None:
    assert procfs.read_order(b"workload\0a\0argv\0x\0") == {"workload": ["a"], "argv": ["x"]}


# invariants: D1, P1
@pytest.mark.parametrize("name", ["order", "run.json", "hosts"])
def test_of_a_changed_order_nothing_is_executed(bench: Bench, name: str) -> None:
    mark = bench.folder / "mark"
    folder = Folder(bench.folder / "run" / "a")
    argv = python("a", f"open({str(mark)!r}, 'w')").argv
    for damaged in (True, False):
        ordered = Ordered("a", "sha256:0", "a.1", 1, clock.boot_id())
        launch = Launch(argv, {}, own_network=False, orders=b'{"n": 1}', hosts="127.0.0.1 a\n")
        folder.write_order(ordered, launch, bench.folder / "a.log", 1 << 20, ())
        if damaged:
            path = folder.path / name
            path.write_bytes(flipped(path.read_bytes(), 5, 1))
        ready_read, ready_write = os.pipe()
        lock = folder.lock()
        assert lock is not None
        words = [sys.executable, "-I", "-S", shim.__file__, str(folder.path), str(ready_write), str(lock)]
        subprocess.run(words, pass_fds=(ready_write, lock), timeout=20, check=True)
        for fd in (ready_read, ready_write, lock):
            os.close(fd)
        ending = folder.ending()
        assert ending is not None
        assert mark.exists() is not damaged
        if damaged:
            assert (ending.code, ending.signal) == (None, None), "nobody's exit: it is ordered once more"
            assert "has changed since it was written" in ending.detail


# --------------------------------------------------------------------------------------------------------- who lives below it


def cut(data: bytes) -> bytes:
    return data[:-3]


def of_another_boot(data: bytes) -> bytes:
    return data.replace(clock.boot_id().encode(), BOOT.encode())


def other_numbers(data: bytes) -> bytes:
    """As an agent before wrote it, and all of its numbers wrong."""
    tree = {name: value for name, value in json.loads(data).items() if name != "sum"}
    return json.dumps({name: value + 1 if isinstance(value, int) else value for name, value in tree.items()}).encode()


def remains(folder: Path, names: str, damage: Callable[[bytes], bytes]) -> None:
    for name in names.split():
        (folder / name).write_bytes(damage((folder / name).read_bytes()))


# invariants: R2, D1
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize(
    ("names", "damage"),
    [
        ("spec.json", cut),
        ("spec.json", of_another_boot),
        ("instance.json", cut),
        ("instance.json", other_numbers),
        ("instance.json", of_another_boot),
        ("spec.json instance.json", cut),
        ("order instance.json", cut),
    ],
)
def test_whose_record_was_damaged_runs_on_as_what_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, names: str, damage: Callable[[bytes], bytes], grouped: bool
) -> None:
    if not grouped:
        monkeypatch.setattr(cgroups, "layout", lambda *_: cgroups.Layout((), False))
    workload = python("a", f"import subprocess\nsubprocess.run(['sh', '-c', 'sleep 600 &'])\n{FOREVER}")

    async def work() -> None:
        async with bench.running() as first:
            first.start(workload)
            await until(first.pids, "it runs")
            pid = first.pids()["a"]
            who = Folder(bench.folder / "run" / "a").who()
            assert who is not None
            await until(lambda: len(procfs.children(str(who.shim.pid))) == 2, "the shim has adopted another child")
            remains(bench.folder / "run" / "a", names, damage)
            other = bench.driver()
            assert await other.adopt() == ("a",)
            assert (other.pids(), other.seen()["a"].digest) == ({"a": pid}, workload.digest())
            mended = (bench.folder / "run" / "a" / "spec.json").read_bytes()
            assert procfs.is_whole(mended), "what another record tells"
            other.start(workload)
            assert other.pids() == {"a": pid}
            await other.close()

    go(work())


# invariants: R2, D1
def test_of_whom_two_records_are_damaged_it_is_known_only_that_it_lives(bench: Bench) -> None:
    async def work() -> None:
        async with bench.running() as first:
            first.start(python("a", FOREVER))
            await until(first.pids, "it runs")
            remains(bench.folder / "run" / "a", "spec.json order", cut)
            other = bench.driver()
            assert await other.adopt() == ("a",)
            assert (other.pids(), other.seen()["a"].digest) == (first.pids(), ""), "as nothing that is wanted"
            await other.close()

    go(work())


# invariants: R2, D1
def test_who_is_known_by_nothing_but_its_life_takes_no_record_of_another_with_it(bench: Bench) -> None:
    async def work() -> None:
        async with bench.running() as first:
            for name in ("a", "b"):
                first.start(python(name, FOREVER))
            await until(lambda: len(first.pids()) == 2, "both run")
            remains(bench.folder / "run" / "a", "spec.json order", cut)
            kept = {path: path.read_bytes() for path in (bench.folder / "run" / "b").iterdir()}
            other = bench.driver()
            assert await other.adopt() == ("a", "b")
            other.stop("a")
            await until(lambda: not other.seen()["a"].running, "it has ended")
            other.forget("a")
            await until(lambda: not other.busy, "what is left of it is gone")
            assert {path: path.read_bytes() for path in (bench.folder / "run" / "b").iterdir()} == kept
            assert os.listdir(bench.folder / "run") == ["b"]
            await other.close()

    go(work())


# invariant: R2
def test_while_a_shim_lives_that_cannot_be_found_nobody_is_started_in_its_place(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may hide processes, and then only the lock tells that somebody is there."""
    monkeypatch.setattr(cgroups, "layout", lambda *_: cgroups.Layout((), False))
    monkeypatch.setattr(traces, "found", lambda *_: None)
    monkeypatch.setattr(exec_driver, "LOOK_S", 0.01)
    workload = python("a", FOREVER)

    async def work() -> None:
        first = bench.driver()
        first.start(workload)
        await until(first.pids, "it runs")
        pids = first.pids()
        remains(bench.folder / "run" / "a", "instance.json", cut)
        async with bench.running() as other:
            with monkeypatch.context() as impatient:
                impatient.setattr(exec_driver, "READY_S", 0.1)
                assert await other.adopt() == ("a",)
            assert any("until it ends no other is started" in problem for problem in other.problems)
            other.start(workload)
            assert other.seen()["a"].running
            assert procfs.start_ticks(pids["a"]) is not None
            first.stop("a")
            await until(lambda: not other.seen()["a"].running, "its end is seen")
            assert procfs.start_ticks(pids["a"]) is None
            other.forget("a")
            other.start(workload)
            await until(other.pids, "and the next one runs")
        await first.close()

    go(work())


# invariant: R2
def test_nobody_is_started_in_a_folder_in_which_a_shim_lives(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever orders it, for whatever reason: the lock is looked at last of all."""
    workload = python("a", FOREVER)

    async def work() -> None:
        async with bench.running() as first:
            first.start(workload)
            await until(first.pids, "it runs")
            other = bench.driver()  # one that has not looked who is there
            other.start(workload)
            await until(lambda: not other.seen()["a"].running, "it was not started")
            assert "still holds its lock" in other.seen()["a"].detail
            assert first.seen()["a"].running
            assert Folder(bench.folder / "run" / "a").who() is not None, "and nothing was changed there"
            monkeypatch.setattr(instances, "GONE_TRIES", 1)
            for name in ("ended.json", "exit.json"):  # as one that is about to be gone, and is not
                (bench.folder / "run" / "a" / name).touch()
                assert not Folder(bench.folder / "run" / "a").free()
                (bench.folder / "run" / "a" / name).unlink()
            await other.close()

    go(work())


# invariant: R2
def test_orders_that_were_changed_are_those_that_another_record_tells(bench: Bench) -> None:
    first, second = python("a", FOREVER), python("a", f"{FOREVER}  # as another version says")

    async def work() -> None:
        bench.orders = b"first"
        async with bench.running() as driver:
            driver.start(first)
            await until(driver.pids, "it runs")
            driver.reorder(second)
            remains(bench.folder / "run" / "a", "spec.json", cut)
            found = Folder(bench.folder / "run" / "a").ordered()
            assert found is not None
            assert found.digest == second.digest()
            assert found.cgroup == ("" if not driver.groups("a") else Path(driver.groups("a")[0]).parent.name)

    go(work())


@pytest.mark.parametrize("groups", ["/sys/fs/cgroup/halftrack/b.123/cgroup.procs", "/x/a.b/cgroup.procs", ""])
def test_an_order_names_no_group_of_another(tmp_path: Path, groups: str) -> None:
    folder = Folder(tmp_path / "a")
    folder.path.mkdir()
    for group, name in ((ORDER[-1][1], "a.123"), (groups, "")):
        (folder.path / "order").write_bytes(procfs.write_order([*ORDER[:-1], ("cgroup", group)]))
        assert folder.group() == name
