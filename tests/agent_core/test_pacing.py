"""The limit holds over any stretch of time, whatever comes in what pieces; and patience ends for who sends next to nothing."""

from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent.pacing import (
    BURST_MS,
    LEAST_BYTES,
    LEAST_PIECE_BYTES,
    PATIENCE_MS,
    PIECE_BYTES,
    WINDOW_BYTES,
    Bucket,
    Patience,
    at_once_bytes,
    filled,
    piece_bytes,
    taken,
    wait_ms,
)


@given(
    st.integers(1, 10**7),
    st.lists(st.tuples(st.integers(1, PIECE_BYTES), st.integers(0, 5_000)), min_size=1, max_size=40),
)
def test_no_stretch_of_time_has_more_than_the_limit_and_one_piece(rate: int, pieces: list[tuple[int, int]]) -> None:
    bucket, now, arrivals = Bucket(0, 0), 0, []
    for size, rest in pieces:
        now += rest
        bucket = filled(bucket, rate, now)
        now += (pause := wait_ms(bucket, rate))
        assert wait_ms(filled(bucket, rate, now), rate) == 0, "after the pause a piece may come"
        assert not pause or wait_ms(filled(bucket, rate, now - 1), rate), "and not before"
        bucket = taken(filled(bucket, rate, now), size)
        arrivals.append((now, size))
    for first in range(len(arrivals)):
        for last in range(first, len(arrivals)):
            came = sum(size for _, size in arrivals[first:last])  # all but the last piece, which is paid for afterwards
            assert came * 1000 <= (arrivals[last][0] - arrivals[first][0] + BURST_MS) * rate


@given(st.integers(1, 10**7), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_clock_that_goes_back_gives_nothing(rate: int, then: int, now: int) -> None:
    debt = taken(Bucket(0, then), 10**6)
    assert filled(debt, rate, now).milli_bytes == debt.milli_bytes + max(0, now - then) * rate or now - then > BURST_MS
    assert now > then or filled(debt, rate, now).milli_bytes == debt.milli_bytes


def test_pieces_are_small_where_the_limit_is() -> None:
    assert piece_bytes(None) == piece_bytes(10**9) == PIECE_BYTES
    assert piece_bytes(0) == piece_bytes(10) == LEAST_PIECE_BYTES
    assert LEAST_PIECE_BYTES < piece_bytes(32_000) < PIECE_BYTES
    assert wait_ms(Bucket(0, 0), 0) > 0
    assert at_once_bytes(None) == at_once_bytes(WINDOW_BYTES) == 0
    assert at_once_bytes(0) == at_once_bytes(10) == LEAST_PIECE_BYTES
    assert at_once_bytes(9_000) == 9_000


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20_000)), max_size=60))
def test_who_sends_next_to_nothing_is_not_waited_for_longer_than_agreed(words: list[tuple[int, int]]) -> None:
    patience, waited, came = Patience(), 0, 0
    for count, ms in words:
        ms = min(ms, patience.left_ms)  # noqa: PLW2901
        patience, waited, came = patience.fed(count, ms), waited + ms, came + count
        if came >= LEAST_BYTES:
            waited, came = 0, 0
        assert patience.left_ms == PATIENCE_MS - waited
