"""The verb that takes frames out of a ring: `read`."""

import os
import select
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from halftrack_dataplane.framing import Form
from halftrack_dataplane.intake import Intake, Taken
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.spool_reader import SpoolReader
from halftrack_dataplane.stream_cli_frame import DONE, ERROR, SECONDS, Blocked, Program, Terminal, verb
from halftrack_dataplane.stream_cli_rings import Losses, Policy, joined, start_option, timeout_option

LOOK_S = 0.5  # while nothing comes: does anybody still read us?
COMMIT_S = 0.2  # a commit waits for the disk
FRAME_MOST = 1 << 40  # how long a spool's frames are is not known before they come
FLUSH_BYTES = 64 << 10  # a pipe takes so much at once; more in hand gains nothing


@dataclass(frozen=True, slots=True)
class Until:
    """When to stop: after `count` frames, at a sequence, or when nothing comes for `timeout_s`."""

    count: int | None
    seq: int | None
    timeout_s: float | None


@click.argument("ring", required=False)
@click.option(
    "--policy",
    type=click.Choice(["lossless", "lossy", "sample"]),
    default="lossless",
    show_default=True,
    help="Hold the writer up, be overrun, or take only some.",
)
@click.option("--every", type=click.IntRange(1), metavar="N", help="Sample: sequences that N divides.")
@click.option("--per-s", type=click.FloatRange(min=0, min_open=True), metavar="R", help="Sample: at most R a second.")
@click.option("--latest", is_flag=True, help="Sample: only the newest.")
@start_option
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N frames.")
@click.option("--drain", is_flag=True, help="End after what is there when we join.")
@timeout_option
@click.option("--raw", is_flag=True, help="Frames one behind the other.  [default]")
@click.option("--lines", is_flag=True, help="A line break behind each frame.")
@click.option("--framed", is_flag=True, help="Each behind its length: 32 bits, unsigned, little-endian.")
@click.option("--verify", is_flag=True, help="Compare checksums; what does not match is left out.")
@click.option("--evict-after", type=SECONDS, metavar="S", help="Let go if we hold up a writer for S seconds.")
@click.option("--priority", type=click.IntRange(0, 255), default=0, show_default=True, help="See `write --spare`.")
@click.option("--name", default="read", show_default=True, help="The reader's name, for `top`.")
@click.option(
    "--spool", type=click.Path(path_type=Path), metavar="DIR", help="Read the spool in DIR, then RING, if given."
)
@click.option("--consumer", default="", metavar="NAME", help="With --spool: go on where NAME ended, and commit.")
def read(
    terminal: Terminal,
    ring: str | None,
    policy: Policy,
    every: int | None,
    per_s: float | None,
    latest: bool,
    start: str,
    count: int | None,
    drain: bool,
    timeout: float | None,
    raw: bool,
    lines: bool,
    framed: bool,
    verify: bool,
    evict_after: float | None,
    priority: int,
    name: str,
    spool: Path | None,
    consumer: str,
) -> int:
    """Write RING's frames to standard output; with -o json, a line about each frame instead.

    What is lost is told on standard error and counted. --timeout is for one wait for a frame. Exit status 1 if --verify found any
    that is corrupt. Joining at a sequence or a time that is no longer there joins at the oldest. With --spool, all frames are read
    that the spool has, from the oldest on or from where --consumer has committed; what was written is committed, so after a crash
    some may come again.
    """
    if raw + lines + framed > 1:
        raise click.UsageError("--raw, --lines and --framed exclude each other: say one.")
    sampling = {"every": every, "per_s": per_s, "latest": latest or None}
    asked = {key: value for key, value in sampling.items() if value is not None}
    if asked and policy != "sample":
        raise click.UsageError("--every, --per-s and --latest choose frames: add --policy sample.")
    if drain and per_s:
        raise click.UsageError("--drain is done at once, --per-s takes its time: say one.")
    form = Form("lines") if lines else Form("framed") if framed else Form("raw")
    if spool is not None:
        if asked or policy != "lossless" or verify or evict_after or start.startswith("@"):
            raise click.UsageError(
                "--spool has all frames, in order: of the other options it takes --start, --count, --drain."
            )
        return _spooled(terminal, spool, ring, consumer, start, form, Until(count, 0 if drain else None, timeout))
    if ring is None or consumer:
        raise click.UsageError("Say which RING to read, or --spool DIR; --consumer is for a spool.")
    with Ring.open(ring) as opened:
        until = Until(count, opened.head if drain else None, timeout)
        options: Mapping[str, Any] = {"policy": policy, "verify": verify, "name": name, "priority": priority, **asked}
        with joined(opened, start=start, evict_after_s=evict_after or None, **options) as reader:
            intake = Intake(reader, opened.capacity_bytes)
            return _copied(terminal, intake, form, until)


