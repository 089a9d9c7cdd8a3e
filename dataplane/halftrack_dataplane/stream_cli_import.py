"""The verbs that fill a ring from files of instruments: `import raw`, `import dada`, `import vdif`. The formats are not in here."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from halftrack_dataplane import dada, vdif
from halftrack_dataplane.arrivals import Arrivals, Declaring
from halftrack_dataplane.file_frames import FileFrames, Piece, ShortTail, Tail
from halftrack_dataplane.frames import RingError
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.ring_writer import Writer
from halftrack_dataplane.stream_cli_frame import (
    DONE,
    Failed,
    Program,
    Progress,
    Terminal,
    size_bytes,
    size_text,
    verb,
)
from halftrack_dataplane.stream_cli_record import Pace
from halftrack_dataplane.stream_cli_rings import Full, Work, creation_options, full_option, opened, timeout_option

SCHEMA_BYTES = 2048  # `HT_SCHEMA`, with its zero
FRAME_BYTES_LEAST = 64  # a RESOLUTION below is a sample's, and no frame's length
LOOK_HEADERS = (
    1 << 20
)  # headers that are read to learn how many frames a second has; a second of any known recorder has fewer

_FILES = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
_RATE = click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), metavar="R", help="R frames a second.  [default: at once]"
)
_TAIL = click.option(
    "--tail",
    type=click.Choice(["refuse", "pad", "drop"]),
    default="refuse",
    show_default=True,
    help="What to do with a last frame that is short.",
)


def declare(program: Program) -> None:
    """Add the verbs to the program."""

    @program.group("import")
    def from_files() -> None:
        """Fill a ring from files of an instrument."""

    verb(
        from_files,
        "raw",
        "halftrack-stream import raw samples.raw /dev/shm/adc.ring --frame-bytes 8192 --create",
        "halftrack-stream import raw a.raw b.raw /dev/shm/adc.ring --frame-bytes 8192 --skip 512 --rate 1000 --tail pad",
    )(raw)
    verb(
        from_files,
        "dada",
        "halftrack-stream import dada 2026-11-25-01:00:00_0000000000000000.000000.dada /dev/shm/sky.ring --create",
        "halftrack-stream import dada part1.dada part2.dada /dev/shm/sky.ring --create --frame-bytes 65536 --without COMMENT",
    )(import_dada)
    verb(
        from_files,
        "vdif",
        "halftrack-stream import vdif scan.vdif /dev/shm/vlbi.ring --create --threads 8",
        "halftrack-stream import vdif scan.vdif /dev/shm/vlbi.ring --per-second 25000 --rate 25000",
    )(import_vdif)


def _filling(work: Work) -> Work:
    """The options that all three have."""
    for option in (creation_options, timeout_option, full_option, _RATE, click.argument("ring"), _FILES):
        work = option(work)
    return work


@dataclass(frozen=True, slots=True)
class _Done:
    """How an import went."""

    ring: str
    frames: int
    bytes: int
    dropped: int
    lost: int
    first_seq: int
    next_seq: int


class _Filler:
    """Blocks of frames on their way into a ring, at a pace."""

    def __init__(self, ring: Ring, writer: Writer, rate: float | None, timeout_s: float | None, progress: Progress):
        self._ring, self._writer, self._progress = ring, writer, progress
        self._out = Declaring(writer, timeout_s)
        self._rate, self._pace = rate, Pace(time.monotonic(), 1.0)
        self.first_seq = ring.head
        self.offered = self.lost = 0

    def wait(self) -> None:
        """Until the next frame is due."""
        if self._rate is not None:
            due_ns = int(self.offered / self._rate * 1e9)
            time.sleep(self._pace.wait_s(due_ns, time.monotonic()))

    def put(self, block: memoryview, size: int, timestamp_ns: int | None = None) -> None:
        """Write the frames of `block`, when they are due; their time is now if there is none."""
        self.wait()
        now = time.time_ns()
        rows = block.cast("B", (len(block) // size, size))
        done = self._out.put(rows, timestamp_ns=now if timestamp_ns is None else timestamp_ns)
        self.offered += len(block) // size
        self._progress.add(done, done * size)

    def go_to(self, number: int, expected: int | None) -> None:
        """The next frame is number `number`, and `expected` would have been: begin there, or declare what is missing."""
        if expected is None:
            with suppress(RingError):  # it held frames before: it goes on with its own numbers
                self._writer.start_at(number)
            self.first_seq = self._ring.head
        elif number > expected:
            self._out.lose(number - expected)
            self.lost += number - expected

    def done(self, terminal: Terminal) -> int:
        """Say how it went."""
        self._out.settled()
        return _said(terminal, self._ring, self._progress, self._out.dropped, self.lost, self.first_seq)


def _said(terminal: Terminal, ring: Ring, progress: Progress, dropped: int, lost: int, first_seq: int) -> int:
    if dropped:
        terminal.note(f"dropped: {dropped} frames for want of room, as --full drop says; they are declared as lost")
    if lost:
        terminal.note(f"gap: {lost} frames are not in the files, and declared as lost")
    done = _Done(ring.path, progress.frames, progress.bytes, dropped, lost, first_seq, ring.head)
    terminal.summary(done, f"{done.frames} frames, {size_text(done.bytes)}, up to sequence {done.next_seq}")
    return DONE


def _most(rate: float | None) -> int:
    """Frames of one block: a tenth of a second's at a given pace, so that it shows."""
    return 0 if rate is None else max(1, int(rate / 10))


