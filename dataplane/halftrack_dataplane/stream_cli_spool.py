"""The verbs for spools: `spool`, which fills one from a ring, and `spooled`, which tells how one stands. `read --spool` reads one."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from halftrack_dataplane.ring import Ring
from halftrack_dataplane.spool_cursor import SpoolCursor
from halftrack_dataplane.spool_files import STATES, Folder, Lock, Mark, segment_path
from halftrack_dataplane.spool_segments import Full, Limits, Losses
from halftrack_dataplane.spool_writer import SEGMENT_BYTES, SHARE, SYNC_S, Spooler, segment_bytes_for
from halftrack_dataplane.stream_cli_frame import DONE, Failed, Program, Terminal, size_bytes, size_text, stoppable, verb

STEP_S = 0.1  # how late a signal may be seen
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class ConsumerRow:
    """A consumer as it stands: how far it has committed, what is still to come, and what went before it had it."""

    name: str
    committed: int
    lag_frames: int
    gone_frames: int


@dataclass(frozen=True, slots=True)
class SpoolRow:
    """A spool as it stands. `state` is the spooler's: spooling, full (the limit), disk full, failed, or gone."""

    spool: str
    label: str
    generation: int
    state: str
    pid: int
    oldest_seq: int
    end_seq: int
    segments: int
    bytes: int
    lost: int
    missed: int
    corrupt: int
    consumers: tuple[ConsumerRow, ...]


