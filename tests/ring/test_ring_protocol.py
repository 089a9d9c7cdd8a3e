"""Every order of the protocol's steps, on a machine that is weaker than ours: see model/explorer.py for what it can do.

Proven: no wake-up is lost, neither for frames nor for room, with a full fence on both sides or membarrier on one; a frame is seen only
whole; what a reader has pinned is never overwritten; a reader killed between any two steps stops nobody for ever. And each ordering is
needed: without it, some order breaks one of these.
"""

import pytest

from tests.ring.model import protocol
from tests.ring.model.explorer import BrokenError, Explorer, Program

WAITS = {"head": 0, "waiters": 0, "data_event": 0, "data0": 0, "data1": 0, "data2": 0}
SHARED = {
    "head": 2, "tail": 0, "reclaim": 0, "space_event": 0, "space_waiting": 0, "space_wanted": 0, "data0": 1, "data1": 2, "more0": 1, "more1": 2,
    "owner0": 0, "cursor0": 0, "owner1": 0, "cursor1": 0, "waiters": 0, "dead": 0, "left": 0,
}  # fmt: skip


def states(*programs: Program, memory: dict[str, int]) -> int:
    return Explorer(programs, dict(memory)).explore()


def broken(why: str, *programs: Program, memory: dict[str, int]) -> None:
    with pytest.raises(BrokenError, match=why):
        states(*programs, memory=memory)


FRAME_WAITS = [
    # who fences: the writer registered with membarrier, or both sides with full fences
    (True, "heavy", "wait for ever"),
    (False, "heavy", "wait for ever"),
    (False, "light", "wait for ever"),
    (True, "event first, event after arming", "wait for ever"),
    (True, "event first, event after looking", "wait for ever"),
    (True, "release", "before it was whole"),
    (False, "release", "before it was whole"),
]


# invariant: S1
@pytest.mark.parametrize("registered", [True, False])
def test_a_reader_that_sleeps_for_a_frame_is_woken_and_sees_it_whole(registered: bool) -> None:
    programs = [make(3, registered=registered) for make in (protocol.publisher, protocol.sleeper)]
    assert states(*programs, memory=WAITS) > 500


@pytest.mark.parametrize(("registered", "without", "why"), FRAME_WAITS)
def test_each_ordering_of_frame_wake_ups_is_needed(registered: bool, without: str, why: str) -> None:
    programs = [make(3, registered=registered, without=without) for make in (protocol.publisher, protocol.sleeper)]
    broken(why, *programs, memory=WAITS)


def joining(registered: bool = True, without: str = "", frames: int = 2) -> list[Program]:
    return [
        protocol.writer(frames, slots=2, readers=1, registered=registered, without=without),
        protocol.joiner(0, slots=2, registered=registered, without=without),
    ]


# invariants: S1, S2
@pytest.mark.parametrize("registered", [True, False])
def test_what_a_reader_pins_while_the_writer_reclaims_stays_and_the_writer_goes_on_after_it(registered: bool) -> None:
    assert states(*joining(registered), memory=SHARED) > 500


@pytest.mark.parametrize(
    ("registered", "without"), [(True, "heavy"), (False, "heavy"), (False, "light"), (True, "event first")]
)
def test_each_ordering_of_waiting_for_room_is_needed(registered: bool, without: str) -> None:
    broken("writer.* wait for ever", *staying(registered, without), memory=SHARED)


def staying(registered: bool = True, without: str = "", slots: int = 2) -> list[Program]:
    return [
        protocol.writer(2, slots=slots, readers=1, registered=registered, without=without),
        protocol.stayer(2, slots=slots, registered=registered, without=without),
    ]


def pair(without: str = "") -> list[Program]:
    """Two readers that have joined, of which the last one to get there wakes the writer."""
    return [
        protocol.writer(1, slots=1, readers=2, without=without),
        *[protocol.goer(1, slots=1, slot=slot, without=without) for slot in (0, 1)],
    ]


