"""Waits draw near to each other, and never by more than they may."""

from hypothesis import assume, given
from hypothesis import strategies as st

from halftrack_agent import together

NOW = st.floats(0, 1e7)
EVERY = st.sampled_from([0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 7.0, 60.0, 3600.0]) | st.floats(0.05, 4_000)
PART = st.floats(0, 0.25)
NIL_S = 1e-6  # what sums of such numbers are wrong by


@given(NOW, EVERY, PART, PART)
def test_a_wait_is_as_long_as_it_may_be(now_s: float, every_s: float, early: float, late: float) -> None:
    wait_s = together.after(now_s, every_s, early, late) - now_s
    assert every_s * (1 - early) - NIL_S <= wait_s <= every_s * (1 + late) + NIL_S


@given(NOW, st.integers(1, 60), st.floats(0.05, 0.25), st.sampled_from([0.0, 0.25]), st.floats(0, 0.005))
def test_whole_seconds_are_where_waits_end_in_the_end(
    now_s: float, every_s: int, early: float, late: float, slow_s: float
) -> None:
    """Whenever it began, and though whoever wakes is a little late each time."""
    assume(early * every_s > 2 * slow_s)
    for _ in range(30):
        now_s = together.after(now_s, every_s, early, late) + slow_s
    at_s = together.after(now_s, every_s, early, late)
    assert at_s == round(at_s)
    assert abs(at_s - now_s - every_s) <= slow_s + NIL_S, "and then they keep their pace"


@given(NOW, st.sampled_from([0.1, 0.25, 0.5]), st.floats(0, 0.002))
def test_short_waits_meet_others_of_their_length(now_s: float, every_s: float, slow_s: float) -> None:
    for _ in range(30):
        now_s = together.after(now_s, every_s, 0.125, 0) + slow_s
    at_s = together.after(now_s, every_s, 0.125, 0)
    assert abs(at_s / every_s - round(at_s / every_s)) < NIL_S


@given(NOW)
def test_the_next_second_is_a_second_away_at_most(now_s: float) -> None:
    assert 0 < together.next_second(now_s) - now_s <= 1
    assert together.next_second(now_s) % 1 == 0