def _cut(terminal: Terminal, frames: FileFrames, tail: Tail) -> Iterator[memoryview]:
    try:
        yield from frames
    except ShortTail as error:
        raise Failed(str(error)) from None
    if frames.rest_bytes:
        what = {"pad": "filled up with zeros", "drop": "left out"}[tail]
        terminal.note(f"tail: the last frame has {frames.rest_bytes} bytes, and was {what}")


# -------------------------------------------------------------------------------------------------------------------- raw


@_filling
@click.option("--frame-bytes", type=click.IntRange(1), metavar="N", help="Frames of N bytes.  [default: the ring's]")
@click.option("--skip", type=size_bytes, default="0", metavar="SIZE", help="Bytes of header before each file's frames.")
@_TAIL
def raw(
    terminal: Terminal,
    files: tuple[Path, ...],
    ring: str,
    frame_bytes: int | None,
    skip: int,
    rate: float | None,
    tail: Tail,
    full: Full,
    timeout: float | None,
    create: bool,
    size: int | None,
    slots: int | None,
) -> int:
    """Write the bytes of FILES, one behind the other, into RING as frames of one length.

    A frame may begin in one file and end in the next. Frames carry the time at which they were read.
    """
    with opened(ring, create, size, slots, frame_bytes=frame_bytes or 0) as target:
        each = frame_bytes or target.frame_bytes
        if not each:
            raise click.UsageError(f"{ring} takes frames of any length: say --frame-bytes N.")
        frames = FileFrames([Piece(path, skip) for path in files], each, tail=tail, most=_most(rate))
        with target.writer(full=full, name="import") as writer, terminal.progress("importing") as progress:
            filler = _Filler(target, writer, rate, timeout, progress)
            for block in _cut(terminal, frames, tail):
                filler.put(block, each)
        return filler.done(terminal)


# ------------------------------------------------------------------------------------------------------------------- dada


def dada_part(path: Path) -> dada.Part:
    """A file with its header; Failed says which line is malformed."""
    with path.open("rb") as file:
        block = file.read(dada.SIZE)
        size = path.stat().st_size
        try:
            header = dada.Header.parse(block)
            if header.size > len(block):
                header = dada.Header.parse(block + file.read(header.size - len(block)))
        except dada.DadaError as error:
            raise Failed(f"{path}: {error}") from None
    if size < header.size:
        raise Failed(f"{path} has {size} bytes, and its header alone should have {header.size}: it was cut off")
    return dada.Part(str(path), header, size - header.size)


def schema_of(header: dada.Header, without: tuple[str, ...]) -> str:
    """What a ring keeps of an observation's header."""
    text = header.without((*dada.VOLATILE, *without)).text()
    if len(text.encode()) >= SCHEMA_BYTES:
        raise Failed(
            f"the header has {len(text)} bytes without comments, and a ring keeps {SCHEMA_BYTES - 1}: leave keys that no reader "
            "needs out with --without KEY"
        )
    return text


@_filling
@click.option(
    "--frame-bytes",
    type=click.IntRange(1),
    metavar="N",
    help="Frames of N bytes.  [default: RESOLUTION, or the ring's]",
)
@click.option("--without", multiple=True, metavar="KEY", help="Leave KEY out of what the ring keeps of the header.")
@_TAIL
def import_dada(
    terminal: Terminal,
    files: tuple[Path, ...],
    ring: str,
    frame_bytes: int | None,
    without: tuple[str, ...],
    rate: float | None,
    tail: Tail,
    full: Full,
    timeout: float | None,
    create: bool,
    size: int | None,
    slots: int | None,
) -> int:
    """Write the data of PSRDADA files of one observation into RING, in the order of their OBS_OFFSET.

    A frame's sequence is its place in the observation, its time UTC_START and BYTES_PER_SECOND's; what no file has is declared as a
    gap. A ring that is made here keeps the header as its schema, without comments and without what is the file's alone. A ring with
    another schema is refused.
    """
    parts = [dada_part(path) for path in files]
    header = min(parts, key=lambda part: part.begin).header
    schema = schema_of(header, without)
    resolution = header.number("RESOLUTION")
    each = frame_bytes or (resolution if resolution >= FRAME_BYTES_LEAST else 0)
    with opened(ring, create, size, slots, frame_bytes=each, schema=schema) as target:
        each = each or target.frame_bytes
        if not each:
            raise click.UsageError(
                "the header has no RESOLUTION that would do as a frame's length: say --frame-bytes N."
            )
        if target.schema not in ("", schema):
            raise Failed(
                f"{ring} is another observation's: its schema is not these files' header; make a ring of its own"
            )
        try:
            runs = dada.runs(parts, each)
        except dada.DadaError as error:
            raise Failed(str(error)) from None
        if not target.schema:
            terminal.note(f"{ring} has no schema, so the files' header is not in it")
        with target.writer(full=full, name="import") as writer, terminal.progress("importing") as progress:
            filler = _Filler(target, writer, rate, timeout, progress)
            expected: int | None = None
            for run in runs:
                filler.go_to(run.first, expected)
                pieces = [Piece(Path(part.name), part.header.size) for part in run.parts]
                expected = run.first
                for block in _cut(terminal, FileFrames(pieces, each, tail=tail, most=_most(rate)), tail):
                    filler.put(block, each, header.time_ns(expected * each))
                    expected += len(block) // each
        return filler.done(terminal)


