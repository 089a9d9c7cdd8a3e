"""The judge's loop: looks at the rings of blues and greens, has frames compared, and writes what it found into its status.

It holds no place in any ring, so it can gate nobody: it copies the frame of a number from either ring while that is still there, and skips it
otherwise. It takes half of a processor at most. Decides nothing: the leader of the swap reads the status.
"""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from halftrack_dataplane import checks
from halftrack_dataplane.beginning import begins_at
from halftrack_dataplane.frames import Frame, RingError
from halftrack_dataplane.judge_orders import JudgedPair
from halftrack_dataplane.judging import Judged, Spread, Trial
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import EXIT_SPEC, Stop, Unable, open_ring
from halftrack_dataplane.status import Status, StatusFile

LOOK_S = 0.0005  # between two looks: latencies are known to so much, and a look costs a tenth of it
WORK_NS = 1_000_000  # of comparing between two looks
REOPEN_NS = 50_000_000  # a ring that is not there, or was made anew, is looked for so often


@dataclass(slots=True)
class _Seat:
    """A pair of rings while both are there, and which files they were."""

    blue: Ring
    green: Ring
    inodes: tuple[int, int]


class Judge:
    """One life of a judge."""

    def __init__(
        self, spec: RunSpec, source: Ring, check: checks.Check, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        assert spec.judge is not None  # noqa: S101 - a spec is checked when it is read
        self._clock_ns = clock_ns
        self._spec, self._source, self._check = spec, source, check
        self._pairs, self._lag_frames = spec.judge.pairs, spec.judge.lag_frames
        self._seats: dict[str, _Seat] = {}
        self._trials: dict[str, Trial] = {}
        self._looks = Spread()
        self._looked_us = 0
        self._reopen_due_ns = 0
        self._began_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def run(self, stop: Stop) -> None:
        """Until asked to stop."""
        file = StatusFile(self._spec.status_path)
        file.offer(self._status, last=True)  # what an earlier life has left there must not pass for ours
        try:
            while not stop.asked:
                worked_ns = self.step()
                file.offer(self._status)
                time.sleep(max(LOOK_S, worked_ns / 1e9))
        finally:
            file.offer(self._status, last=True)
            for name in list(self._seats):
                self._leave(name)

    def step(self) -> int:
        """One look at all, and as much comparing as fits; returns the nanoseconds that it took."""
        began_ns = self._clock_ns()
        if began_ns >= self._reopen_due_ns:
            self._reopen_due_ns = began_ns + REOPEN_NS
            for pair in self._pairs:
                self._reopen(pair)
        now_us = self._clock_ns() // 1000
        if self._looked_us:
            self._looks.add(now_us - self._looked_us)
        self._looked_us = now_us
        for name, seat in self._seats.items():
            self._trials[name].looked(self._heads(seat), now_us)
        for name, seat in self._seats.items():
            self._judge(self._trials[name], seat, began_ns + WORK_NS)
        return self._clock_ns() - began_ns

    def evidence(self) -> dict[str, Judged]:
        """What is known of each green, by the name of its ring."""
        look_us = self._looks.p99()
        return {name: trial.evidence(look_us) for name, trial in self._trials.items()}

    def _heads(self, seat: _Seat) -> tuple[int, int, int]:
        # The input last: an output that is seen must not be older than the input that it came of.
        return seat.blue.head, seat.green.head, self._source.head

    def _judge(self, trial: Trial, seat: _Seat, until_ns: int) -> None:
        """At least one number, if there is one, however late it is."""
        while trial.seq < trial.end:
            tail = max(seat.blue.tail, seat.green.tail)
            if trial.seq < tail:  # lapped, or late: where it just fell out, the next would too
                trial.skip((tail + trial.end) // 2 if tail < trial.end else trial.end)
                continue
            blue, green = seat.blue.peek(trial.seq), seat.green.peek(trial.seq)
            if blue is None or green is None:  # overwritten in this moment
                trial.skip(trial.seq + 1)
            elif blue.gap:  # what blue has lost is not to be held against green
                trial.passed(min(blue.gap, trial.end - trial.seq))
            elif (
                green.gap and (begin := begins_at(seat.green) or 0) > trial.seq
            ):  # before it began, it has lost nothing
                trial.skip(min(begin, trial.end))
            else:
                self._compare(trial, blue, green)
            if self._clock_ns() >= until_ns:
                return

    def _compare(self, trial: Trial, blue: Frame, green: Frame) -> None:
        seq = trial.seq
        trial.judged(self._check(blue, green), lost=bool(green.gap))
        if not green.gap and (source := self._newest_input(green.timestamp_ns)) >= 0:
            trial.timed(seq, source)

    def _newest_input(self, timestamp_ns: int) -> int:
        """The number of the input that has this time; -1 when it is no longer there to be asked."""
        seq, tail = self._source.seq_at(timestamp_ns), self._source.tail
        if seq > tail:
            return seq
        oldest = self._source.peek(tail)
        return seq if oldest is not None and oldest.timestamp_ns == timestamp_ns and seq == oldest.seq else -1

    # ---- rings that come and go -------------------------------------------------------------------------------------

    def _reopen(self, pair: JudgedPair) -> None:
        try:
            inodes = os.stat(pair.blue).st_ino, os.stat(pair.green).st_ino
        except OSError:
            self._leave(pair.name)
            return
        held = self._seats.get(pair.name)
        if held is not None and held.inodes == inodes:
            return
        self._leave(pair.name)
        with contextlib.ExitStack() as opened:
            try:
                blue = opened.enter_context(Ring.open(pair.blue, readonly=True))
                green = opened.enter_context(Ring.open(pair.green, readonly=True))
            except RingError:
                return
            opened.pop_all()
        self._join(pair.name, _Seat(blue, green, inodes))

    def _join(self, name: str, seat: _Seat) -> None:
        heads, trial = self._heads(seat), self._trials.get(name)
        seq = max(seat.blue.tail, seat.green.tail)
        if trial is not None and trial.generation == seat.green.generation:
            trial.begun_anew(seq, heads)
        else:
            self._trials[name] = Trial(seat.green.generation, seq, heads, self._lag_frames)
        self._seats[name] = seat

    def _leave(self, name: str) -> None:
        seat = self._seats.pop(name, None)
        if seat is not None:
            seat.blue.close()
            seat.green.close()

    def _status(self) -> Status:
        rows = self.evidence()
        compared = sum(row.compared for row in rows.values())
        return Status(self._spec.name, self._spec.role, compared, judged=rows, began_ms=self._began_ms)


def run(spec: RunSpec, stop: Stop) -> None:
    """The role's loop."""
    if spec.judge is None:
        raise Unable(EXIT_SPEC, "a judge needs its orders")
    source = open_ring(spec.input_ring, stop)
    with source:
        Judge(spec, source, checks.of_orders(spec.judge, spec.program)).run(stop)
