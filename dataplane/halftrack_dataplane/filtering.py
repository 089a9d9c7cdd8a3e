"""A filter program between two rings: what is in it, and what may come out as.

Owns the frames in flight, as numbers and not as bytes, and the thread that feeds the filter. Each frame that comes out takes the sequence,
epoch and time of the oldest that went in. Never lets more than a set number of frames be in flight, never writes to a ring.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from halftrack_dataplane.frames import RingError
from halftrack_dataplane.framing import Form, Unfit
from halftrack_dataplane.intake import Intake, Taken

LOOK_S = 0.1  # how long the feeder may be blocked before it sees that it shall end


@dataclass(slots=True)
class Run:
    """Consecutive frames in flight with one epoch and time; or, with `gap`, sequences that nothing will come out for."""

    seq: int
    count: int
    epoch: int
    timestamp_ns: int
    gap: bool = False


class Flight:
    """The frames that have gone in and not come out, oldest first. For two threads."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._runs: deque[Run] = deque()
        self._frames = 0
        self._gaps = 0
        self._lock = threading.Condition()
        self.full_since: float | None = None
        self.latest = (0, 0)  # epoch and time of what went in last

    @property
    def frames(self) -> int:
        """How many are in it."""
        with self._lock:
            return self._frames

    def oldest(self) -> Run | None:
        """The next to come out, as it is now."""
        with self._lock:
            return self._runs[0] if self._runs else None

    def room(self, timeout_s: float) -> int:
        """How many more may go in, once any may; 0 if none may within `timeout_s`. Gaps are bounded alike."""
        with self._lock:
            if self._lock.wait_for(lambda: self._frames < self.most and self._gaps < self.most, timeout_s):
                self.full_since = None
                return self.most - self._frames
            self.full_since = self.full_since or time.monotonic()
            return 0

    def put(self, run: Run) -> None:
        """These are about to go in."""
        with self._lock:
            self.latest = (run.epoch, run.timestamp_ns)
            last = self._runs[-1] if self._runs else None
            if run.gap:
                self._gaps += 1
            else:
                self._frames += run.count
            if last is not None and _follows(last, run):
                last.count += run.count
            else:
                self._runs.append(run)

    def take(self, most: int) -> Run | None:
        """The oldest, at most so many of one run; a gap is taken whole. None if nothing is in flight."""
        with self._lock:
            if not self._runs:
                return None
            run = self._runs[0]
            count = run.count if run.gap else min(most, run.count)
            if run.gap:
                self._gaps -= 1
            else:
                self._frames -= count
            taken = Run(run.seq, count, run.epoch, run.timestamp_ns, run.gap)
            if count == run.count:
                self._runs.popleft()
            else:
                run.seq, run.count = run.seq + count, run.count - count
            self._lock.notify_all()
            return taken


def _follows(last: Run, run: Run) -> bool:
    alike = (last.epoch, last.timestamp_ns, last.gap) == (run.epoch, run.timestamp_ns, run.gap)
    return alike and not run.gap and last.seq + last.count == run.seq


class Feeder(threading.Thread):
    """Feeds a filter from a ring, until it has fed `count` frames, nothing comes for `idle_s`, or it is told to end.

    Then it closes the filter's input. `error` is what ended it before its time; `idle` says that nothing came, `refused` that the filter
    took no more.
    """

    def __init__(
        self,
        intake: Intake,
        pipe: IO[bytes],
        form: Form,
        flight: Flight,
        *,
        count: int | None,
        idle_s: float | None,
        tell: Callable[[Taken], None],
    ) -> None:
        super().__init__(name="feeder", daemon=True)
        self._intake, self._pipe, self._form, self._flight = intake, pipe, form, flight
        self._left, self._idle_s, self._tell = count, idle_s, tell
        self._ending = threading.Event()
        self.error: Exception | None = None
        self.idle = False
        self.refused = False

    def end(self) -> None:
        """Feed no more."""
        self._ending.set()

    def run(self) -> None:
        """The thread."""
        try:
            self._feed()
        except BrokenPipeError:  # the filter takes no more; whoever waits for it says how it ended
            self.refused = True
        except (RingError, Unfit, OSError) as error:
            self.error = error
        finally:
            with suppress(BrokenPipeError):
                self._pipe.close()

    def _feed(self) -> None:
        heard = time.monotonic()
        while not self._ending.is_set() and self._left != 0:
            taken = self._intake.take(LOOK_S)
            if taken is None:
                self.idle = self._idle_s is not None and time.monotonic() - heard >= self._idle_s
                if self.idle:
                    return
                continue
            self._tell(taken)
            self._pass(taken)
            heard = time.monotonic()

    def _pass(self, taken: Taken) -> None:
        if taken.gap:
            if self._room():
                self._flight.put(Run(taken.seq, taken.gap, taken.epoch, taken.timestamp_ns, gap=True))
            return
        frames = taken.frames() if self._left is None else taken.first(self._left).frames()
        self._form.check(frames)
        at = 0
        while at < len(frames) and (room := self._room()):
            some = frames[at : at + room]
            self._flight.put(Run(taken.seq + at, len(some), taken.epoch, taken.timestamp_ns))
            self._pipe.write(self._form.joined(some))
            self._pipe.flush()
            at += len(some)
        if self._left is not None:
            self._left -= at

    def _room(self) -> int:
        while not self._ending.is_set():
            if room := self._flight.room(LOOK_S):
                return room
        return 0
