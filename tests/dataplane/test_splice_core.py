"""When an inlet goes over, by itself: whatever its generations show, each number comes from one of them, in order, and nothing is lost that could be kept.

invariant: S1
invariant: S2
"""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane.frames import Cut
from halftrack_dataplane.splice import (
    AGAIN_S,
    HOLD_S,
    LITTLE_S,
    REST_S,
    Go,
    Hold,
    Keep,
    Side,
    Splice,
    standing,
    told,
)

COUNT = 40  # numbers of a stream
TICK_S = 0.02
Act = tuple[str, int]


@dataclass
class World:
    """Generations of inputs that come when the acts say so, an output, and a table. Written from the rules, not from the code."""

    lost: list[set[int]]  # by generation: what it will never have
    dead: set[int] = field(default_factory=set)  # whose writers are gone
    come: list[int] = field(
        default_factory=list
    )  # by generation: all numbers below have been brought, or are known to be lost
    out: list[tuple[int, bool]] = field(
        default_factory=list
    )  # by number: from which generation, and whether it was a frame
    rows: list[tuple[int, int]] = field(default_factory=list)
    now: float = 0.0
    splice: Splice = field(default_factory=Splice)
    held_since: float | None = None
    holds: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.come = [0] * len(self.lost)

    @property
    def force(self) -> int:
        return self.rows[-1][0] if self.rows else 0

    def side(self, generation: int) -> Side:
        """What there is of one from the expected number on."""
        expected, come, lost = len(self.out), self.come[generation], self.lost[generation]
        there = gap = 0
        while expected + there < come and expected + there not in lost:
            there += 1
        while expected + gap < come and expected + gap in lost:
            gap += 1
        return Side(generation, there, gap, come, generation in self.dead and come <= expected)

    def step(self) -> None:
        """One look, carried out."""
        expected, mine = len(self.out), self.side(self.force)
        later = [self.side(each) for each in range(self.force + 1, len(self.lost))]
        move = self.splice.decide(expected, mine, later, self.now) if later else Keep()
        if not isinstance(move, Hold) and self.held_since is not None:
            self.holds.append((self.held_since, self.now))
            self.held_since = None
        match move:
            case Go(generation):
                self.go(generation, mine, later)
            case Hold(generation, for_s):
                side = self.side(generation)
                assert mine.there or mine.lost, "held back, and there is nothing to hold back"
                assert not side.there, "waited for what is there"
                assert not side.lost, "waited for what will not come"
                assert 0 < for_s <= HOLD_S
                self.held_since = self.now if self.held_since is None else self.held_since
                assert self.now - self.held_since < HOLD_S
            case Keep(lose):
                self.keep(mine, later, lose)

    def go(self, generation: int, mine: Side, later: list[Side]) -> None:
        expected, side = len(self.out), self.side(generation)
        assert generation > self.force, "it goes back"
        if not side.there:
            assert not mine.there, "what is there is left for what is not"
            assert not mine.lost
            assert mine.silent or side.newest == expected > 0
        self.rows.append((generation, expected))
        self.splice = Splice()

    def keep(self, mine: Side, later: list[Side], lose: int) -> None:
        count = mine.there or min(mine.lost, lose or mine.lost)
        if mine.lost:
            for number in range(len(self.out), len(self.out) + count):
                has = [
                    each
                    for each in later
                    if number < self.come[each.generation] and number not in self.lost[each.generation]
                ]
                assert not has, "declared lost, and a later generation has it"
        self.out += [(self.force, mine.there > 0)] * count


def played(world: World, acts: list[Act]) -> World:
    """After these, everything comes, and time passes."""
    for what, number in acts:
        if what == "step":
            world.step()
        elif what == "tick":
            world.now += TICK_S * number
        elif what == "die":
            world.splice = Splice()
            world.held_since = None
        else:
            which = int(what) % len(world.lost)
            if which not in world.dead:
                world.come[which] = min(world.come[which] + number, COUNT)
    for which in range(len(world.lost)):
        world.come[which] = world.come[which] if which in world.dead else COUNT
    for _ in range(40 * len(world.lost) + COUNT):
        world.step()
        world.now += REST_S / 5
    return world


acts = st.lists(
    st.tuples(st.sampled_from(["0", "1", "2", "step", "step", "step", "tick", "die"]), st.integers(1, 9)), max_size=80
)
losses = st.lists(
    st.one_of(st.sets(st.integers(0, COUNT - 1), max_size=6), st.integers(0, COUNT).map(lambda end: set(range(end)))),
    min_size=2, max_size=3,
)  # fmt: skip


@settings(max_examples=120)
@given(losses, acts)
def test_each_number_once_and_in_order_from_generations_that_never_go_back(
    lost: list[set[int]], acts: list[Act]
) -> None:
    world = played(World(lost), acts)
    assert len(world.out) == COUNT, "it came to a stop"
    owners = [owner for owner, _ in world.out]
    assert owners == sorted(owners)
    for number, (owner, frame) in enumerate(world.out):
        assert frame == (number not in lost[owner]), "a gap is what its owner has lost, and nothing else is"
        assert owner == max((row for row, first in world.rows if first <= number), default=0), "the table says so"
    assert world.force == len(lost) - 1, "in the end the newest is in force"


