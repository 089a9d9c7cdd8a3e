"""The agent updates itself, under a real controller: takes over only after a check, stays after a while, goes back by itself. Workloads notice nothing."""

import asyncio
import io
import json
import os
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from halftrack_agent import checking, files, retention, slots, updating
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.launching import Launched
from halftrack_agent.notes import Notes
from halftrack_agent.outbox import Outbox
from halftrack_agent.places import Places
from halftrack_agent.slots import Slot
from halftrack_controller.snapshot import Environment
from halftrack_model import canonical
from halftrack_model.errors import HostFault
from halftrack_model.ids import digest_of
from halftrack_model.plan import Plan
from halftrack_model.release import AGENT, Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.report import Happened
from halftrack_model.seals import RELEASE, Sealed
from tests.agent_shell import waiting
from tests.agent_shell.test_agent import until
from tests.agent_shell.test_services_under_agent import NAME, Site, publish, release

STABLE = "2"
# A version of the agent: this checkout's, under another number, and with a fault.
PROGRAM = """
import importlib.metadata, os, sys
version = importlib.metadata.version
importlib.metadata.version = lambda name: {version!r} if name == "halftrack" else version(name)
running = sys.argv[1] == "run"
{fault}
from halftrack_agent import daemon
sys.exit(daemon.main())
"""
DIES = "if running: sys.exit('it dies')"
FORGETS = """
from halftrack_agent import notes
from halftrack_agent.drivers.exec import ExecDriver
made = []
def init(self, *given, _init=notes.Notes.__init__, **named):
    made.append(self)
    _init(self, *given, **named)
notes.Notes.__init__ = init
async def adopt(self):
    for name in ("contact", "clock.json"):
        assert b"\\n" not in (self._rooms.usual.instances.parent / name).read_bytes(), "the version before has left it with a sum"
    assert not any(each.sums for each in made), "this one writes what the one before cannot read"
    return ()
ExecDriver.adopt = adopt
"""


def bundle(version: str, fault: str = "") -> bytes:
    made, program = io.BytesIO(), PROGRAM.format(version=version, fault=fault).encode()
    with tarfile.open(fileobj=made, mode="w") as archive:
        info = tarfile.TarInfo("start.py")
        info.size = len(program)
        archive.addfile(info, io.BytesIO(program))
    return made.getvalue()


def ordered(site: Site, folder: Path, version: str, fault: str = "") -> None:
    """Publish that version, and say that the hosts of the environment shall have it."""
    data = bundle(version, fault)
    (folder / "agent.tar").write_bytes(data)
    command = (sys.executable, "-I", "{artifact}/start.py")
    artifact = Artifact(digest_of(data), len(data))
    made = Release(AGENT, version, artifact, "", {}, StateSchemas("", ()), SwapStrategy(), command=command, unpack=True)
    with site.live.operator() as client:
        client.put_artifact(folder / "agent.tar")
        publish(site.live, made)
        client.apply([Environment("home", {}, "stable", version)])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.agent.clear()
        made.live.stop()


def stands(site: Site) -> tuple[str, bool]:
    """The agent's version as the controller knows it, and whether it is on trial. As a service manager does, whoever has ended is started again."""
    process = site.agent.process
    if process is not None and process.poll() is not None:
        site.agent.start("--stable", STABLE)
    with site.live.operator() as client:
        (entry,) = client.hosts("")
    return entry.agent, entry.agent_on_trial


def told(site: Site, happened: Happened) -> list[tuple[str, str]]:
    with site.live.operator() as client:
        return [(each.subject, each.detail) for each in client.host("tank-a").reports if each.happened is happened]


