"""What is broken in a swap soak, in which order, from one seed. Pure: nothing is cut or killed here.

One at a time: the next comes when whatever the last one broke stands again, since a stream of two copies survives any single failure and no
more (S1). How long after that, and who it hits, is the seed's.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "member", "merge", "bridge", "agent", "cut", "vertex", "inlet", "sink"
]  # the last three where graphs are rewired
WEIGHTS: dict[Kind, int] = {"member": 5, "merge": 2, "bridge": 2, "agent": 2, "cut": 3}
CALM_S = (0.05, 1.0)
CUT_S = (0.02, 0.4)  # a second's outputs wait in the source's ring many times over


@dataclass(frozen=True, slots=True)
class Trouble:
    """`calm_s` after all stood again; `pick` in [0, 1) chooses among those that are there; a link is cut for `for_s`."""

    calm_s: float
    kind: Kind
    pick: float
    for_s: float


def troubles(seed: int) -> Iterator[Trouble]:
    """Without end."""
    chance = random.Random(f"{seed}/swaps")
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    while True:
        kind = chance.choices(kinds, weights)[0]
        yield Trouble(chance.uniform(*CALM_S), kind, chance.random(), chance.uniform(*CUT_S) if kind == "cut" else 0.0)


def victims(kind: Kind, running: Sequence[str]) -> list[str]:
    """The workloads that such a trouble may hit, by their names."""
    of = {
        "member": lambda name: "@" in name and ".from-" not in name,
        "bridge": lambda name: ".from-" in name or "bridge" in name,
        "merge": lambda name: name.endswith(".merge"),
    }.get(kind)
    return sorted(name for name in running if of and of(name))
