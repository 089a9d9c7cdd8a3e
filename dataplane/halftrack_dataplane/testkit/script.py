"""What happens to a stream in a rehearsal: who is killed where, which release takes over when, and what is given up half-way.

Owns the words, and scripts drawn by a seed. Pure: the random numbers are its caller's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")

During = Literal["process", "computed", "published", "snapshot", "restore"]
DURING: tuple[During, ...] = ("process", "computed", "published", "snapshot", "restore")
Abort = Literal["", "shadowing", "armed", "cut"]
TRIES: tuple[Abort, ...] = ("shadowing", "armed", "cut")
SEATS = ("a", "b")


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL of the member on `seat`, while it is at input `frame` or later.

    `during`: before `process` has seen the frame; when its outputs are computed and none is published; when the first is;
    in `snapshot`; or in `restore`, at the next life's beginning.
    """

    seat: str
    frame: int
    during: During = "process"


@dataclass(frozen=True, slots=True)
class KillMerge:
    """SIGKILL of the merge when `output` has passed."""

    output: int


@dataclass(frozen=True, slots=True)
class Swap:
    """Swap the pair to release `to`, from when `output` has passed.

    The cut is asked for `ahead` outputs ahead (0: at the next one). `surge` 1 replaces a member at a time, 2 starts both
    greens before the cut. `abort` takes it back: before the fence is proposed, before it is reached, or after the cut.
    """

    to: str
    output: int
    ahead: int = 4
    surge: Literal[1, 2] = 1
    abort: Abort = ""


Event = Kill | KillMerge | Swap


@dataclass(frozen=True, slots=True)
class Chance:
    """Where random numbers come from, as `random.Random` has them."""

    below: Callable[[int], int]

    def between(self, low: int, high: int) -> int:
        """A number from `low` to `high`; `low` if there is none."""
        return low + self.below(high - low + 1) if high > low else low

    def one_of(self, items: Sequence[T]) -> T:
        """One of `items`."""
        return items[self.below(len(items))]


def drawn(
    chance: Chance, versions: Sequence[str], inputs: int, outputs: int, kills: int, room: int
) -> tuple[Event, ...]:
    """A script for a stream that begins with `versions[0]`: each later one is swapped in, some after a try that is aborted.

    `room` is how many outputs a swap may take.
    """
    events: list[Event] = [
        Kill(chance.one_of(SEATS), chance.between(0, inputs - 1), chance.one_of(DURING)) for _ in range(kills)
    ]
    events += [KillMerge(chance.between(0, outputs - 1)) for _ in range(kills // 3)]
    later = versions[1:]
    if outputs < len(later) * room:
        raise ValueError(
            f"{outputs} outputs are too few for {len(later)} swaps, which may take {room} each: "
            f"give {-(-len(later) * room * inputs // max(outputs, 1))} frames or more"
        )
    spare = outputs // room - len(later)
    wanted: list[tuple[str, Abort]] = []
    for version in later:
        if spare and chance.below(2):
            spare -= 1
            wanted.append((version, chance.one_of(TRIES)))
        wanted.append((version, ""))
    share = outputs // max(len(wanted), 1)
    for place, (version, abort) in enumerate(wanted):
        begins = chance.between(place * share, (place + 1) * share - room)
        surge: Literal[1, 2] = 1 if chance.below(2) else 2
        events.append(Swap(version, begins, chance.between(0, 4), surge, abort))
    return tuple(events)
