"""The one set-up step leaves nothing behind when it cannot finish: tried in an empty checkout, with programs that only pretend."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.house.source import ROOT

# No program runs once it has begun: bash overlooks an interrupt that comes while it waits for one that ends well.
_PYTHON = """#!/bin/bash
[ "$1" = -m ] || exit 0
mkdir -p .venv/bin build && : >"$TMPDIR/pip-unpack" && : >.venv/begun
echo "no space left on device"
{ending}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in ("tools", "bin", "tmp", "dataplane/halftrack_dataplane", "proto/halftrack_proto"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "tools/bootstrap", tmp_path / "tools/bootstrap")
    for name in ("ip", "nft", "unshare", "setpriv", "gcc"):
        _program(tmp_path, name, "#!/bin/sh\n")
    return tmp_path


def _program(checkout: Path, name: str, text: str) -> None:
    path = checkout / "bin" / name
    path.write_text(text)
    path.chmod(0o755)


def _begun(checkout: Path) -> subprocess.Popen[str]:
    environment = {"PATH": f"{checkout}/bin:/usr/bin:/bin", "TMPDIR": str(checkout / "tmp"), "HOME": str(checkout)}
    return subprocess.Popen(
        [str(checkout / "tools/bootstrap")], stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def _left(checkout: Path) -> list[Path]:
    return [path for path in (checkout / ".venv", checkout / "build", *(checkout / "tmp").iterdir()) if path.exists()]


def test_what_fails_is_told_and_taken_back(checkout: Path) -> None:
    _program(checkout, "python3", _PYTHON.format(ending="exit 1"))
    child = _begun(checkout)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 1
    assert told.endswith("no space left on device\nhalftrack: python -m venv failed; its last words are above\n")
    assert not _left(checkout)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_is_interrupted_is_taken_back(checkout: Path, number: signal.Signals, status: int) -> None:
    _program(checkout, "python3", _PYTHON.format(ending="exec sleep 30"))
    child = _begun(checkout)
    deadline = time.monotonic() + 60
    while not (checkout / ".venv/begun").exists():
        assert time.monotonic() < deadline, "it did not begin"
        time.sleep(0.02)
    os.killpg(child.pid, number)
    child.communicate(timeout=60)
    assert child.returncode == status
    assert not _left(checkout)


def test_what_an_ordinary_user_has_to_install_is_one_command(checkout: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root is given the packages")
    _program(checkout, "python3", _PYTHON.format(ending="exit 1"))
    _program(checkout, "gcc", "#!/bin/sh\nexit 1\n")
    _program(checkout, "apt-get", "#!/bin/sh\nexit 1\n")
    child = _begun(checkout)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "\n    sudo apt-get install -y gcc libc6-dev\n" in told
    assert not _left(checkout)


def test_system_packages_that_cannot_be_had_leave_nothing(checkout: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root installs packages")
    _program(checkout, "python3", _PYTHON.format(ending="exit 1"))
    _program(checkout, "gcc", "#!/bin/sh\nexit 1\n")
    _program(checkout, "apt-get", "#!/bin/sh\necho no such mirror\nexit 100\n")
    child = _begun(checkout)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 1
    assert told.endswith("no such mirror\nhalftrack: apt-get update failed; its last words are above\n")
    assert not _left(checkout)
