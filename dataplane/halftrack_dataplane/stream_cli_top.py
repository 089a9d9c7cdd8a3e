"""The verb that watches rings: `top`. Only looks: rings are opened read-only, so that watching changes nothing."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table

from halftrack_dataplane.frames import RingError, RingStats
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.stream_cli_frame import DONE, Failed, Program, Terminal, size_text, verb

MAGIC = b"HTRKRING"
EVERY_S = 1.0
ONCE_S = 0.2  # how long --once looks, to tell rates; 0.2 s of a slow stream may well hold no frame
DEFAULT = "/dev/shm"  # noqa: S108 - where rings are, not where we write


@dataclass(frozen=True, slots=True)
class ReaderRow:
    """A reader as it stands. `alive` as far as this host's /proc can tell."""

    name: str
    slot: int
    pid: int
    alive: bool
    policy: str
    cursor: int
    lag_frames: int
    overruns: int
    missed: int
    priority: int
    most_lag_frames: int


@dataclass(frozen=True, slots=True)
class RingRow:
    """A ring as it stands, and its rates since the last look. `bytes_per_s` is by the mean length of what is retained; `credit_bytes` fit before
    a lossless reader is in the way; `blocked` and `blocked_s`: how often and how long in all one was."""

    ring: str
    label: str
    head: int
    tail: int
    frames_per_s: float | None
    bytes_per_s: float | None
    used_bytes: int
    capacity_bytes: int
    credit_bytes: int
    slots: int
    shared: bool
    most_lag_frames: int
    blocked: int
    blocked_s: float
    dropped: int
    gap_frames: int
    evicted: int
    writers_died: int
    writer_pid: int
    writer_alive: bool
    readers: tuple[ReaderRow, ...]


def declare(program: Program) -> None:
    """Add the verb to the program."""
    verb(
        program,
        "top",
        "halftrack-stream top",
        "halftrack-stream top /dev/shm/adc.ring --once -o json",
        "halftrack-stream top /run/halftrack/rings --interval 5",
    )(top)


@click.argument("where", nargs=-1, metavar="[RING|DIR]...")
@click.option("--once", is_flag=True, help="Look, show, and end.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.01),
    metavar="S",
    help="Seconds between two looks.  [default: 1; with --once 0.2]",
)
def top(terminal: Terminal, where: Sequence[str], once: bool, interval: float | None) -> int:
    """Show rings: how fast, how full, who writes, and how far behind each reader is. Until Ctrl-C.

    A folder is searched for rings, those below it too; with neither, /dev/shm is. With -o json, a line for each look.
    """
    watch = Watch(where or (DEFAULT,))
    watch.look()
    pause_s = interval or (ONCE_S if once else EVERY_S)
    time.sleep(pause_s if once else min(pause_s, ONCE_S))  # the first rates need not wait for a whole interval
    if once:
        terminal.result(watch.look(), watch.shown())
        return DONE
    with Live(console=terminal.out, auto_refresh=False) as live:
        while True:
            rows = watch.look()
            if terminal.json:
                terminal.line(rows)
            else:
                live.update(watch.shown(), refresh=True)
            time.sleep(pause_s)


@dataclass(slots=True)
class _Seen:
    """A ring under watch: which file it is, and where it stood when."""

    ring: Ring
    file: tuple[int, int]
    at_s: float = 0.0
    head: int | None = None


class Watch:
    """Rings that are looked at again and again; they may come and go."""

    def __init__(self, where: Sequence[str]) -> None:
        self._where = where
        self._seen: dict[str, _Seen] = {}
        self._rows: list[RingRow] = []
        self._problems: list[str] = []

    def look(self) -> list[RingRow]:
        """All rings that are there now."""
        self._problems = []
        found = dict.fromkeys(path for place in self._where for path in _rings_at(place))
        for path in [path for path, seen in self._seen.items() if seen.file != _file_at(path)]:
            self._seen.pop(path).ring.close()
        self._rows = [row for path in found if (row := self._row(path)) is not None]
        return self._rows

    def _row(self, path: str) -> RingRow | None:
        try:
            seen = self._seen.get(path) or self._seen.setdefault(path, _opened(path))
        except (RingError, OSError) as error:
            if path in self._where:
                raise
            self._problems.append(f"{path}: {error}")
            return None
        stats, now = seen.ring.stats(), time.monotonic()
        rate = None if seen.head is None else (stats.head - seen.head) / (now - seen.at_s)
        seen.head, seen.at_s = stats.head, now
        return _row_of(seen.ring, path, stats, rate)

    def shown(self) -> RenderableType:
        """The last look for people."""
        if not self._rows and not self._problems:
            return f"no ring in {', '.join(self._where)}"
        parts: list[RenderableType] = [_ring_table(self._rows)] if self._rows else []
        if any(row.readers for row in self._rows):
            parts += ["", _reader_table(self._rows)]
        return Group(*parts, *self._problems)


