"""The check that every test run ends with must itself see what is left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.residue import PROCESS, RUN_MARK, footprint, left_behind

_ORPHANING = """
import subprocess, sys
sleeper = [sys.executable, "-c", "import time; time.sleep(60)", sys.argv[1]]
print(subprocess.Popen(sleeper, env={}, stdout=subprocess.DEVNULL).pid)
"""


def _now(scratch: str = "/nowhere-in-particular") -> dict[str, frozenset[str]]:
    return dict(footprint(os.environ[RUN_MARK], scratch))


def test_nothing_new_is_nothing_left() -> None:
    seen = {"mount": frozenset({"/", "/tmp"})}
    assert left_behind(seen, seen) == []
    assert left_behind(seen, {"mount": frozenset({"/"})}) == []  # what went away is not ours to explain
    assert left_behind(seen, {"mount": frozenset({"/", "/a", "/b"})}) == ["mount /a", "mount /b"]


def test_a_process_that_lingers_is_seen() -> None:
    before = _now()
    with subprocess.Popen(["sleep", "60"]) as lingering:
        left = left_behind(before, _now())
        lingering.kill()
    assert [line for line in left if f"{PROCESS} {lingering.pid} " in line]


def test_an_orphan_without_our_environment_is_seen_by_its_scratch_folder(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", _ORPHANING, str(tmp_path)], check=True, stdout=subprocess.PIPE, text=True
    )
    orphan = int(told.stdout)
    try:
        assert any(line.startswith(f"{orphan} ") for line in _now(str(tmp_path))[PROCESS])
    finally:
        os.kill(orphan, 9)


def test_a_segment_is_seen() -> None:
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        pytest.skip("no /dev/shm here")
    before = _now()
    segment = shm / f"halftrack-residue-{os.getpid()}"
    segment.touch()
    try:
        assert f"shared memory segment {segment.name}" in left_behind(before, _now())
    finally:
        segment.unlink()
