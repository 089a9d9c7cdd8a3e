"""What `halftrack-agent status` reads without asking: written when it has changed, and not at every step of a host that changes quickly.

Owns `observed.json` and `transfers.json` below RUN. A disk that is full costs that view only.
"""

import contextlib

from halftrack_agent import files
from halftrack_agent.places import Places
from halftrack_model import canonical
from halftrack_model.errors import HostFault
from halftrack_model.observed import Observed
from halftrack_proto.gauges import TransferGauge

EVERY_MS = 500


class Posted:
    """One agent's."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._observed: Observed | None = None
        self._moving: tuple[TransferGauge, ...] = ()
        self._at_ms = -EVERY_MS

    def due(self, now_ms: int) -> bool:
        """Is it time to post again?"""
        if now_ms - self._at_ms < EVERY_MS:
            return False
        self._at_ms = now_ms
        return True

    def post(self, observed: Observed, moving: tuple[TransferGauge, ...]) -> None:
        """This is how the host is now, and what is on its way to it."""
        if observed != self._observed:
            with contextlib.suppress(HostFault):
                files.replace(self._places.observed, canonical.encode(observed), durable=False)
            self._observed = observed
        if moving != self._moving:
            with contextlib.suppress(HostFault):
                files.replace(self._places.transfers, canonical.encode(moving), durable=False)
            self._moving = moving
