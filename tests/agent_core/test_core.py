"""The core as a whole: any prefix of its journal recovers, replays are no-ops, records come from the leader alone, deaf is silent."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import core, journal, seats, swap
from halftrack_agent import events as ev
from halftrack_agent.state import NEWS_EVERY_MS, TELL_EVERY_MS, AgentState
from halftrack_dataplane.frames import reader_name
from halftrack_model.errors import Refused
from halftrack_model.swap import GreenStatus, Phase, SeatStatus, SwapRecord
from tests.agent_core.plans import SWAP, A, B, member_workload, merge, plan, sealed
from tests.sim import keys

NO_GREEN = GreenStatus(False, "", 0, -1, -1)
ARTIFACTS = frozenset(w.artifact for w in plan(A, 1, swap=True).workloads if w.artifact)
EMPTY = ev.HostView({}, {}, {}, frozenset())


def agent(host: str, *entries: journal.Entry, now_ms: int = 0) -> AgentState:
    """One that has these in its journal."""
    return core.recovered(keys.trust_of(host), entries, 1, now_ms)


def order(host: str, revision: int = 2) -> ev.JournalPlan:
    """The plan with the swap, accepted."""
    return ev.JournalPlan(sealed(plan(host, revision, swap=True)))


def told(number: int, phase: Phase = Phase.JOINING, leg: int = 0) -> SwapRecord:
    """What the leader might say."""
    return SwapRecord(SWAP.swap_id, number, leg, phase, 1, 50, 0, 5, 5, 0, "")


def answer(number: int, equipped: bool = True) -> ev.PeerAnswered:
    """What the other host might say."""
    return ev.PeerAnswered(B, SeatStatus(B, SWAP.swap_id, equipped, number, NO_GREEN, True))


def running_host(blue: bool = True, artifacts: frozenset[str] = ARTIFACTS) -> ev.HostView:
    """Tank-a with the output going."""
    wanted = plan(A, 2, swap=True)
    rings = {r.name: ev.RingSeen(r.name, 100, 0, 256, {}, ()) for r in wanted.rings}
    names = [SWAP.seats[0].blue_workload] if blue else []
    digests = {w.name: w.digest() for w in wanted.workloads}
    seen = {name: ev.InstanceSeen(name, digests[name], True, None, None, 0, "") for name in (*names, merge().name)}
    return ev.HostView(seen, rings, {}, artifacts)


def play(state: AgentState, events: Sequence[tuple[ev.Event, int]]) -> tuple[AgentState, list[ev.Action]]:
    """Through all of them."""
    done: list[ev.Action] = []
    for event, now_ms in events:
        state, actions = core.advance(state, event, now_ms)
        done += actions
    return state, done


# ------------------------------------------------------------------------------------------------------------ the journal

stories = st.lists(
    st.one_of(
        st.integers(1, 6).map(lambda revision: ev.PlanArrived(sealed(plan(B, revision, swap=revision % 3 != 0)))),
        st.builds(told, st.integers(1, 9), st.sampled_from(Phase), st.integers(0, 1)).map(lambda r: ev.PeerTold(A, r)),
        st.just(ev.Looked(EMPTY)),
    ),
    max_size=25,
)


# invariants: P3, P2
@given(stories, st.integers(0, 60))
def test_any_prefix_of_the_journal_recovers_to_what_was_durable_then(events: list[ev.Event], cut_off: int) -> None:
    state, entries, seen = agent(B), list[journal.Entry](), [agent(B)]
    for event in events:
        state, actions = core.advance(state, event, 0)
        for action in actions:
            if isinstance(action, ev.JournalPlan | ev.JournalSwap | ev.ForgetSwap):
                entries.append(action)
                seen.append(state)
    prefix = entries[:cut_off]
    through_disk = [journal.decoded(journal.encoded(entry)) for entry in journal.living(tuple(prefix))]
    back = agent(B, *through_disk)
    straight = agent(B, *prefix)
    assert (back.plan, back.swaps) == (straight.plan, straight.swaps), "compaction changes nothing"
    if cut_off >= len(entries):
        assert back.plan == state.plan
        assert {k: v.number for k, v in back.swaps.items()} == {k: v.number for k, v in state.swaps.items()}
    again, actions = core.advance(back, (back.plan and ev.PlanArrived(back.plan.sealed)) or ev.Looked(EMPTY), 0)
    assert again.plan == back.plan
    assert not any(isinstance(action, ev.JournalPlan | ev.Stop) for action in actions)


# invariants: P2, D1
@given(st.integers(1, 4), st.integers(0, 5))
def test_a_journal_that_has_lost_its_newest_plan_is_not_obeyed(kept: int, floor: int) -> None:
    """A disk that did not keep what it had synced may end anywhere; the floor stands in a file of its own."""
    entries = [ev.JournalPlan(sealed(plan(A, revision))) for revision in range(1, kept + 1)]
    if floor > kept:
        with pytest.raises(Refused, match=f"had accepted {floor}"):
            core.recovered(keys.trust_of(A), entries, 1, 0, floor)
    else:
        back = core.recovered(keys.trust_of(A), entries, 1, 0, floor)
        assert back.plan is not None
        assert back.plan.plan.revision == kept


# invariant: P1
def test_a_plan_that_has_rotted_on_the_disk_is_not_obeyed() -> None:
    good = sealed(plan(A, 1))
    rotten = replace(good, payload=good.payload.replace(b'"revision":1', b'"revision":9'))
    with pytest.raises(Exception, match="genuine seals"):
        agent(A, ev.JournalPlan(rotten))


# invariant: R3
def test_an_agent_without_a_plan_touches_nothing() -> None:
    _, actions = core.advance(agent(A), ev.Looked(running_host()), 0)
    assert actions == ()


# invariant: R1
def test_a_look_at_the_same_host_changes_nothing_twice() -> None:
    state = agent(A, ev.JournalPlan(sealed(plan(A, 1))))
    view = replace(running_host(), rings={n: r for n, r in running_host().rings.items() if "1.1.0" not in n})
    cuts = (ev.CutSeen(1, 1, None, 0),)
    view = replace(view, rings={n: replace(r, cuts=cuts) for n, r in view.rings.items()})
    state, _ = core.advance(state, ev.Looked(view), 0)
    calm, actions = core.advance(state, ev.Looked(view), 100)
    assert actions == ()
    assert (calm.instances, calm.swaps, calm.plan) == (state.instances, state.swaps, state.plan)
    assert core.observed(calm).digest() == core.observed(state).digest(), "a calm host has nothing to tell"


# -------------------------------------------------------------------------------------------------------------- following


# invariant: P3
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_records_are_taken_in_rising_order_whatever_the_network_does(numbers: list[int]) -> None:
    state, highest = agent(B, order(B)), 0
    for number in numbers:
        state, actions = core.advance(state, ev.PeerTold(A, told(number)), 3)
        assert bool(actions) == (number > highest)
        highest = max(highest, number)
        assert state.swaps[SWAP.swap_id].number == highest


# invariant: P1
@pytest.mark.parametrize("who", [B, "stranger"])
def test_only_the_leader_is_believed(who: str) -> None:
    for host in (A, B):
        state = agent(host, order(host))
        after, actions = core.advance(state, ev.PeerTold(who, told(99, Phase.DONE, 1)), 3)
        assert (after, actions) == (state, ())


# invariant: P1
def test_a_record_of_a_swap_that_no_plan_orders_is_nothing() -> None:
    state = agent(B, ev.JournalPlan(sealed(plan(B, 1))))
    assert core.advance(state, ev.PeerTold(A, told(1)), 3) == (state, ())


# invariant: P3
def test_a_record_is_durable_before_it_is_acknowledged() -> None:
    _, done = play(agent(B, order(B)), [(ev.PeerTold(A, told(4)), 0), (ev.Looked(EMPTY), 1)])
    kinds = [type(action) for action in done]
    assert kinds.index(ev.JournalSwap) < kinds.index(ev.AnswerPeer)
    answers = [action.status.number for action in done if isinstance(action, ev.AnswerPeer)]
    assert answers == [4]


def test_a_host_says_that_it_knows_the_swap_when_it_could_finish_it_alone() -> None:
    for artifacts in (frozenset[str](), ARTIFACTS):
        view = replace(EMPTY, artifacts=artifacts)
        _, done = play(agent(B, order(B)), [(ev.Looked(view), 0)])
        said = [action.status.knows_swap for action in done if isinstance(action, ev.AnswerPeer)]
        assert said == [bool(artifacts)]


LAGS = st.sampled_from([-1, 0, 7, SWAP.strategy.lag_frames, SWAP.strategy.lag_frames + 1, 10**6])
Sights = list[tuple[int, bool, bool, int]]
sights = st.lists(st.tuples(st.integers(5, 60), st.booleans(), st.booleans(), LAGS), min_size=1, max_size=25)


# invariant: S2
@given(sights)
def test_the_leader_hears_what_it_acts_upon_as_soon_as_it_is_so_and_is_not_flooded(seen: Sights) -> None:
    """Its every phase waits for the other host's word. How far a green is that keeps up is told at leisure."""
    seat, wanted = SWAP.seats[1], {w.name: w.digest() for w in plan(B, 2, swap=True).workloads}
    state, now_ms, told_ms, known = agent(B, order(B)), 1_000, 0, None
    for gap_ms, blue, green, lag in seen:
        now_ms += gap_ms
        here = [name for name, runs in ((seat.blue_workload, blue), (seat.green_workload, green)) if runs]
        instances = {name: ev.InstanceSeen(name, wanted[name], True, None, None, 0, "") for name in here}
        lags = {} if lag < 0 else {reader_name(seat.green_workload): lag}
        rings = {SWAP.input_ring: ev.RingSeen(SWAP.input_ring, 100, 0, 256, lags, ())}
        state, actions = core.advance(state, ev.Looked(replace(EMPTY, instances=instances, rings=rings)), now_ms)
        words = [action.status for action in actions if isinstance(action, ev.AnswerPeer)]
        so = blue, green, lag >= 0, 0 <= lag <= SWAP.strategy.lag_frames
        if words:
            (word,) = words
            assert not told_ms or now_ms - told_ms >= (TELL_EVERY_MS if known == so else NEWS_EVERY_MS)
            told_ms, said = now_ms, word.green.lag_frames
            known = word.blue_running, word.green.running, said >= 0, 0 <= said <= SWAP.strategy.lag_frames
        assert now_ms - told_ms < TELL_EVERY_MS
        if now_ms - told_ms >= NEWS_EVERY_MS:
            assert known == so


