"""Children that work for the agent end with it, however it ends: the next agent removes, or makes anew, what they were at."""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from halftrack_agent.drivers import procfs
from halftrack_agent.unpacking import Unpacked
from tests.agent_shell.waiting import until

UNPACKS = """
import asyncio, pathlib, sys
from halftrack_agent.drivers import procfs
from halftrack_agent.unpacking import Unpacked
pipe, folder = map(pathlib.Path, sys.argv[1:])
asyncio.run(Unpacked(folder).unpack("sha256:" + "0" * 64, pipe))
"""
REBUILDS = """
import asyncio, pathlib, sys
from halftrack_agent.rebuilding import rebuild
pipe, folder = map(pathlib.Path, sys.argv[1:])
asyncio.run(rebuild(None, pipe, folder / "built", 100))
"""
CHECKS = """
import asyncio, pathlib, sys
from halftrack_agent import slots, updating
pipe, folder = sys.argv[1:]
argv = (sys.executable, "-I", "-S", "-c", "import sys; open(sys.argv[1])", pipe)
asyncio.run(updating.answered(slots.Slot("", "9.0.0", argv), pathlib.Path(folder)))
"""
PROBES = """
import asyncio, os, pathlib, sys
from halftrack_agent.drivers import probes
pipe, folder = sys.argv[1:]
argv = (sys.executable, "-I", "-S", "-c", "import sys; open(sys.argv[1])", pipe)
asyncio.run(probes._ran(probes.Where(os.getpid(), pathlib.Path(folder), argv=argv)))
"""
WAYS = {"unpacks": UNPACKS, "rebuilds": REBUILDS, "checks a version": CHECKS, "probes": PROBES}


# invariants: R1, D1
@pytest.mark.parametrize("agent", WAYS.values(), ids=WAYS)
def test_who_works_for_an_agent_ends_with_it(tmp_path: Path, agent: str) -> None:
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)  # that nobody writes to: who opens it waits
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", agent, str(pipe), str(folder)]) as running:
        child = os.pidfd_open(asyncio.run(begun(running.pid, pipe)))
        if agent == REBUILDS:
            asyncio.run(until((folder / "built").exists, "it is at its work", 30.0))
        running.kill()
        running.wait()
    ends = select.poll()
    ends.register(child, select.POLLIN)
    try:
        assert ends.poll(20_000), "the child lives on"
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child, signal.SIGKILL)
        os.close(child)
    Unpacked(folder)
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


async def begun(parent: int, pipe: Path) -> int:
    """The child that is to read the pipe, once it is that program."""

    def found() -> list[int]:
        lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (parent, *procfs.children(str(parent)))}
        not_yet = (lines.pop(parent), *(line for line in lines.values() if b"tied.py" in line or b"inside.py" in line))
        return [pid for pid, line in lines.items() if os.fsencode(pipe) in line and line not in not_yet]

    await until(found, "the child is there", 30.0)
    return found()[0]


# invariants: R1, D1
@pytest.mark.parametrize("child", ["drivers.unpack", "rebuilding"])
def test_who_has_lost_its_agent_before_it_began_writes_nothing(tmp_path: Path, child: str) -> None:
    source, into, somebody_else = tmp_path / "source", tmp_path / "into", str(os.getppid())
    source.touch()
    unpacks = child == "drivers.unpack"
    if unpacks:
        into.mkdir()
    words = (
        [str(source), str(into), somebody_else, "0"] if unpacks else ["", str(source), str(into), "0", somebody_else]
    )
    ran = subprocess.run([sys.executable, "-I", "-m", f"halftrack_agent.{child}", *words], check=False, timeout=60)
    assert ran.returncode == -9
    assert sorted(os.listdir(tmp_path)) == (["into", "source"] if unpacks else ["source"])
