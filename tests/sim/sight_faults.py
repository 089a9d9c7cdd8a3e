"""Faults of what hosts of a site see of each other: beside those of `fleet_faults`, and with randomness of their own, so that those strike as ever.

Most strike where it matters, at a host that the controller does not hear just then. Every one ends by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.fleet import Fleet
    from tests.sim.sights import Edge

ONE_IN = 5  # of as many faults as strike a galaxy anyway, so many of these come as well
SPOT = 0.7  # of them strike at somebody who is away, if anybody is
LASTS_MS = (200, 4_000, 90_000)
SLOW_MS = (100, 2_500)
STALL_MS = (100, 3_000)  # no longer than a session bears


class SightFaults:
    """Which strike, and when."""

    def __init__(self, world: Fleet) -> None:
        self.world, self.rng = world, world.rng("sight faults")
        self._kinds: Mapping[str, Callable[[], bool]] = {
            "siblings cut off": self._cut_off,
            "siblings cut one-way": self._one_way,
            "siblings slow": self._slow,
            "siblings flap": self._flap,
            "site split": self._split,
            "host stalls": self._stalls,
        }
        self.names = frozenset(self._kinds)

    def storm(self, count: int, lasts_ms: int) -> None:
        """For about so many of others, within the same time."""
        kinds = sorted(self.names if self.world.only is None else self.names & set(self.world.only))
        for _ in range(self.rng.randint(0, 2 * count // ONE_IN) if kinds and self.world.sights.sites else 0):
            kind = self.rng.choice(kinds)
            self.world.timeline.after(self.rng.randint(0, lasts_ms), lambda kind=kind: self._strike(kind))  # type: ignore[misc]

    def _strike(self, kind: str) -> None:
        self.world.story.tell("FAULT", kind)
        if self._kinds[kind]():
            self.world.struck[kind] += 1

    def _host(self) -> str:
        names = sorted(self.world.sights.sites)
        away = [name for name in names if name not in self.world.controller.sessions]
        return self.rng.choice(away if away and self.rng.random() < SPOT else names)

    def _edges(self) -> list[Edge]:
        """Both ways between one and some others of its site."""
        name = self._host()
        mates = self.world.sights.mates(name)
        found = self.rng.sample(mates, self.rng.randint(1, len(mates))) if mates else []
        return [edge for mate in found for edge in ((name, mate), (mate, name))]

    def _cut(self, edges: Sequence[Edge]) -> bool:
        lasts_ms = self.rng.randint(LASTS_MS[0], self.rng.choice(LASTS_MS[1:]))
        self.world.sights.cut(edges)
        self.world.timeline.after(lasts_ms, lambda: self.world.sights.cut(edges, -1))
        self.world.faults.lasting(lasts_ms)
        return bool(edges)

    def _cut_off(self) -> bool:
        return self._cut(self._edges())

    def _one_way(self) -> bool:
        first = self.rng.randint(0, 1)
        return self._cut(self._edges()[first::2])

    def _slow(self) -> bool:
        edges, by_ms = self._edges(), self.rng.randint(*SLOW_MS)
        lasts_ms = self.rng.randint(*LASTS_MS[1:])
        self.world.sights.slow(edges, by_ms)
        self.world.timeline.after(lasts_ms, lambda: self.world.sights.slow(edges, -by_ms))
        self.world.faults.lasting(lasts_ms)
        return bool(edges)

    def _flap(self) -> bool:
        edges, at_ms = self._edges(), 0
        for _ in range(self.rng.randint(3, 10)):
            off_ms = self.rng.randint(100, 6_000)
            self.world.timeline.after(at_ms, lambda: self.world.sights.cut(edges))
            self.world.timeline.after(at_ms + off_ms, lambda: self.world.sights.cut(edges, -1))
            at_ms += off_ms + self.rng.randint(100, 6_000)
        self.world.faults.lasting(at_ms)
        return bool(edges)

    def _split(self) -> bool:
        """Some here, some there, and nothing between them."""
        there = {name for name in sorted(self.world.sights.sites) if self.rng.random() < 0.5}
        apart = [edge for edge in self.world.sights.edges() if (edge[0] in there) != (edge[1] in there)]
        return self._cut([*apart, *((other, name) for name, other in apart)])

    def _stalls(self) -> bool:
        """Nothing of it moves, nor says anything: whoever hears nothing of it may take it for cut off."""
        name, lasts_ms = self._host(), self.rng.randint(*STALL_MS)
        self.world.sights.stall(name, lasts_ms)
        self.world.cut(name, ("stalled",), lasts_ms)
        self.world.faults.lasting(lasts_ms)
        return True
