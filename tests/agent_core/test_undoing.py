"""The way back of a swap: whom it waits for, how long, and when blue gets the output."""

from dataclasses import replace

from halftrack_agent import swap
from halftrack_agent.events import ProposeCut
from halftrack_agent.swap import Facts
from halftrack_model.swap import Phase, SwapRecord
from tests.agent_core.plans import SWAP
from tests.agent_core.test_swap import BOTH, DEAD, FINE, GREEN_IN_FORCE, STATUS, STRATEGY


def _both(phase: Phase) -> SwapRecord:
    return SwapRecord(SWAP.swap_id, 5, 0, phase, 2, 116, 0, 0, 0, 0, "")


# invariant: S1
def test_an_undoing_waits_for_both_blues_as_long_as_they_can_be_had() -> None:
    told = replace(STATUS, number=5)
    seen = replace(FINE, blues_staying=(True, False), follower=told)
    assert swap.moved(BOTH, _both(Phase.ABORTING), seen, 1).phase is Phase.ABORTING
    assert swap.moved(BOTH, _both(Phase.ABORTING), replace(seen, heard=False), 1).phase is Phase.UNDONE
    away = replace(FINE, blues_staying=(False, True), follower=told, heard=False)
    assert swap.moved(BOTH, _both(Phase.ABORTING), away, 1).phase is Phase.ABORTING, (
        "ours is not the other host's to bring"
    )
    assert swap.moved(BOTH, _both(Phase.ABORTING), seen, STRATEGY.deadline_ms).phase is Phase.UNDONE
    assert swap.moved(BOTH, _both(Phase.ABORTING), replace(FINE, follower=told), 1).phase is Phase.UNDONE


# invariant: S1
def test_an_undoing_does_not_trust_a_blue_whose_host_may_still_be_letting_it_go() -> None:
    """Found by the model: GONE was told, the abort not yet, and the look saw a blue that was about to be stopped."""
    undoing = replace(_both(Phase.ABORTING), leg=1)
    seen = replace(FINE, cuts=GREEN_IN_FORCE)
    deaf = replace(seen, follower=replace(STATUS, number=undoing.number - 1))
    assert _taken_back(undoing, deaf) is False
    assert _taken_back(undoing, replace(seen, follower=replace(STATUS, number=undoing.number))) is True
    assert _taken_back(undoing, replace(deaf, greens=(DEAD, DEAD))) is True, "nothing to wait with"


# invariant: S1
def test_an_undoing_takes_the_output_back_only_when_both_blues_will_keep_it() -> None:
    """Found by the model: a blue that was told to stop, or one alone, got the output from two greens that ran well."""
    undoing = replace(_both(Phase.ABORTING), leg=1)
    seen = replace(FINE, cuts=GREEN_IN_FORCE, follower=replace(STATUS, number=undoing.number))
    leaving = replace(seen, blues_staying=(True, False))
    assert _taken_back(undoing, leaving) is False
    assert _taken_back(undoing, replace(leaving, heard=False)) is True, "the other host may never bring it"
    assert _taken_back(undoing, leaving, STRATEGY.deadline_ms) is True
    assert _taken_back(undoing, replace(leaving, greens=(DEAD, DEAD))) is True, "one is better than none"
    stuck = replace(leaving, green_heads=(0, 0))
    assert _taken_back(undoing, stuck) is True, "greens that run and bring nothing are no reason to wait"


def _taken_back(record: SwapRecord, seen: Facts, now_ms: int = 0) -> bool:
    """Is blue given the output now, instead of green?"""
    actions = list(swap.table_actions(SWAP, record, seen, now_ms))
    assert all(isinstance(a, ProposeCut) and a.generation == SWAP.blue.generation for a in actions)
    return bool(actions)
