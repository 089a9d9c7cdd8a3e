"""The lifecycle's table: every phase can be reached, what has no row raises, and what an end means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent.lifecycle import (
    CIRCUMSTANTIAL_EXITS,
    ROWS,
    Happening,
    IllegalTransition,
    Phase,
    after,
    ending,
)
from halftrack_model.workload import Kind


def test_every_phase_can_be_reached_from_the_first() -> None:
    reached = {Phase.WAITING}
    for _ in Phase:
        reached |= {to for (phase, _), to in ROWS.items() if phase in reached}
    assert reached == set(Phase)


def test_every_happening_has_a_row() -> None:
    assert {happening for _, happening in ROWS} == set(Happening)


def test_whatever_is_no_longer_wanted_can_be_stopped_from_everywhere() -> None:
    assert {phase for (phase, happening) in ROWS if happening is Happening.UNWANTED} == set(Phase) - {Phase.STOPPING}


@given(st.sampled_from(Phase), st.sampled_from(Happening))
def test_what_has_no_row_raises_and_what_has_one_moves(phase: Phase, happening: Happening) -> None:
    if (phase, happening) in ROWS:
        assert after(phase, happening) is ROWS[(phase, happening)] is not phase
        return
    with pytest.raises(IllegalTransition) as caught:
        after(phase, happening)
    assert caught.value.reason == "illegal-transition"


@given(st.lists(st.sampled_from(Happening), max_size=30))
def test_no_phase_out_of_nowhere(happenings: list[Happening]) -> None:
    phase = Phase.WAITING
    for happening in happenings:
        try:
            moved = after(phase, happening)
        except IllegalTransition:
            continue
        assert (phase, happening) in ROWS
        phase = moved


@given(st.sampled_from(Kind), st.booleans(), st.none() | st.integers(0, 255))
def test_only_an_exit_of_its_own_fault_on_trial_is_evidence(kind: Kind, on_trial: bool, exit_code: int | None) -> None:
    found = ending(kind, on_trial, exit_code)
    own_fault = exit_code not in (None, 0) and exit_code not in CIRCUMSTANTIAL_EXITS
    assert (found is Happening.FELL) == (on_trial and own_fault)
    assert (found is Happening.FINISHED) == (kind is Kind.JOB and exit_code == 0)


def test_a_green_that_was_asked_to_end_by_an_earlier_life_of_the_agent_has_not_failed() -> None:
    assert ending(Kind.VERTEX, on_trial=True, exit_code=0) is Happening.DIED