# ---------------------------------------------------------------------------------------------------------------- leading


def phase_of(state: AgentState) -> Phase:
    """Of the swap."""
    return state.swaps[SWAP.swap_id].phase


# invariant: S1
def test_a_host_with_both_seats_leads_them_and_has_its_own_journal_for_an_answer() -> None:
    """Nobody is told, nobody answers: what is durable here is agreed, at the next look."""
    alone = replace(SWAP, seats=(SWAP.seats[0], replace(SWAP.seats[1], host=A)))
    both = replace(plan(A, 2, swap=True), swaps=(alone,))
    twins = tuple(member_workload("b", version) for version in ("1.0.0", "1.1.0"))
    both = replace(both, workloads=(*both.workloads, *twins))
    view = running_host()
    twin = ev.InstanceSeen(twins[0].name, twins[0].digest(), True, None, None, 0, "")
    state, done = play(agent(A, ev.JournalPlan(sealed(both))), [(ev.Looked(view), 0), (ev.Looked(view), 20)])
    assert phase_of(state) is Phase.PENDING, "the second seat's blue does not run"
    view = replace(view, instances={**view.instances, twin.workload: twin})
    state, more = play(state, [(ev.Looked(view), 40)])
    assert phase_of(state) is Phase.JOINING
    words = (ev.TellPeer, ev.AnswerPeer)
    assert not [action for action in (*done, *more) if isinstance(action, words)]
    record = state.swaps[SWAP.swap_id]
    facts = seats.facts_of(state, alone, view, 60)
    assert swap.agreed(record, facts)
    assert not swap.agreed(replace(record, number=record.number + 1), facts), "what is not yet journaled is not agreed"
    assert facts.blues_running == (True, True)


