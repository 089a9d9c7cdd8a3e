"""What the table of faults breaks, and where in a swap: every fault alone at every phase of either leg. Pure: nothing is broken here.

The phases are those in which a swap rests; between them the leader has decided and nothing has happened yet.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from halftrack_model.swap import Phase, SwapRecord

Fault = Literal[
    "blue", "green", "other", "merge", "bridges", "leader's agent", "follower's agent", "leader's agent hangs", "follower's agent hangs", "follower",
    "all members", "cut", "cut beyond the buffer", "slow sink", "ring full", "damaged snapshots", "controller gone",
]  # fmt: skip
FAULTS: tuple[Fault, ...] = Fault.__args__  # type: ignore[attr-defined]
PHASES = (Phase.JOINING, Phase.SHADOWING, Phase.CAUGHT_UP, Phase.ARMED, Phase.CUT, Phase.DRAINING)
NEVER = {(1, Phase.ARMED), (1, Phase.CUT)}  # the second leg's green stands by: the output is green's already
PLACES = tuple((leg, phase) for leg in (0, 1) for phase in PHASES if (leg, phase) not in NEVER)
# What undoes itself after so many seconds; what is not here is over at once, or with the swap.
LASTS_S: dict[Fault, float] = {
    "leader's agent hangs": 1.5, "follower's agent hangs": 1.5, "cut": 0.4, "cut beyond the buffer": 7.0, "slow sink": 2.0, "ring full": 7.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One swap: what breaks when it is at `leg` and `phase`, or as soon as it is past them."""

    fault: Fault
    leg: int
    phase: Phase


def rows(seed: int, share: int) -> Iterator[Row]:
    """The whole table in an order that `seed` shuffles; of every fault only `share` places, if that is not 0."""
    chance = random.Random(f"{seed}/table")
    found = []
    for fault in FAULTS:
        places = list(PLACES)
        chance.shuffle(places)
        found += [Row(fault, leg, phase) for leg, phase in places[: share or len(places)]]
    chance.shuffle(found)
    yield from found


def reached(row: Row, record: SwapRecord | None) -> bool:
    """Is the swap where the row wants it, or past it?"""
    if record is None or record.phase not in (*PHASES, Phase.GONE, Phase.DONE):
        return False
    if record.phase is Phase.DONE or record.leg != row.leg:
        return record.phase is Phase.DONE or record.leg > row.leg
    return record.phase is Phase.GONE or PHASES.index(record.phase) >= PHASES.index(row.phase)


def seats(leg: int, blue: str, green: str) -> dict[Fault, str]:
    """The members that a leg is about, by their workloads' ends: the one that goes, the one that comes, and who sits on the other seat."""
    here, there = ("ab"[leg], "ab"[1 - leg])
    return {"blue": f"{here}@{blue}", "green": f"{here}@{green}", "other": f"{there}@{green if leg else blue}"}


def hit(row: Row, before: SwapRecord | None, after: SwapRecord | None) -> str:
    """In words, for the table: where the swap really was when it was struck."""
    return " to ".join(dict.fromkeys(where(record) for record in (before, after)))


def where(record: SwapRecord | None) -> str:
    """Leg and phase."""
    return "nowhere" if record is None else f"{record.phase.value} {record.leg + 1}"


def places_hit(found: Sequence[str]) -> set[str]:
    """The places in which something was struck that was there before and after."""
    return {place for place in found if " to " not in place}
