"""Can this version go on from that state? What `halftrack-agent check` answers, on a copy, before a version takes over.

It recovers what an agent recovers when it starts: identity, trust, journal, plan, outbox, the records of instances. Listens nowhere, starts nothing.
"""

import contextlib
import importlib.metadata
import shutil
from dataclasses import dataclass
from pathlib import Path

from halftrack_agent import clock, core, identity, slots
from halftrack_agent.drivers.instances import Folder
from halftrack_agent.journal import Journal
from halftrack_agent.notes import Notes
from halftrack_agent.outbox import Outbox
from halftrack_agent.places import Places
from halftrack_model.errors import HostFault

_FILES = ("journal", "outbox")
_RECORDS = ("order", "spec.json", "instance.json", "exit.json", "ended.json", "leaving")


@dataclass(frozen=True, slots=True)
class Answer:
    """The version, the forms of STATE that it can keep (`slots.FORMATS`), and the revision of the plan that it found; 0: none."""

    version: str
    formats: tuple[int, ...]
    revision: int


def copied(places: Places, into: Path) -> None:
    """A copy of what `answer` reads. Files that an agent is writing are copied as a crash would leave them, which recovery is made for.

    Notes have no sums in it: an older version knows of none.
    """
    state = into / "state"
    state.mkdir(mode=0o700)
    (into / "run").mkdir(mode=0o700)
    shutil.copytree(places.identity, state / "identity")
    for name in _FILES:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(places.state / name, state / name)
    Notes(places, sums=True).copy(Places(state, into / "run"))
    for folder in sorted(places.instances.iterdir()):
        if folder.is_dir():
            made = state / "instances" / folder.name
            made.mkdir(mode=0o700, parents=True)
            for name in _RECORDS:
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(folder / name, made / name)


def answer(places: Places) -> Answer:
    """Recover from these places. Raises what an agent that starts there would end with."""
    own = identity.load(places.identity)
    journal, outbox = Journal(places.state), Outbox(places.state, own.member.host)
    try:
        state = core.recovered(own.trust(), journal.entries, 0, clock.boot_ms(), journal.floor)
        findings = (*journal.findings, *outbox.findings)
    finally:
        outbox.close()
        journal.close()
    if places.instances.is_dir():
        for folder in sorted(places.instances.iterdir()):
            if (folder / "spec.json").exists() and Folder(folder).ordered() is None:
                findings += (f"the record of {folder.name} cannot be read",)
    if findings:
        raise HostFault("state-unread", "; ".join(findings))
    version = importlib.metadata.version("halftrack")
    return Answer(version, slots.FORMATS, 0 if state.plan is None else state.plan.plan.revision)