def declare(program: Program) -> None:
    """Add the verb to the program."""
    verb(
        program,
        "read",
        "halftrack-stream read /dev/shm/log.ring --lines",
        "halftrack-stream read /dev/shm/adc.ring --start oldest --drain > samples.raw",
        "halftrack-stream read /dev/shm/adc.ring --policy sample --per-s 2 -o json",
        "halftrack-stream read /dev/shm/adc.ring --framed | ./analyse",
        "halftrack-stream read /dev/shm/adc.ring --spool /var/spool/adc --consumer archive > samples.raw",
    )(read)


def _spooled(
    terminal: Terminal, spool: Path, ring: str | None, consumer: str, start: str, form: Form, until: Until
) -> int:
    at: Any = "resume" if start == "now" else int(start) if start.isdigit() else start
    with SpoolReader(spool, ring, name=consumer, start=at) as reader:
        if until.seq is not None:
            until = Until(until.count, reader.cursor + reader.lag_frames, until.timeout_s)
        return _copied(terminal, Intake(reader, FRAME_MOST), form, until, reader.commit if consumer else None)


def _copied(
    terminal: Terminal, intake: Intake, form: Form, until: Until, commit: Callable[[int], None] | None = None
) -> int:
    out = _Out(terminal, form, commit)
    losses = Losses(terminal, intake)
    watched = sys.stdout.isatty() or terminal.json
    try:
        with terminal.progress("reading", quiet=watched) as progress:
            while not _reached(until, out):
                taken = _next(intake, out, until)
                if taken is None:
                    break
                losses.tell(taken)
                if until.seq is not None:
                    taken = taken.first(max(0, until.seq - taken.seq))
                if until.count is not None:
                    taken = taken.first(until.count - out.frames)
                out.put(taken)
                out.commit(now=False)
                progress.add(taken.count, taken.block.nbytes)
        out.flush()
        out.commit()
    finally:
        losses.total()
    return ERROR if intake.corrupt else DONE


def _reached(until: Until, out: "_Out") -> bool:
    enough = until.count is not None and out.frames >= until.count
    return enough or (until.seq is not None and out.next_seq >= until.seq)


def _next(intake: Intake, out: "_Out", until: Until) -> Taken | None:
    taken, timeout_s = intake.take(0), until.timeout_s
    if taken is not None or until.seq is not None:  # what we drain was there from the beginning
        return taken
    out.flush()  # nothing is kept from whoever reads us while we wait
    out.commit()
    end = None if timeout_s is None else time.monotonic() + timeout_s
    while taken is None:
        left = LOOK_S if end is None else min(LOOK_S, max(0.0, end - time.monotonic()))
        taken = intake.take(left)
        if taken is None:
            out.check()
            if end is not None and time.monotonic() >= end:
                raise Blocked(f"no frame within {timeout_s} s; {out.frames} frames were read before")
    return taken


class _Out:
    """Standard output: frames in some form, or lines about them."""

    def __init__(self, terminal: Terminal, form: Form, commit: Callable[[int], None] | None) -> None:
        self._terminal, self._form, self._commit = terminal, form, commit
        self._committed_s = 0.0
        self._fd = sys.stdout.fileno()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self.frames = 0
        self.next_seq = 0

    def put(self, taken: Taken) -> None:
        """Say or show what was taken."""
        self.frames += taken.count
        self.next_seq = taken.seq + (taken.gap or taken.count)
        if self._terminal.json:
            self._tell(taken)
        elif self._form.kind == "raw" and taken.block.nbytes >= FLUSH_BYTES:
            self.flush()
            self._all(taken.block)
        elif taken.count:
            data = bytes(taken.block) if self._form.kind == "raw" else self._form.joined(taken.frames())
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes >= FLUSH_BYTES:
                self.flush()

    def _tell(self, taken: Taken) -> None:
        told = {"epoch": taken.epoch, "timestamp_ns": taken.timestamp_ns, "bytes": taken.frame_bytes}
        if taken.gap:
            self._terminal.line({"seq": taken.seq, **told, "gap": taken.gap})
        for seq in range(taken.seq, taken.seq + taken.count):
            self._terminal.line({"seq": seq, **told, "gap": 0})

    def flush(self) -> None:
        """Let go of everything."""
        if self._held:
            data, self._held, self._held_bytes = b"".join(self._held), [], 0
            self._all(memoryview(data))

    def commit(self, *, now: bool = True) -> None:
        """Everything up to here has been taken by whoever reads us; unless `now`, that is said a few times a second."""
        moment = time.monotonic()
        if self._commit is not None and self.next_seq and (now or moment - self._committed_s > COMMIT_S):
            self._committed_s = moment
            self.flush()
            self._commit(self.next_seq)

    def _all(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._fd, data) :]

    def check(self) -> None:
        """Ends as a write would if nobody reads us any more; a pipe says so without one."""
        poll = select.poll()
        poll.register(self._fd, 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            raise BrokenPipeError
