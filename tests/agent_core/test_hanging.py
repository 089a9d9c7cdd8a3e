"""Hanging: who is killed for not moving, held against a count by hand; and what becomes of it, in the whole of an agent's core."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import events as ev
from halftrack_agent import hanging
from halftrack_agent.hanging import KILL_AGAIN_MS, LOOK_MS, START_FACTOR, Watch
from halftrack_agent.lifecycle import Happening, Phase, ending
from halftrack_agent.reconcile import Instance, Wanted, fell_by, reconciled
from halftrack_dataplane.status import FREE, STARTING, STEADY
from halftrack_model.report import Happened
from halftrack_model.workload import DEFAULT_HANG_AFTER_MS, MIN_HANG_AFTER_MS, Kind, Runs, Workload
from tests.agent_core.plans import member_workload, ring

WORKLOAD = member_workload("a", "1.0.0")
NAME = WORKLOAD.name
STARTED_MS = 1000
BOUND_MS = 7_000


def running(bound_ms: int | None = BOUND_MS, phase: Phase = Phase.RUNNING, **changed: object) -> Instance:
    workload = replace(WORKLOAD, hang_after_ms=bound_ms, **changed)  # type: ignore[arg-type]
    return Instance(workload, phase, 0, 0, 0, 0, 0, "")


def view(mark: int | None, beats: str = STEADY, began_ms: int = STARTED_MS, **changed: object) -> ev.HostView:
    """What is seen of the one instance, whose last beat bears `mark`."""
    seen = replace(ev.InstanceSeen(NAME, "", True, None, None, STARTED_MS, ""), **changed)  # type: ignore[arg-type]
    signs = {} if mark is None else {NAME: ev.BeatSeen(str(mark), beats, began_ms)}
    return ev.HostView({NAME: seen}, {}, {}, frozenset(), beats=signs)


class Agent:
    """Looks at the one instance again and again; adds up what it is told to do."""

    def __init__(self, instance: Instance) -> None:
        self.instance, self.watches = instance, dict[str, Watch]()
        self.trial: frozenset[str] = frozenset()
        self.now_ms = 50_000
        self.told: list[str] = []
        self.kills = 0

    def look(self, seen: ev.HostView, passed_ms: int = LOOK_MS) -> None:
        self.now_ms += max(passed_ms, 0)
        found, instances, actions = hanging.judged(self.watches, {NAME: self.instance}, seen, passed_ms, self.trial)
        self.watches, self.instance = dict(found), instances[NAME]
        self.told += [each.detail for each in actions if isinstance(each, ev.Emit)]
        assert all(each.happened is Happened.INSTANCE_HUNG for each in actions if isinstance(each, ev.Emit))
        kills = [each for each in actions if isinstance(each, ev.Kill)]
        self.kills += len(kills)
        assert all(each.again is (NAME not in self.trial) for each in kills), (
            "nobody's place is held who does not come back"
        )


LOOKS = st.lists(st.tuples(st.integers(0, 20_000), st.booleans()), max_size=60)


# invariant: S1
@given(LOOKS, st.sampled_from([MIN_HANG_AFTER_MS, BOUND_MS, 20_000]))
def test_who_hangs_is_who_gave_no_beat_while_it_was_looked_at_for_so_long(
    looks: list[tuple[int, bool]], bound_ms: int
) -> None:
    agent = Agent(running(bound_ms))
    agent.look(view(0))
    mark, still_ms, hung = 0, 0, False
    for passed_ms, beats in looks:
        mark += beats
        still_ms = 0 if beats else still_ms + min(passed_ms, LOOK_MS)
        hung = hung or still_ms >= bound_ms
        agent.look(view(mark), passed_ms)
        assert bool(agent.instance.hung) == hung == bool(agent.kills)
        assert agent.instance.hangs == len(agent.told) == int(hung), "counted and told once in a life"


# invariant: O1
@given(st.lists(st.integers(0, 10**9), max_size=BOUND_MS // LOOK_MS - 1))
def test_time_in_which_nobody_looked_blames_nobody(passed: list[int]) -> None:
    """The host slept, or the agent was away: as many looks as make no bound, however far apart."""
    agent = Agent(running())
    for passed_ms in [0, *passed]:
        agent.look(view(0), passed_ms)
    assert not agent.kills


def test_a_clock_that_went_back_is_no_time() -> None:
    agent = Agent(running())
    for _ in range(30):
        agent.look(view(0), -5000)
    assert not agent.kills


def still_looks(agent: Agent, seen: ev.HostView) -> int:
    """After how many looks a second apart it is killed; 0: not in any."""
    agent.look(seen)
    return next((count for count in range(1, 3000) if (agent.look(seen), agent.kills)[1]), 0)


@pytest.mark.parametrize(
    ("bound_ms", "beats", "began_ms", "seconds"),
    [
        (None, STEADY, STARTED_MS, DEFAULT_HANG_AFTER_MS // 1000),
        (BOUND_MS, STEADY, STARTED_MS, 7),
        (0, STEADY, STARTED_MS, 0),
        (BOUND_MS, STARTING, STARTED_MS, 7 * START_FACTOR),
        (BOUND_MS, STEADY, STARTED_MS - 1, 7 * START_FACTOR),  # what an earlier life has left
        (BOUND_MS, FREE, STARTED_MS - 1, 7 * START_FACTOR),
        (0, STARTING, STARTED_MS, 0),
        (None, FREE, STARTED_MS, 0),  # a user's source may be silent; who declares a bound says that it may not
        (BOUND_MS, FREE, STARTED_MS, 7),
        (None, "", 0, 0),  # a program from before there were promises
        (BOUND_MS, "", 0, 0),
    ],
)
def test_what_is_allowed_is_what_was_declared_and_promised(
    bound_ms: int | None, beats: str, began_ms: int, seconds: int
) -> None:
    assert still_looks(Agent(running(bound_ms)), view(0, beats, began_ms)) == seconds


def test_who_gives_no_signs_cannot_be_missed() -> None:
    """A command of a service has no status file; and where a file cannot be seen, nothing is known."""
    assert not still_looks(Agent(running(runs=Runs.COMMAND, kind=Kind.SERVICE)), view(None))
    agent = Agent(running())
    for _ in range(5):
        agent.look(view(0))
    agent.look(view(None))
    for _ in range(BOUND_MS // LOOK_MS):
        agent.look(view(0))
    assert not agent.kills, "what was not seen for a while is watched anew"


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.RUNNING])
def test_only_who_runs_can_hang(phase: Phase) -> None:
    assert not still_looks(Agent(running(phase=phase)), view(0))


def test_who_ends_or_is_told_to_end_does_not_hang() -> None:
    assert not still_looks(Agent(running()), view(0, running=False, signal=11))
    assert not still_looks(Agent(running()), view(0, leaving=True))


def test_a_kill_that_went_amiss_is_ordered_again_and_told_once() -> None:
    agent = Agent(running())
    for _ in range((BOUND_MS + 3 * KILL_AGAIN_MS) // LOOK_MS + 1):
        agent.look(view(0))
    assert (agent.kills, len(agent.told), agent.instance.hangs) == (4, 1, 1)


def test_what_is_told_says_for_how_long_and_what_to_do() -> None:
    agent = Agent(running())
    still_looks(agent, view(0))
    (told,) = agent.told
    assert told == (
        "killed by its agent, since it did not move for 7 s; 7 s are allowed. Look at what its program waits for; where a frame may "
        "take that long, declare a longer hangAfter"
    )
    agent = Agent(running())
    still_looks(agent, view(0, STARTING))
    assert "did not move for 70 s while it was starting; 70 s are allowed" in agent.told[0]


# ------------------------------------------------------------------------------------------------- what becomes of it


def after_the_kill(trial: frozenset[str]) -> tuple[Instance, tuple[ev.Action, ...], Mapping[str, Instance]]:
    """It hung, was killed, and its end is seen."""
    agent = Agent(running())
    agent.trial = trial
    still_looks(agent, view(0))
    workload: Workload = agent.instance.workload
    rings = {name: ev.RingSeen(name, 0, 0, 16, {}, ()) for name in (*workload.read_rings, workload.writes_ring)}
    wanted = Wanted({NAME: workload}, {name: ring(name) for name in rings}, {workload.artifact: 1}, trial, (workload,))
    ended = view(0, running=False, signal=9, digest=workload.digest(), detail="frame 7")
    seen = replace(ended, rings=rings, artifacts=frozenset({workload.artifact}))
    assert fell_by(agent.instance, view(0).instances[NAME]) == agent.instance.hung, "before it is dead, too"
    instances, actions = reconciled(wanted, {NAME: agent.instance}, seen, agent.now_ms, 1)
    return instances[NAME], actions, instances


def test_it_is_started_again_as_after_any_death() -> None:
    instance, actions, _ = after_the_kill(frozenset())
    assert [type(each) for each in actions] == [ev.Forget, ev.Emit, ev.Start]
    assert (instance.phase, instance.restarts, instance.killed, instance.hangs) == (Phase.STARTING, 1, 1, 1)
    assert instance.hung == "", "its next life has not hung"
    told = next(each.detail for each in actions if isinstance(each, ev.Emit))
    assert told == "signal 9: killed by its agent, since it did not move for 7 s; 7 s are allowed"


def test_a_green_that_hangs_on_trial_has_failed_by_its_own_fault() -> None:
    instance, actions, instances = after_the_kill(frozenset({NAME}))
    assert [type(each) for each in actions] == [ev.Emit]
    assert instance.phase is Phase.FAILED
    assert "did not move for 7 s" in fell_by(instances[NAME], None)


@given(st.sampled_from(Kind), st.booleans(), st.none() | st.integers(0, 255))
def test_to_hang_is_a_fault_of_ones_own_and_only_evidence_on_trial(
    kind: Kind, on_trial: bool, exit_code: int | None
) -> None:
    found = ending(kind, on_trial, exit_code, hung=True)
    if kind is Kind.JOB and exit_code == 0:
        assert found is Happening.FINISHED
    else:
        assert found is (Happening.FELL if on_trial else Happening.DIED)
