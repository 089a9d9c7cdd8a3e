"""The verb that runs a filter program between two rings: `pipe`. What is in flight is filtering.py's to know."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

import click

from halftrack_dataplane.filtering import Feeder, Flight, Run
from halftrack_dataplane.frames import RingError, RingFull
from halftrack_dataplane.framing import Form, Incomplete, Overlong
from halftrack_dataplane.intake import Intake
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.ring_writer import Writer
from halftrack_dataplane.stream_cli_frame import (
    DONE,
    Blocked,
    Failed,
    Program,
    Progress,
    Stop,
    Terminal,
    size_text,
    start_place,
    stoppable,
    verb,
)
from halftrack_dataplane.stream_cli_rings import Losses, form_of, form_options, joined, timeout_option

PIECE_BYTES = 256 << 10
LOOK_S = 0.1  # how long we may be blocked before we look at the feeder and the filter
GRACE_S = 5.0  # for a filter to write what it holds after its input has ended because we were asked to end
WARN_S = 5.0
IN_FLIGHT = 65536  # more than a filter's buffers hold of the smallest frames


@click.option("--in", "source", required=True, metavar="RING", help="Where frames come from.")
@click.option("--out", "target", required=True, metavar="RING", help="Where they go.")
@form_options
@click.option("--out-frame-bytes", type=click.IntRange(1), metavar="N", help="With --frame-bytes: what comes out.")
@click.option(
    "--start",
    type=start_place,
    metavar="now|oldest|SEQ|@TIME_NS",
    help="Where to join.  [default: where --out ends, or oldest]",
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N frames.")
@timeout_option
@click.option("--renumber", is_flag=True, help="The filter may write more or fewer frames than it reads.")
@click.option(
    "--in-flight",
    type=click.IntRange(1),
    default=IN_FLIGHT,
    show_default=True,
    metavar="N",
    help="Frames that the filter may hold at most.",
)
@click.argument("command", nargs=-1, required=True)
def pipe(
    terminal: Terminal,
    source: str,
    target: str,
    frame_bytes: int | None,
    lines: bool,
    framed: bool,
    out_frame_bytes: int | None,
    start: str | None,
    count: int | None,
    timeout: float | None,
    renumber: bool,
    in_flight: int,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND as a filter: frames of --in on its standard input, what it writes as frames of --out.

    Frames go in and come out behind their length (32 bits, unsigned, little-endian), or as --lines or --frame-bytes. One comes out
    for each that goes in, and takes over its sequence, epoch and time; gaps are handed on. So a pipe that is started again goes
    on where it ended. With --renumber --out is numbered anew. --timeout is for one wait: for a frame, for room in --out, or for a
    filter that holds all it may. Ctrl-C lets the filter write what it holds.
    """
    form = form_of(frame_bytes, lines, framed) or Form("framed")
    if out_frame_bytes is not None and frame_bytes is None:
        raise click.UsageError(
            "--out-frame-bytes needs --frame-bytes; lines and lengths say themselves how long they are."
        )
    into = Form("fixed", out_frame_bytes or form.frame_bytes) if form.kind == "fixed" else form
    with Ring.open(source) as incoming, Ring.open(target) as outgoing, outgoing.writer(name="pipe") as writer:
        place = start or _place(incoming, outgoing, renumber)
        with joined(incoming, start=place, name="pipe") as reader, terminal.progress("filtering") as progress:
            intake = Intake(reader, incoming.capacity_bytes)
            losses = Losses(terminal, intake)
            flight = Flight(in_flight)
            with stoppable() as stop, _running(command) as child:
                feeder = Feeder(
                    intake, _stream(child.stdin), form, flight, count=count, idle_s=timeout, tell=losses.tell
                )
                sink = _Sink(outgoing, writer, flight, timeout, renumber, stop, progress)
                try:
                    _Pipe(terminal, child, feeder, sink, stop, timeout).run(into)
                finally:
                    feeder.end()
                    child.kill()  # it has ended, or shall
                    feeder.join(GRACE_S)
                    losses.total()
            next_seq = sink.next_seq
    done = {"frames": progress.frames, "bytes": progress.bytes, "next_seq": next_seq, "lost": intake.lost}
    terminal.summary(done, f"{progress.frames} frames, {size_text(progress.bytes)}, up to sequence {next_seq}")
    return DONE


