"""Every order of two and three writers' steps at a shared ring, on a machine whose stores come late: see model/explorer.py.

Proven: one writer at a time, who sees all that the last one wrote; no wake-up is lost; one killed anywhere in its turn stops nobody for ever.
And each ordering is needed: without it, some order breaks one of these.
"""

import pytest

from tests.ring.model import turns
from tests.ring.model.explorer import BrokenError, Explorer, Program


def states(*programs: Program) -> int:
    return Explorer(programs, dict(turns.WORDS)).explore()


# invariant: S1
@pytest.mark.parametrize("registered", [True, False])
def test_turns_exclude_each_other_and_whoever_waits_gets_one(registered: bool) -> None:
    assert states(*[turns.writer(number, 2, registered=registered) for number in (1, 2)]) > 500
    assert states(*[turns.writer(number, 1, registered=registered) for number in (1, 2, 3)]) > 500


@pytest.mark.parametrize(
    ("registered", "without", "why"),
    [
        (True, "heavy", "wait for ever"),
        (False, "light", "wait for ever"),
        (True, "event first", "wait for ever"),
        (True, "again", "wait for ever"),
        (True, "release", "same frame|all of the last one"),
    ],
)
def test_each_ordering_of_turns_is_needed(registered: bool, without: str, why: str) -> None:
    with pytest.raises(BrokenError, match=why):
        states(*[turns.writer(number, 2, registered=registered, without=without) for number in (1, 2)])


# invariant: S2
def test_a_writer_killed_anywhere_in_its_turn_stops_nobody_for_ever() -> None:
    doomed = turns.writer(1, 2, mortal="dead")
    assert states(doomed, turns.writer(2, 2, heir_of=1), turns.slice_of_time()) > 500
    with pytest.raises(BrokenError, match="writer 2 wait for ever"):
        states(doomed, turns.writer(2, 2))
    with pytest.raises(BrokenError, match="writer 2 wait for ever"):
        states(doomed, turns.writer(2, 2, heir_of=1))
