"""What this host believes of the time: `STATE/clock.json`, written seldom, read at the start. Decides nothing (`timekeeping`).

A floor that cannot be read or written costs a warning that might have been given, and nothing else.
"""

import contextlib

from halftrack_agent import clock, timekeeping
from halftrack_agent.notes import Note
from halftrack_agent.timekeeping import Floor, Told
from halftrack_model.errors import HalftrackError


class WallClock:
    """The floor under this host's clock, and how far off that is."""

    def __init__(self, note: Note[Floor]) -> None:
        self._note, self._boot_id = note, clock.boot_id()
        self._told: Told | None = None
        self._written = self._floor = note.read()

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
                self._note.write(self._floor)
            self._written = self._floor  # on a full disk, too: the next try is as far away as the next write would be

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the clock."""
        now_ms = clock.boot_ms()
        floor_ms = timekeeping.floor_ms(self._floor, self._boot_id, now_ms)
        text = timekeeping.problem(clock.wall_ms(), floor_ms, self._told, now_ms)
        return (text,) if text else ()