def test_a_swap_begins_when_both_hosts_have_everything() -> None:
    view = running_host()
    state, _ = play(agent(A, order(A)), [(ev.Looked(view), 0), (answer(1), 10), (ev.Looked(view), 20)])
    assert phase_of(state) is Phase.JOINING
    for ours, theirs in ((frozenset[str](), True), (ARTIFACTS, False)):
        view = running_host(artifacts=ours)
        state, _ = play(agent(A, order(A)), [(ev.Looked(view), 0), (answer(1, theirs), 10), (ev.Looked(view), 20)])
        assert phase_of(state) is Phase.PENDING


# invariant: O1
def test_a_host_that_speaks_but_does_not_hear_counts_as_silent() -> None:
    state, _ = play(agent(A, order(A)), [(ev.Looked(running_host()), 0), (answer(0), 1)])
    events: list[tuple[ev.Event, int]] = []
    for now_ms in range(100, 5_000, 100):  # its words keep coming, and never acknowledge the record
        events += [(answer(0), now_ms), (ev.Looked(running_host()), now_ms + 1)]
    state, _ = play(state, events)
    heard = state.heard[SWAP.swap_id]
    assert heard.at_ms < 0
    assert phase_of(state) is Phase.PENDING, "nothing is begun with it"


# invariant: R2
def test_a_swap_in_flight_is_neither_dropped_nor_changed_but_may_be_aborted() -> None:
    record = ev.JournalSwap(told(3, Phase.SHADOWING))
    state = agent(A, order(A), record)
    without = sealed(plan(A, 3))
    other = sealed(replace(plan(A, 3, swap=True), swaps=(replace(SWAP, strategy=replace(SWAP.strategy, drain_ms=0)),)))
    for refused in (without, other):
        after, actions = core.advance(state, ev.PlanArrived(refused), 0)
        assert after == state
        assert isinstance(actions[0], ev.NackPlan)
        assert (actions[0].reason, actions[0].revision) == ("swap-in-flight", 3)
    aborting = sealed(replace(plan(A, 3, swap=True), swaps=(replace(SWAP, abort=True),)))
    state, _ = play(state, [(ev.PlanArrived(aborting), 0), (ev.Looked(running_host()), 1)])
    assert phase_of(state) is Phase.ABORTING


