"""Fixtures of the driver's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_shell.driver_bench import Bench, killed


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A scratch folder for a driver; nothing runs there afterwards."""
    yield Bench(tmp_path)
    killed(tmp_path)
