"""Windows of the day: what they say of each minute, over midnight too, and when anything may come."""

from hypothesis import given
from hypothesis import strategies as st

from halftrack_model import canonical
from halftrack_model.bandwidth import DAY_MINUTES, BandwidthWindow, clock_text, faults, limit_at, opens_at
from halftrack_model.plan import Plan

MINUTES = st.integers(0, DAY_MINUTES - 1)
WINDOWS = st.lists(st.builds(BandwidthWindow, st.integers(0, 9), MINUTES, MINUTES), max_size=4).map(tuple)


def minutes_of(window: BandwidthWindow) -> set[int]:
    """Walked a minute at a time."""
    found = {minute := window.from_minute}
    while (minute := (minute + 1) % DAY_MINUTES) != window.until_minute and minute != window.from_minute:
        found.add(minute)
    return found


@given(WINDOWS, MINUTES)
def test_the_tightest_window_of_a_minute_counts(windows: tuple[BandwidthWindow, ...], minute: int) -> None:
    expected = [window.bytes_per_s for window in windows if minute in minutes_of(window)]
    assert limit_at(windows, minute) == min(expected, default=None)


@given(WINDOWS, MINUTES)
def test_what_is_paused_says_the_very_minute_at_which_it_goes_on(
    windows: tuple[BandwidthWindow, ...], minute: int
) -> None:
    day = [(minute + later) % DAY_MINUTES for later in range(DAY_MINUTES)]
    assert opens_at(windows, minute) == next((each for each in day if limit_at(windows, each) != 0), None)


def test_windows_that_never_let_anything_in_are_told() -> None:
    assert faults(()) == []
    assert faults((BandwidthWindow(0, 60, 120),)) == []
    for shut in ((BandwidthWindow(0, 0, 0),), (BandwidthWindow(0, 0, 720), BandwidthWindow(0, 720, 0))):
        assert "leave an hour" in faults(shut)[0]
    for wrong in (BandwidthWindow(-1, 0, 0), BandwidthWindow(1, 0, DAY_MINUTES)):
        assert "minutes of one day" in faults((wrong,))[0]
    assert "at most" in faults((BandwidthWindow(1, 0, 0),) * 33)[0]
    assert clock_text(1082) == "18:02"


def test_a_plan_without_windows_has_the_bytes_that_it_always_had() -> None:  # invariant: R2
    plan = Plan("g", "e", "h", 1, (), (), (), (), (), decommission=True)
    assert b"bandwidth" not in canonical.encode(plan)