# invariant: P1 R2
def test_a_version_takes_over_stays_and_another_goes_back_by_itself(site: Site, tmp_path: Path) -> None:
    site.agent.start("--stable", STABLE)
    until(lambda: site.page() == "hello", "it serves")
    until(lambda: site.rollout().phase == "succeeded", "the first release is in force")
    page = site.agent.pid(NAME)
    assert site.agent.process is not None
    agent = site.agent.process.pid

    (site.agent.places.run / "check.left").mkdir()
    ordered(site, tmp_path, "9.1.0")
    until(lambda: stands(site) == ("9.1.0", False), "it takes over, and stays", 60)
    assert (site.agent.process.pid, site.agent.process.poll()) == (agent, None), "it is the same process"
    assert site.agent.pid(NAME) == page, "workloads notice nothing"
    assert not list(site.agent.places.run.glob("check.*")), "no copy of the state is left"
    until(lambda: told(site, Happened.AGENT_UPDATED) == [("9.1.0", "")], "that is told")
    until(lambda: b"\n" in site.agent.places.contact.read_bytes(), "who stays gives its notes sums")
    shim = json.loads((site.agent.places.instances / NAME / "instance.json").read_bytes())["shim_pid"]
    os.kill(page, signal.SIGKILL)
    until(lambda: site.agent.pid(NAME) not in (0, page), "another instance runs")
    page = site.agent.pid(NAME)
    until(lambda: not Path(f"/proc/{shim}").exists(), "a shim of a version before is reaped")

    ordered(site, tmp_path, "9.2.0", DIES)
    until(lambda: stands(site) and told(site, Happened.AGENT_WENT_BACK), "it is given up", 60)
    assert told(site, Happened.AGENT_WENT_BACK) == [("9.2.0", "it did not stay up, 3 times")]
    until(lambda: stands(site) == ("9.1.0", False), "the version before is back")
    assert site.agent.pid(NAME) == page

    ordered(site, tmp_path, "9.3.0", FORGETS)
    until(lambda: stands(site) and len(told(site, Happened.AGENT_WENT_BACK)) == 2, "it goes back at once", 60)
    assert told(site, Happened.AGENT_WENT_BACK)[1] == ("9.3.0", f"it did not find {NAME}, which ran on")
    assert site.agent.pid(NAME) == page, "nothing was started a second time"

    site.agent.end(signal.SIGKILL)
    until(lambda: stands(site) == ("9.1.0", False), "who starts again is what stayed")
    until(lambda: site.page() == "hello", "it serves")


# invariant: R3
def test_a_host_that_runs_nothing_is_updated_too_and_takes_what_comes_later(tmp_path: Path) -> None:
    site = Site(tmp_path, published=False)
    try:
        site.agent.start("--stable", "1")
        ordered(site, tmp_path, "9.1.0")
        until(lambda: stands(site) == ("9.1.0", False), "it takes over, and stays", 60)
        with site.live.operator() as client:
            plan = client.host("tank-a").plan
        assert plan is not None
        assert plan.bare
        publish(site.live, release("1.0.0", "hello"))
        until(lambda: site.page() == "hello", "it serves")
        assert stands(site) == ("9.1.0", False)
    finally:
        site.close()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ('print(\'{"version": "9.0.0", "formats": [1], "revision": 7}\')', ""),
        ('print(\'{"version": "8.0.0", "formats": [1], "revision": 7}\')', "it calls itself 8.0.0"),
        ('print(\'{"version": "9.0.0", "formats": [2], "revision": 7}\')', "cannot keep this host's state in a form"),
        ('print(\'{"version": "9.0.0", "formats": [1], "revision": 6}\')', "it finds plan 6 where"),
        ("print('yes')", "its answer is none"),
        ('print(\'{"version": "9.0.0", "formats": [1], "revision": Infinity}\')', "its answer is none"),
        ("print('[' * 60_000)", "its answer is none"),
        ("import sys; sys.exit('it cannot read that')", "its check ended with status 1: it cannot read that"),
        ("import time; time.sleep(600)", "it did not answer within"),
    ],
)
def test_nobody_takes_over_who_does_not_find_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    monkeypatch.setattr(updating, "CHECK_S", 3.0)
    slot = Slot("sha256:" + "0" * 64, "9.0.0", (sys.executable, "-I", "-S", "-c", program))
    found = updating.trouble(asyncio.run(updating.answered(slot, tmp_path)), slot, 7, "1.0.0")
    assert said in found
    assert bool(said) == bool(found)


