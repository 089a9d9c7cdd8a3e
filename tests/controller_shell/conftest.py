"""Fixtures: a fresh galaxy, and a controller that runs for one test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from halftrack_controller import galaxy
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A galaxy's folder."""
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    return tmp_path / "galaxy"


@pytest.fixture
def live(folder: Path) -> Iterator[LiveController]:
    """A controller that knows two hosts."""
    controller = LiveController(folder)
    try:
        with controller.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a"), host("tank-b")])
        yield controller
    finally:
        controller.stop()
