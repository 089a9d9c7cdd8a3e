"""Time as the stream tells it: watermarks and timers that depend on the frames' time stamps alone. Pure.

A clock would differ between the members of a pair; time stamps are the same for both. Nothing here looks at anything else.
"""

import heapq
from dataclasses import dataclass
from typing import Any

from halftrack_dataplane.frames import Frame
from halftrack_dataplane.state_form import StateError, packed, unpacked

MAX_TIMERS = 65_536  # what a snapshot can hold without being felt; a vertex that needs more sets one and keeps a list


class Watermark:
    """How far stream time has come: the greatest time stamp so far, less `lateness_ns`. It never goes back."""

    def __init__(self, lateness_ns: int = 0) -> None:
        if lateness_ns < 0:
            raise ValueError(f"lateness_ns must not be negative: {lateness_ns}")
        self.lateness_ns = lateness_ns
        self.at_ns: int | None = None  # None: there has been no frame
        self.late = 0

    def see(self, frame: Frame) -> bool:
        """Take note of a frame; False when it is late: below the watermark. Late frames are counted."""
        if self.at_ns is not None and frame.timestamp_ns < self.at_ns:
            self.late += 1
            return False
        reached = frame.timestamp_ns - self.lateness_ns
        self.at_ns = reached if self.at_ns is None else max(self.at_ns, reached)
        return True

    def snapshot(self) -> bytes:
        """All of it."""
        return packed("watermark", [self.lateness_ns, self.at_ns, self.late])

    def restore(self, state: bytes) -> None:
        """Go on from a snapshot; StateError when it was another lateness's."""
        lateness_ns, at_ns, late = unpacked("watermark", state)
        _same("lateness_ns", lateness_ns, self.lateness_ns)
        self.at_ns, self.late = at_ns, late


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer that is due: when it was set for, and what was set with it."""

    at_ns: int
    value: Any


class Timers:
    """Timers on stream time. Ask for those that are due at the beginning of `process`, before anything else looks at the frame.

    A timer is due with the first frame whose time stamp is at or past it. Several that are due come in the order of their
    times, equal ones in the order in which they were set. One that is set for a time that has passed is due with the next
    frame. Time stamps that go back make nothing due twice, and hold nothing back.
    """

    def __init__(self, limit: int = MAX_TIMERS) -> None:
        self._limit = limit
        self._set: list[tuple[int, int, Any]] = []  # a heap by (time, number)
        self._number = 0
        self._reached: int | None = None

    def __len__(self) -> int:
        return len(self._set)

    def at(self, stream_ns: int, value: Any = None) -> int:
        """Set a timer for a stream time; returns its number, by which it can be cancelled. `value` is given back with it."""
        if len(self._set) >= self._limit:
            raise StateError(
                f"{self._limit} timers are set, which is the limit: set fewer, or a later one for several things"
            )
        self._number += 1
        heapq.heappush(self._set, (stream_ns, self._number, value))
        return self._number

    def cancel(self, number: int) -> bool:
        """Take a timer back; False when there is none of that number (any more)."""
        kept = [entry for entry in self._set if entry[1] != number]
        found = len(kept) < len(self._set)
        heapq.heapify(kept)
        self._set = kept
        return found

    def due(self, frame: Frame) -> list[Timer]:
        """The timers that are due with this frame; each is due once."""
        if self._reached is None or frame.timestamp_ns > self._reached:
            self._reached = frame.timestamp_ns
        found = []
        while self._set and self._set[0][0] <= self._reached:
            at_ns, _, value = heapq.heappop(self._set)
            found.append(Timer(at_ns, value))
        return found

    def snapshot(self) -> bytes:
        """All of it, in the order in which they are due."""
        entries = sorted(self._set, key=lambda entry: entry[:2])
        return packed("timers", [self._number, self._reached, [list(entry) for entry in entries]])

    def restore(self, state: bytes) -> None:
        """Go on from a snapshot."""
        self._number, self._reached, entries = unpacked("timers", state)
        self._set = [(at_ns, number, value) for at_ns, number, value in entries]  # sorted is a heap


def _same(name: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise StateError(
            f"the state was written with {name}={found}, and this release has {wanted}: keep it, or give the state another "
            "schema and begin anew in `restore`"
        )