def seconds_of(value: str) -> float:
    """A time as people write it: 90s, 30m, 2h, 7d."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd])", value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a time; write a number and one of s, m, h, d: 2h")
    return float(match[1]) * _UNITS[match[2]]


def place_of(value: str) -> str:
    """Where a new spool begins."""
    if not re.fullmatch(r"now|oldest|[0-9]{1,18}", value):
        raise click.BadParameter(f"{value!r} is no place to start; write now, oldest, or a sequence")
    return value


@click.argument("ring")
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The spool.")
@click.option("--limit", type=size_bytes, required=True, metavar="SIZE", help="Bytes on the disk at most.")
@click.option(
    "--keep", type=seconds_of, default="0s", metavar="TIME", help="Keep what all consumers have: 90s, 2h, 7d."
)
@click.option(
    "--full",
    type=click.Choice(["block", "drop-oldest"]),
    default="block",
    show_default=True,
    help="At the limit: stop reading RING, or drop the oldest.",
)
@click.option(
    "--sync-ms",
    type=click.FloatRange(0, 10_000),
    default=SYNC_S * 1e3,
    show_default=True,
    metavar="MS",
    help="How long frames may wait to be durable together.",
)
@click.option(
    "--segment", type=size_bytes, metavar="SIZE", help="Bytes of a segment.  [default: 64MiB or an 8th of it]"
)
@click.option(
    "--start",
    type=place_of,
    default="now",
    show_default=True,
    metavar="now|oldest|SEQ",
    help="Where a new spool begins.",
)
def spool(
    terminal: Terminal,
    ring: str,
    folder: Path,
    limit: int,
    keep: float,
    full: Full,
    sync_ms: float,
    segment: int | None,
    start: str,
) -> int:
    """Put RING's frames on the disk, so that a slow consumer holds nobody up; until Ctrl-C.

    It reads as a lossless reader, and lets the ring go on from what is durable. Consumers read with `read --spool` or SpoolReader: from the
    disk until they have caught up, then from the ring. What all of them have committed goes. Where there is a spool already, it goes on;
    what the ring has lost meanwhile becomes a declared gap. When the disk is full it waits, and RING's own policy applies.
    """
    with Ring.open(ring) as source:
        wanted = segment_bytes_for(source, segment or min(SEGMENT_BYTES, limit // SHARE))
        if limit < 2 * wanted:
            raise Failed(
                f"a limit of {size_text(limit)} holds no two segments of {size_text(wanted)}, which a frame of this ring may need. "
                "Raise --limit, or create the ring with --frame-bytes"
            )
        limits = Limits(limit, wanted, int(keep * 1e9), full)
        at: Any = int(start) if start.isdigit() else start
        with stoppable() as stop:
            with Spooler(source, folder, limits, start=at, sync_s=sync_ms / 1e3, tell=terminal.note) as spooler:
                while not stop.asked:
                    spooler.step(STEP_S)
            done = {"spool": str(folder), "frames": spooler.frames, "durable_seq": spooler.durable_seq}
            terminal.summary(done, f"{spooler.frames} frames, durable up to {spooler.durable_seq}")
    return DONE


@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--forget", metavar="NAME", help="Take consumer NAME out first: nothing is kept for it any more.")
def spooled(terminal: Terminal, folder: Path, forget: str | None) -> int:
    """Show how the spool in DIR stands: how full, from where to where, who consumes it, and what was lost."""
    if forget is not None:
        Folder(folder).forget(forget)
    row = row_of(folder)
    terminal.result(row, _text(row))
    return DONE


def declare(program: Program) -> None:
    """Add the verbs to the program."""
    verb(
        program,
        "spool",
        "halftrack-stream spool /dev/shm/adc.ring --to /var/spool/adc --limit 100GiB",
        "halftrack-stream spool /dev/shm/adc.ring --to /var/spool/adc --limit 2TiB --keep 2h --full drop-oldest",
    )(spool)
    verb(
        program,
        "spooled",
        "halftrack-stream spooled /var/spool/adc",
        "halftrack-stream spooled /var/spool/adc -o json",
        "halftrack-stream spooled /var/spool/adc --forget archive",
    )(spooled)


def row_of(path: Path) -> SpoolRow:
    """How a spool stands; it is only looked at."""
    folder = Folder(path)
    cursor = SpoolCursor(folder)
    try:
        end = cursor.end_seq()
        head = cursor.newest
    finally:
        cursor.close()
    firsts = folder.firsts()
    state, pid, losses = _spooler(path, head.losses)
    consumers = tuple(
        ConsumerRow(name, place.seq, max(0, end - place.seq), max(0, firsts[0] - place.seq))
        for name, place in folder.consumers().items()
    )
    return SpoolRow(
        spool=str(path),
        label=head.identity.label,
        generation=head.identity.generation,
        state=state,
        pid=pid,
        oldest_seq=firsts[0],
        end_seq=end,
        segments=len(firsts),
        bytes=sum(_size(segment_path(path, first)) for first in firsts),
        lost=losses.lost,
        missed=losses.missed,
        corrupt=losses.corrupt,
        consumers=consumers,
    )


def _spooler(path: Path, counted: Losses) -> tuple[str, int, Losses]:
    """Its state, its process and its counts; without a mark, those of the newest segment's begin."""
    try:
        mark = Mark(path)
    except (FileNotFoundError, ValueError):
        return "gone", 0, counted
    try:
        state, alive = STATES[mark.get("state")], Lock.held(path)
        losses = Losses(mark.get("lost"), 0, mark.get("missed"), mark.get("corrupt"))
        pid = mark.get("pid") if alive else 0
    finally:
        mark.close()
    return (state if alive or state == "failed" else "gone"), pid, losses


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it went while we looked
        return 0


def _text(row: SpoolRow) -> str:
    who = f" {row.label}" if row.label else ""
    by = f" (process {row.pid})" if row.pid else ""
    lines = [
        f"{row.spool}{who}: {row.state}{by}",
        f"  sequences {row.oldest_seq} to {row.end_seq - 1}, {row.segments} segments, {size_text(row.bytes)}",
        f"  lost {row.lost}, missed {row.missed}, corrupt {row.corrupt}",
    ]
    lines += [
        f"  consumer {each.name}: committed {each.committed}, {each.lag_frames} to come"
        + (f", {each.gone_frames} gone" if each.gone_frames else "")
        for each in row.consumers
    ]
    return "\n".join(lines if row.consumers else [*lines, "  no consumer"])
