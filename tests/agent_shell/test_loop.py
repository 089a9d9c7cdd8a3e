"""The loop and the hands: what could not be written was not thought of, and is thought of again; trouble is told, not hidden."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from halftrack_agent import core
from halftrack_agent.agent import Agent, Listening
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.cutoff import IN_STEP, ContactSeen
from halftrack_agent.events import Action, CreateRing, Emit, HostView, JournalPlan, JournalSwap, Start
from halftrack_agent.hands import Hands
from halftrack_agent.identity import Identity, Membership, genuine
from halftrack_agent.inbox import Trust, TrustedPlan
from halftrack_agent.journal import Journal
from halftrack_agent.lifecycle import Phase
from halftrack_agent.loop import Loop
from halftrack_agent.outbox import Outbox
from halftrack_agent.places import Places
from halftrack_agent.reconcile import Instance
from halftrack_agent.reserve import Reserve
from halftrack_agent.rings import Rings
from halftrack_agent.spools import Spools
from halftrack_agent.state import AgentState
from halftrack_model import canonical, seals
from halftrack_model.errors import HostFault, Refused
from halftrack_model.observed import AgentSeen, Observed
from halftrack_model.plan import Plan
from halftrack_model.report import Happened
from halftrack_model.seals import Seal, Sealed
from halftrack_model.workload import RingSpec
from halftrack_proto.messages import Accepted, Declined
from tests.agent_core import plans
from tests.agent_core.test_core import running_host
from tests.agent_shell.test_ledger import files_no_longer_than
from tests.sim import keys

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
KEYS = {seals.key_id_of(PUBLIC): PUBLIC}
TRUST = Trust("g", "h", KEYS, KEYS, 1, genuine)


def sealed(revision: int, rings: tuple[RingSpec, ...] = ()) -> Sealed:
    payload = canonical.encode(Plan("g", "e", "h", revision, (), rings, (), (), (), decommission=True))
    signature = KEY.sign(seals.signing_input(seals.PLAN, payload))
    return Sealed(seals.PLAN, payload, (Seal(seals.key_id_of(PUBLIC), signature),))


class Trouble:
    """What else the agent has to say of its host."""

    words: tuple[str, ...] = ()

    def __call__(self) -> tuple[str, ...]:
        return self.words


class Body:
    """A loop with real hands, journal, outbox and rings, and nothing that runs."""

    def __init__(
        self,
        folder: Path,
        trouble: Callable[[], tuple[str, ...]] = tuple,
        bring: Callable[..., Awaitable[None]] | None = None,
    ) -> None:
        self.folder = folder
        self.answers: list[Accepted | Declined] = []
        self.in_force: list[int] = []
        self.journal, self.outbox = Journal(folder), Outbox(folder, "h")
        self.outbox.welcomed(0)
        self.rings = Rings(folder / "rings")
        nobody: Callable[..., Awaitable[None]] = lambda *_: None  # type: ignore[assignment, return-value]  # noqa: E731
        self.hands = Hands(
            self.journal,
            self.outbox,
            None,  # type: ignore[arg-type]
            self.rings,
            Spools(folder / "spools"),
            None,  # type: ignore[arg-type]
            bring or nobody,
            self.answers.append,
            lambda: None,
            Reserve(folder),
        )
        state = core.recovered(TRUST, self.journal.entries, 0, 0, self.journal.floor)
        self.loop = Loop(state, self, self.hands, self.rings, self.outbox, self.took, lambda: None, trouble)  # type: ignore[arg-type]

    def took(self, trusted: TrustedPlan) -> None:
        self.in_force.append(trusted.plan.revision)

    def look(self, measured: Collection[str] = (), contact: ContactSeen = IN_STEP) -> HostView:
        return HostView({}, self.rings.seen(), {}, frozenset(), contact=contact)

    def samples(self, _now_ms: int) -> tuple[Emit, ...]:
        return ()

    def close(self) -> None:
        self.journal.close()
        self.outbox.close()
        self.rings.close()


# invariant: P3 D1
def test_a_plan_without_room_in_the_journal_is_not_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halftrack_agent.loop.RETRY_PLAN_MS", 0)

    async def work() -> None:
        body = Body(tmp_path)
        with files_no_longer_than(body.journal.size_bytes + 30):
            body.loop.plan_came(sealed(1))
            for _ in range(3):
                body.loop.step()
            assert body.loop.state.plan is None
            assert body.in_force == []
            assert [(answer.reason, type(answer)) for answer in body.answers] == [("disk-full", Declined)]  # type: ignore[union-attr]
            assert any("no room" in problem for problem in body.loop.observed().problems)
        body.loop.step()
        assert body.answers[-1] == Accepted(1)
        assert body.in_force == [1]
        assert [report.happened for report in body.outbox.pending(0, 9)] == [Happened.PLAN_ACCEPTED]
        body.close()
        again = Body(tmp_path)
        assert again.loop.observed().revision == 1
        again.close()

    asyncio.run(work())


def test_only_the_newest_plan_matters_and_a_refusal_is_answered(tmp_path: Path) -> None:
    async def work() -> None:
        body = Body(tmp_path)
        for revision in (2, 4, 3):
            body.loop.plan_came(sealed(revision))
        body.loop.step()
        body.loop.plan_came(sealed(1))
        body.loop.step()
        assert body.answers[0] == Accepted(3)
        assert isinstance(body.answers[1], Declined)
        assert body.answers[1].reason == "older-revision"
        assert body.in_force == [3]
        body.close()

    asyncio.run(work())


# invariant: P2 D1
def test_a_damaged_journal_lets_no_older_plan_in(tmp_path: Path) -> None:
    async def work() -> None:
        body = Body(tmp_path)
        body.loop.plan_came(sealed(9))
        body.loop.step()
        body.close()
        journal = tmp_path / "journal"
        data = bytearray(journal.read_bytes())
        data[len(data) // 2] ^= 0xFF
        journal.write_bytes(data)
        body = Body(tmp_path)
        assert (body.loop.state.plan, body.journal.floor) == (None, 9)
        body.loop.plan_came(sealed(8))
        body.loop.step()
        (declined,) = body.answers
        assert isinstance(declined, Declined)
        assert declined.reason == "older-revision"
        body.loop.plan_came(sealed(9))  # what the controller has is the way back
        body.loop.step()
        assert body.answers[-1] == Accepted(9)
        body.close()

    asyncio.run(work())


# invariant: P2
def test_a_plan_that_is_found_raises_the_floor_that_its_life_had_no_time_to(tmp_path: Path) -> None:
    """Killed between the plan's entry and the floor, twice, and then the journal is lost: an old plan would pass for a newer one."""
    journal = Journal(tmp_path)
    journal.obeyed(7)
    journal.obeyed(6)
    journal.close()
    again = Journal(tmp_path)
    assert again.floor == 7
    (tmp_path / "revision").unlink()
    (tmp_path / "revision").mkdir()
    again.obeyed(8)  # a disk that takes nothing ends no agent
    assert again.floor == 7
    again.close()


