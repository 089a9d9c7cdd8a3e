"""Breaks what a rewire soak's seed says, one at a time: SIGKILL to whatever runs but the source, and to agents; cuts of the link between the hosts.

The next comes when all sinks are close behind the source again, and both members of every pair behind their merge: single failures only (S1).
"""

import random
from collections.abc import Callable, Iterator, Sequence

from examples.demo.world import FOLLOWER, LEADER, World
from tests.soak.swap_breaker import Breaker
from tests.soak.swap_faults import CUT_S, Kind, Trouble

SOURCE = "rewire.numbers"
WEIGHTS: dict[Kind, int] = {
    "vertex": 3,
    "member": 3,
    "inlet": 4,
    "merge": 2,
    "bridge": 2,
    "sink": 1,
    "agent": 2,
    "cut": 3,
}
CALM_S = (0.1, 1.5)
Standing = Callable[[], tuple[Sequence[tuple[str, str]], Sequence[str]]]


def troubles(seed: int) -> Iterator[Trouble]:
    """Without end."""
    chance = random.Random(f"{seed}/rewiring")
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    while True:
        kind = chance.choices(kinds, weights)[0]
        yield Trouble(chance.uniform(*CALM_S), kind, chance.random(), chance.uniform(*CUT_S) if kind == "cut" else 0.0)


def victims(kind: str, running: Sequence[str], sinks: Sequence[str]) -> list[str]:
    """The workloads that such a trouble may hit, by their names."""
    return sorted(name for name in running if name != SOURCE and _kind(name, sinks) == kind)


def _kind(name: str, sinks: Sequence[str]) -> str:
    if ".from-" in name or name == "bridge":
        return "bridge"
    for end, kind in ((".in", "inlet"), (".merge", "merge")):
        if name.endswith(end):
            return kind
    if name in sinks:
        return "sink"
    return "member" if "@" in name else "vertex"


class RewireBreaker(Breaker):
    """Of one run. `standing` says which (host, sink) and which pairs there are now."""

    def __init__(self, world: World, seed: int, close_frames: int, standing: Standing) -> None:
        super().__init__(world, seed, close_frames)
        self._troubles = troubles(seed)
        self._standing = standing

    def victims(self, kind: Kind, running: Sequence[str]) -> list[str]:
        """Any sink's but the source's."""
        sinks, _ = self._standing()
        return victims(kind, running, [f"rewire.{name}" for _, name in sinks])

    def _whole(self) -> bool:
        sinks, pairs = self._standing()
        if not all(daemon.up for daemon in self.world.daemons.values()):
            return False
        rings = self.world.evidence[LEADER].rings()
        heads = {name: ring.head for name, ring in rings.items()}
        source = heads.get("rewire/numbers", 0)
        for host, name in sinks:
            if int(self.world.evidence[host].status(f"rewire.{name}").get("seq_in", 0)) < source - self._close:
                return False
        return all(self._twice(pair, heads) for pair in pairs)

    def _twice(self, pair: str, heads: dict[str, int]) -> bool:
        """Are two living copies of its output close behind it?"""
        here = self.world.evidence[LEADER].running()
        there = self.world.evidence[FOLLOWER].running()
        copies = 0
        for name, head in heads.items():
            if name.startswith(f"rewire/{pair}.") and "@" in name:
                member = name.replace("/", ".")
                fed = member in here or (member in there and f"{member}.from-{FOLLOWER}" in here)
                copies += fed and abs(heads.get(f"rewire/{pair}", 0) - head) < self._close
        return copies >= 2
