"""From the installed program to the version that shall run: reads STATE/slots.json, counts the start, and becomes that version, by exec.

The part of the agent that no update replaces: it must be small, and read what any later version writes. A process keeps its number, so a service manager sees one
service. While a version is on trial, a guard that is of the installed program stands beside it, and kills it when it has not stayed well in
time, whatever it hangs in. Never decides: `slots` does.
"""

import contextlib
import importlib.metadata
import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from halftrack_agent import files, lock, slots
from halftrack_agent.places import Places
from halftrack_agent.slots import Slot, Slots, Trial
from halftrack_agent.unpacking import Unpacked
from halftrack_model import canonical
from halftrack_model.errors import HostFault, InvalidInput

PASSED_ON = "HALFTRACK_AGENT_LAUNCHED"  # to the version that the installed program becomes
GRACE_S = 120.0  # to start, beyond the time that it must stay well
END_S = 10.0  # in which it has ended, or begun anew
_FILE = "slots.json"
_VERSIONS = 3  # on trial, committed, installed

log = logging.getLogger("halftrack.agent")


@dataclass(frozen=True, slots=True)
class Launched:
    """How this process came to be: the artifact that it runs (empty: the installed program), and how every start begins."""

    digest: str
    argv: tuple[str, ...]
    installed: str


def begun(arguments: Sequence[str]) -> Launched:
    """What this process is by now: what the installed program has become, or that program."""
    handed = os.environ.pop(PASSED_ON, "")
    if handed:
        with contextlib.suppress(InvalidInput):
            return canonical.decode(Launched, handed.encode())
    return Launched("", tuple(_own_argv(arguments)), installed())


@dataclass(frozen=True, slots=True)
class Start:
    """How an agent is started: where its files lie, what it was told, and who starts it again (`itself`: nobody else)."""

    places: Places
    arguments: Sequence[str]
    stable_s: float
    itself: bool


def launched(start: Start, own: Launched) -> None:
    """Returns when this process is what it shall be: it may become another program instead."""
    if own.digest or lock.holder(start.places.state) is not None:
        return  # another agent runs here, and this one will be told so: its start is not the trial's
    for _ in range(_VERSIONS):
        record, slot = _next(start.places, own.installed)
        if slot is None:
            break
        _becomes(start, own, record, slot)


def _next(places: Places, installed_as: str) -> tuple[Slots, Slot | None]:
    """The record, and the version to become; a start of one on trial is on the disk, or it is not that one's."""
    record, slot = slots.started(load(places, installed_as), installed_as)
    if not _keep(places, record) and record.trial is not None:
        log.error("agent %s is not started: its start cannot be counted on this disk", record.trial.slot.version)
        return record, record.committed
    return record, slot


def _becomes(start: Start, own: Launched, record: Slots, slot: Slot) -> None:
    """Become that version. Returns only when that cannot be, and then the record does not name it any more."""
    places = start.places
    on_trial = record.trial is not None and record.trial.slot == slot
    if trouble := _trouble(places, slot):
        log.error("agent %s is not started: %s", slot.version, trouble)
        _keep(places, slots.lost(record, slot.digest))
        return
    if on_trial and record.trial is not None:
        log.warning("agent %s is on trial, start %d of %d", slot.version, record.trial.attempts, slots.MAX_ATTEMPTS)
        _guard(start, own, record.trial)
    os.environ[PASSED_ON] = canonical.encode(Launched(slot.digest, own.argv, own.installed)).decode()
    try:
        os.execv(slot.argv[0], [*slot.argv, *start.arguments])  # noqa: S606 - an argument list; no shell is meant
    except OSError as error:
        del os.environ[PASSED_ON]
        reason = f"it cannot be started: {error.strerror}"
        log.error("agent %s: %s", slot.version, reason)
        _keep(places, slots.gone_back(record, reason) if on_trial else slots.lost(record, slot.digest))


def again(own: Launched) -> None:
    """Begin anew, as this very process: what is on the disk decides what it becomes."""
    os.execv(own.argv[0], own.argv)  # noqa: S606 - an argument list; no shell is meant


def load(places: Places, installed_as: str) -> Slots:
    """The record; an empty one where there is none, or none that can be read: the installed program runs, and what it takes is fetched again."""
    try:
        return canonical.decode(Slots, files.unsummed((places.state / _FILE).read_bytes()))
    except FileNotFoundError:
        return Slots(installed_as)
    except (OSError, InvalidInput) as error:
        log.error("%s cannot be read (%s): the installed version of the agent runs", places.state / _FILE, error)
        return Slots(installed_as)


def on_trial(places: Places, own: Launched) -> bool:
    """Is this process a version that is not trusted yet?"""
    return slots.on_trial(load(places, own.installed), own.digest)


def store(places: Places, record: Slots) -> None:
    """Put it on the disk; HostFault when that cannot be."""
    files.replace(places.state / _FILE, files.summed(canonical.encode(record)))  # it says what is executed


def installed() -> str:
    """A name for the installed program: its version, and which build of it."""
    try:
        return f"{importlib.metadata.version('halftrack')} {Path(__file__).stat().st_mtime_ns}"
    except importlib.metadata.PackageNotFoundError:
        return f"unknown {Path(__file__).stat().st_mtime_ns}"


def _own_argv(arguments: Sequence[str]) -> list[str]:
    """How this process was started, with the interpreter's own path in place of a name."""
    before = sys.orig_argv[1 : len(sys.orig_argv) - len(arguments)]
    return [sys.executable, *before, *arguments]


def _keep(places: Places, record: Slots) -> bool:
    if record == load(places, record.installed):
        return True
    try:
        store(places, record)
    except HostFault as error:
        log.error("%s", error.message)
        return False
    return True


def _trouble(places: Places, slot: Slot) -> str:
    """Why its program must not be executed; empty when it may. All of it is read (D1)."""
    try:
        store = Unpacked(places.unpacked, only=slot.digest)
    except HostFault as error:
        return error.message
    if store.findings:
        return store.findings[0]
    return "" if slot.digest in store.digests else "its files are not there"


def _guard(start: Start, own: Launched, trial: Trial) -> None:
    """A process beside this one that ends it when the trial has not ended in time. It ends with this one, or with this start of the trial."""
    watched = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid:
        os.close(watched)
        os.waitpid(pid, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _stand_by(watched, start, own, trial)
    finally:
        os._exit(0)


def _stand_by(watched: int, start: Start, own: Launched, trial: Trial) -> None:
    with open(os.devnull, "r+b", buffering=0) as nothing:
        for number in (0, 1):
            os.dup2(nothing.fileno(), number)
    patience_s = start.stable_s + GRACE_S
    end = time.monotonic() + patience_s
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    while time.monotonic() < end:
        if poll.poll(1000):
            return
        with contextlib.suppress(OSError, ValueError, InvalidInput):
            now = json.loads(files.unsummed((start.places.state / _FILE).read_bytes())).get("trial")
            if not now or (now["slot"]["digest"], now["attempts"]) != (trial.slot.digest, trial.attempts):
                return
    log.error("agent %s has not stayed well within %.0f s: it is ended", trial.slot.version, patience_s)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(watched, signal.SIGALRM if start.itself else signal.SIGKILL)
    if start.itself and poll.poll(END_S * 1000):
        again(own)  # its alarm was not set, or did not know what to begin
