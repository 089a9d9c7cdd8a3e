"""What a judge knows of one seat: how green's frames compare with blue's of the same number, and how late each came. Pure, bounded.

Rules:

* Frame n is held against frame n. A number that either ring no longer has, because the judge came or was late, is skipped and counted: it
  says nothing. A number that blue declares lost says nothing either; one that only green declares lost is different, and counted as lost, too:
  whether its release or its host lost it, no ring says.
* Latency of an output: from when the input that it bears the time of was first seen, to when the output itself was, both in this host's ring and by
  the judge's own monotonic clock. Times in frames only name the input, they are never compared with a clock. What was there before
  the judge looked has no latency, and so has nothing while green catches up.
* Since arrivals are seen by looking, latencies are known within the time between two looks, which is measured with them.

Owns the evidence. Never reads a ring, and never says whether the evidence is good enough: that is the leader's.
"""

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

FIRST = 8  # of the frames that differ, how many are told
MAX_TEXT = 240  # characters of each
STEPS = 4096  # of arrivals that are remembered: half a second of looks


@dataclass(frozen=True, slots=True)
class Difference:
    """A frame of green's that differs from blue's of the same number, and how, in words."""

    seq: int
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge knows of a green, by the generation of its ring. `look_us`: how far apart its looks are, 99 of 100 times.

    Latencies are of `timed` outputs, of either member; `first` are the first that differ. Of those that differ green declares `lost` ones
    lost; `unbroken` were compared since the last of them.
    """

    generation: int
    compared: int
    different: int
    skipped: int
    timed: int
    blue_us_p99: int
    green_us_p99: int
    look_us: int
    first: tuple[Difference, ...]
    lost: int = 0
    unbroken: int = 0


def plain_text(text: str) -> str:
    """`text` as one line of limited length, without anything that a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in text[:MAX_TEXT])


def bucket(value: int) -> int:
    """The number of the bucket that holds `value`; each is at most a sixteenth of its values wide."""
    shift = max(value.bit_length() - 5, 0)
    return (shift << 4) + (value >> shift)


def ceiling(number: int) -> int:
    """The largest value in that bucket."""
    shift = max((number >> 4) - 1, 0)
    return (((number - (shift << 4)) + 1) << shift) - 1


class Spread:
    """A histogram of times: bounded, and exact to a sixteenth."""

    def __init__(self) -> None:
        self.count = 0
        self._buckets: dict[int, int] = {}

    def add(self, value: int) -> None:
        """One more."""
        number = bucket(max(value, 0))
        self._buckets[number] = self._buckets.get(number, 0) + 1
        self.count += 1

    def p99(self) -> int:
        """What 99 of 100 do not exceed; 0 when there are none."""
        left = -(-self.count * 99 // 100)
        for number in sorted(self._buckets):
            left -= self._buckets[number]
            if left <= 0:
                return ceiling(number)
        return 0


class Arrivals:
    """When the numbers of one ring were first seen."""

    def __init__(self, head: int) -> None:
        self._known_from = self._head = head  # what is below it came at an unknown time
        self._ends: deque[int] = deque()  # rising; all below each was there
        self._times: deque[int] = deque()  # ... at this time

    def looked(self, head: int, now: int) -> None:
        """The ring's head at `now`."""
        if head <= self._head:
            return
        self._head = head
        self._ends.append(head)
        self._times.append(now)
        if len(self._ends) > STEPS:
            self._known_from = self._ends.popleft()
            self._times.popleft()

    def at(self, seq: int) -> int | None:
        """When `seq` was first seen; None when that is not known, or has not been."""
        if not self._known_from <= seq < self._head:
            return None
        return self._times[bisect_right(self._ends, seq)]


class Trial:
    """The evidence about one green. `seq` is the number to be judged next; `blue`, `green` and `source` are the heads of the rings now."""

    def __init__(self, generation: int, seq: int, heads: tuple[int, int, int], lag_frames: int) -> None:
        self.generation = generation
        self.seq = seq
        self.compared = self.different = self.skipped = self.lost = self.unbroken = 0
        self.first: list[Difference] = []
        self.blue, self.green = Spread(), Spread()
        self._arrivals = tuple(Arrivals(head) for head in heads)
        self._heads = heads
        self._lag_frames = lag_frames
        self._kept_up_from: int | None = None

    def looked(self, heads: tuple[int, int, int], now: int) -> None:
        """The heads of blue's ring, green's and the input's, at `now`."""
        for arrivals, head in zip(self._arrivals, heads, strict=True):
            arrivals.looked(head, now)
        self._heads = heads
        blue, green, _ = heads
        if self._kept_up_from is None and green and blue - green <= self._lag_frames:
            self._kept_up_from = max(blue, green)

    @property
    def end(self) -> int:
        """Numbers below it are in both rings, or have been."""
        return min(self._heads[:2])

    def skip(self, to: int) -> None:
        """The numbers up to `to` cannot be judged: the one or the other ring no longer has them, or has never had them."""
        self.skipped += max(to - self.seq, 0)
        self.seq = max(self.seq, to)

    def passed(self, count: int) -> None:
        """`count` numbers say nothing: blue declares them lost."""
        self.seq += count

    def judged(self, text: str, lost: bool = False) -> None:
        """The next number was compared: `text` says how green's differs, and is empty when it does not. `lost`: green has none."""
        self.compared += 1
        self.lost += lost
        self.unbroken = 0 if lost else self.unbroken + 1
        if text:
            self.different += 1
            if len(self.first) < FIRST:
                self.first.append(Difference(self.seq, plain_text(text)))
        self.seq += 1

    def timed(self, seq: int, source: int) -> None:
        """Output `seq` came of the input `source`: count how late it came from either, if both are known."""
        if self._kept_up_from is None or seq < self._kept_up_from:
            return
        blue, green, begun = (arrivals.at(n) for arrivals, n in zip(self._arrivals, (seq, seq, source), strict=True))
        if blue is not None and green is not None and begun is not None:
            self.blue.add(blue - begun)
            self.green.add(green - begun)

    def evidence(self, look_us: int) -> Judged:
        """All of it; times are in microseconds."""
        return Judged(
            generation=self.generation,
            compared=self.compared,
            different=self.different,
            skipped=self.skipped,
            timed=self.green.count,
            blue_us_p99=self.blue.p99(),
            green_us_p99=self.green.p99(),
            look_us=look_us,
            first=tuple(self.first),
            lost=self.lost,
            unbroken=self.unbroken,
        )

    def begun_anew(self, seq: int, heads: tuple[int, int, int]) -> None:
        """A ring was made anew: what was learnt stays, what is to come is another stream of arrivals."""
        self.seq = max(seq, 0)
        self._arrivals = tuple(Arrivals(head) for head in heads)
        self._heads, self._kept_up_from = heads, None