# ------------------------------------------------------------------------------------------------------------------- vdif


@_filling
@click.option(
    "--per-second",
    type=click.IntRange(1),
    metavar="N",
    help="Frames a second of a thread.  [default: the files say it]",
)
@click.option(
    "--threads", type=click.IntRange(1, vdif.THREADS), default=1, show_default=True, help="Threads 0 to N - 1."
)
@click.option(
    "--window",
    type=click.IntRange(1, 4096),
    default=64,
    show_default=True,
    metavar="N",
    help="Frames that one may be out of order by.",
)
def import_vdif(
    terminal: Terminal,
    files: tuple[Path, ...],
    ring: str,
    per_second: int | None,
    threads: int,
    window: int,
    rate: float | None,
    full: Full,
    timeout: float | None,
    create: bool,
    size: int | None,
    slots: int | None,
) -> int:
    """Write the frames of VDIF files into RING, each with its header, in the order of their numbers.

    A number is made of a header's second, frame and thread; what is missing is declared as a gap. A record's time is its first frame's.
    """
    first = _first_header(files[0])
    try:
        numbering = vdif.Numbering(per_second or first.per_second or _learned(files[0], first), threads)
        with opened(ring, create, size, slots, frame_bytes=first.frame_bytes) as target:
            with target.writer(full=full, name="import") as writer, terminal.progress("importing") as progress:
                filler = _Filler(target, writer, rate, timeout, progress)
                arrivals = Arrivals(writer, window=max(window, threads), timeout_s=timeout, group=threads)
                frames = FileFrames([Piece(path) for path in files], first.frame_bytes, most=_most(rate))
                try:
                    for block in _cut(terminal, frames, "refuse"):
                        filler.wait()
                        for at in range(0, len(block), first.frame_bytes):
                            frame = bytes(block[at : at + first.frame_bytes])
                            header = vdif.Header.parse(frame)
                            arrivals.take(numbering.number(header), numbering.time_ns(header), frame)
                            filler.offered += 1
                        progress.add(arrivals.out.frames - progress.frames, arrivals.out.bytes - progress.bytes)
                finally:
                    arrivals.give_up()
                    progress.add(arrivals.out.frames - progress.frames, arrivals.out.bytes - progress.bytes)
            order = arrivals.order
            if order.late or order.duplicates or order.strays or order.restarts:
                terminal.note(
                    f"out of place: {order.late} frames too late, {order.duplicates} twice, {order.strays} far off, "
                    f"{order.restarts} new beginnings"
                )
            first_seq = target.head - order.delivered - order.lost
            return _said(terminal, target, progress, arrivals.out.dropped, order.lost, first_seq)
    except vdif.VdifError as error:
        raise Failed(f"{error}. The frames before it are written.") from None


def _first_header(path: Path) -> vdif.Header:
    with path.open("rb") as file:
        try:
            return vdif.Header.parse(file.read(vdif.HEADER_BYTES))
        except vdif.VdifError as error:
            raise Failed(f"{path}: {error}") from None


def _learned(path: Path, first: vdif.Header) -> int:
    """How many frames a second has, seen from a second that ends in the file."""
    most, second = 0, first.seconds
    with path.open("rb") as file:
        for at in range(LOOK_HEADERS):
            file.seek(at * first.frame_bytes)
            data = file.read(vdif.HEADER_BYTES)
            if len(data) < vdif.HEADER_BYTES:
                break
            header = vdif.Header.parse(data)
            if header.seconds != second:
                return most + 1
            most = max(most, header.frame)
    raise Failed(f"{path} has no rate in its headers and no whole second from which to learn it: say --per-second N")
