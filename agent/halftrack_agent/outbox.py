"""The outbox: what the controller must learn, on the disk until it has acknowledged it (P3).

Owns the numbers of reports: each is used once, across restarts too, because it is on the disk with its report before anybody hears of
it. Bounded: when it is full, samples (frames refused or lost, which later ones sum up) go before events, the oldest first, and the
number of those dropped is told. Never sends.

An outbox without a past (a new host, or one whose file was damaged) does not know which numbers the controller has consumed under
its name. Until the first `welcomed` its numbers are provisional, and `pending` shows nothing.
"""

import contextlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

from halftrack_agent.ledger import Ledger, payload_bytes
from halftrack_model import canonical
from halftrack_model.errors import HostFault, InvalidInput
from halftrack_model.report import Happened, Report

MAX_REPORTS = 10_000  # a month without a link at one event every four minutes
MAX_WAITING = 1_000  # in memory, while the disk is full
COMPACT_AT_BYTES = 256 << 10
DETAIL_CHARS = 2_000
SAMPLES = frozenset({Happened.FRAMES_REFUSED, Happened.FRAMES_LOST, Happened.OUTPUTS_DIVERGED})


@dataclass(frozen=True, slots=True)
class _Mark:
    """What is known beside the reports."""

    next_number: int
    welcomed: bool
    dropped: int


@dataclass(frozen=True, slots=True)
class _Line:
    """The form of an entry in the file: exactly one field is set."""

    report: Report | None
    mark: _Mark | None


class Outbox:
    """The open outbox of one host."""

    def __init__(self, folder: Path, host: str) -> None:
        self._host = host
        self._ledger = Ledger(folder / "outbox", "outbox")
        self._mark = _Mark(1, welcomed=False, dropped=0)
        self._kept: OrderedDict[int, Report] = OrderedDict()
        self._waiting: list[Report] = []
        self._trouble = ""
        try:
            for payload in self._ledger.recovered:
                self._recover(canonical.decode(_Line, payload))
        except InvalidInput as error:
            self._ledger.close()
            raise HostFault(
                "outbox-version",
                f"{self._ledger.path} has entries that this version of the agent does not know ({error.message}): install the "
                "version that wrote it, or move the file away",
            ) from error
        self.findings = self._ledger.findings

    @property
    def first(self) -> int:
        """The number of the oldest report not acknowledged; `next` when there is none."""
        return next(iter(self._kept), self._mark.next_number)

    @property
    def next(self) -> int:
        """The number of the next report."""
        return self._mark.next_number

    @property
    def problems(self) -> tuple[str, ...]:
        """In words for the site's owner: reports that are only in memory, reports that are gone."""
        dropped = self._mark.dropped
        gone = f"outbox: {dropped} reports were dropped, because there was no room for more" if dropped else ""
        held = f"outbox: {self._trouble}; reports are held in memory" if self._trouble else ""
        return tuple(filter(None, (held, gone)))

    def add(self, happened: Happened, subject: str, detail: str, at_ms: int) -> None:
        """Keep a report until it is acknowledged. While the disk is full it waits in memory, and gets its number later."""
        self._waiting.append(Report(self._host, 0, at_ms, happened, subject, detail[:DETAIL_CHARS]))
        self.flush()

    def flush(self) -> None:
        """Write what waits in memory, as far as the disk lets us."""
        try:
            while self._waiting:
                self._write(replace(self._waiting[0], number=self._mark.next_number))
                del self._waiting[0]
            self._trouble = ""
        except HostFault as error:
            self._trouble = error.message
            while len(self._waiting) > MAX_WAITING:
                self._drop_waiting()

    def pending(self, after: int, limit: int) -> tuple[Report, ...]:
        """Up to `limit` reports with numbers above `after`, in order; none before the controller has said where to begin."""
        if not self._mark.welcomed:
            return ()
        found = (report for number, report in self._kept.items() if number > after)
        return tuple(report for report, _ in zip(found, range(limit), strict=False))

    def welcomed(self, upto: int) -> None:
        """The controller has consumed our numbers up to `upto`: an outbox with a past drops those, one without begins above."""
        if self._mark.welcomed:
            self.acknowledged(upto)
        if self._mark.welcomed and self._mark.next_number > upto:
            return
        kept = [replace(report, number=upto + 1 + n) for n, report in enumerate(self._kept.values())]
        mark = replace(self._mark, welcomed=True, next_number=upto + 1 + len(kept))
        try:
            self._ledger.rewrite([_mark_line(mark), *map(_report_line, kept)])
        except HostFault as error:
            self._trouble = error.message  # numbers that are not on the disk are not used: the next session tries again
            return
        self._mark, self._kept = mark, OrderedDict((report.number, report) for report in kept)

    def acknowledged(self, upto: int) -> None:
        """Reports up to `upto` are durable at the controller. Said to the disk only when the file is rewritten: a forgotten
        acknowledgement costs one sending, which the controller tells by the number."""
        while self._kept and next(iter(self._kept)) <= upto:
            self._kept.popitem(last=False)
        self._compact()

    def close(self) -> None:
        """Give the file back."""
        self._ledger.close()

    def _recover(self, line: _Line) -> None:
        if line.report is not None:
            self._kept[line.report.number] = line.report
            self._mark = replace(self._mark, next_number=max(self._mark.next_number, line.report.number + 1))
        elif line.mark is not None:
            self._mark = line.mark

    def _write(self, report: Report) -> None:
        while len(self._kept) >= MAX_REPORTS:
            self._drop_kept()
        if self._ledger.broken:
            self._ledger.rewrite([*self._lines(), _report_line(report)])
        else:
            self._compact()
            self._ledger.append(_report_line(report))
        self._kept[report.number] = report
        self._mark = replace(self._mark, next_number=report.number + 1)

    def _drop_kept(self) -> None:
        samples = (number for number, report in self._kept.items() if report.happened in SAMPLES)
        del self._kept[next(samples, next(iter(self._kept)))]
        self._mark = replace(self._mark, dropped=self._mark.dropped + 1)

    def _drop_waiting(self) -> None:
        samples = (at for at, report in enumerate(self._waiting) if report.happened in SAMPLES)
        del self._waiting[next(samples, 0)]
        self._mark = replace(self._mark, dropped=self._mark.dropped + 1)

    def _compact(self) -> None:
        if self._ledger.size_bytes < COMPACT_AT_BYTES:
            return
        lines = self._lines()
        if self._ledger.size_bytes > 2 * payload_bytes(lines):
            with contextlib.suppress(
                HostFault
            ):  # no room for a second file: what is to be appended may still have its own
                self._ledger.rewrite(lines)

    def _lines(self) -> list[bytes]:
        return [_mark_line(self._mark), *map(_report_line, self._kept.values())]


def _report_line(report: Report) -> bytes:
    return canonical.encode(_Line(report, None))


def _mark_line(mark: _Mark) -> bytes:
    return canonical.encode(_Line(None, mark))
