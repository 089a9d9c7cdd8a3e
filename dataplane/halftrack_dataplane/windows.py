"""Windows over a stream: by sequence number or by stream time, tumbling, sliding or of sessions; what is in one is folded up. Pure.

A window lies on an axis, the frames' numbers or their time stamps, never on the count of frames since some process began: so two
members, and every life of each, have the same windows. A window on time closes when the watermark has passed its end; a value
for a window that is closed already is late, counted, and left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from halftrack_dataplane.frames import Frame
from halftrack_dataplane.state_form import StateError, packed, unpacked
from halftrack_dataplane.stream_time import _same

A = TypeVar("A")  # what a window's values are folded to
V = TypeVar("V")

Axis = Literal["frames", "time"]
MAX_OPEN = 4_096  # windows that are open at once; more is a lateness or a size out of all proportion


@dataclass(frozen=True, slots=True)
class Window(Generic[A]):
    """A closed window over [start, end): sequence numbers or nanoseconds of stream time, how many values it had, and their fold."""

    start: int
    end: int
    count: int
    value: A


def collected(values: list[V], value: V) -> list[V]:
    """The fold that keeps all values, in a list that begins empty."""
    values.append(value)
    return values


class Windows(Generic[A, V]):
    """What all kinds of windows share: the axis, its watermark, what is open, and the way to bytes and back.

    `fold` takes what a window has so far, which begins as `zero()`, and a value; what it returns must be state (`state_form.py`).
    """

    kind = ""

    def __init__(
        self, zero: Callable[[], A], fold: Callable[[A, V], A], *, axis: Axis, lateness_ns: int, limit: int
    ) -> None:
        if axis not in ("frames", "time") or lateness_ns < 0 or limit < 1:
            raise ValueError(
                f"axis must be frames or time, lateness_ns from 0 on, limit from 1 on: {axis}, {lateness_ns}, {limit}"
            )
        if lateness_ns and axis == "frames":
            raise ValueError("sequence numbers are never late: lateness_ns is for axis='time'")
        self._zero, self._fold = zero, fold
        self._axis, self._lateness_ns, self._limit = axis, lateness_ns, limit
        self._open: dict[tuple[int, int], tuple[int, A]] = {}  # (start, end): count, fold
        self._passed: int | None = None  # everything below it has passed
        self.late = 0

    def add(self, frame: Frame, value: V) -> list[Window[A]]:
        """Put `value` into its windows, and return those that this frame closes, in the order of their ends."""
        at = self._at(frame)
        missed = False
        for bounds in self._of(at):
            if self._has_closed(bounds):
                missed = True
                continue
            self._put(bounds, value)
        self.late += missed
        return self.advance(frame)

    def advance(self, frame: Frame) -> list[Window[A]]:
        """The windows that this frame closes, without a value of its own."""
        at = self._at(frame)
        passed = at + 1 if self._axis == "frames" else at - self._lateness_ns
        self._passed = passed if self._passed is None else max(self._passed, passed)
        closed = sorted((end, start) for start, end in self._open if end <= self._passed)
        return [Window(start, end, *self._open.pop((start, end))) for end, start in closed]

    def snapshot(self) -> bytes:
        """All of it, but for what the constructor was given."""
        entries = [[start, end, count, value] for (start, end), (count, value) in sorted(self._open.items())]
        return packed(self.kind, [self._shape(), self._passed, self.late, entries])

    def restore(self, state: bytes) -> None:
        """Go on from a snapshot of the same windows; StateError when they were others."""
        shape, self._passed, self.late, entries = unpacked(self.kind, state)
        for name, found, wanted in zip(self._names(), shape, self._shape(), strict=True):
            _same(name, found, wanted)
        self._open = {(start, end): (count, value) for start, end, count, value in entries}

    def _at(self, frame: Frame) -> int:
        return frame.seq if self._axis == "frames" else frame.timestamp_ns

    def _put(self, bounds: tuple[int, int], value: V) -> None:
        count, folded = self._open.get(bounds) or (0, self._zero())
        self._open[bounds] = (count + 1, self._fold(folded, value))
        if len(self._open) > self._limit:
            raise StateError(
                f"{len(self._open)} windows are open, {self._limit} is the limit: less lateness, or larger windows"
            )

    def _has_closed(self, bounds: tuple[int, int]) -> bool:
        return self._passed is not None and bounds[1] <= self._passed

    def _of(self, at: int) -> list[tuple[int, int]]:
        raise NotImplementedError

    def _names(self) -> tuple[str, ...]:
        return ("axis", "lateness_ns")

    def _shape(self) -> list[Any]:
        return [self._axis, self._lateness_ns]


class Sliding(Windows[A, V]):
    """Windows of `size` that begin each `step`, at multiples of it plus `offset`: in frames, or in nanoseconds of stream time.

    The first windows of a stream may have begun before it, and have fewer values.
    """

    kind = "sliding"

    def __init__(
        self,
        size: int,
        step: int,
        zero: Callable[[], A],
        fold: Callable[[A, V], A],
        *,
        axis: Axis = "frames",
        offset: int = 0,
        lateness_ns: int = 0,
        limit: int = MAX_OPEN,
    ) -> None:
        if not 1 <= step <= size:
            raise ValueError(
                f"step must be from 1 to size, so that no frame lies between windows: size={size}, step={step}"
            )
        super().__init__(zero, fold, axis=axis, lateness_ns=lateness_ns, limit=limit)
        self._size, self._step, self._offset = size, step, offset

    def _of(self, at: int) -> list[tuple[int, int]]:
        last = (at - self._offset) // self._step * self._step + self._offset
        starts = range(last, at - self._size, -self._step)
        return [(start, start + self._size) for start in sorted(starts)]

    def _names(self) -> tuple[str, ...]:
        return (*super()._names(), "size", "step", "offset")

    def _shape(self) -> list[Any]:
        return [*super()._shape(), self._size, self._step, self._offset]


class Tumbling(Sliding[A, V]):
    """Windows of `size`, one after the other without a space: each value is in one."""

    kind = "tumbling"

    def __init__(
        self,
        size: int,
        zero: Callable[[], A],
        fold: Callable[[A, V], A],
        *,
        axis: Axis = "frames",
        offset: int = 0,
        lateness_ns: int = 0,
        limit: int = MAX_OPEN,
    ) -> None:
        super().__init__(size, size, zero, fold, axis=axis, offset=offset, lateness_ns=lateness_ns, limit=limit)


class Sessions(Windows[A, V]):
    """Windows that last as long as values come: a pause of `pause` (frames, or nanoseconds of stream time) ends one.

    `join` makes one fold of two, for a late value that joins what were two sessions; without lateness there is never such.
    """

    kind = "sessions"

    def __init__(
        self,
        pause: int,
        zero: Callable[[], A],
        fold: Callable[[A, V], A],
        *,
        join: Callable[[A, A], A] | None = None,
        axis: Axis = "time",
        lateness_ns: int = 0,
        limit: int = MAX_OPEN,
    ) -> None:
        if pause < 1 or (lateness_ns and join is None):
            raise ValueError(
                "pause must be from 1 on, and sessions with lateness need `join`, since a late value may join two"
            )
        super().__init__(zero, fold, axis=axis, lateness_ns=lateness_ns, limit=limit)
        self._pause, self._join = pause, join

    def _of(self, at: int) -> list[tuple[int, int]]:
        return [(at, at + self._pause)]

    def _touched(self, bounds: tuple[int, int]) -> list[tuple[int, int]]:
        return sorted(known for known in self._open if known[0] < bounds[1] and bounds[0] < known[1])

    def _has_closed(self, bounds: tuple[int, int]) -> bool:
        return super()._has_closed(bounds) and not self._touched(bounds)

    def _put(self, bounds: tuple[int, int], value: V) -> None:
        """The value's own session, made one with those that it touches; the earlier ones' values come first."""
        touched = self._touched(bounds)
        if not touched:
            super()._put(bounds, value)
            return
        parts = [self._open.pop(known) for known in touched]
        count, folded = parts[0]
        for more, part in parts[1:]:
            if self._join is None:
                raise StateError(
                    "two sessions became one, and there is no `join`: a time stamp went back; declare a lateness"
                )
            count, folded = count + more, self._join(folded, part)
        start, end = min(bounds[0], touched[0][0]), max(bounds[1], *(known[1] for known in touched))
        self._open[start, end] = (count + 1, self._fold(folded, value))

    def _names(self) -> tuple[str, ...]:
        return (*super()._names(), "pause")

    def _shape(self) -> list[Any]:
        return [*super()._shape(), self._pause]
