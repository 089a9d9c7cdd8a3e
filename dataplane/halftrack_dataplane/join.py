"""Join: which frames of an inlet's inputs make its output's next ones, and what is lost. Pure; `joining.py` carries it out.

Every join is a function of the frames alone, never of when they came:

- By number (`sequence`, `union`, and a single input), output n is made of the inputs' frames n, so where an inlet is, is its output's head.
- A sequence is lost if an input has lost it; or, if it may be partial, if all have. A union takes the first that has a frame there, and calls
  a number lost only when all are past it and one of them has lost it; where all say "none here", so does it.
- In order, the least of the first frames passes, by (time, input), as soon as every input shows one. By time, a bucket is closed when every input
  shows a frame of a later one. Where their inputs go on is written in each frame, so they, too, are found again in the output.
- An input that is waited for longer than its patience is left out until it has something that is not past: the only decision that depends on a
  clock, and so the only one that is counted and told (`Patience`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

FOREVER = 1 << 63


@dataclass(frozen=True, slots=True)
class Head:
    """What one input has next: frames or a gap (`lost`) over the numbers [first, end); nothing yet where these are equal.

    The first frame says "none here" (`none`), or does not, and so do those up to `alike`. `gone`: we do not wait for it.
    """

    first: int
    end: int
    lost: bool = False
    none: bool = False
    alike: int = 0
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """What `inputs` offer below the expected number is for nobody any more."""

    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pass:
    """Pass the next `count` numbers, made of `inputs`."""

    inputs: tuple[int, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Lose:
    """Declare the next `count` numbers lost."""

    count: int


@dataclass(frozen=True, slots=True)
class Take:
    """Pass frames of `input` whose time is before `before_ns` (None: all that are at hand)."""

    input: int
    before_ns: int | None


@dataclass(frozen=True, slots=True)
class Fill:
    """Fill `bucket`: its frames are those of a time before `end_ns`."""

    bucket: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before one of `inputs` has more."""

    inputs: tuple[int, ...]


def sequence(expected: int, heads: Sequence[Head], partial: bool = False) -> Drop | Pass | Lose | Wait:
    """Frame n of every input together."""
    if late := _late(expected, heads):
        return late
    lost = {which: until for which, head in enumerate(heads) if (until := _lost_until(expected, head))}
    missing = tuple(
        which for which, head in enumerate(heads) if which not in lost and head.end <= expected and not head.gone
    )
    there = {which: head.end for which, head in enumerate(heads) if which not in lost and head.end > expected}
    if lost and not partial:
        return Lose(max(lost.values()) - expected)
    if missing:
        return Wait(missing)
    if len(there) == len(heads) or (there and partial):
        return Pass(tuple(there), min((*there.values(), *lost.values())) - expected)
    known = there or lost  # without those that are gone, the number is lost, as far as anybody can tell
    return Lose(min(known.values()) - expected) if known else Wait(tuple(range(len(heads))))


def union(expected: int, heads: Sequence[Head]) -> Drop | Pass | Lose | Wait:
    """The first frame of each number, from whichever input has one."""
    if late := _late(expected, heads):
        return late
    lost = {which: until for which, head in enumerate(heads) if (until := _lost_until(expected, head))}
    there = {which: head for which, head in enumerate(heads) if which not in lost and head.end > expected}
    if len(there) == len(heads):
        return Pass(tuple(there), min(head.end for head in heads) - expected)
    for which, head in there.items():
        if not head.none:
            return Pass((which,), head.alike - expected)
    if missing := tuple(
        which for which, head in enumerate(heads) if head.end <= expected and which not in lost and not head.gone
    ):
        return Wait(missing)
    known = [*lost.values(), *(head.alike for head in there.values())]  # those that are gone may have had it
    return Lose(min(known) - expected) if known else Wait(tuple(range(len(heads))))


def order(times: Sequence[int | None], gone: frozenset[int]) -> Take | Wait:
    """All frames, by (time, input): `times` of the first at hand, None where there is none yet."""
    known = sorted((time, which) for which, time in enumerate(times) if time is not None)
    if missing := _unseen(times, gone) or (() if known else tuple(gone)):
        return Wait(missing)
    _, least = known[0]
    if len(known) == 1:
        return Take(least, None)
    rival_ns, rival = known[1]
    return Take(least, rival_ns + (least < rival))


def bucket(times: Sequence[int | None], gone: frozenset[int], floor: int | None, width_ns: int) -> Fill | Wait:
    """Which bucket is next: that of the least time, but none below `floor` (None: any), since those are closed."""
    known = [time for time in times if time is not None]
    if missing := _unseen(times, gone) or (() if known else tuple(gone)):
        return Wait(missing)
    least = min(known) // width_ns
    number = least if floor is None else max(floor, least)
    return Fill(number, (number + 1) * width_ns)


def unfilled(over: Sequence[bool], gone: frozenset[int]) -> tuple[int, ...]:
    """The inputs that may still have frames for the bucket: those that have not shown one behind it."""
    return tuple(which for which, each in enumerate(over) if not each and which not in gone)


def _unseen(times: Sequence[int | None], gone: frozenset[int]) -> tuple[int, ...]:
    return tuple(which for which, time in enumerate(times) if time is None and which not in gone)


def _late(expected: int, heads: Sequence[Head]) -> Drop | None:
    late = tuple(which for which, head in enumerate(heads) if head.first < expected and head.first < head.end)
    return Drop(late) if late else None


def _lost_until(expected: int, head: Head) -> int:
    """Up to where this input has lost what is expected; 0 if it has not."""
    if head.end <= expected:
        return 0
    if head.first > expected:
        return head.first
    return head.end if head.lost else 0


@dataclass(slots=True)
class Patience:
    """For how long each input has been waited for, and which ones are left out. `limits_s`: 0 is for ever."""

    limits_s: tuple[float, ...]
    since: dict[int, float] = field(default_factory=dict)
    outs: dict[int, int] = field(default_factory=dict)  # how often each was left out
    _out: set[int] = field(default_factory=set)

    @property
    def left_out(self) -> int:
        """How often any was."""
        return sum(self.outs.values())

    def waits(self, inputs: Sequence[int], held: bool, now: float) -> None:
        """These are waited for; it counts from when they hold others up (`held`), not while a stream rests."""
        if not held:
            self.since.clear()
            return
        for which in inputs:
            self.since.setdefault(which, now)

    def heard(self, which: int) -> None:
        """This one has something that is not past."""
        self.since.pop(which, None)
        self._out.discard(which)

    def gone(self, now: float) -> frozenset[int]:
        """Those that are not waited for."""
        for which, since in self.since.items():
            if which not in self._out and 0 < self.limits_s[which] <= now - since:
                self._out.add(which)
                self.outs[which] = self.outs.get(which, 0) + 1
        return frozenset(self._out)

    def due_s(self, now: float) -> float:
        """In how long the next one is left out; FOREVER if none will be."""
        left = [
            self.limits_s[which] - (now - since)
            for which, since in self.since.items()
            if self.limits_s[which] and which not in self._out
        ]
        return max(min(left, default=float(FOREVER)), 0.0)
