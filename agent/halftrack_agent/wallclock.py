"""What this host believes of the time: `STATE/clock.json`, written seldom, read at the start. Decides nothing (`timekeeping`).

A floor that cannot be read or written costs a warning that might have been given, and nothing else.
"""

import contextlib
from pathlib import Path

from halftrack_agent import clock, files, timekeeping
from halftrack_agent.timekeeping import Floor, Told
from halftrack_model import canonical
from halftrack_model.errors import HalftrackError


class WallClock:
    """The floor under this host's clock, and how far off that is."""

    def __init__(self, path: Path) -> None:
        self._path, self._boot_id = path, clock.boot_id()
        self._written: Floor | None = None
        self._told: Told | None = None
        with contextlib.suppress(OSError, HalftrackError):
            self._written = canonical.decode(Floor, path.read_bytes())
        self._floor = self._written

    def told(self, wall_ms: int) -> None:
        """The controller has said what time it is."""
        if wall_ms > 0:
            self._told = Told(wall_ms, clock.boot_ms())
            self.keep()

    def keep(self) -> None:
        """Raise the floor, and write it down when that is due."""
        self._floor = timekeeping.raised(self._floor, self._told, self._boot_id, clock.boot_ms())
        if timekeeping.worth_writing(self._written, self._floor):
            with contextlib.suppress(HalftrackError):  # said by whoever must write
                files.replace(self._path, canonical.encode(self._floor))
            self._written = self._floor  # on a full disk, too: the next try is as far away as the next write would be

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the clock."""
        now_ms = clock.boot_ms()
        floor_ms = timekeeping.floor_ms(self._floor, self._boot_id, now_ms)
        text = timekeeping.problem(clock.wall_ms(), floor_ms, self._told, now_ms)
        return (text,) if text else ()
