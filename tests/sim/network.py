"""The network between the controller and the hosts: each direction of each link can be cut, delayed, lossy, or repeat itself.

Messages are datagrams here although the real ones travel in TLS streams: whoever survives loss, repetition and reordering of
single messages also survives a stream that breaks and is resumed at any message. One thing is as in TCP, because no datagram
would do it: where one direction is cut, the other falls silent too, once what may be in flight without an answer has been sent.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tests.sim.story import Story
from tests.sim.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Condition:
    """One direction of a link."""

    up: bool = True
    delay_ms: tuple[int, int] = (1, 8)
    loss: float = 0.0
    repeat: float = 0.0


GOOD = Condition()
UNANSWERED_MS = 1_500  # some ten segments, then only retransmissions of the first


class Network:
    """`receivers` take `(from, message)`; who is not alive when a message comes has never got it."""

    def __init__(self, timeline: Timeline, story: Story, seed: str) -> None:
        self._timeline, self._story = timeline, story
        self._rng = random.Random(f"{seed}:network")
        self._conditions: dict[tuple[str, str], Condition] = {}
        self._cut_ms: dict[tuple[str, str], int] = {}
        self.receivers: dict[str, Callable[[str, object], None]] = {}

    def condition(self, source: str, target: str) -> Condition:
        """How that direction is now."""
        return self._conditions.get((source, target), GOOD)

    def change(self, source: str, target: str, **values: object) -> None:
        """Make that direction better or worse."""
        if values.get("up") is False:
            self._cut_ms[(source, target)] = self._timeline.now_ms
        self._conditions[(source, target)] = replace(self.condition(source, target), **values)  # type: ignore[arg-type]

    def mend(self, source: str, target: str) -> None:
        """Make that direction good again."""
        self._conditions.pop((source, target), None)

    def both_ways(self, one: str, other: str) -> bool:
        """Can a connection live between the two?"""
        return self.condition(one, other).up and self.condition(other, one).up

    def broken(self) -> Mapping[tuple[str, str], Condition]:
        """Directions that are not good."""
        return self._conditions

    def _unanswered(self, source: str, target: str) -> bool:
        back = (target, source)
        return not self.condition(*back).up and self._timeline.now_ms - self._cut_ms[back] > UNANSWERED_MS

    def send(self, source: str, target: str, message: object) -> None:
        """Deliver once, later, twice, or never."""
        condition = self.condition(source, target)
        if not condition.up or self._unanswered(source, target) or self._rng.random() < condition.loss:
            return
        copies = 2 if self._rng.random() < condition.repeat else 1
        for _ in range(copies):
            delay_ms = self._rng.randint(*condition.delay_ms)
            self._timeline.after(delay_ms, lambda: self._arrive(source, target, message))

    def _arrive(self, source: str, target: str, message: object) -> None:
        if self.condition(source, target).up:
            self.receivers[target](source, message)