JOINED = SHARED | {"head": 1, "owner0": protocol.LOSSLESS, "owner1": protocol.LOSSLESS}


# invariant: S2
@pytest.mark.parametrize("registered", [True, False])
def test_a_writer_that_asks_for_more_than_it_needs_is_woken_all_the_same(registered: bool) -> None:
    programs = staying(registered)
    programs[0] = protocol.writer(2, slots=2, readers=1, registered=registered, more=1)
    assert states(*programs, memory=SHARED) > 500


# invariant: S2
def test_the_last_of_several_readers_wakes_the_writer() -> None:
    assert states(*pair(), memory=JOINED) > 500


def test_each_ordering_among_readers_and_of_what_is_wanted_is_needed() -> None:
    broken("writer.* wait for ever", *pair("among readers"), memory=JOINED)
    left_by_another = SHARED | {"space_wanted": 9}  # a writer before this one wanted more
    broken("writer.* wait for ever", *staying(without="wanted in time"), memory=left_by_another)
    assert states(*staying(), memory=left_by_another) > 500


# invariant: S2
def test_a_writer_that_gave_way_to_a_join_is_told_when_the_reader_wants_less_after_all() -> None:
    assert states(*staying(), memory=SHARED) > 500
    alone = SHARED | {"head": 1}  # one frame is all there is, so that a reader that is moved on has nothing to read
    assert states(*staying(slots=1), memory=alone) > 500
    broken("writer.* wait for ever", *staying(slots=1, without="wake"), memory=alone)


# invariants: S1, S2
def test_a_reader_that_goes_back_pins_what_it_goes_back_to() -> None:
    memory = SHARED | {"owner0": protocol.LOSSLESS, "cursor0": 2}

    def going_back(without: str = "") -> list[Program]:
        return [protocol.writer(2, slots=2, readers=1, without=without), protocol.seeker(slots=2, without=without)]

    assert states(*going_back(), memory=memory) > 500
    for without in ("writer's fence", "reader's fence"):
        broken("overwritten", *going_back(without), memory=memory)


# invariant: S2
def test_a_reader_killed_anywhere_stops_the_writer_only_until_it_is_reaped() -> None:
    def survivors(without: str = "") -> list[Program]:
        doomed = protocol.joiner(0, slots=1, mortal="dead", without=without)
        return [protocol.writer(2, slots=1, readers=1), doomed, protocol.reaper(0)]

    alone = SHARED | {"head": 1}
    assert states(*survivors(), memory=alone) > 500
    broken("writer wait for ever", *survivors("early"), memory=alone)
    broken("writer wait for ever", *survivors()[:2], memory=alone)


# invariant: S1
def test_a_lossy_reader_never_takes_a_torn_frame_for_whole() -> None:
    writer = protocol.overwriter(2, slots=2)
    for newest in (False, True):
        assert states(writer, protocol.lossy(2, newest=newest), memory=SHARED) > 100
    broken("torn", protocol.overwriter(2, slots=2, without="reclaimed"), protocol.lossy(2), memory=SHARED)
    broken("torn", protocol.overwriter(2, slots=2, without="release"), protocol.lossy(2, newest=True), memory=SHARED)
    broken("torn", writer, protocol.lossy(2, without="tail"), memory=SHARED)


# invariant: S2
def test_reaping_never_clears_the_bit_of_whoever_joins_next() -> None:
    memory = WAITS | {"owner0": protocol.DEAD, "waiters": 1}
    others = [protocol.newcomer(1), protocol.publisher(1, registered=True)]
    programs = [protocol.reaping("claim clear free")] * 2
    assert states(*programs, *others, memory=memory) > 500
    for wrong in ("clear free", "claim free clear"):
        broken("newcomer wait for ever", *[protocol.reaping(wrong)] * 2, *others, memory=memory)
