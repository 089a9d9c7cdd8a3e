"""From the installed program to the version that shall run, and the guard that stands beside a trial."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from halftrack_agent import launching, slots
from halftrack_agent.lock import StateLock
from halftrack_agent.places import Places
from halftrack_agent.slots import Running, Slot, Slots
from halftrack_model.errors import HostFault
from tests.agent_shell.test_agent import until


def places(folder: Path) -> Places:
    made = Places(folder / "state", folder / "run")
    made.state.mkdir()
    return made


def stays_installed(at: Places) -> bool:
    """Does a start leave this process what it is? Otherwise it does not return."""
    own = launching.begun(["run"])
    launching.launched(launching.Start(at, ["run"], 1.0, itself=False), own)
    return not own.digest


def test_a_damaged_record_or_version_leaves_the_installed_program(tmp_path: Path) -> None:
    at = places(tmp_path)
    gone = Slot("sha256:" + "0" * 64, "9.0.0", ("/no/such/program",))
    launching.store(at, slots.tried(Slots(launching.installed()), gone, (Running("x", 1, 1),)))
    assert stays_installed(at)
    assert launching.load(at, "").trial is None, "it may be brought again"
    assert not launching.load(at, "").failed, "nobody has seen it fail"
    at.unpacked.joinpath("0" * 64, "tree").mkdir(parents=True)
    at.unpacked.joinpath("0" * 64, "files.json").write_text("[]")
    launching.store(at, slots.tried(Slots(launching.installed()), gone, ()))
    assert stays_installed(at)
    (given_up,) = launching.load(at, "").failed
    assert given_up.reason == "it cannot be started: No such file or directory"
    (at.state / "slots.json").write_bytes(b"{}")
    assert stays_installed(at)


def test_who_is_started_beside_an_agent_costs_a_trial_no_start(tmp_path: Path) -> None:
    at = places(tmp_path)
    record = slots.tried(Slots(launching.installed()), Slot("sha256:" + "0" * 64, "9.0.0", ("/agent",)), ())
    launching.store(at, record)
    held = StateLock(at.state)
    try:
        assert stays_installed(at)
    finally:
        held.close()
    assert launching.load(at, "") == record


def test_a_start_that_cannot_be_counted_is_not_the_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = places(tmp_path)
    record = slots.tried(Slots(launching.installed()), Slot("sha256:" + "0" * 64, "9.0.0", ("/agent",)), ())
    launching.store(at, record)

    def full(_places: Places, _record: Slots) -> None:
        raise HostFault("disk-full", "no room")

    monkeypatch.setattr(launching, "store", full)
    assert stays_installed(at)
    assert launching.load(at, "") == record


NOW = str(0.5 - launching.GRACE_S)  # a trial whose time is over half a second after its start

GUARDED = """
import signal, sys, time
from pathlib import Path
from halftrack_agent import checking, launching, slots, updating
from halftrack_agent.lock import StateLock
from halftrack_agent.places import Places
at = Places(Path(sys.argv[1]) / "state", Path(sys.argv[1]) / "run")
again = ("/bin/sh", "-c", 'echo begun anew >> "$0"', str(at.state / "begun"))
how, launching.END_S = sys.argv[3], float(sys.argv[4])
start = launching.Start(at, ["run"], float(sys.argv[2]), itself=how != "managed")
launching._guard(start, launching.Launched("", again, "one"), launching.load(at, "").trial)
if how == "alarmed":
    signal.signal(signal.SIGALRM, lambda *_: None)
print("guarded", flush=True)
while True:
    time.sleep(600)
"""


@contextlib.contextmanager
def guarded(folder: Path, patience_s: str, how: str) -> Iterator[tuple[Places, Slots, "subprocess.Popen[str]"]]:
    """A version on trial that does nothing, and a guard beside it."""
    at = places(folder)
    record = slots.tried(Slots("one"), Slot("sha256:" + "0" * 64, "9.0.0", ("/agent",)), ())
    launching.store(at, record)
    argv = [sys.executable, "-c", GUARDED, str(folder), patience_s, how, "0.5" if how == "alarmed" else "10"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "guarded\n"
        yield at, record, child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        until(lambda: not guards(folder), "no guard is left")


def test_a_version_that_hangs_in_its_trial_is_ended_by_a_guard_of_the_installed_one(tmp_path: Path) -> None:
    with guarded(tmp_path, NOW, "managed") as (_at, _record, child):
        assert child.wait(20) == -signal.SIGKILL


@pytest.mark.parametrize("end", ["it has stayed", "it was started again"])
def test_a_guard_ends_with_that_start_of_the_trial(tmp_path: Path, end: str) -> None:
    with guarded(tmp_path, "60", "managed") as (at, record, child):
        again, _slot = slots.started(record, "one")
        launching.store(at, slots.stayed(record) if end == "it has stayed" else again)
        until(lambda: not guards(tmp_path), "the guard has nothing to do any more")
        assert child.poll() is None


def test_where_nobody_else_starts_it_again_the_guard_does(tmp_path: Path) -> None:
    """The version on trial has no alarm that it would begin anew by: it ends of it, and the guard becomes the installed program."""
    with guarded(tmp_path, NOW, "alone") as (at, _record, child):
        assert child.wait(20) == -signal.SIGALRM
        until((at.state / "begun").exists, "the installed program has begun")


def test_a_guard_lets_who_begins_anew_by_itself_do_so(tmp_path: Path) -> None:
    with guarded(tmp_path, NOW, "alarmed") as (at, _record, child):
        until(lambda: not guards(tmp_path), "the guard has waited for its end")
        assert child.poll() is None
        assert not (at.state / "begun").exists()


def guards(folder: Path) -> list[int]:
    """Processes beside the guarded one that were forked from it."""
    needle, found = os.fsencode(folder), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line, status = (entry / "cmdline").read_bytes(), (entry / "stat").read_text()
            except OSError:
                continue
            if needle in line and b"GUARDED" not in line and os.getsid(int(entry.name)) != os.getsid(0):
                found.append(int(status.split()[0]))
    return found
