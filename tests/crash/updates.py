"""The agent's own update, killed on the way: in the version before, in the launcher, in the check, on trial, while it comes to stay.

A version is this checkout's under another number, as `test_updating` packs it: one that is well, and one that dies at each start. Whoever starts an agent that has
ended by itself is a service manager's part, so `play` does it; the boundaries are counted on, through every program that the process becomes.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

from halftrack_agent import files, slots
from halftrack_controller.operator_client import OperatorClient
from halftrack_model import canonical
from halftrack_model.ids import digest_of
from halftrack_model.release import AGENT as PRODUCT
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.seals import RELEASE
from tests.agent_shell.test_updating import DIES, bundle
from tests.controller_shell.shell_harness import ENVIRONMENT
from tests.crash.stage import AGENT, CONTROLLER, DISK_LOST, Child, Stage, Strike, until

VERSION = "9.1.0"
STABLE_S = "0.5"
FAULTS = {"updating": "", "updating badly": DIES}
_BUNDLE = "agent.tar"


def order(client: OperatorClient, stage: Stage, fault: str) -> None:
    """Publish that version, and say that the host's agent shall be it."""
    data, path = bundle(VERSION, fault), stage.folder / _BUNDLE
    path.write_bytes(data)
    artifact, command = Artifact(digest_of(data), len(data)), (sys.executable, "-I", "{artifact}/start.py")
    made = Release(
        PRODUCT, VERSION, artifact, "", {}, StateSchemas("", ()), SwapStrategy(), command=command, unpack=True
    )
    client.put_artifact(path)
    client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))
    client.apply([replace(ENVIRONMENT, agent=VERSION)])


def update(stage: Stage, strike: Strike, ended: Callable[[Stage], bool]) -> Child:
    """Bring the host's agent to where its update has ended."""
    if not stage.running(CONTROLLER):
        stage.controller()
    child: Child | None = None
    while child is None or child.status not in (None, -signal.SIGKILL, DISK_LOST):
        child = stage.agent(strike, "--stable", STABLE_S, after=child)
        until(lambda child=child: child.ended() or ended(stage), "the update has ended", 120)  # type: ignore[misc]
    return child


def stays(stage: Stage) -> bool:
    """The new version is what runs, and the controller knows."""
    observed, record = stage.observed(), _record(stage)
    seen = observed.agent if observed else None
    return (
        record is not None
        and record.trial is None
        and record.committed is not None
        and record.committed.digest == _digest(stage)
        and seen is not None
        and (seen.artifact, seen.on_trial) == (_digest(stage), False)
    )


def went_back(stage: Stage) -> bool:
    """The new version was given up, the controller has been told why, and what was there before runs."""
    observed, record = stage.observed(), _record(stage)
    seen = observed.agent if observed else None
    return (
        record is not None
        and record.trial is None
        and record.committed is None
        and seen is not None
        and seen.artifact == ""
        and _digest(stage) in seen.failed
        and all(each.told for each in record.failed)
    )


def beyond(stage: Stage) -> Iterator[str]:
    """What an update must never do, wherever it was killed: be started more often than it may, or leave a copy of the state behind."""
    said = (stage.folder / "agent.log").read_text(errors="replace")
    # What the child has unpacked is gone with the power here (`power` sees nobody's syncs but the victim's own). What is brought anew is tried anew.
    for tried in said.split(f"agent {VERSION} takes over from")[1:]:
        if (starts := tried.count(f"agent {VERSION} is on trial, start")) > slots.MAX_ATTEMPTS:
            yield f"a version on trial was started {starts} times"
    if said.count(f"agent {VERSION} was given up") > 0 and not went_back(stage):
        yield "a version that is well was given up"
    yield from (f"{path.name} was left behind" for path in stage.places.run.glob("check.*"))


def _digest(stage: Stage) -> str:
    return digest_of((stage.folder / _BUNDLE).read_bytes())


def _record(stage: Stage) -> slots.Slots | None:
    try:
        return canonical.decode(slots.Slots, files.unsummed((stage.roots[AGENT] / "slots.json").read_bytes()))
    except FileNotFoundError:
        return None