@settings(max_examples=50)
@given(acts)
def test_nothing_is_lost_that_the_generation_in_force_has(acts: list[Act]) -> None:
    """The later one begins further on: what is before its beginning is passed before."""
    for begins in (3, COUNT - 1):
        world = played(World([set(), set(range(begins))]), acts)
        assert all(frame for _, frame in world.out)


def test_the_output_stands_for_a_generation_that_never_comes_less_and_less_often() -> None:
    """It is one frame behind, whatever comes."""
    splice = Splice()
    moves = [(number / 1000, ahead(splice, 2, number / 1000)) for number in range(10_000)]
    held = [now for now, move in moves if isinstance(move, Hold)]
    begins = [now for before, now in pairwise([-1.0, *held]) if now - before > 0.01]
    assert len(begins) == 4
    assert all(later - before >= AGAIN_S * (1 << number) for number, (before, later) in enumerate(pairwise(begins)))
    assert len(held) <= 1000 * HOLD_S * len(begins) + len(begins)


@pytest.mark.parametrize("silent", [False, True])
def test_a_stream_that_rests_goes_over_to_who_has_the_same_unless_nobody_writes_that(silent: bool) -> None:
    splice, mine, later = Splice(), Side(0, newest=10), [Side(1, newest=10, silent=silent)]
    assert splice.decide(10, mine, later, 0.0) == Keep()
    assert splice.decide(10, mine, later, REST_S - 0.01) == Keep()
    assert splice.decide(10, mine, later, REST_S) == (Keep() if silent else Go(1))
    assert splice.decide(0, Side(0), [Side(1)], 2 * REST_S) == Keep(), "nothing was ever seen of either"


def test_what_is_at_hand_is_never_left_for_a_hole() -> None:
    for mine in (Side(0, there=1, newest=11, silent=True), Side(0, lost=1, newest=11, silent=True)):
        assert isinstance(Splice().decide(10, mine, [Side(1, lost=3, newest=20)], 0.0), Keep)


def test_the_dead_are_given_up_for_whoever_begins_further_on() -> None:
    world = World([set(), set(range(20))], dead={0})
    world.come[0] = 10
    played(world, [("step", 1), ("step", 1)])
    assert world.out == [(0, True)] * 10 + [(1, False)] * 10 + [(1, True)] * 20


def ahead(splice: Splice, behind: int, now: float) -> Go | Hold | Keep:
    """A steady stream of a thousand a second; the later generation is so many behind."""
    newest = round(now * 1000)
    return splice.decide(newest - 1, Side(0, there=1, newest=newest), [Side(1, newest=newest - behind)], now)


@pytest.mark.parametrize(("behind", "waits"), [(round(LITTLE_S * 500), True), (round(LITTLE_S * 2000), False)])
def test_it_is_held_back_for_who_is_a_little_behind_and_for_nobody_else(behind: int, waits: bool) -> None:
    splice = Splice()
    moves = [ahead(splice, behind, 1.0 + number / 1000) for number in range(200)]
    assert any(isinstance(move, Hold) for move in moves) == waits


def test_with_two_later_ones_it_takes_the_first_that_it_can() -> None:
    mine = Side(0, newest=10)
    ready, behind = Side(1, there=3, newest=13), Side(1, newest=2)
    assert Splice().decide(10, mine, [ready, Side(2, there=3, newest=13)], 0.0) == Go(1)
    assert Splice().decide(10, mine, [behind, Side(2, there=3, newest=13)], 0.0) == Go(2)


def test_what_both_have_lost_is_lost_only_as_far_as_both_have() -> None:
    assert Splice().decide(10, Side(0, lost=9, newest=30), [Side(1, lost=4, newest=30)], 0.0) == Keep(4)


cuts = st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=4, unique_by=lambda row: row[0])


@given(cuts, st.sets(st.integers(0, 6), min_size=1))
def test_the_table_says_which_is_in_force_and_none_before_it_follows(
    rows: list[tuple[int, bool]], ordered: set[int]
) -> None:
    table = [Cut(number, number, None, 7 if applied else None, "") for number, applied in sorted(rows)]
    written = max((number for number, applied in rows if applied), default=0)
    decided = max((number for number, _ in rows), default=0)
    found = standing(table, sorted(ordered))
    if found is None:
        assert max(ordered) < written
        return
    mine, later, untold = found
    assert mine in ordered
    assert mine == written if written in ordered else mine == min(each for each in ordered if each > written)
    assert all(each > mine and each >= decided for each in later)
    assert untold == (mine != written)


def test_what_keeps_a_generation_waiting_is_told() -> None:
    mine = Side(0, there=1, newest=11)
    assert told(10, mine, []) == ""
    assert told(10, mine, [Side(1, newest=4)]) == "generation 1 is not in force yet: it is 7 frames behind"
    assert told(10, mine, [Side(1, lost=3, newest=13)]) == "generation 1 is not in force yet: it lacks 10 to 12"
    assert told(10, mine, [Side(1)]) == "generation 1 is not in force yet: it has brought nothing yet"
