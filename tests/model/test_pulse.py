"""Two heartbeats of silence, by what was listened to in vain: whatever arrives when, and however late whoever looks is."""

import itertools
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from halftrack_model import pulse

HEARTBEAT = st.sampled_from([50, 100, 200, 1_000, 30_000])


@dataclass(frozen=True)
class Given:
    """When a link was given up, and the last words that had been read by then and that had arrived."""

    at_ms: int
    read_ms: int


def given_up(heartbeat_ms: int, words: list[int], pauses: list[tuple[int, int]], until_ms: int) -> Given | None:
    """A listener as the sessions are: it sleeps until a word or its next look, is stopped in `pauses`, and reads before it looks."""

    def awake(at_ms: int) -> int:
        for begin, end in pauses:
            if begin <= at_ms < end:
                at_ms = end
        return at_ms

    now, waiting = 0, sorted(words)
    ear = pulse.begun(heartbeat_ms, now)
    while now < until_ms:
        now = max(now, awake(min(ear.due_ms, waiting[0] if waiting else ear.due_ms)))
        arrived = [word for word in waiting if word <= now]
        if arrived:
            waiting, ear = waiting[1:], ear.heard(now)
            continue
        after = ear.looked(now)
        if after is None:
            return Given(now, ear.heard_ms)
        assert (after.looked_ms, after.heard_ms) == (now, ear.heard_ms)
        ear = after
    return None


@given(HEARTBEAT, st.lists(st.integers(1, 120_000), max_size=8))
def test_a_silent_link_is_given_up_after_two_heartbeats_to_the_millisecond(heartbeat_ms: int, words: list[int]) -> None:
    found = given_up(heartbeat_ms, words, [], 10**9)
    assert found is not None
    assert found.at_ms == found.read_ms + 2 * heartbeat_ms
    assert not [word for word in words if found.read_ms < word < found.at_ms]


PAUSES = st.lists(st.tuples(st.integers(0, 60_000), st.integers(1, 30_000)), max_size=6)


@given(HEARTBEAT, st.integers(0, 600), PAUSES)
def test_who_speaks_as_often_as_agreed_is_never_given_up_however_the_listener_is_stopped(
    heartbeat_ms: int, late: int, pauses: list[tuple[int, int]]
) -> None:
    """Words may come late by most of a heartbeat; what came in a pause is read after it, and counts."""
    every = pulse.word_every_ms(heartbeat_ms) + late * heartbeat_ms // 600
    words = list(range(every, 100 * every, every))
    stops = [(begin, begin + length) for begin, length in sorted(pauses)]
    assert given_up(heartbeat_ms, words, stops, 99 * every) is None


@given(HEARTBEAT, st.lists(st.integers(1, 20_000), max_size=8), st.lists(st.integers(0, 400), min_size=12, max_size=12))
def test_a_listener_that_is_always_late_gives_up_all_the_same(
    heartbeat_ms: int, words: list[int], lateness: list[int]
) -> None:
    """However late each of its looks is: only what those cost comes on top of the two heartbeats."""
    last = max(words, default=0)
    ear = pulse.begun(heartbeat_ms, last)
    now, lost = last, 0
    for late in lateness:
        now, lost = max(now, ear.due_ms) + late, lost + late
        after = ear.looked(now)
        if after is None:
            break
        ear = after
    else:
        raise AssertionError("it is held on to for ever")
    assert 2 * heartbeat_ms <= now - last <= 2 * heartbeat_ms + lost + pulse.LATE_LOOKS * ear.grace_ms


def controllers_words(heartbeat_ms: int, heard: list[int], until_ms: int) -> list[int]:
    """When a controller as the sessions are says that it is there, given when it hears its agent."""
    said: list[int] = []
    last, waiting = 0, sorted(heard)
    while True:
        due = last + pulse.unasked_ms(heartbeat_ms)
        if waiting and waiting[0] <= due:
            now = waiting.pop(0)
            if not pulse.answers(heartbeat_ms, last, now):
                continue
        else:
            now = due
        if now > until_ms:
            return said
        said, last = [*said, now], now


@given(HEARTBEAT, st.lists(st.integers(1, 120_000), max_size=60))
def test_a_controller_is_heard_often_enough_whatever_its_agent_says(heartbeat_ms: int, heard: list[int]) -> None:
    """And is not made to talk by an agent that has much to say. Its words keep the link, also when none of the agent's arrives."""
    until_ms = 40 * heartbeat_ms
    said = [0, *controllers_words(heartbeat_ms, heard, until_ms)]
    pauses = [after - before for before, after in itertools.pairwise(said)]
    every_ms = pulse.word_every_ms(heartbeat_ms)
    assert all(every_ms // 2 <= pause <= pulse.unasked_ms(heartbeat_ms) for pause in pauses)
    assert until_ms - said[-1] <= pulse.unasked_ms(heartbeat_ms)
    assert given_up(heartbeat_ms, said[1:], [], said[-1]) is None


@given(HEARTBEAT, st.integers(0, 60_000), st.lists(st.integers(0, 8), min_size=40, max_size=40))
def test_after_two_words_all_that_a_controller_says_are_answers(heartbeat_ms: int, first: int, late: list[int]) -> None:
    """However the two stood to each other at first, and though words take a little longer now than then."""
    every_ms = pulse.word_every_ms(heartbeat_ms)
    began = first % every_ms + 1
    heard = [began + number * every_ms + each * every_ms // 100 for number, each in enumerate(late)]
    said = controllers_words(heartbeat_ms, heard, heard[-1])
    assert set(heard[3:]) <= set(said)
    assert {each for each in said if each >= heard[3]} <= set(heard)


def test_no_single_look_gives_a_link_up() -> None:
    """Stopped for an hour: what has come meanwhile is to be read first."""
    ear = pulse.begun(1_000, 0)
    ear = replace(ear, looked_ms=100)
    after = ear.looked(3_600_000)
    assert after is not None
    assert after.due_ms == 3_600_000 + ear.grace_ms
    assert after.looked(after.due_ms) is None