def declare(program: Program) -> None:
    """Add the verb to the program."""
    verb(
        program,
        "pipe",
        "halftrack-stream pipe --in raw.ring --out clean.ring -- ./filter --threshold 5",
        "halftrack-stream pipe --in log.ring --out upper.ring --lines -- sed -u s/foo/bar/",
        "halftrack-stream pipe --in raw.ring --out events.ring --renumber -- ./detect",
        context_settings={"allow_interspersed_args": False},
    )(pipe)


def _place(incoming: Ring, outgoing: Ring, renumber: bool) -> str:
    """Where a pipe that says nothing joins: where its output ends, so that starting it again goes on."""
    if outgoing.head == 0 or renumber:
        return "oldest"
    if outgoing.head > incoming.head:
        raise Failed(
            f"{outgoing.path} is at {outgoing.head} already, beyond {incoming.path} at {incoming.head}: it is not this stream's. "
            "Use a fresh ring for --out, or --renumber."
        )
    return str(outgoing.head)


def _stream(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the filter was started with pipes")
    return pipe


@contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The filter, in a process group of its own: Ctrl-C is ours to take, so that it can write what it holds."""
    try:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
    except OSError as error:
        raise Failed(f"the filter {command[0]} cannot be started: {error.strerror}") from None
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        _stream(child.stdout).close()


class _Sink:
    """The output ring: each frame gets the number of the one that it was made from."""

    def __init__(
        self,
        ring: Ring,
        writer: Writer,
        flight: Flight,
        timeout_s: float | None,
        renumber: bool,
        stop: Stop,
        progress: Progress,
    ) -> None:
        self._ring, self._writer, self.flight = ring, writer, flight
        self._timeout_s, self.renumber, self._stop, self._progress = timeout_s, renumber, stop, progress
        self._first = not renumber
        self.most_bytes = ring.capacity_bytes // 2

    @property
    def next_seq(self) -> int:
        """What the next frame will be."""
        return self._ring.head

    def write(self, frames: Sequence[bytes]) -> None:
        """Frames that came out of the filter, in order."""
        while frames:
            self.pass_gaps()
            if self.renumber:
                self._put(frames, *self.flight.latest)
                return
            run = self.flight.take(len(frames))
            if run is None:
                raise Failed(
                    f"the filter wrote a frame that it had read none for, after sequence {self.next_seq - 1}. "
                    "If it may write more or fewer than it reads, say --renumber; else check how it cuts its output."
                )
            self._align(run)
            self._put(frames[: run.count], run.epoch, run.timestamp_ns)
            frames = frames[run.count :]

    def pass_gaps(self) -> None:
        """Declare what is next and was lost before us."""
        while (oldest := self.flight.oldest()) is not None and (oldest.gap or self.renumber):
            run = self.flight.take(oldest.count)
            if run is not None and run.gap:
                self._align(run)
                self._declare(run.count, run)

    def _align(self, run: Run) -> None:
        """Let `run` have its own number: what is missing before it is missing in the output, too."""
        if self.renumber:
            return
        if self._first:
            self._first = False
            with suppress(RingError):  # it held frames before
                self._writer.start_at(run.seq)
        if run.seq < self.next_seq:
            raise Failed(
                f"{self._ring.path} is at {self.next_seq} already, and the frame is number {run.seq}: --start at "
                f"{self.next_seq}, use a fresh ring for --out, or --renumber"
            )
        if run.seq > self.next_seq:
            self._declare(run.seq - self.next_seq, run)

    def _declare(self, count: int, run: Run) -> None:
        self._patiently(
            lambda: self._writer.gap(count, epoch=run.epoch, timestamp_ns=run.timestamp_ns, timeout_s=LOOK_S)
        )

    def _put(self, frames: Sequence[bytes], epoch: int, timestamp_ns: int) -> None:
        left = list(frames)

        def some() -> None:
            try:
                self._writer.write_many(left, epoch=epoch, timestamp_ns=timestamp_ns, timeout_s=LOOK_S)
            except RingFull as error:
                del left[: error.written]
                raise

        self._patiently(some)
        self._progress.add(len(frames), sum(map(len, frames)))

    def _patiently(self, attempt: Any) -> None:
        """Again and again while there is no room, but not for ever: for --timeout, or a little once we shall end."""
        since = time.monotonic()
        patience = self._timeout_s
        while True:
            try:
                attempt()
                return
            except RingFull:
                if self._stop.asked:
                    patience = GRACE_S if patience is None else min(GRACE_S, patience)
                if patience is not None and time.monotonic() - since >= patience:
                    raise


class _Pipe:
    """The filter's output on its way out, and watching over both ends."""

    def __init__(
        self,
        terminal: Terminal,
        child: subprocess.Popen[bytes],
        feeder: Feeder,
        sink: _Sink,
        stop: Stop,
        timeout_s: float | None,
    ) -> None:
        self._terminal, self._child, self._feeder, self._sink = terminal, child, feeder, sink
        self._stop, self._timeout_s = stop, timeout_s
        self._out = _stream(child.stdout).fileno()
        self._heard = time.monotonic()
        self._warned = False
        self._ending: float | None = None

    def run(self, form: Form) -> None:
        """Until the filter has closed its output; says why, if that was not in order."""
        cutter = form.cutter(self._sink.most_bytes)
        self._feeder.start()
        try:
            while (piece := self._piece()) != b"":
                if piece is not None:
                    self._sink.write(cutter.feed(piece))
                self._sink.pass_gaps()
            self._sink.write(cutter.end())
        except (Incomplete, Overlong) as error:
            self._sink.write(error.frames if isinstance(error, Overlong) else [])
            fed = (
                self._ended(LOOK_S)
                or "Check --lines or --frame-bytes, and whether it writes each frame's length first."
            )
            raise Failed(
                f"the filter's output is no frame after sequence {self._sink.next_seq - 1}: {error}. {fed}"
            ) from None
        self._judge()

    def _piece(self) -> bytes | None:
        """What the filter has written; empty at its end; None after a while."""
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        if poll.poll(int(LOOK_S * 1000)):
            self._heard = time.monotonic()
            return os.read(self._out, PIECE_BYTES)
        now = time.monotonic()
        if self._child.poll() is not None and now - self._heard > 2 * LOOK_S:
            return b""  # somebody else holds its output open, but nothing is in it
        self._watch(now)
        return None

    def _watch(self, now: float) -> None:
        if self._stop.asked or self._feeder.error is not None:
            self._feeder.end()
            self._ending = self._ending or now
            if now - self._ending > GRACE_S:
                raise Failed(f"the filter did not end within {GRACE_S:.0f} s after its input did; {self._held()}")
        full = self._sink.flight.full_since
        if full is None or self._feeder.error is not None:
            return
        waited = now - max(full, self._heard)
        many = f"the filter holds {self._sink.flight.most} frames, all that --in-flight allows, and writes none"
        if self._timeout_s is not None and waited >= self._timeout_s:
            raise Blocked(f"{many} within {self._timeout_s} s: raise --in-flight, or make it write what it has done")
        if waited > WARN_S and not self._warned:
            self._warned = True
            self._terminal.note(f"{many}: raise --in-flight, or make it write what it has done")

    def _held(self) -> str:
        oldest = self._sink.flight.oldest()
        if oldest is None:
            return "nothing was in it."
        return (
            f"{self._sink.flight.frames} frames were in it, from sequence {oldest.seq} on. They are not in --out; started "
            "again, it goes on there."
        )

    def _ended(self, within_s: float) -> str:
        """How the filter ended, if it ended badly."""
        try:
            status = self._child.wait(within_s)
        except subprocess.TimeoutExpired:
            return ""
        if status < 0:
            return f"The filter was killed by {signal.Signals(-status).name}."
        return f"The filter ended with status {status}." if status else ""

    def _judge(self) -> None:
        """The filter's output has ended: has all come out that went in, and did it mean to end?"""
        how = self._ended(GRACE_S)
        self._feeder.join(LOOK_S)
        if self._feeder.error is not None:
            raise Failed(f"the filter's input ended: {self._feeder.error}")
        if how or self._feeder.is_alive() or self._feeder.refused:
            raise Failed(f"{how or 'The filter ended before its input did.'} {self._held()}")
        if not self._sink.renumber and (short := self._sink.flight.frames):
            raise Failed(
                f"the filter wrote {short} frames fewer than it read, so the numbers in --out are not to be trusted. Use a fresh "
                "ring for it, and --renumber if the filter may write fewer or more."
            )
        if self._feeder.idle:
            raise Blocked(f"no frame within {self._timeout_s} s; all that came before is in --out")
