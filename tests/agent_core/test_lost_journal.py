"""A host whose journal is gone in the middle of a swap: what runs stays, nobody waits for ever, and no old word passes for a new one."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_agent import amnesia, core, swap
from halftrack_agent import events as ev
from halftrack_agent.looks import ring_of
from halftrack_agent.state import AgentState
from halftrack_model.swap import GreenStatus, Phase, SeatStatus, SwapRecord
from halftrack_model.workload import Runs
from tests.agent_core.plans import SWAP, A, B, plan
from tests.agent_core.test_core import agent, answer, order, play, running_host

GREEN = SWAP.seats[0].green_workload
FIRST_EPOCH = swap.opening(SWAP, 0).epoch


def host_with(*greens: str, counts: bool = False, second: bool = False) -> ev.HostView:
    """Tank-a, whose greens run, and whose owner table gives them the output or not; with the second one's ring, or not."""
    view = running_host()
    rings = {name: ring for name, ring in view.rings.items() if second or name != ring_of(SWAP.seats[1].green)}
    digests = {w.name: w.digest() for w in plan(A, 2, swap=True).workloads}
    seen = {name: ev.InstanceSeen(name, digests[name], True, None, None, 0, "") for name in greens}
    rows = [ev.CutSeen(1, 1, None, 0)]
    if counts:
        rows.append(ev.CutSeen(FIRST_EPOCH + 3, SWAP.green.generation, 50, 50))
    merged = replace(view.rings[SWAP.merged_ring], cuts=tuple(rows))
    return replace(view, instances={**view.instances, **seen}, rings={**rings, merged.name: merged})


def word(number: int, green_runs: bool) -> ev.PeerAnswered:
    """The other host's."""
    status = answer(number).status
    return ev.PeerAnswered(B, replace(status, green=GreenStatus(green_runs, "", 0, 0, 100 if green_runs else -1)))


def journaled(actions: list[ev.Action]) -> list[SwapRecord]:
    """The records among them."""
    return [action.record for action in actions if isinstance(action, ev.JournalSwap)]


def stopped(actions: list[ev.Action]) -> set[str]:
    """What is stopped."""
    return {action.workload for action in actions if isinstance(action, ev.Stop)}


def without_records(host: str = A) -> AgentState:
    """It was sent its plan again, and knows of no swap."""
    return agent(host, order(host))


# invariant: R1
@settings(max_examples=30)  # each reads two sealed plans
@given(st.integers(1, 5_000_000), st.booleans())
def test_the_other_hosts_word_for_a_record_that_the_leader_has_lost_makes_it_begin_above_that(
    number: int, known: bool
) -> None:
    state = agent(A, order(A), ev.JournalSwap(swap.opening(SWAP, 0))) if known else without_records()
    state, actions = play(state, [(word(number + 1, False), 10), (ev.Looked(running_host()), 20)])
    record = journaled(actions)[0]
    assert record.number > number + 1
    assert record.phase is Phase.PENDING
    assert record.epoch > FIRST_EPOCH + 100, "no epoch is used again that an earlier life may have withdrawn"
    assert not journaled(play(state, [(word(record.number, False), 30)])[1]), "once is enough"


# invariant: P2
@given(st.lists(st.tuples(st.integers(0, 500), st.booleans(), st.booleans()), min_size=1, max_size=6))
def test_however_often_a_journal_is_lost_no_epoch_that_the_other_host_has_heard_comes_again(
    lives: list[tuple[int, bool, bool]],
) -> None:
    """Whether or not a row of it is in the owner table, and though the leader may have begun before it heard the other's word."""
    record = swap.opening(SWAP, 0)
    for tries, shown, hasty in lives:
        used, heard = record.epoch + tries, record.number + tries
        view = host_with(GREEN)
        rows = (ev.CutSeen(used, SWAP.green.generation, 99, None),) if shown else ()
        merged = replace(view.rings[SWAP.merged_ring], cuts=rows)
        view = replace(view, rings={**view.rings, merged.name: merged})
        begun = amnesia.resumed(SWAP, None, None, view, 0) if hasty else None
        record = amnesia.resumed(SWAP, begun, replace(answer(heard).status, number=heard), view, 0)
        assert record.epoch > used
        assert record.number > heard


