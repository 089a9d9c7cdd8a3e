"""What holds for every test run: it leaves nothing behind, and says which tests the machine cannot run."""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.residue import PROCESS, RUN_MARK, footprint, left_behind

SETTLE_S = 5.0  # the kernel takes namespaces and mounts apart in the background

# Deadlines of single examples say more about a shared machine than about the code. In CI the examples are the same each time.
settings.register_profile("house", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("house")


def pytest_configure() -> None:
    """Mark all processes that this run starts; `tests.residue` finds them by it."""
    os.environ.setdefault(RUN_MARK, uuid.uuid4().hex)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs namespaces where there are none; where HALFTRACK_REQUIRE_HOST is set, that is a failure instead."""
    hosted = [item for item in items if item.get_closest_marker("host")]
    if not hosted or os.environ.get("HALFTRACK_REQUIRE_HOST") or _namespaces():
        return
    for item in hosted:
        item.add_marker(pytest.mark.skip(reason="this machine lets us make no network namespace (try as root)"))


def _namespaces() -> bool:
    flags = "-n" if os.geteuid() == 0 else "-Urn"
    unshare = shutil.which("unshare")
    return (
        unshare is not None
        and not subprocess.run([unshare, flags, "true"], check=False, capture_output=True).returncode
    )


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compare the machine with what it was. While another run shares it, only processes can be told apart: the rest is a warning."""
    mark, scratch = os.environ[RUN_MARK], str(tmp_path_factory.getbasetemp())
    shared = os.open(tempfile.gettempdir(), os.O_RDONLY | os.O_DIRECTORY)  # the same for all checkouts on this machine
    try:
        fcntl.flock(shared, fcntl.LOCK_SH)
        before = footprint(mark, scratch)
        yield
        deadline = time.monotonic() + SETTLE_S
        while (left := left_behind(before, footprint(mark, scratch))) and time.monotonic() < deadline:
            time.sleep(0.1)
        try:
            fcntl.flock(shared, fcntl.LOCK_EX | fcntl.LOCK_NB)
            certain = left
        except BlockingIOError:
            certain = [item for item in left if item.startswith(PROCESS)]
    finally:
        os.close(shared)
    for item in set(left) - set(certain):
        warnings.warn(f"left behind by this or another test run: {item}", stacklevel=1)
    assert not certain, "the tests have left behind: " + "; ".join(certain)
