"""What an inlet says to the spools of its edges: what it has passed on, and what of that is still in memory alone.

Passed on is what is in the inlet's ring, and the power may take that. So a spool keeps it, if there is room, until all who read the inlet's
ring have taken it, and a quarter of the ring more, which a sink may not have flushed (`anchor`).
"""

import time
from collections.abc import Iterable

from halftrack_dataplane.anchor import Anchor
from halftrack_dataplane.inlet_inputs import Input
from halftrack_dataplane.ring import Ring

COMMIT_S = 1.0  # between two commits: at worst so much stays on the disk for nothing


class Commits:
    """Those of one inlet, whose ring its consumers read and `anchor` holds for them; without an anchor there is no spool."""

    def __init__(self, ring: Ring, anchor: Anchor | None) -> None:
        self._ring, self._anchor = ring, anchor
        self._at = 0.0
        self._head = 0  # when all below it has been taken from our ring,
        self._marked: dict[str, int] = {}  # these places of our inputs are safe,
        self._safe: dict[str, int] = {}  # as these are already

    def offer(self, inputs: Iterable[Input]) -> None:
        """Once a second, and not waited for."""
        now = time.monotonic()
        if self._anchor is None or now < self._at:
            return
        self._at = now + COMMIT_S
        places = {each.spec.ring: (each.refill, each.branch.place) for each in inputs if each.refill is not None}
        if self._anchor.place >= self._head:
            self._safe, self._head = self._marked, self._ring.head
            self._marked = {ring: place for ring, (_, place) in places.items()}
        for ring, (refill, place) in places.items():
            refill.commit(place, self._safe.get(ring, 0))
