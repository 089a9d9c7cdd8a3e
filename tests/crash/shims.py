"""The shim of one workload, killed at each thing that it writes: who runs, how the log is turned over, how it ended.

The workload itself tells what is asked of its agent: how often it was begun, and whether two of it have ever been there at once. It says enough to have its log turned
over, and is told to end once, so that a shim has all of its work to do.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from halftrack_agent.drivers import exec as exec_driver
from halftrack_agent.drivers import starting
from halftrack_agent.drivers.processes import Process
from tests.crash.power import Kind, Record, records
from tests.crash.stage import AGENT, CONTROLLER, Stage, Strike, until

NAME = "line.sink"
LOG_BYTES = 2048
SINK = b"""
import fcntl, os
class Sink:
    def __init__(self, params, data_dir):
        self.next = 0
        self.alone = open(os.path.join(data_dir, "alone"), "w")
        try:
            fcntl.flock(self.alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            open(os.path.join(data_dir, "twice"), "w").close()
        with open(os.path.join(data_dir, "begun"), "a") as begun:
            begun.write(f"{os.getpid()}\\n")
        print("much " * 1000, flush=True)
    def next_seq(self): return self.next
    def consume(self, frame): self.next = frame.seq + 1
    def cuts(self, cuts): pass
    def flush(self): pass
"""


class Victim:
    """A shim that somebody else is the parent of: what it did is in its log, and nobody but its agent sees it end."""

    def __init__(self, stage: Stage) -> None:
        self.log = stage.folder / "boundaries.shim"
        self.log.touch()

    def records(self) -> tuple[Record, ...]:
        """What it has done below STATE."""
        return tuple(records(self.log.read_bytes()))

    def struck(self, strike: Strike) -> bool:
        """Has it come to that boundary?"""
        return any(each.kind is Kind.POINT and each.offset == strike.number for each in self.records())

    def end(self, _number: int = 0) -> None:
        """It has, or goes on with its work."""


def play(
    stage: Stage, strike: Strike, served: Callable[[Stage], bool], pids: Callable[[Stage], Mapping[str, Process]]
) -> Victim:
    """Let it begin, say much, and end once."""
    victim, told, struck = Victim(stage), stage.folder / "told", stage.folder / "struck"
    if not stage.running(CONTROLLER):
        stage.controller()
    if not stage.running(AGENT):
        stage.agent(before=lambda: _arm(victim.log, stage.roots[AGENT], strike))
    turned = stage.places.logs / f"{NAME}.log.1"

    def has_said_much() -> bool:
        """And had its log turned over, unless there is no shim any more that would do that."""
        return served(stage) and bool(_begun(stage)) and (turned.exists() or struck.exists())

    until(lambda: victim.struck(strike) or has_said_much(), "it has said much")
    if not told.exists() and not victim.struck(strike):
        pid = pids(stage)[NAME].pid
        told.write_text(str(pid))
        os.kill(pid, signal.SIGTERM)
    until(lambda: victim.struck(strike) or ended(stage, served), "another has begun")
    if victim.struck(strike):
        struck.touch()
    return victim


def ended(stage: Stage, served: Callable[[Stage], bool]) -> bool:
    """It was told to end, and another runs in its place."""
    told, begun = stage.folder / "told", _begun(stage)
    return told.exists() and told.read_text() in begun[:-1] and served(stage)


def wrong(stage: Stage) -> Iterator[str]:
    """Twice at once, or begun for anything but its plan and its own end."""
    if any((stage.roots[AGENT] / "data").rglob("twice")):
        yield f"two of {NAME} ran at once"
    if len(begun := _begun(stage)) != 2:
        yield f"{NAME} was begun {len(begun)} times, not twice"


def _begun(stage: Stage) -> list[str]:
    """The processes that it has been."""
    return [line for path in (stage.roots[AGENT] / "data").rglob("begun") for line in path.read_text().splitlines()]


def _arm(log: Path, root: Path, strike: Strike) -> None:
    """In the agent's process: all shims are executed, and the first of NAME is struck."""
    plain, library = starting._executed, os.environ["LD_PRELOAD"]

    def executed(folder: Path, ready: int, lock: int) -> "subprocess.Popen[bytes]":
        if folder.name != NAME or log.stat().st_size:
            return plain(folder, ready, lock)
        said = os.open(log, os.O_WRONLY | os.O_APPEND)
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", str(starting._SHIM), str(folder), str(ready), str(lock)],
                cwd="/",
                env={"LD_PRELOAD": library, "CRASH_ARMED": f"0 {said} {strike.number} {strike.how} 0 {root}"},
                pass_fds=(ready, lock, said),
                start_new_session=True,
            )
        finally:
            os.close(said)

    def start(_self: starting.Starter, folder: Path, ready: int, lock: int, *, stream: bool) -> starting.Shim:
        return starting.Shim(executed(folder, ready, lock))

    starting.Starter.start = start  # type: ignore[assignment, method-assign]
    exec_driver.LOG_BYTES = LOG_BYTES
