"""How fast a host may take artifacts in, by the hour: windows as they are declared, and what they say of one minute. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

DAY_MINUTES = 24 * 60
MAX_WINDOWS = 32


@dataclass(frozen=True, slots=True)
class BandwidthWindow:
    """From one minute of the day on (UTC) until before another, artifacts come in at `bytes_per_s` at most; 0: not at all.

    `from_minute` after `until_minute` goes over midnight; equal ones are the whole day.
    """

    bytes_per_s: int
    from_minute: int
    until_minute: int

    def holds(self, minute: int) -> bool:
        """Does it hold at this minute of the day?"""
        length = (self.until_minute - self.from_minute) % DAY_MINUTES or DAY_MINUTES
        return (minute - self.from_minute) % DAY_MINUTES < length


def limit_at(windows: Iterable[BandwidthWindow], minute: int) -> int | None:
    """Bytes in a second at this minute of the day; None: as fast as the link is. Of several windows the tightest holds."""
    return min((window.bytes_per_s for window in windows if window.holds(minute)), default=None)


def opens_at(windows: tuple[BandwidthWindow, ...], minute: int) -> int | None:
    """The first minute of the day, from `minute` on, at which anything may come in; None when there is none."""
    ends = {minute, *(window.until_minute for window in windows)}
    open_ = [end for end in ends if limit_at(windows, end) != 0]
    return min(open_, key=lambda end: (end - minute) % DAY_MINUTES, default=None)


def faults(windows: tuple[BandwidthWindow, ...]) -> list[str]:
    """What contradicts itself in them, each in a sentence that says what to do; empty when nothing does."""
    found = [] if len(windows) <= MAX_WINDOWS else [f"{len(windows)} windows: at most {MAX_WINDOWS} can be declared"]
    for window in windows:
        times = (window.from_minute, window.until_minute)
        if window.bytes_per_s < 0 or not all(0 <= minute < DAY_MINUTES for minute in times):
            found.append("a window's limit is 0 or more, and its times are minutes of one day")
    if windows and opens_at(windows, 0) is None:
        found.append("its windows let nothing in at any time of the day: leave an hour in which artifacts may come")
    return found


def clock_text(minute: int) -> str:
    """A minute of the day as people write it."""
    return f"{minute // 60:02}:{minute % 60:02}"
