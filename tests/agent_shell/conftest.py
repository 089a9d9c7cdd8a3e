"""Fixtures of the driver's tests, and of those with a whole agent."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_shell.driver_bench import Bench, killed
from tests.agent_shell.test_agent import AgentProcess
from tests.controller_shell.shell_harness import LiveController


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A scratch folder for a driver; nothing runs there afterwards."""
    yield Bench(tmp_path)
    killed(tmp_path / "run")


@pytest.fixture
def agent(tmp_path: Path, live: LiveController) -> Iterator[AgentProcess]:
    """An enrolled agent that runs on tank-a, of the module's own controller; nothing of it runs afterwards."""
    agent = AgentProcess(tmp_path)
    with live.operator() as client:
        (tmp_path / "token").write_text(client.create_token("tank-a", 600).token)
    done = agent.command("enrol", "--token-file", str(tmp_path / "token"))
    assert done.returncode == 0, done.stderr
    agent.start()
    yield agent
    agent.clear()
