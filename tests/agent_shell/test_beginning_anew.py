"""An agent that hangs, or whose disk has failed, is started again: by its manager, or by itself. What it runs notices nothing."""

import os
import signal
import sys

import pytest

from tests.agent_shell.test_agent import AgentProcess, agent, live, until  # noqa: F401 - fixtures


# invariant: R2
@pytest.mark.usefixtures("live")
@pytest.mark.parametrize("by", ["manager", "itself"])
def test_an_agent_whose_loop_hangs_is_started_again_and_its_workloads_are_not(
    agent: AgentProcess,  # noqa: F811
    by: str,
) -> None:
    """A status file that is read for ever: a pipe to which nobody writes. It ends, for its manager to start it again; where there is none, it begins anew as the same process."""
    agent.start("--patience", "1", "--restarted-by", by)
    until(lambda: agent.recorded() > 100, "frames arrive in the sink")
    before = {name: agent.pid(name) for name in ("line.source", "line.sink")}
    pipe = agent.folder / "pipe"
    os.mkfifo(pipe)
    os.kill(before["line.sink"], signal.SIGSTOP)  # it would put a file in the pipe's place
    pipe.rename(agent.places.status / "line.sink.json")
    until(lambda: "in _read" in (agent.folder / "agent.log").read_text(), "it tells where it hangs")
    assert agent.process is not None
    if by == "manager":
        assert agent.process.wait(20) == -signal.SIGALRM
    os.kill(before["line.sink"], signal.SIGCONT)
    recorded = agent.recorded()
    until(lambda: agent.recorded() > recorded + 100, "the stream goes on")
    if by == "manager":
        agent.start()
    until(lambda: "adopted: line.sink, line.source" in (agent.folder / "agent.log").read_text(), "it has adopted")
    assert {name: agent.pid(name) for name in before} == before
    assert agent.process.poll() is None
    assert agent.end() == 0


SICK = """
import os, sys
from pathlib import Path
def sync(fd, sick=Path(sys.argv[0]).with_name("sick"), real=os.fsync):
    if sick.exists():
        sick.unlink()
        raise OSError(5, "Input/output error")
    real(fd)
os.fsync = sync
from halftrack_agent import daemon
sys.exit(daemon.main())
"""


# invariant: D1
# invariant: R2
@pytest.mark.usefixtures("live")
def test_where_nobody_else_starts_it_again_an_agent_begins_anew_after_a_disk_has_failed(
    agent: AgentProcess,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once in the first thing that it syncs, once in mid-life: the same process, and what runs is adopted."""
    program, sick, log = agent.folder / "sick.py", agent.folder / "sick", agent.folder / "agent.log"
    program.write_text(SICK)
    sick.touch()
    usual = agent.arguments
    monkeypatch.setattr(agent, "arguments", lambda *rest: [sys.executable, str(program), *usual(*rest)[3:]])
    agent.start("--restarted-by", "itself")
    until(lambda: agent.recorded() > 100, "frames arrive in the sink")
    source = agent.pid("line.source")
    sick.touch()
    os.kill(agent.pid("line.sink"), signal.SIGKILL)  # its next start is written down
    until(lambda: "adopted: line.source" in log.read_text(), "it has adopted")
    recorded = agent.recorded()
    until(lambda: agent.recorded() > recorded + 100, "the stream goes on")
    assert log.read_text().count("the disk did not keep what was written") == 2
    assert agent.pid("line.source") == source
    assert agent.process is not None
    assert agent.process.poll() is None
    assert agent.end() == 0
