"""The inlet's decisions by themselves: what they may never do, whatever the inputs show."""

from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.join import (
    Drop,
    Fill,
    Head,
    Lose,
    Pass,
    Patience,
    Take,
    Wait,
    bucket,
    order,
    sequence,
    unfilled,
    union,
)

EXPECTED = 10


@st.composite
def heads_of(draw: st.DrawFn) -> Head:
    first = draw(st.integers(6, 14))
    end = first + draw(st.integers(0, 5))
    lost = draw(st.booleans()) and end > first
    return Head(
        first,
        end,
        lost,
        draw(st.booleans()) and not lost,
        draw(st.integers(min(first + 1, end), end)),
        draw(st.booleans()),
    )


heads = st.lists(heads_of(), min_size=1, max_size=4)


def has(head: Head, number: int) -> bool:
    return head.first <= number < head.end and not head.lost


@given(heads, st.booleans())
def test_a_sequence_passes_what_is_there_and_loses_what_is_lost(found: list[Head], partial: bool) -> None:
    # invariant: S2
    decision = sequence(EXPECTED, found, partial)
    match decision:
        case Drop(inputs):
            assert all(found[which].first < EXPECTED for which in inputs)
        case Pass(inputs, count):
            assert count >= 1
            for number in range(EXPECTED, EXPECTED + count):
                assert all(has(found[which], number) for which in inputs)
                assert partial or len(inputs) == len(found)
                left = [head for which, head in enumerate(found) if which not in inputs]
                assert all(head.gone or head.end > number or head.first > number for head in left), "not waited for"
        case Lose(count):
            assert count >= 1
            for number in range(EXPECTED, EXPECTED + count):
                missing = [head for head in found if not has(head, number)]
                assert missing if not partial else len(missing) == len(found)
        case Wait(inputs):
            assert inputs
            assert all(found[which].end <= EXPECTED for which in inputs)


@given(heads)
def test_a_union_loses_nothing_that_one_input_has_or_may_bring(found: list[Head]) -> None:
    # invariant: S2
    decision = union(EXPECTED, found)
    match decision:
        case Pass(inputs, count):
            for number in range(EXPECTED, EXPECTED + count):
                assert all(has(found[which], number) for which in inputs)
                assert len(inputs) == len(found) or not found[inputs[0]].none
        case Lose(count):
            for number in range(EXPECTED, EXPECTED + count):
                assert not any(has(head, number) and not head.none for head in found)
                assert all(head.gone or head.end > number or head.first > number for head in found)
        case Wait(inputs):
            assert inputs
            assert not any(has(head, EXPECTED) and not head.none and head.first >= EXPECTED for head in found)
        case Drop(inputs):
            assert all(found[which].first < EXPECTED for which in inputs)


times = st.lists(st.none() | st.integers(-5, 30), min_size=1, max_size=4)
some_gone = st.frozensets(st.integers(0, 3))


@given(times, some_gone)
def test_in_order_nobody_passes_before_whom_we_wait_for(found: list[int | None], gone: frozenset[int]) -> None:
    gone &= frozenset(range(len(found)))
    decision = order(found, gone)
    if isinstance(decision, Wait):
        assert decision.inputs
        assert all(found[which] is None for which in decision.inputs)
        return
    assert isinstance(decision, Take)
    mine = found[decision.input]
    assert mine is not None
    assert all(time is not None or which in gone for which, time in enumerate(found))
    assert all(time is None or (mine, decision.input) <= (time, which) for which, time in enumerate(found))
    if decision.before_ns is not None:
        assert mine < decision.before_ns
        rivals = [(time, which) for which, time in enumerate(found) if time is not None and which != decision.input]
        assert (decision.before_ns - 1, decision.input) < min(rivals) <= (decision.before_ns, len(found))


@given(times, some_gone, st.none() | st.integers(-3, 6), st.integers(1, 7))
def test_a_closed_bucket_is_never_opened_again(
    found: list[int | None], gone: frozenset[int], floor: int | None, width_ns: int
) -> None:
    gone &= frozenset(range(len(found)))
    decision = bucket(found, gone, floor, width_ns)
    if isinstance(decision, Fill):
        assert floor is None or decision.bucket >= floor
        assert decision.end_ns == (decision.bucket + 1) * width_ns
        assert any(time is not None and time < decision.end_ns for time in found) or decision.bucket == floor
        return
    assert all(found[which] is None for which in decision.inputs)
    assert set(decision.inputs) <= set(
        unfilled([time is not None for time in found], gone)
    ) or decision.inputs == tuple(gone)


@given(
    st.lists(st.tuples(st.sampled_from(["held", "rest", "heard"]), st.integers(0, 1), st.integers(0, 5)), max_size=30)
)
def test_patience_ends_only_for_who_held_others_up_for_so_long(events: list[tuple[str, int, int]]) -> None:
    patience = Patience((3.0, 0.0))
    now, waited, out = 0.0, None, False  # what is true of input 0
    for what, which, later in events:
        now += later
        if waited is not None and now - waited >= 3.0:
            out = True
        assert patience.gone(now) == (frozenset({0}) if out else frozenset())
        assert patience.due_s(now) >= 0.0
        if what == "heard":
            patience.heard(which)
            if which == 0:
                waited, out = None, False
        elif what == "held":
            patience.waits((which,), True, now)
            waited = now if which == 0 and waited is None else waited
        else:
            patience.waits((which,), False, now)
            waited = None