@pytest.mark.parametrize("words", [("/no/such/program",), ("a\0b",)])
def test_what_cannot_be_begun_does_not_take_over(tmp_path: Path, words: tuple[str, ...]) -> None:
    slot = Slot("sha256:" + "0" * 64, "9.0.0", words)
    assert "cannot be started" in updating.trouble(asyncio.run(updating.answered(slot, tmp_path)), slot, 7, "1.0.0")


def test_a_copy_of_the_state_is_read_as_the_next_agent_would(site: Site, tmp_path: Path) -> None:
    site.agent.start()
    until(lambda: site.page() == "hello", "it serves")
    copy = tmp_path / "copy"
    copy.mkdir()
    checking.copied(site.agent.places, copy)
    at = Places(copy / "state", copy / "run")
    found = checking.answer(at)
    assert (found.formats, found.revision > 0) == (slots.FORMATS, True)
    assert (at.state / "revision").read_bytes() == b"%d\n" % found.revision, "as every version reads it"
    (at.instances / NAME / "spec.json").write_bytes(b"rot")
    checking.answer(at)  # the order tells the same
    for name in ("spec.json", "order"):
        (at.instances / NAME / name).write_bytes(b"rot")
    with pytest.raises(HostFault, match=f"the record of {NAME} cannot be read"):
        checking.answer(at)


@pytest.mark.parametrize("writes", [False, True])
def test_on_a_disk_that_takes_nothing_it_waits_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: bool
) -> None:
    """It is not checked again at once, and takes over as soon as that can be written."""
    at = Places(tmp_path / "state", tmp_path / "run")
    at.state.mkdir()
    at.run.mkdir()
    (at.state / "identity").mkdir()
    at.instances.mkdir()
    data, asked, begun = bundle("9.0.0"), list[str](), list[str]()
    digest = digest_of(data)
    command = (sys.executable, "{artifact}/start.py")
    artifact = Artifact(digest, len(data))
    made = Release(AGENT, "9.0.0", artifact, "", {}, StateSchemas("", ()), SwapStrategy(), command=command, unpack=True)
    sealed = Sealed(RELEASE, canonical.encode(made), ())
    plan = Plan("milkyway", "home", "tank-a", 7, (sealed,), (), (), (), (), False, agent="9.0.0")

    notes = Notes(at, sums=True)
    notes.floor.write(7)

    def must(work: Callable[[], object]) -> None:
        if not writes:
            raise HostFault("disk-full", "no room")
        work()

    looks = [0]

    def calm() -> bool:
        looks[0] += 1
        return True

    async def answered(slot: Slot, copy: Path) -> checking.Answer:
        asked.append(slot.version)
        return checking.Answer("9.0.0", slots.FORMATS, 7)

    async def work() -> updating.Updating:
        store, outbox = ArtifactStore(at.artifacts), Outbox(at.state, "tank-a")
        (at.artifacts / digest.removeprefix("sha256:")).write_bytes(data)
        store = ArtifactStore(at.artifacts)
        store.retain(retention.artifacts_of(plan), None, retention.archives_of(plan))
        await store.unpack(digest)
        trial = updating.Trialling(Launched("", (), "one"), 1.0, lambda: begun.append("again"))
        around = updating.Around(dict, calm, lambda: None, must, notes)
        made = updating.Updating(at, trial, store, outbox, around)
        made.use(plan)
        running = asyncio.create_task(made.run())
        await waiting.until(lambda: made.problems or begun, "it has tried")
        seen = looks[0]
        await waiting.until(lambda: begun or looks[0] > seen + 3, "it has looked again")
        running.cancel()
        outbox.close()
        return made

    monkeypatch.setattr(updating, "answered", answered)
    monkeypatch.setattr(updating, "LOOK_S", 0.001)
    found = asyncio.run(work())
    assert asked == ["9.0.0"], "once, for now"
    assert begun == (["again"] if writes else [])
    assert (at.state / "revision").read_bytes() == (b"7\n" if writes else files.summed(b"7")), "for whoever comes next"
    assert found.problems == (() if writes else ("the agent's update waits: no room",))


# ------------------------------------------------------------------------------------------------------------ the launcher