def test_a_peer_that_claims_a_large_number_gets_no_epoch_of_the_next_swap() -> None:
    heard = replace(answer(1).status, number=amnesia.LIFE * 5_000)
    assert amnesia.resumed(SWAP, None, heard, host_with(GREEN), 0).epoch < FIRST_EPOCH + swap.EPOCHS


# invariant: S1
def test_a_green_that_runs_stays_while_nobody_knows_what_is_to_become_of_it() -> None:
    """The follower's plan comes back before its leader's record does."""
    member = SWAP.seats[1].green_workload
    wanted = {w.name: w for w in plan(B, 2, swap=True).workloads}
    seen = ev.InstanceSeen(member, wanted[member].digest(), True, None, None, 0, "")
    view = ev.HostView({member: seen}, {}, {}, frozenset())
    assert not stopped(play(without_records(B), [(ev.Looked(view), 10), (ev.Looked(view), 500)])[1])
    for other in (replace(seen, digest="of another swap"), replace(seen, leaving=True)):
        assert not amnesia.found(SWAP, wanted.values(), replace(view, instances={member: other}))


# invariant: S1
@pytest.mark.parametrize(("second", "leg", "phase"), [(False, 0, Phase.DRAINING), (True, 1, Phase.JOINING)])
def test_behind_the_cut_it_goes_on(second: bool, leg: int, phase: Phase) -> None:
    view = host_with(GREEN, counts=True, second=second)
    state, actions = play(without_records(), [(ev.Looked(view), 10), (ev.Looked(view), 20)])
    (record,) = journaled(actions)
    assert (record.leg, record.phase) == (leg, phase)
    assert GREEN not in stopped(actions)
    assert not any(isinstance(action, ev.ProposeCut | ev.WithdrawCut) for action in actions)
    assert state.swaps[SWAP.swap_id].green_in_force


# invariant: S1
def test_before_the_cut_it_begins_anew_and_the_dead_give_way() -> None:
    (begun,) = journaled(play(without_records(), [(ev.Looked(host_with(GREEN)), 10)])[1])
    assert begun.phase is Phase.PENDING
    assert begun.number >= amnesia.LIFE, "the green here says that a swap had begun"
    dead = host_with(counts=True)
    _, actions = play(without_records(), [(ev.Looked(dead), 10), (ev.Looked(dead), 20)])
    assert journaled(actions)[-1].phase is Phase.JOINING
    assert any(isinstance(action, ev.ProposeCut) and action.generation == SWAP.blue.generation for action in actions)


def test_on_a_full_disk_it_waits_with_what_it_has() -> None:
    state, actions = play(without_records(), [(word(9, True), 10), (ev.Looked(host_with(GREEN), still=True), 20)])
    assert not journaled(actions)
    assert not stopped(actions)
    assert not state.swaps


@pytest.mark.parametrize("second", [False, True])
def test_when_both_are_replaced_at_once_both_greens_stay(second: bool) -> None:
    spec = replace(SWAP, strategy=replace(SWAP.strategy, surge=2))
    record = amnesia.resumed(spec, None, None, host_with(GREEN, counts=True, second=second), 10)
    assert (record.leg, record.phase) == (0, Phase.DRAINING)
    assert {seat.green for seat in spec.seats} <= swap.wanted(spec, record)


@given(st.integers(0, 3_000_000), st.integers(0, 3_000_000))
def test_a_leader_that_knows_more_than_the_other_has_lost_nothing(mine: int, theirs: int) -> None:
    record = replace(swap.opening(SWAP, 0), number=mine + theirs)
    status = SeatStatus(B, SWAP.swap_id, True, theirs, GreenStatus(True, "", 0, 0, 9), True)
    assert not amnesia.is_lost(SWAP, record, status, host_with(GREEN, counts=True))
    assert not amnesia.is_lost(SWAP, None, None, running_host())


def test_a_judge_alone_is_no_sign_of_its_green() -> None:
    judge = replace(plan(A, 2, swap=True).workloads[1], name="judge", runs=Runs.JUDGE)
    seen = ev.InstanceSeen("judge", judge.digest(), True, None, None, 0, "")
    view = ev.HostView({"judge": seen}, {}, {}, frozenset())
    assert not amnesia.found(SWAP, [judge], view)
    assert core.advance(without_records(), ev.Looked(running_host()), 10)[0].swaps[SWAP.swap_id].number == 1
