"""All rings behind one face, and a private folder in shared memory that is gone afterwards."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from halftrack_dataplane import reference
from halftrack_dataplane import ring as fast
from tests.ring import c_ring


@pytest.fixture
def folder() -> Iterator[Path]:
    """Shared memory where the machine has it: a ring on a disk works, but is not what users run."""
    where = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="halftrack-test-", dir=where))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["fast", "reference", "c"])
def rings(request: pytest.FixtureRequest) -> ModuleType:
    """The module under test: every conformance test runs with each."""
    return {"fast": fast, "reference": reference, "c": c_ring}[request.param]


@pytest.fixture
def path(folder: Path) -> Iterator[Path]:
    """Where a test's ring goes."""
    yield folder / "ring"
    reference.forget(folder / "ring")


@pytest.fixture
def ring(rings: Any, path: Path) -> Any:
    """A small ring that starts at sequence 100."""
    return rings.Ring.create(path, capacity_bytes=4096, slots=8, base_seq=100, label="sky", generation=3)
