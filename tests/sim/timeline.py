"""Simulated time: what shall happen when, and nothing of what it is. No real clock is ever read."""

import heapq
from collections.abc import Callable

from tests.sim.story import Story


class Timeline:
    """Things to come, in the order of their time; of the same time, in the order in which they were asked for."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._asked = 0

    @property
    def now_ms(self) -> int:
        """The present."""
        return self._story.now_ms

    def after(self, delay_ms: int, what: Callable[[], None]) -> None:
        """Do `what` in `delay_ms`."""
        self._asked += 1
        heapq.heappush(self._due, (self.now_ms + delay_ms, self._asked, what))

    def step(self) -> None:
        """Go to the next thing and do it."""
        at_ms, _, what = heapq.heappop(self._due)
        self._story.now_ms = at_ms
        what()
