"""What goes to a receiver next, and when: the decisions apart from sockets and rings."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.bridge_pacing import Pacing
from halftrack_dataplane.bridge_receiver import due_credit
from halftrack_dataplane.bridge_sockets import SERVED

sizes = st.integers(0, 2**40)


@given(credit=st.integers(-(2**40), 2**40), messages=st.integers(0, 100), size=sizes, capacity=st.integers(4096, 2**40))
def test_nothing_goes_without_credit_or_beyond_what_may_be_in_flight(
    credit: int, messages: int, size: int, capacity: int
) -> None:
    most = Pacing.flight_bytes(capacity)
    assert 0 < most <= capacity // 4
    assert Pacing.may_send(credit, messages, size, most) == (
        credit > 0 and messages < Pacing.FLIGHT_MESSAGES and size < most
    )
    assert Pacing.may_send(1, 0, 0, most), (
        "with nothing in flight, one message always may go: no frame is too large to travel"
    )


def test_the_socket_is_never_full_of_frames() -> None:
    """libzmq reports what it has taken off a queue in steps of half the mark, so that much may look unsent."""
    assert 3 * Pacing.FLIGHT_MESSAGES < SERVED // 2


@given(frames=st.integers(1, 2**20), length=st.integers(0, 2**20), room=sizes, room_frames=st.integers(0, 2**20))
def test_what_fits_fits_and_one_more_would_not(frames: int, length: int, room: int, room_frames: int) -> None:
    fits = Pacing.fitting(frames, length, room, room_frames)
    assert fits * length <= room
    assert fits <= min(frames, room_frames)
    assert fits == min(frames, room_frames) or (fits + 1) * length > room


@given(size=sizes, behind=sizes, capacity=st.integers(4096, 2**40))
def test_only_large_runs_that_are_safe_for_a_while_go_uncopied(size: int, behind: int, capacity: int) -> None:
    uncopied = Pacing.goes_uncopied(size, behind, capacity)
    assert uncopied == (size >= Pacing.UNCOPIED_BYTES and behind <= capacity // 2)


@given(pending=sizes, waited=st.integers(0, 2**40), linger=st.integers(0, 10**8))
def test_small_frames_wait_for_others_no_longer_than_they_are_told(pending: int, waited: int, linger: int) -> None:
    ripe = Pacing.is_ripe(pending, waited, linger)
    assert ripe or (pending < Pacing.COALESCED_BYTES and waited < linger)
    assert Pacing.is_ripe(pending, waited, 0), "without a linger nothing ever waits"


@given(cuts=st.sets(st.integers(0, 60), min_size=2, max_size=16), seq=st.integers(0, 60))
def test_who_stands_between_two_batches_is_brought_to_where_one_begins(cuts: set[int], seq: int) -> None:
    """Batches that follow each other, in the order in which a ring of them holds them: none is read twice by who keeps up."""
    edges = sorted(cuts)
    batches = list(itertools.pairwise(edges))
    turned = batches[len(batches) // 2 :] + batches[: len(batches) // 2]
    found, limit = Pacing.whole_batch(turned, seq)
    if found is not None:
        assert turned[found][0] == seq
    else:
        later = [edge for edge in edges if edge > seq]
        assert limit == (later[0] if later and seq not in edges[:-1] else None)


@given(st.sets(st.integers(0, 60), min_size=2, max_size=16), st.integers(0, 60))
def test_a_laggard_joins_the_others_within_one_batch(cuts: set[int], seq: int) -> None:
    edges = sorted(cuts)
    batches = list(itertools.pairwise(edges))
    for _ in range(2):
        found, limit = Pacing.whole_batch(batches, seq)
        if found is not None or limit is None:
            return
        seq = limit
    assert seq in edges


@given(owed=st.integers(0, 2**30), window=st.integers(1, 2**28))
def test_credit_comes_back_before_a_window_is_used_up(owed: int, window: int) -> None:
    assert due_credit(owed, window) == (owed >= max(window // 2, 1))
    assert due_credit(window, window), "or both sides would wait for each other"
