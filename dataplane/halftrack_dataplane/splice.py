"""Splice: when an inlet goes over from one generation of its inputs to a later one. Pure; `joining.py` carries it out.

All inputs of one generation are joined with each other, and every generation has the same numbers, so that going over is a matter of when:

- The generation in force answers for every number, until the inlet goes over to a later one; never back. Which one it is stands in the
  owner table of the inlet's own ring, from which number on too, and is written there before the first frame of it is.
- It goes over at the expected number, when the later generation has that at hand and is a little behind at most (`LITTLE_S`), or has what the one
  in force has lost. Of several later ones the first that can be gone over to is taken; one that cannot holds up none behind it.
- A later generation comes later by nature: whatever is made of a frame is there after the frame. So once it is only a little behind, the
  one in force is held back for it, for `HOLD_S` at most. A try that fails costs the output so much once, and the next one is put off for
  longer each time.
- In a stream that rests, it goes over when both have the same.
- What the later one has lost and the one in force has is passed before; what both have lost, up to where one has more, is lost. Only when nobody
  writes the inputs in force any more, and the later ones begin further on, are the numbers between given up.

All that is remembered here may be forgotten at any death: it says when, never what.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from halftrack_dataplane.frames import Cut

LITTLE_S = 0.1  # behind: what may be caught up with while the output is held back
HOLD_S = 0.1  # as long as what it waits for is behind, and no longer than a loop may be blocked anyway
REST_S = 0.5  # without a frame: longer than a hold, so that a stream with a slow pulse is not taken for one that rests
AGAIN_S, AGAIN_MOST_S = (
    1.0,
    60.0,
)  # between two tries: the output stands for a tenth of its time at most, and soon for much less
MARK_S = LITTLE_S / 8  # between two notes of how far the one in force was
assert HOLD_S < REST_S  # noqa: S101
assert HOLD_S * 10 <= AGAIN_S  # noqa: S101


@dataclass(frozen=True, slots=True)
class Side:
    """How one generation stands at the expected number.

    From there on `there` numbers are at hand, joined, or `lost` numbers are known to be lost, or nothing is known yet. `newest`: below this
    number its inputs have brought all that they will; 0 when they have brought nothing. `silent`: nobody is left who could bring what is missing.
    """

    generation: int
    there: int = 0
    lost: int = 0
    newest: int = 0
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Go:
    """From the expected number on, `generation` answers."""

    generation: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Pass nothing: `generation` is about to have the expected number. For `for_s` at most."""

    generation: int
    for_s: float


@dataclass(frozen=True, slots=True)
class Keep:
    """Go on with the generation in force; declare at most `lose` numbers lost before asking again (0: as many as are)."""

    lose: int = 0


def standing(cuts: Sequence[Cut], ordered: Sequence[int]) -> tuple[int, tuple[int, ...], bool] | None:
    """Of the `ordered` generations, the one in force and those that may follow it; and whether the table has still to be told.

    None if all of them are older than the one in force. A proposed row is a decision that a death has cut short: nothing before it is gone over to.
    """
    written = max((cut.generation for cut in cuts if cut.applied_at is not None), default=0)
    decided = max((cut.generation for cut in cuts), default=0)
    left = sorted(each for each in set(ordered) if each >= written)
    if not left:
        return None
    mine, *later = left
    return mine, tuple(each for each in later if each >= decided), mine > written


def told(expected: int, mine: Side, later: Sequence[Side]) -> str:
    """What keeps the later generations waiting, for a person; empty without any."""
    newest = max(expected, mine.newest)
    return "; ".join(
        f"generation {side.generation} is not in force yet: {_why(expected, newest, side)}" for side in later
    )


def _why(expected: int, newest: int, side: Side) -> str:
    if side.lost:
        return f"it lacks {expected} to {expected + side.lost - 1}"
    if not side.newest:
        return "it has brought nothing yet"
    if side.newest < newest:
        return f"it is {newest - side.newest} frames behind"
    return f"it begins with {expected}"


@dataclass(slots=True)
class Splice:
    """What is to be done now, and since when what has been waited for."""

    _marks: deque[tuple[float, int]] = field(default_factory=deque)
    _moved: float | None = None  # when a frame was at hand last
    _held: tuple[int, float] | None = None
    _failed: dict[int, tuple[int, float]] = field(default_factory=dict)  # how often, and not again before

    def decide(self, expected: int, mine: Side, later: Sequence[Side], now: float) -> Go | Hold | Keep:
        """`mine` is the generation in force, `later` those that may follow it, in order."""
        self._mark(mine, now)
        if to := next((side for side in later if self._due(expected, mine, side, now)), None):
            return Go(to.generation)  # whoever carries it out begins a new Splice
        if self._held is not None:
            generation, since = self._held
            side = next((side for side in later if side.generation == generation), None)
            if side is not None and self._worth(mine, side) and now - since < HOLD_S:
                return Hold(generation, HOLD_S - (now - since))
            times, _ = self._failed.get(generation, (0, 0.0))
            self._failed[generation] = times + 1, now + min(AGAIN_S * (1 << min(times, 16)), AGAIN_MOST_S)
            self._held = None
        for side in later:
            if (
                self._worth(mine, side)
                and self._near(mine, side, now)
                and self._failed.get(side.generation, (0, now))[1] <= now
            ):
                self._held = side.generation, now
                return Hold(side.generation, HOLD_S)
        return Keep(min((side.lost for side in later if side.lost), default=0))

    def _due(self, expected: int, mine: Side, side: Side, now: float) -> bool:
        if side.there:
            return not mine.there or self._near(mine, side, now)
        if mine.there or mine.lost:
            return False
        if side.lost:
            return mine.silent
        rested = self._moved is not None and now - self._moved >= REST_S
        return rested and not side.silent and 0 < side.newest == expected

    def _worth(self, mine: Side, side: Side) -> bool:
        """Is there something to be held back, and something to hold it back for?"""
        return (mine.there > 0 or mine.lost > 0) and not side.there and not side.lost

    def _near(self, mine: Side, side: Side, now: float) -> bool:
        """Does it have what the one in force had a little while ago? Without a note from then: what that one has now."""
        then = mine.newest
        for at, newest in self._marks:
            if at <= now - LITTLE_S:
                then = newest
        return side.newest >= min(then, mine.newest)

    def _mark(self, mine: Side, now: float) -> None:
        if self._moved is None or mine.there or mine.lost:
            self._moved = now
        if not self._marks or now - self._marks[-1][0] >= MARK_S:
            self._marks.append((now, mine.newest))
        while len(self._marks) > 1 and self._marks[1][0] <= now - LITTLE_S:
            self._marks.popleft()