def test_a_damaged_floor_is_told_and_one_that_cannot_be_written_stops_no_answer(tmp_path: Path) -> None:
    (tmp_path / "revision").write_text("nine")
    journal = Journal(tmp_path)
    assert journal.floor == 0
    assert any("revision is damaged" in finding for finding in journal.findings)
    journal.close()

    async def work() -> None:
        body = Body(tmp_path)
        (tmp_path / "revision").unlink()
        (tmp_path / "revision").mkdir()
        body.loop.plan_came(sealed(1))
        body.loop.step()
        assert body.answers == [Accepted(1)]
        assert body.journal.floor == 0
        body.close()

    asyncio.run(work())


def test_what_is_observed_is_made_anew_only_when_something_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Observed] = []
    observed, trouble = core.observed, Trouble()

    def counted(state: AgentState, problems: tuple[str, ...], agent: AgentSeen | None) -> Observed:
        made.append(observed(state, problems, agent))
        return made[-1]

    async def work() -> None:
        body = Body(tmp_path, trouble)
        monkeypatch.setattr(core, "observed", counted)
        first = body.loop.observed()
        assert body.loop.observed() is first
        assert len(made) == 1
        trouble.words = ("new",)
        assert body.loop.observed().problems == ("new",)
        body.loop.plan_came(sealed(4))
        body.loop.step()
        assert (body.loop.observed().revision, len(made)) == (4, 3)
        body.close()

    asyncio.run(work())


def test_what_cannot_be_done_is_told_until_it_can(tmp_path: Path) -> None:
    async def work() -> None:
        body = Body(tmp_path)
        (tmp_path / "rings/g").write_text("a file where a folder has to be")
        body.loop.plan_came(sealed(1, (RingSpec("g/r", 1 << 16, 16, None),)))
        for _ in range(3):
            body.loop.step()
        assert any("disk-fault" in p or "g" in p for p in body.loop.observed().problems)
        (tmp_path / "rings/g").unlink()
        body.loop.step()
        body.loop.step()
        assert body.loop.observed().problems == ()
        assert "g/r" in body.rings.seen()
        body.close()

    asyncio.run(work())


