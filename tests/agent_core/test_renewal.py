"""When a certificate is renewed, and what is said of a clock: pure, from durations that a controller has said."""

import random

from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import renewal, timekeeping
from halftrack_agent.renewal import Renewals, Term
from halftrack_agent.timekeeping import Floor, Told

DAY_MS = 86_400_000
LIVES = st.integers(1_000, 400 * DAY_MS)
TIMES = st.integers(0, 10**13)  # of the boot-time clock
SEEDS = st.integers(0, 2**32)


def fresh(seed: int) -> Renewals:
    return renewal.begun(random.Random(seed).randint)


@given(LIVES, TIMES, SEEDS, st.integers(0, 1_000))
def test_a_certificate_is_renewed_early(life_ms: int, now_ms: int, seed: int, left_per_mille: int) -> None:
    """Between three fifths and three quarters of its life, whatever is left of it now; so never later than a quarter before its end."""
    # invariant: C2
    left_ms = life_ms * left_per_mille // 1000
    due_ms = renewal.due_ms(renewal.welcomed(fresh(seed), left_ms, life_ms, now_ms))
    assert due_ms is not None
    wait_ms = max(0, due_ms - now_ms)
    assert life_ms - left_ms + wait_ms >= life_ms * 6 // 10
    assert wait_ms <= max(0, left_ms - life_ms // 4 + 1)


@given(LIVES, TIMES, SEEDS, st.integers(12, 10_000))
def test_one_that_lives_too_long_is_replaced_soon(life_ms: int, now_ms: int, seed: int, tenths: int) -> None:
    """An earlier version gave it, or the setting is shorter now: within ten minutes, and not by all hosts at once."""
    due_ms = renewal.due_ms(renewal.welcomed(fresh(seed), life_ms * tenths // 10, life_ms, now_ms))
    assert due_ms is not None
    assert now_ms <= due_ms <= now_ms + min(life_ms // 100, 600_000)


def test_hosts_that_enrolled_together_do_not_come_together() -> None:
    for left_ms in (90 * DAY_MS, 16_000 * DAY_MS):
        states = [renewal.welcomed(fresh(seed), left_ms, 90 * DAY_MS, 0) for seed in range(100)]
        dues = sorted(due for state in states if (due := renewal.due_ms(state)) is not None)
        assert len(set(dues)) > 95
        assert dues[-1] - dues[0] > (DAY_MS if left_ms == 90 * DAY_MS else 300_000)


@given(TIMES, SEEDS)
def test_a_controller_that_says_nothing_of_it_is_not_asked(now_ms: int, seed: int) -> None:
    """One of an earlier version: it could not answer."""
    assert renewal.due_ms(renewal.welcomed(fresh(seed), 0, 0, now_ms)) is None


@given(st.none() | st.builds(Term, TIMES, LIVES, LIVES), SEEDS)
def test_sessions_that_come_to_nothing_lead_to_renewal_whatever_is_known(term: Term | None, seed: int) -> None:
    """An expired certificate looks like a cut link, also to a host that has just started and knows nothing; a single failure does not."""
    # invariant: C1 C2
    state = Renewals(700_000, 500_000, term)
    for _ in range(renewal.SUSPECT_AFTER - 1):
        state = renewal.unanswered(state)
    without = renewal.due_ms(state)
    assert (without is None) == (term is None)
    assert renewal.due_ms(renewal.unanswered(state)) == 0
    again = renewal.failed(renewal.unanswered(state), 1_000, random.Random(seed).randint)
    assert (renewal.due_ms(again) or 0) > 1_000


@given(TIMES, SEEDS, st.integers(1, 3_000))
def test_pauses_grow_to_an_hour_and_stay_jittered(now_ms: int, seed: int, attempts: int) -> None:
    """Over a link that has been cut for months, and also where fresh certificates come and sessions do not."""
    uniform = random.Random(seed).randint
    state = fresh(seed)
    for number in range(attempts):
        before = state
        state = (
            renewal.failed(state, now_ms, uniform) if number % 3 else renewal.renewed(state, DAY_MS, now_ms, uniform)
        )
        assert 0 < state.not_before_ms - now_ms <= 3_600_000
        now_ms = state.not_before_ms
    if attempts > 20:
        assert state.not_before_ms - before.not_before_ms >= 3_600_000 // 8
    assert renewal.welcomed(state, DAY_MS, DAY_MS, now_ms).not_before_ms == 0


WALLS = st.integers(-(10**13), 10**14)
FLOORS = st.builds(Floor, st.integers(1, 10**14), st.sampled_from(["this", "other"]), TIMES)


@given(st.none() | FLOORS, st.none() | st.builds(Told, st.integers(1, 10**14), TIMES), st.lists(TIMES, max_size=8))
def test_the_floor_never_goes_down(floor: Floor | None, told: Told | None, waits: list[int]) -> None:
    """Whatever controllers say and boots pass; and a write is worth it only every few hours."""
    now_ms, known, written = (told.boot_ms if told else 0), floor, floor
    for wait in sorted(waits):
        now_ms += wait
        before = timekeeping.floor_ms(known, "this", now_ms)
        known = timekeeping.raised(known, told, "this", now_ms)
        assert known.wall_ms >= max(before, floor.wall_ms if floor else 0)
        if timekeeping.worth_writing(written, known):
            assert written is None or known.wall_ms - written.wall_ms >= timekeeping.WRITE_EVERY_MS
            written = known


@given(st.builds(Floor, st.integers(1, 10**13), st.just("before"), TIMES), TIMES)
def test_an_earlier_boots_floor_counts_on_from_this_boots_begin(floor: Floor, up_ms: int) -> None:
    assert timekeeping.floor_ms(floor, "this", up_ms) == floor.wall_ms + up_ms
    assert timekeeping.floor_ms(None, "this", up_ms) == 0


@given(
    WALLS,
    st.integers(0, 10**14),
    st.none() | st.builds(Told, st.integers(1, 10**14), TIMES),
    TIMES,
    st.integers(0, 59_000),
)
def test_what_is_said_of_a_clock_stays_the_same_sentence(
    wall_ms: int, floor: int, told: Told | None, up_ms: int, later_ms: int
) -> None:
    """It is part of the observed state, whose digest must not change while nothing happens: a minute later at most the next unit is reached."""
    if told is not None:
        up_ms += told.boot_ms
    first = timekeeping.problem(wall_ms, floor, told, up_ms)
    assert timekeeping.problem(wall_ms + later_ms, floor + later_ms, told, up_ms + later_ms) == first


def test_what_is_said_of_a_clock() -> None:
    year = 31_557_600_000
    told = Told(50 * year, 1_000)
    assert timekeeping.problem(50 * year + 10_000, 0, told, 2_000) == ""
    assert timekeeping.problem(50 * year + 10 * DAY_MS, 0, told, 1_000 + 10 * DAY_MS) == "", (
        "the controller's goes on, too"
    )
    assert "3 years ahead of the controller's" in timekeeping.problem(53 * year + 10_000, 0, told, 2_000)
    assert "50 years behind the controller's" in timekeeping.problem(0, 60 * year, told, 2_000)
    assert "10 years behind what it has been" in timekeeping.problem(50 * year, 60 * year, None, 2_000)
    assert timekeeping.problem(60 * year, 50 * year, None, 0) == "", "nobody has said that it is wrong"
    assert timekeeping.rough(2 * 86_400_000 + 5) == "2 days"
    assert timekeeping.rough(60_000) == "1 minute"
