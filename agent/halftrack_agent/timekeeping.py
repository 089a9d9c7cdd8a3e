"""The least that the time can be, and what to say of a wall clock that is behind it or far from the controller's. Pure.

Nothing is decided by any of this (C1): a host whose clock is years wrong runs, rejoins, and says so. The floor is the highest wall-clock
time that there was a good reason to believe: what a controller said, and from there on what the boot-time clock has counted, in this boot
and, since time passes in every other as well, in those before. Our own wall clock is no reason. It is durable, and written seldom.
"""

from dataclasses import dataclass

OFF_MS = (
    300_000  # a clock that is set by hand, and a slow link; certificates, windows and people's eyes bear five minutes
)
WRITE_EVERY_MS = 6 * 3_600_000  # four small writes a day; what a power cut takes of the floor is at most that
_UNITS = (("year", 31_557_600_000), ("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000))


@dataclass(frozen=True, slots=True)
class Floor:
    """At `boot_ms` of that boot it was at least `wall_ms` (milliseconds since 1970). The content of `clock.json`."""

    wall_ms: int
    boot_id: str
    boot_ms: int


@dataclass(frozen=True, slots=True)
class Told:
    """The controller's clock, as it was said at `boot_ms` of this boot."""

    wall_ms: int
    boot_ms: int


def floor_ms(floor: Floor | None, boot_id: str, boot_ms: int) -> int:
    """The least that the time can be now; 0 when nothing is known."""
    if floor is None:
        return 0
    return floor.wall_ms + max(0, boot_ms - floor.boot_ms if floor.boot_id == boot_id else boot_ms)


def raised(floor: Floor | None, told: Told | None, boot_id: str, boot_ms: int) -> Floor:
    """The floor as it is now, after what the controller has said. It never goes down."""
    said_ms = told.wall_ms + boot_ms - told.boot_ms if told else 0
    return Floor(max(said_ms, floor_ms(floor, boot_id, boot_ms)), boot_id, boot_ms)


def worth_writing(written: Floor | None, now: Floor) -> bool:
    """Has it risen by enough for a write?"""
    return now.wall_ms > 0 and (written is None or now.wall_ms - written.wall_ms >= WRITE_EVERY_MS)


def problem(wall_ms: int, floor: int, told: Told | None, boot_ms: int) -> str:
    """What is wrong with this host's wall clock, in words that stay the same while it is; empty when nothing is known to be."""
    if told is not None:
        off_ms = wall_ms - (told.wall_ms + boot_ms - told.boot_ms)
        if abs(off_ms) < OFF_MS:
            return ""
        side = "ahead of" if off_ms > 0 else "behind"
        return f"this host's clock is {rough(off_ms)} {side} the controller's: {_ADVICE}"
    if floor - wall_ms < OFF_MS:
        return ""
    return f"this host's clock is {rough(floor - wall_ms)} behind what it has been before: {_ADVICE}"


def rough(ms: int) -> str:
    """A length of time in its largest unit, rounded down, so that a sentence with it changes seldom: 3 years, 1 day."""
    unit, size_ms = next((each for each in _UNITS if abs(ms) >= each[1]), _UNITS[-1])
    count = abs(ms) // size_ms
    return f"{count} {unit}{'' if count == 1 else 's'}"


_ADVICE = "set whichever is wrong; until then only the times in its reports are"
