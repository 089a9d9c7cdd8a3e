"""A process's status file: small JSON, replaced whole, at most five times a second and once at the end.

It is also the process's beat: only a loop that turns writes it, never a thread beside it, and it says when the next one is to be expected.
Owns the file's form. Never decides what is healthy, nor who hangs: that is the agent's, which reads it.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from halftrack_dataplane.judging import FIRST, Difference, Judged, plain_text

INTERVAL_S = 0.2  # quicker than any gate looks, slow enough to cost nothing
MAX_RANGES = 8  # of lost sequences: what a person reads in one report; the number of frames says the rest
BEYOND = "place_beyond"  # a sink's counter: its place, while its ring is not there yet, because the stream has begun anew; else 0
MAX_COUNT = 2**63 - 1  # what a report and every message on the way to the controller can hold

# When the next beat is to be expected. Processes of older versions promise nothing, and cannot be judged.
STARTING = "starting"  # it is being made ready: a program is loaded, or a state fetched
STEADY = "steady"  # within a second, whatever the loop waits for, unless a user's program keeps it for longer
FREE = "free"  # whenever a user's source has something to say


@dataclass(frozen=True, slots=True)
class Compared:
    """Outputs of a ring that was not passed, held against what was."""

    equal: int
    different: int


@dataclass(frozen=True, slots=True)
class Diverged:
    """Outputs of a ring that differ from what passed from its twin, the first of them by number, and how many a third ring blames on it."""

    frames: int
    first: tuple[int, ...]
    odd: int


@dataclass(frozen=True, slots=True)
class Status:
    """How a process stands. `seq_in` and `seq_out` are the next sequences; `shadow`, `diverged` and `judged` are keyed by ring name. `lost` are the
    newest ranges [first, end) that it has declared lost.

    `began_ms`: when the process began, by the clock that counts from the host's boot. `beats`: when the next status is to be expected.
    Both are the file's to add, where they are not said.
    `inputs` has, where there are several or could be, each input's own counts by its name.
    """

    name: str
    role: str
    seq_in: int = 0
    seq_out: int = 0
    lag_frames: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    shadow: Mapping[str, Compared] = field(default_factory=dict)
    message: str = ""
    diverged: Mapping[str, Diverged] = field(default_factory=dict)
    lost: tuple[tuple[int, int], ...] = ()
    judged: Mapping[str, Judged] = field(default_factory=dict)
    began_ms: int = 0
    inputs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    beats: str = ""


class Losses:
    """The newest ranges that were declared lost; those that follow each other are one."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """As a status has them, the oldest first."""
        return tuple(self._ranges)

    def add(self, first: int, end: int) -> None:
        """[first, end) is lost as well."""
        if self._ranges and self._ranges[-1][1] == first:
            first = self._ranges.pop()[0]
        self._ranges = [*self._ranges[1 - MAX_RANGES :], (first, end)]


def dump(status: Status) -> bytes:
    """The file's bytes."""
    return json.dumps(asdict(status), sort_keys=True).encode()


def load(data: bytes) -> Status:
    """The status that `data` spells; ValueError when it does not.

    A user's program has a hand in it (`sdk.Counting`), so no number in it may be more than its reader can carry on.
    """
    try:
        tree: Any = json.loads(data)
        shadow = {
            str(ring): Compared(_count(row["equal"]), _count(row["different"])) for ring, row in tree["shadow"].items()
        }
        counters = {str(name): _count(count) for name, count in tree["counters"].items()}
        seq_in, seq_out, lag_frames = (_count(tree[name]) for name in ("seq_in", "seq_out", "lag_frames"))
        name, role, message = (str(tree[name]) for name in ("name", "role", "message"))
        diverged = {  # not yet in what processes of older versions write
            str(ring): Diverged(_count(row["frames"]), tuple(_count(seq) for seq in row["first"]), _count(row["odd"]))
            for ring, row in tree.get("diverged", {}).items()
        }
        inputs = {  # nor is this
            str(which): {str(word): _count(count) for word, count in counts.items()}
            for which, counts in tree.get("inputs", {}).items()
        }
        lost = tuple((_count(first), _count(end)) for first, end in tree.get("lost", ())[-MAX_RANGES:])
        judged = {str(ring): _judged(row) for ring, row in tree.get("judged", {}).items()}
        began_ms = _count(tree.get("began_ms", 0))
        beats = str(tree.get("beats", ""))
        known = name, role, seq_in, seq_out, lag_frames, counters, shadow, message, diverged, lost, judged
        return Status(*known, began_ms, inputs, beats)
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a status: {error!r}") from None


def _judged(row: Any) -> Judged:
    """A release's own function writes in it, so no text in it may be more than a screen can show."""
    counts = {
        name: _count(row[name])
        for name in (
            "generation", "compared", "different", "skipped", "timed", "blue_us_p99", "green_us_p99", "look_us"
        )
    }  # fmt: skip
    first = tuple(Difference(_count(each["seq"]), plain_text(str(each["text"]))) for each in row["first"][:FIRST])
    since = {name: _count(row.get(name, 0)) for name in ("lost", "unbroken")}  # not in what older judges write
    return Judged(**counts, first=first, **since)


def _count(value: Any) -> int:
    count = int(value)  # infinity has no integer, and says so by OverflowError
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(f"{count} counts nothing")
    return count


class StatusFile:
    """Writes the status of one process to `path`; with an empty path it writes nothing."""

    def __init__(self, path: str, beats: str = STEADY) -> None:
        self._path = path
        self._beats = beats
        self._began_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
        self._due = 0.0

    def offer(self, make: Callable[[], Status], *, last: bool = False) -> None:
        """Write what `make` returns, if it is time (or this is the last). A full disk never stops the stream."""
        now = time.monotonic()
        if not self._path or (now < self._due and not last):
            return
        self._due = now + INTERVAL_S
        draft = f"{self._path}.{os.getpid()}.draft"
        try:
            with open(draft, "wb") as file:
                file.write(dump(self._signed(make())))
            os.replace(draft, self._path)
        except OSError:  # the agent sees old counts; frames matter more. That we live needs no room to be said
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def _signed(self, status: Status) -> Status:
        return replace(status, began_ms=status.began_ms or self._began_ms, beats=status.beats or self._beats)
