"""A folder for a test's rings and files, and a NATS server in another."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.servers import NatsServer


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a test's rings and files live."""
    where = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="halftrack-test-", dir=where))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """Running; a test may kill it and start it again."""
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.stop()
