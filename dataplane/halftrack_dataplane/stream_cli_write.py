"""The verbs that make and fill a ring: `create` and `write`."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import click

from halftrack_dataplane.frames import RingFull
from halftrack_dataplane.framing import Form, Incomplete, Overlong
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.ring_writer import Writer
from halftrack_dataplane.stream_cli_frame import (
    DONE,
    SECONDS,
    Failed,
    Program,
    Progress,
    Terminal,
    size_bytes,
    size_text,
    verb,
)  # fmt: skip
from halftrack_dataplane.stream_cli_rings import (
    Full,
    creation_options,
    form_of,
    form_options,
    full_option,
    made,
    opened,
    timeout_option,
)  # fmt: skip

PIECE_BYTES = 256 << 10  # of one read: more than a pipe holds by default, less than a cache


@dataclass(slots=True)
class Written:
    """How a `write` went. `first_seq` is meaningless without frames."""

    ring: str
    frames: int = 0
    bytes: int = 0
    dropped: int = 0
    first_seq: int = 0
    next_seq: int = 0


def declare(program: Program) -> None:
    """Add the verbs to the program."""
    _declare_create(program)
    _declare_write(program)


@click.argument("ring")
@click.option(
    "--size", type=size_bytes, metavar="SIZE", default="64MiB", show_default=True, help="Bytes of frames it holds."
)
@click.option("--slots", type=click.IntRange(2), default=4096, show_default=True, help="Records it holds.")
@click.option("--frame-bytes", type=click.IntRange(0), default=0, metavar="N", help="All frames have N bytes.")
@click.option("--schema", default="", metavar="TEXT", help="What a frame is, as a NumPy dtype descriptor.")
@click.option(
    "--dtype", metavar="DTYPE", help="Frames are NumPy's: '<f4', '(1024,)<i2'. Says --frame-bytes and --schema."
)
@click.option("--checked", is_flag=True, help="Each record carries the CRC-32C of its bytes.")
@click.option("--shared", is_flag=True, help="Several writers may have it, and take turns.")
@click.option("--retain", type=SECONDS, metavar="S", help="Frames older than the newest by S seconds go early.")
@click.option("--label", default="", metavar="TEXT", help="What the stream is, for people.")
@click.option("--mode", default="600", show_default=True, metavar="OCTAL", help="Permissions of the file.")
def create(
    terminal: Terminal,
    ring: str,
    size: int,
    slots: int,
    frame_bytes: int,
    schema: str,
    dtype: str | None,
    checked: bool,
    shared: bool,
    retain: float | None,
    label: str,
    mode: str,
) -> int:
    """Make a ring at the path RING; rm removes it.

    Put it on a file system in memory, /dev/shm for one. --slots is a power of two. A frame may have half of --size. --retain goes by
    the frames' own times, and never takes what a lossless reader needs.
    """
    try:
        permissions = int(mode, 8)
    except ValueError:
        permissions = -1
    if not 0 <= permissions <= 0o777:
        raise click.UsageError(f"--mode {mode} is no permission; write three octal digits as chmod takes them: 640")
    with made(
        ring,
        capacity_bytes=size,
        slots=slots,
        frame_bytes=frame_bytes,
        schema=schema,
        dtype=dtype,
        checked=checked,
        shared=shared,
        retain_s=retain,
        label=label,
        mode=permissions,
    ) as new:
        value = {name: getattr(new, name) for name in ("capacity_bytes", "slots", "frame_bytes", "checked")}
        value |= {name: getattr(new, name) for name in ("label", "schema", "shared", "retain_s", "base_seq")}
        each = f"frames of {new.frame_bytes} bytes" if new.frame_bytes else "frames of any length"
        text = f"{ring}: {size_text(new.capacity_bytes)} in {new.slots} slots, {each}"
        terminal.result({"ring": ring, **value}, text)
    return DONE


def _declare_create(program: Program) -> None:
    """Add the verb to the program."""
    verb(
        program,
        "create",
        "halftrack-stream create /dev/shm/adc.ring",
        "halftrack-stream create /dev/shm/adc.ring --size 1GiB --slots 65536 --frame-bytes 8192 --checked",
        "halftrack-stream create /dev/shm/log.ring --size 4MiB --label 'site log' --mode 640 --shared",
        "halftrack-stream create /dev/shm/spectra.ring --dtype '(1024,)<f4' --retain 60",
    )(create)


@click.argument("ring")
@form_options
@full_option
@timeout_option
@creation_options
@click.option(
    "--spare",
    type=click.IntRange(0, 255),
    metavar="P",
    help="With --full overwrite: wait for readers of priority P or more.",
)
@click.option("--epoch", type=click.IntRange(0), default=0, show_default=True, help="The frames' epoch.")
@click.option("--name", default="write", show_default=True, help="The writer's name, for `top`.")
def write(
    terminal: Terminal,
    ring: str,
    frame_bytes: int | None,
    lines: bool,
    framed: bool,
    full: Full,
    timeout: float | None,
    create: bool,
    size: int | None,
    slots: int | None,
    spare: int | None,
    epoch: int,
    name: str,
) -> int:
    """Write standard input into RING until it ends, and say nothing if all went well.

    In a ring whose frames all have one length, input is cut to that; else say how it is cut. --timeout is for one wait for room.
    Frames carry the time at which they were read.
    """
    if spare is not None and full != "overwrite":
        raise click.UsageError("--spare is for --full overwrite: the others evict nobody.")
    form = form_of(frame_bytes, lines, framed)
    with opened(ring, create, size, slots, frame_bytes=frame_bytes or 0) as opened_ring:
        form = form or (Form("fixed", opened_ring.frame_bytes) if opened_ring.frame_bytes else None)
        if form is None:
            raise click.UsageError(
                f"{ring} takes frames of any length: say how the input is cut, --frame-bytes N, --lines or --framed."
            )
        with opened_ring.writer(full=full, name=name, spare=spare) as writer, terminal.progress("writing") as progress:
            pen = _Pen(opened_ring, writer, epoch, timeout, progress)
            try:
                pen.copy(form)
            finally:
                if pen.written.dropped:
                    terminal.note(f"dropped: {pen.written.dropped} frames for want of room, as --full drop says")
    done = pen.written
    terminal.summary(done, f"{done.frames} frames, {size_text(done.bytes)}, up to sequence {done.next_seq}")
    return DONE


def _declare_write(program: Program) -> None:
    """Add the verb to the program."""
    verb(
        program,
        "write",
        "halftrack-stream write /dev/shm/adc.ring --frame-bytes 8192 < samples.raw",
        "journalctl -f | halftrack-stream write /dev/shm/log.ring --lines --create --size 4MiB",
        "halftrack-stream read a.ring --framed | halftrack-stream write b.ring --framed --full drop",
    )(write)


class _Pen:
    """Standard input on its way into a ring."""

    def __init__(self, ring: Ring, writer: Writer, epoch: int, timeout_s: float | None, progress: Progress) -> None:
        self._ring, self._writer, self._epoch = ring, writer, epoch
        self._timeout_s, self._progress = timeout_s, progress
        self.written = Written(ring.path, first_seq=ring.head, next_seq=ring.head)

    def copy(self, form: Form) -> None:
        """All of standard input."""
        if form.kind == "fixed":
            self._fixed(form.frame_bytes)
            return
        cutter = form.cutter(self._ring.capacity_bytes // 2)
        try:
            while piece := os.read(sys.stdin.fileno(), PIECE_BYTES):
                self._write(cutter.feed(piece))
            self._write(cutter.end())
        except (Incomplete, Overlong) as error:
            self._write(error.frames if isinstance(error, Overlong) else [])
            raise self._bad_input(error) from None

    def _write(self, frames: Sequence[bytes]) -> None:
        if frames:
            with self._waiting():
                seqs = self._writer.write_many(
                    frames, epoch=self._epoch, timestamp_ns=time.time_ns(), timeout_s=self._timeout_s
                )
            self._count(len(frames), len(seqs), sum(map(len, frames[: len(seqs)])))

    def _fixed(self, size: int) -> None:
        """Frames of one length need no cutting: they go from one buffer into the ring as they lie."""
        room = memoryview(bytearray(max(1, PIECE_BYTES // size) * size))
        held = 0
        while got := os.readv(sys.stdin.fileno(), [room[held:]]):
            held += got
            whole = held // size
            if whole:
                with self._waiting():
                    block = room[: whole * size].cast("B", (whole, size))
                    seqs = self._writer.write_array(
                        block, epoch=self._epoch, timestamp_ns=time.time_ns(), timeout_s=self._timeout_s
                    )
                self._count(whole, len(seqs), len(seqs) * size)
                rest = held - whole * size
                room[:rest] = room[whole * size : held]
                held = rest
        if held:
            raise self._bad_input(f"{held} of a frame's {size} bytes")

    def _count(self, offered: int, written: int, size: int) -> None:
        self.written.frames += written
        self.written.bytes += size
        self.written.dropped += offered - written
        self.written.next_seq = self._ring.head
        self._progress.add(written, size)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        try:
            yield
        except RingFull as error:
            frames = self.written.frames + error.written
            raise RingFull(f"{error}; {frames} frames were written before, up to sequence {self._ring.head}") from None

    def _bad_input(self, what: object) -> Failed:
        return Failed(
            f"standard input is not what it was said to be, after {self.written.frames} frames, which are written: "
            f"it has {what}. Check --frame-bytes, --lines or --framed against what writes it."
        )