def test_a_journal_fault_stops_the_step_before_what_follows(tmp_path: Path) -> None:
    body = Body(tmp_path)
    with files_no_longer_than(body.journal.size_bytes + 30):
        with pytest.raises(Exception, match="no room"):
            body.hands.carry_out(JournalPlan(sealed(1)))
        body.hands.carry_out(CreateRing(RingSpec("g/r", 0, 3, None)))  # not the journal's: noted, not raised
    assert any("cannot be made" in problem or "g/r" in problem for problem in body.hands.problems)
    body.close()


# invariant: R1
def test_a_full_disk_stops_a_swap_and_no_restart(tmp_path: Path) -> None:
    """A swap that is to begin wants to be journaled at every look, and what comes after it in the look must not wait for that."""
    body, done = Body(tmp_path), list[Action]()
    state = core.recovered(keys.trust_of("tank-a"), [JournalPlan(plans.sealed(plans.plan("tank-a", swap=True)))], 0, 0)
    dead = running_host(blue=False)

    class Full:
        problems = ()

        def carry_out(self, action: Action) -> None:
            if isinstance(action, JournalSwap):
                raise HostFault("disk-full", "no room")
            done.append(action)

        def keep_house(self) -> None:
            pass

    seeing = type("Seeing", (), {"look": lambda *_: dead, "samples": lambda *_: ()})()
    loop = Loop(state, seeing, Full(), body.rings, body.outbox, lambda _: None, lambda: None, lambda: ())  # type: ignore[arg-type]
    loop.step()
    assert plans.SWAP.seats[0].blue_workload in [a.workload.name for a in done if isinstance(a, Start)]
    assert loop.state.swaps == {}
    assert any("no room" in problem for problem in loop.observed().problems)
    body.close()


def test_a_second_agent_on_the_same_state_is_refused(tmp_path: Path) -> None:
    from halftrack_agent.lock import StateLock, holder

    first = StateLock(tmp_path)
    with pytest.raises(Refused, match=r"pid \d+"):
        StateLock(tmp_path)
    assert holder(tmp_path) is not None
    first.close()
    assert holder(tmp_path) is None
    StateLock(tmp_path).close()


# invariant: P1
def test_a_journal_that_another_galaxy_wrote_is_not_obeyed(tmp_path: Path) -> None:
    """The identity was changed under a state folder: its plan is for somebody else."""
    places = Places(tmp_path / "state", tmp_path / "run")
    journal = Journal(places.state) if places.state.mkdir() is None else None
    assert journal is not None
    journal.append(JournalPlan(sealed(5)))
    journal.close()
    identity = member_of(places, "another")

    async def work() -> None:
        async with Agent(places, identity, Listening("127.0.0.1", 0, 0), places.cgroup()) as agent:
            assert agent.observed().revision == 0
            assert any("not obeyed" in problem for problem in agent.observed().problems)

    asyncio.run(work())


# invariant: R2
def test_the_artifact_of_what_runs_stays_although_no_plan_has_named_it_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither this plan nor the one before: what drains, or could not be stopped. `retention` has the rest."""
    retained: list[Collection[str] | None] = []
    monkeypatch.setattr(ArtifactStore, "retain", lambda _self, _plan, running, _unpacks: retained.append(running))
    workload = plans.member_workload("a", "1.0.0")
    drains = Instance(workload, Phase.RUNNING, 0, 0, 0, 0, 0, "")

    async def work() -> None:
        places = Places(tmp_path / "state", tmp_path / "run")
        identity = member_of(places, "g")
        async with Agent(places, identity, Listening("127.0.0.1", 0, 0), places.cgroup()) as agent:
            loop = agent._loop
            loop._state = replace(loop.state, instances={workload.name: drains})
            loop.plan_came(sealed(1))
            loop.step()
            loop._state = replace(loop.state, instances={})
            loop.plan_came(sealed(2))
            loop.step()

    asyncio.run(work())
    assert retained == [{workload.artifact}, None], "None: nobody has looked, or nothing runs; what was known is kept"


def member_of(places: Places, galaxy: str) -> Identity:
    import zmq

    public, secret = zmq.curve_keypair()
    places.identity.mkdir(parents=True)
    (places.identity / "curve.key").write_bytes(secret)
    member = Membership(galaxy, "h", "127.0.0.1:1", public.decode(), KEYS, KEYS, 1)
    return Identity(places.identity, member, b"", b"", b"")
