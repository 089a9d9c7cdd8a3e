"""A private folder in shared memory for rings, gone afterwards."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a test's rings and files live."""
    where = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="halftrack-test-", dir=where))
    yield path
    shutil.rmtree(path)
