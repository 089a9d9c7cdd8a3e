"""Windows, timers and watermarks against plain computations over all frames at once; and a snapshot anywhere changes nothing."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.frames import Frame
from halftrack_dataplane.state_form import StateError
from halftrack_dataplane.stream_time import Timers, Watermark
from halftrack_dataplane.windows import Sessions, Sliding, Tumbling, Window, Windows, collected

Make = Callable[[], Windows[list[int], int]]
TIMES = st.lists(st.integers(-50, 50), min_size=1, max_size=40)
SPLITS = st.sets(st.integers(0, 40))


def frames(times: Sequence[int]) -> list[Frame]:
    """Frames with these time stamps."""
    return [Frame(seq, 0, at, b"") for seq, at in enumerate(times)]


def run(make: Make, times: Sequence[int], splits: set[int]) -> tuple[list[Window[list[int]]], int]:
    """All windows that close, with a snapshot and a new object at `splits`; and how many values were late."""
    windows, found = make(), []
    for frame in frames(times):
        if frame.seq in splits:
            state = windows.snapshot()
            windows = make()
            windows.restore(state)
            assert windows.snapshot() == state, "the same state has the same bytes"
        found += windows.add(frame, frame.seq)
    return found, windows.late


@given(times=st.lists(st.integers(0, 200), min_size=1, max_size=40).map(sorted), size=st.integers(1, 9), step=st.integers(1, 9), offset=st.integers(-5, 5), axis=st.sampled_from(["frames", "time"]), splits=SPLITS)  # fmt: skip
def test_sliding_windows_have_what_lies_in_them(
    times: list[int], size: int, step: int, offset: int, axis: Any, splits: set[int]
) -> None:
    step = min(step, size)
    found, late = run(lambda: Sliding(size, step, list, collected, axis=axis, offset=offset), times, splits)
    places = list(range(len(times))) if axis == "frames" else times
    passed = places[-1] + (axis == "frames")
    expected = []
    for start in range(-20 * step + offset, 260, step):
        inside = [seq for seq, at in enumerate(places) if start <= at < start + size]
        if inside and start + size <= passed and (start - offset) % step == 0:
            expected.append(Window(start, start + size, len(inside), inside))
    assert sorted(found, key=lambda window: window.start) == expected
    assert [window.end for window in found] == sorted(window.end for window in found)
    assert late == 0


@given(times=TIMES, size=st.integers(1, 9), lateness=st.integers(0, 20), splits=SPLITS)
def test_a_late_value_is_counted_and_changes_no_closed_window(
    times: list[int], size: int, lateness: int, splits: set[int]
) -> None:
    found, late = run(lambda: Tumbling(size, list, collected, axis="time", lateness_ns=lateness), times, splits)
    expected_late, passed = set(), None
    for seq, at in enumerate(times):
        if passed is not None and at // size * size + size <= passed:
            expected_late.add(seq)
        passed = at - lateness if passed is None else max(passed, at - lateness)
    assert late == len(expected_late)
    starts = {at // size * size for seq, at in enumerate(times) if seq not in expected_late}
    on_time = {
        s: [n for n, at in enumerate(times) if at // size * size == s and n not in expected_late] for s in starts
    }
    assert {window.start: window.value for window in found} == {
        start: inside for start, inside in on_time.items() if start + size <= (passed or 0)
    }
    assert all(window.count == len(window.value) for window in found)


@given(times=st.lists(st.integers(0, 200), min_size=1, max_size=40).map(sorted), pause=st.integers(1, 9), splits=SPLITS)
def test_sessions_end_with_a_pause(times: list[int], pause: int, splits: set[int]) -> None:
    found, late = run(lambda: Sessions(pause, list, collected), times, splits)
    groups: list[list[int]] = [[0]]
    for seq in range(1, len(times)):
        if times[seq] - times[seq - 1] < pause:
            groups[-1].append(seq)
        else:
            groups.append([seq])
    expected = [
        Window(times[g[0]], times[g[-1]] + pause, len(g), g) for g in groups if times[g[-1]] + pause <= times[-1]
    ]
    assert (found, late) == (expected, 0)


@given(times=TIMES, pause=st.integers(1, 9), lateness=st.integers(0, 40), splits=SPLITS)
def test_late_values_join_sessions(times: list[int], pause: int, lateness: int, splits: set[int]) -> None:
    make = lambda: Sessions(pause, list, collected, join=lambda a, b: a + b, lateness_ns=lateness)  # noqa: E731
    found, late = run(make, times, splits)
    assert found == run(make, times, set())[0], "a snapshot anywhere changes nothing"
    assert sorted(found, key=lambda window: window.end) == sorted(found, key=lambda window: (window.end, window.start))
    for window in found:
        inside = sorted(times[seq] for seq in window.value)
        assert (inside[0], inside[-1] + pause) == (window.start, window.end)
        assert all(later - earlier < pause for earlier, later in pairwise(inside))
    assert sum(window.count for window in found) + late <= len(times)


@pytest.mark.parametrize(
    ("times", "lateness", "expected"),
    [
        ([10, 13, 8, 40], 0, [(8, 18, [0, 1, 2])]),  # what touches an open session is not late, however old it is
        ([10, 5, 60], 30, [(5, 10, [1]), (10, 15, [0])]),  # a pause of exactly that length ends a session
        ([10, 6, 60], 30, [(6, 15, [0, 1])]),
        ([10, 18, 14, 60], 30, [(10, 23, [0, 1, 2])]),  # joined by what lies between
        ([10, 30, 4, 60], 0, [(10, 15, [0]), (30, 35, [1])]),  # late, and left out
    ],
)
def test_sessions_touch_or_do_not(times: list[int], lateness: int, expected: list[Any]) -> None:
    found, late = run(lambda: Sessions(5, list, collected, join=lambda a, b: a + b, lateness_ns=lateness), times, set())
    assert [(window.start, window.end, window.value) for window in found] == expected
    assert late == len(times) - 1 - sum(window.count for window in found)


def test_advance_closes_without_a_value() -> None:
    windows: Tumbling[int, int] = Tumbling(10, int, lambda total, value: total + value, axis="time")
    first, last = frames([3, 10])
    assert windows.add(first, 5) == []
    assert windows.advance(last) == [Window(0, 10, 1, 5)]
    assert windows.advance(last) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tumbling(5, list, collected, axis="time"),
        lambda: Tumbling(4, list, collected),
        lambda: Tumbling(4, list, collected, axis="time", lateness_ns=3),
        lambda: Sliding(4, 4, list, collected, axis="time"),
        lambda: Sessions(4, list, collected),
    ],
)
def test_the_state_of_other_windows_is_refused(make: Make) -> None:
    state = Tumbling(4, list, collected, axis="time").snapshot()
    with pytest.raises(StateError, match=r"keep it, or give the state another schema|a release reads what it declares"):
        make().restore(state)


def test_what_makes_no_sense_is_refused() -> None:
    for wrong in (
        lambda: Sliding(3, 4, list, collected),
        lambda: Tumbling(0, list, collected),
        lambda: Tumbling(3, list, collected, lateness_ns=1),
        lambda: Tumbling(3, list, collected, axis="wall clock"),  # type: ignore[arg-type]
        lambda: Sessions(3, list, collected, lateness_ns=1),
        lambda: Watermark(-1),
    ):
        with pytest.raises(ValueError, match=r"must|step|never late|pause"):
            wrong()
    crowded: Tumbling[list[int], int] = Tumbling(1, list, collected, axis="time", lateness_ns=100, limit=3)
    with pytest.raises(StateError, match="4 windows are open, 3 is the limit"):
        run(lambda: crowded, [1, 2, 3, 4], set())


# ---- timers and watermarks ------------------------------------------------------------------------------------------------


@given(times=st.lists(st.integers(-4, 4), min_size=3, max_size=20), sets=st.lists(st.tuples(st.integers(0, 9), st.integers(-5, 5)), min_size=2, max_size=20), splits=SPLITS)  # fmt: skip
def test_timers_are_due_once_in_order_with_the_first_frame_past_them(
    times: list[int], sets: list[tuple[int, int]], splits: set[int]
) -> None:
    timers, due, waiting = Timers(), [], []
    for frame in frames(times):
        if frame.seq in splits:
            state = timers.snapshot()
            timers = Timers()
            timers.restore(state)
            assert timers.snapshot() == state
        reached = max(times[: frame.seq + 1])
        expected = sorted((entry for entry in waiting if entry[0] <= reached), key=lambda entry: entry[:2])
        waiting = [entry for entry in waiting if entry[0] > reached]
        found = timers.due(frame)
        assert [(timer.at_ns, timer.value) for timer in found] == [(at, name) for at, _, name in expected]
        due += found
        for name, (_, at) in ((n, pair) for n, pair in enumerate(sets) if pair[0] == frame.seq):
            waiting.append((at, timers.at(at, name), name))
    assert len(due) + len(timers) == sum(seq < len(times) for seq, _ in sets)


def test_timers_can_be_cancelled_and_are_bounded() -> None:
    timers = Timers(limit=3)
    numbers = [timers.at(at, at) for at in (30, 10, 20)]
    with pytest.raises(StateError, match="3 timers are set"):
        timers.at(5)
    assert timers.cancel(numbers[1])
    assert not timers.cancel(numbers[1])
    assert [timer.at_ns for timer in timers.due(Frame(0, 0, 99, b""))] == [20, 30]


def test_timers_that_are_set_after_a_restore_come_after_those_before() -> None:
    timers, after = Timers(), Timers()
    first = timers.at(5, "z")
    after.restore(timers.snapshot())
    assert after.at(5, "a") > first
    assert [timer.value for timer in after.due(Frame(0, 0, 5, b""))] == ["z", "a"]


@given(times=TIMES, lateness=st.integers(0, 20), split=st.integers(0, 39))
def test_the_watermark_never_goes_back(times: list[int], lateness: int, split: int) -> None:
    watermark, late = Watermark(lateness), 0
    for frame in frames(times):
        if frame.seq == split:
            state = watermark.snapshot()
            watermark = Watermark(lateness)
            watermark.restore(state)
        before = max((at - lateness for at in times[: frame.seq]), default=None)
        on_time = before is None or frame.timestamp_ns >= before
        late += not on_time
        assert watermark.see(frame) is on_time
    assert watermark.at_ns == max(times) - lateness
    assert watermark.late == late
    with pytest.raises(StateError, match="lateness_ns"):
        Watermark(lateness + 1).restore(watermark.snapshot())