# invariant: P3
def test_a_plan_is_taken_by_one_entry_and_what_it_ends_is_forgotten_at_the_next_look() -> None:
    """Two entries could be parted by a full disk: then the plan would be durable, and not in force."""
    state = agent(A, order(A), ev.JournalSwap(told(9, Phase.DONE)))
    state, done = play(state, [(ev.PlanArrived(sealed(plan(A, 3))), 0)])
    assert [type(action) for action in done] == [ev.JournalPlan, ev.AckPlan, ev.Emit]
    held, done = play(state, [(ev.Looked(running_host(), still=True), 1)])
    assert (held.swaps, [a for a in done if isinstance(a, ev.ForgetSwap)]) == (state.swaps, [])
    state, done = play(state, [(ev.Looked(running_host()), 1)])
    assert (state.swaps, done[0]) == ({}, ev.ForgetSwap(SWAP.swap_id))


# invariant: R1
def test_without_a_journal_a_swap_stands_still_and_workloads_do_not() -> None:
    dead = running_host(blue=False)
    for entries in ([], [ev.JournalSwap(told(3, Phase.SHADOWING))]):
        before = agent(A, order(A), *entries)
        state, done = play(before, [(answer(3), 0), (ev.Looked(dead, still=True), 1)])
        assert state.swaps == before.swaps
        assert not [action for action in done if isinstance(action, ev.JournalPlan | ev.JournalSwap | ev.ForgetSwap)]
        started = [action.workload.name for action in done if isinstance(action, ev.Start)]
        assert SWAP.seats[0].blue_workload in started


def test_of_a_step_that_failed_only_its_durable_records_are_kept() -> None:
    state = agent(A, order(A))
    after, done = play(state, [(ev.Looked(running_host()), 1)])
    assert core.kept(state, []) == state
    assert core.kept(state, done).swaps == after.swaps
    assert core.kept(state, done).instances == {}


def test_green_s_lag_is_found_by_the_name_that_its_ring_keeps() -> None:
    name = "northern-telescope-array.polarisation-spectrometer.a@1.10.0-rc.1"
    rings = {SWAP.input_ring: ev.RingSeen(SWAP.input_ring, 9, 0, 16, {reader_name(name): 7}, ())}
    seat = replace(SWAP.seats[0], green_workload=name)
    assert seats.green_status(agent(A, order(A)), seat, SWAP, replace(EMPTY, rings=rings)).lag_frames == 7


def test_green_s_own_end_aborts_in_the_very_look_that_sees_it() -> None:
    name = SWAP.seats[0].green_workload
    digest = next(w.digest() for w in plan(A, 2, swap=True).workloads if w.name == name)
    view = running_host()
    fallen = ev.InstanceSeen(name, digest, False, 1, None, 0, "ValueError")
    view = replace(view, instances={**view.instances, name: fallen})
    state = agent(A, order(A), ev.JournalSwap(told(8, Phase.DRAINING)))
    state, done = play(state, [(answer(8), 0), (ev.Looked(view), 1)])
    record = state.swaps[SWAP.swap_id]
    assert (record.phase, record.green_deaths) == (Phase.ABORTING, 0)
    assert "failed on tank-a: exit status 1: ValueError" in record.reason
    assert not any(isinstance(action, ev.Start) and action.workload.name == name for action in done)