def _opened(path: str) -> _Seen:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.fstat(file)
        return _Seen(Ring.open(file, readonly=True), (found.st_dev, found.st_ino))
    finally:
        os.close(file)


def _file_at(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _rings_at(place: str) -> Iterator[str]:
    if os.path.isfile(place):
        yield place
        return
    if not os.path.isdir(place):
        raise Failed(f"there is neither a ring nor a folder at {place}")
    for folder, _, names in os.walk(place):
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and _has_magic(path):
                yield path


def _has_magic(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:  # it went meanwhile, or is not ours to read
        return False


def _row_of(ring: Ring, path: str, stats: RingStats, rate: float | None) -> RingRow:
    retained = stats.head - stats.tail
    mean = ring.frame_bytes or (stats.used_bytes / retained if retained else 0)
    readers = tuple(
        ReaderRow(
            r.name,
            r.slot,
            r.pid,
            _alive(r.pid),
            r.policy,
            r.cursor,
            r.lag_frames,
            r.overruns,
            r.missed,
            r.priority,
            r.most_lag_frames,
        )
        for r in stats.readers
    )
    return RingRow(
        ring=path,
        label=ring.label,
        head=stats.head,
        tail=stats.tail,
        frames_per_s=None if rate is None else round(rate, 1),
        bytes_per_s=None if rate is None else round(rate * mean),
        used_bytes=stats.used_bytes,
        capacity_bytes=stats.capacity_bytes,
        credit_bytes=stats.credit_bytes,
        slots=stats.slots,
        shared=ring.shared,
        most_lag_frames=stats.most_lag_frames,
        blocked=stats.blocked,
        blocked_s=round(stats.blocked_s, 3),
        dropped=stats.dropped,
        gap_frames=stats.gap_frames,
        evicted=stats.evicted,
        writers_died=stats.writers_died,
        writer_pid=stats.writer_pid,
        writer_alive=bool(stats.writer_pid) and _alive(stats.writer_pid),
        readers=readers,
    )


def _alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def _pid_text(pid: int, alive: bool) -> str:
    return "-" if not pid else str(pid) if alive else f"{pid} (dead)"


def _ring_table(rows: Sequence[RingRow]) -> Table:
    columns = (
        "RING",
        "FRAMES/S",
        "BYTES/S",
        "FILL",
        "BACKLOG",
        "HEAD",
        "TAIL",
        "WRITER",
        "BLOCKED",
        "DROPPED",
        "GAPS",
        "EVICTED",
    )
    table = _table(*columns)
    for row in rows:
        table.add_row(
            row.ring,
            "-" if row.frames_per_s is None else f"{row.frames_per_s:.0f}",
            "-" if row.bytes_per_s is None else size_text(row.bytes_per_s),
            f"{100 * row.used_bytes / row.capacity_bytes:.0f}%",
            f"{100 - 100 * row.credit_bytes / row.capacity_bytes:.0f}%",
            str(row.head),
            str(row.tail),
            "shared" if row.shared and not row.writer_pid else _pid_text(row.writer_pid, row.writer_alive),
            f"{row.blocked_s:.1f} s" if row.blocked else "-",
            str(row.dropped),
            str(row.gap_frames),
            str(row.evicted),
        )
    return table


def _reader_table(rows: Sequence[RingRow]) -> Table:
    table = _table("RING", "READER", "POLICY", "PID", "LAG", "MOST LAG", "MISSED")
    for row in rows:
        for reader in row.readers:
            pid = _pid_text(reader.pid, reader.alive)
            lags = str(reader.lag_frames), str(reader.most_lag_frames), str(reader.missed)
            table.add_row(row.ring, reader.name or f"slot {reader.slot}", reader.policy, pid, *lags)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
