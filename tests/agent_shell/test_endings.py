"""How an instance ended, and who knows it: a job that is done is not run again, and a release that has failed is not tried again, whatever one record has come to."""

import contextlib
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import clock
from halftrack_agent.drivers import exec as exec_driver
from halftrack_agent.drivers import instances, processes, procfs, shim
from halftrack_agent.drivers.exec import ExecDriver
from halftrack_agent.drivers.instances import Ending, Folder, Launch, Ordered
from tests.agent_shell.driver_bench import FOREVER, Bench, go, python
from tests.agent_shell.test_records_of_instances import BOOT, RECORDS, cut, remains, twice
from tests.agent_shell.waiting import until

WHOSE: dict[str, str | int | None] = {"workload": "a", "digest": "d", "boot_id": BOOT}


# invariants: P3, D1
@pytest.mark.parametrize(
    "names", ["spec.json", "exit.json", "ended.json", "spec.json order", "spec.json order exit.json"]
)
def test_a_finished_job_stays_finished_whichever_record_tells(bench: Bench, names: str) -> None:
    workload = python("a", "raise SystemExit(7)")

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(workload)
            await until(lambda: not driver.seen()["a"].running, "it is done")
            for _ in range(2):  # and once more: what was damaged has been mended
                remains(bench.folder / "run" / "a", names, cut)
                other: ExecDriver = bench.driver()
                assert await other.adopt() == ()
                assert (other.seen()["a"].exit_code, other.seen()["a"].digest) == (7, workload.digest())
                await other.close()

    go(work())


# invariants: P3, D1
@twice
@given(st.sets(st.sampled_from(["spec.json", "order", "exit.json", "ended.json"])), st.booleans(), st.booleans())
def test_an_exit_is_known_for_as_long_as_any_record_tells_how_and_any_tells_whose(
    tmp_path: Path, names: set[str], lost: bool, rebooted: bool
) -> None:
    folder = Folder(tmp_path / "a")
    folder.write_order(
        Ordered("a", "d", "a.1", 1, BOOT), Launch(("x",), {}, own_network=False), tmp_path / "log", 1, ()
    )
    shim.tell(str(folder.path), WHOSE, dict(RECORDS["exit.json"]))
    for name in names:
        if lost:
            (folder.path / name).unlink()
        else:
            remains(folder.path, name, cut)
    how = not names >= {"exit.json", "ended.json"}
    # Of an order alone nobody knows whether it was ever carried out.
    knows = "spec.json" not in names or ("order" not in names and not lost) or "ended.json" not in names
    found = folder.found("another boot" if rebooted else BOOT, 5)
    if how and knows:
        assert found is not None
        assert (found[0].workload, found[0].digest, found[1]) == (
            "a",
            "d",
            Ending(7, None, RECORDS["exit.json"]["detail"]),
        )  # type: ignore[arg-type]
        assert all(
            procfs.is_whole((folder.path / name).read_bytes()) for name in ("spec.json", "exit.json", "ended.json")
        )
    else:
        assert found is None or found[1] is None
        assert found is None or not rebooted


# invariants: P3, D1
def test_an_exit_of_its_own_is_on_the_disk_twice_and_its_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path))
    )
    for code, wanted in ((7, ["a/ended.json.new", "a", "a/exit.json.new", "a", "."]), (None, [])):
        (tmp_path / "a").mkdir(exist_ok=True)
        procfs.reserve_record(str(tmp_path / "a" / "ended.json"))
        shim.tell(str(tmp_path / "a"), WHOSE, RECORDS["exit.json"] | {"code": code})
        assert synced == wanted
        assert sorted(os.listdir(tmp_path / "a")) == (["ended.json", "exit.json"] if code else ["exit.json"])
        synced.clear()
        for name in os.listdir(tmp_path / "a"):
            (tmp_path / "a" / name).unlink()


# invariants: P3, D1
def test_a_disk_that_takes_one_record_alone_has_told_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, plain = Folder(tmp_path / "a"), procfs.write_record

    def refusing(path: str, tree: dict[str, str | int | None], *, durable: bool) -> None:
        if path.endswith(refused):
            raise OSError(5, "it did not take it")
        plain(path, tree, durable=durable)

    monkeypatch.setattr(procfs, "write_record", refusing)
    for refused in ("ended.json", "exit.json"):
        folder.path.mkdir()
        with contextlib.suppress(OSError):
            shim.tell(str(folder.path), WHOSE, RECORDS["exit.json"])
        if refused == "exit.json":  # as a shim that has failed says it
            plain(str(folder.path / refused), RECORDS["exit.json"] | {"code": None}, durable=False)
        ending = folder.ending()
        assert ending is not None
        assert ending.code == 7
        folder.remove()


@pytest.mark.parametrize("told", ["ended.json", "exit.json", ""])
def test_a_shim_that_has_told_an_end_is_given_a_moment_to_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    folder = Folder(tmp_path)
    held = folder.lock()
    assert held is not None
    monkeypatch.setattr(instances.time, "sleep", lambda _s: os.close(held))
    if told:
        (tmp_path / told).touch()
    assert folder.free() is bool(told)
    if not told:
        os.close(held)


# invariant: R2
def test_who_has_lost_its_shim_runs_on_and_its_log_stays_within_its_bounds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may run on for months, through many agents."""
    log = bench.folder / "logs/a.log"

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("a", FOREVER))
            await until(driver.pids, "it runs")
            who = Folder(bench.folder / "run/a").who()
            assert who is not None
            monkeypatch.setattr(exec_driver, "LOG_BYTES", 1000)
            with log.open("ab") as file:
                file.write(b"x" * 3000)
            driver.keep_logs()
            assert log.stat().st_size == 3000, "its shim sees to it"
            os.kill(who.shim.pid, signal.SIGKILL)
            await until(lambda: driver.problems, "noticed")
            driver.keep_logs()
            assert (log.stat().st_size, log.with_name("a.log.1").stat().st_size) == (0, 1000)
            assert processes.alive(who.workload, clock.boot_id())

    go(work())


# invariant: P3
def test_an_exit_that_the_disk_does_not_keep_is_told_for_as_long_as_the_boot_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is done was run again at once, as if its shim had failed."""

    def failing(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    shim.tell(str(tmp_path), WHOSE, {"code": 0, "signal": None, "detail": "done"})
    assert Folder(tmp_path).ending() == Ending(0, None, "done")
