"""The demo itself, in short form: as whoever runs the tests, as an ordinary user, and killed in the middle.

`.ci/run` runs `make demo` as both, which looks at the same counts; it says so, and the first two are left to it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = 65534
SHORT = {"SECONDS": "20", "SEED": "11", "RATE": "16"}
pytestmark = [pytest.mark.host, pytest.mark.slow, pytest.mark.timeout(240)]


def start(folder, user=None, **settings):
    environment = {**os.environ, **SHORT, **settings}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "examples/demo/run.py")],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **({} if user is None else {"user": user, "group": user, "extra_groups": []}),
    )


def world_of(launcher):
    """The PID namespace that the launcher's world has: everything in it is the demo's."""
    (keeper,) = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return os.readlink(f"/proc/{keeper}/ns/pid_for_children")


def inhabitants(world):
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "ns/pid") == world:
                found.append(entry.name)
        except OSError:
            continue
    return found


def control_groups(pid):
    return list(Path("/sys/fs/cgroup").glob(f"**/halftrack-demo-{pid}"))


def right(process, folder):
    output = process.communicate(timeout=220)[0]
    assert process.returncode == 0, output[-6000:]
    report = json.loads((folder / "demo-report.json").read_text())
    zeros = {name: report[name] for name in ("lost", "duplicated", "reordered", "mismatched", "restarts_unplanned")}
    assert set(zeros.values()) == {0}, report
    assert (report["swaps"], report["undone"], report["members_killed"], report["corrupt_refused"]) == (1, 1, 1, 10)
    assert report["frames_out"] == report["frames_in"] // 4
    assert not control_groups(process.pid)


def readable_for_everybody():
    probe = [sys.executable, "-c", "import halftrack_dataplane.ring, baseband"]
    try:
        run = subprocess.run(
            probe, cwd="/", user=NOBODY, group=NOBODY, extra_groups=[], check=False, capture_output=True
        )
    except PermissionError:
        return False
    return run.returncode == 0


apart = pytest.mark.skipif(bool(os.environ.get("HALFTRACK_DEMO_APART")), reason="`make demo` is run by itself")


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o777)
    return tmp_path


@apart
def test_as_whoever_runs_the_tests(folder):  # invariant: S1
    right(start(folder), folder)


@apart
def test_as_an_ordinary_user(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("the other test has just done that")
    if not readable_for_everybody():
        pytest.skip("an ordinary user cannot read this checkout or its Python")
    folder = Path("/tmp") / f"halftrack-demo-test-{os.getpid()}"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    try:
        right(start(folder, user=NOBODY), folder)
    finally:
        for path in folder.rglob("*"):
            path.unlink(missing_ok=True)
        folder.rmdir()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_the_middle_it_leaves_nothing_and_the_next_run_clears_the_rest(folder, number):
    process = start(folder)
    for line in process.stdout:
        if "spectra.source runs" in line:
            break
    world = world_of(process.pid)
    assert len(inhabitants(world)) > 8  # wire, controller, agents, shims, workloads
    process.send_signal(number)
    process.wait(30)
    process.stdout.close()
    end = time.monotonic() + 20
    while inhabitants(world) and time.monotonic() < end:
        time.sleep(0.05)
    assert not inhabitants(world)
    if number == signal.SIGKILL:
        bad = subprocess.run([sys.executable, str(ROOT / "examples/demo/run.py")], env={"SECONDS": "x"}, check=False)
        assert bad.returncode == 1
        code = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom examples.demo import run\nrun.clear_cgroups()"
        subprocess.run([sys.executable, "-c", code], check=True)
    assert not control_groups(process.pid)
