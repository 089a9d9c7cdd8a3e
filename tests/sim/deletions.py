"""An operator deletes services of the fleet while everything else fails, and declares them again on another day.

What the deletion takes away is judged with all the rest (`fleet_watch`): at rest nothing of the service runs on a host that is not away, and a host that
was away hears it when it is back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from halftrack_model.graph import StreamGraph

if TYPE_CHECKING:
    from tests.sim.fleet import Fleet

CHANCE = 0.15  # for each service, each day
WITHIN_MS = 120_000
AGAIN_MS = 5_000  # the controller was down: the operator tries once more


class Deletions:
    """Of one fleet."""

    def __init__(self, world: Fleet) -> None:
        self.world, self.rng = world, world.rng("deletions")
        self.gone: dict[str, StreamGraph] = {}  # or about to be
        self.count, self.until_ms = 0, 0

    def day(self) -> None:
        """Some of what was deleted is declared again; and others are deleted, some time in the storm that comes."""
        for name in sorted(self.gone):
            if self.rng.random() < 0.5:
                self._declare(self.gone.pop(name))
        for graph in self.world.graphs:
            if graph.name not in self.gone and self.rng.random() < CHANCE:
                self.gone[graph.name] = graph
                self.world.timeline.after(self.rng.randint(1, WITHIN_MS), lambda graph=graph: self._delete(graph))
                self.until_ms = self.world.now_ms + WITHIN_MS

    def _delete(self, graph: StreamGraph) -> None:
        controller = self.world.controller
        if not controller.alive:
            self.world.timeline.after(AGAIN_MS, lambda: self._delete(graph))
            self.until_ms = max(self.until_ms, self.world.now_ms + AGAIN_MS)
            return
        self.count += 1
        controller.delete(graph.name)
        controller.stirred()

    def _declare(self, graph: StreamGraph) -> None:
        self.world.controller.declare(graph)
        self.world.controller.stirred()
