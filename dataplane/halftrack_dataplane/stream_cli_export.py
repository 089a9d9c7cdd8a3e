"""The verbs that put a ring's frames into files of instruments: `export raw`, `export dada`. A file has its name when it is complete."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import click

from halftrack_dataplane import dada
from halftrack_dataplane.intake import Intake, Taken
from halftrack_dataplane.recording import PART
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.stream_cli_frame import (
    DONE,
    ERROR,
    Blocked,
    Failed,
    Program,
    Progress,
    Stop,
    Terminal,
    size_bytes,
    size_text,
    stoppable,
    verb,
)
from halftrack_dataplane.stream_cli_rings import Losses, Policy, Work, joined, start_option, timeout_option

Gaps = Literal["zeros", "skip", "refuse"]
FILL_MOST = 1 << 30  # zeros for one gap: a sender that jumped must not fill a disk
ZEROS = bytes(1 << 16)
LOOK_S = 0.1

_OPTIONS = (
    click.argument("ring"),
    click.argument("file", type=click.Path(path_type=Path)),
    start_option,
    click.option("--count", type=click.IntRange(1), metavar="N", help="End after N frames."),
    click.option("--drain", is_flag=True, help="End after what is there when we join."),
    timeout_option,
    click.option(
        "--policy",
        type=click.Choice(["lossless", "lossy"]),
        default="lossless",
        show_default=True,
        help="Hold the writer up, or be overrun.",
    ),
    click.option(
        "--gaps",
        type=click.Choice(["zeros", "skip", "refuse"]),
        default="zeros",
        show_default=True,
        help="What the file has where frames were lost.",
    ),
    click.option("--force", is_flag=True, help="Replace FILE if it is there."),
)


def declare(program: Program) -> None:
    """Add the verbs to the program."""

    @program.group("export")
    def to_files() -> None:
        """Write a ring's frames to files of an instrument."""

    verb(
        to_files,
        "raw",
        "halftrack-stream export raw /dev/shm/adc.ring samples.raw --start oldest --drain",
        "halftrack-stream export raw /dev/shm/adc.ring minute.raw --count 60000 --gaps refuse",
    )(export_raw)
    verb(
        to_files,
        "dada",
        "halftrack-stream export dada /dev/shm/sky.ring scan.dada --start oldest --drain",
        "halftrack-stream export dada /dev/shm/sky.ring scan.dada --count 60000 --file-size 1GiB --set SOURCE=J0437-4715",
    )(export_dada)


def _exporting(work: Work) -> Work:
    for option in reversed(_OPTIONS):
        work = option(work)
    return work


@dataclass(frozen=True, slots=True)
class _Asked:
    """What of a ring is wanted, and until when."""

    ring: str
    file: Path
    start: str
    count: int | None
    drain: bool
    timeout_s: float | None
    policy: Policy
    gaps: Gaps
    force: bool


@_exporting
def export_raw(
    terminal: Terminal,
    ring: str,
    file: Path,
    start: str,
    count: int | None,
    drain: bool,
    timeout: float | None,
    policy: Policy,
    gaps: Gaps,
    force: bool,
) -> int:
    """Write RING's frames into FILE, one behind the other, until --count, --drain or Ctrl-C.

    Where frames were lost the file has zeros for them, unless --gaps says otherwise; that is told on standard error.
    """
    asked = _Asked(ring, file, start, count, drain, timeout, policy, gaps, force)
    return _exported(terminal, asked, None, 0)


@_exporting
@click.option(
    "--file-size", type=size_bytes, default="0", metavar="SIZE", help="Begin another file after SIZE of data."
)
@click.option("--set", "changed", multiple=True, metavar="KEY=VALUE", help="Say KEY in the header.")
def export_dada(
    terminal: Terminal,
    ring: str,
    file: Path,
    start: str,
    count: int | None,
    drain: bool,
    timeout: float | None,
    policy: Policy,
    gaps: Gaps,
    force: bool,
    file_size: int,
    changed: tuple[str, ...],
) -> int:
    """Write RING's frames into PSRDADA files, until --count, --drain or Ctrl-C.

    The header is the ring's schema, if that is one, and what --set says. OBS_OFFSET is a frame's sequence times its length. With
    --file-size the second file and those after it have a number before FILE's suffix. Frames have to be of one length.
    """
    asked = _Asked(ring, file, start, count, drain, timeout, policy, gaps, force)
    with Ring.open(ring, readonly=True) as looked:
        header = _header_of(looked.schema, changed)
    return _exported(terminal, asked, header, file_size)


def _header_of(schema: str, changed: tuple[str, ...]) -> dada.Header:
    try:
        header = dada.Header.parse(schema.encode())
    except dada.DadaError:  # it says something else about frames
        header = dada.Header({"HDR_VERSION": "1.0"})
    for text in changed:
        key, equals, value = text.partition("=")
        if not equals or not value:
            raise click.UsageError(f"--set {text}: write KEY=VALUE")
        header = header.but(**{key: value})
    try:
        header.to_bytes()
        return dada.Header.parse(header.text().encode())
    except dada.DadaError as error:
        raise Failed(f"the header cannot be written: {error}") from None


def _exported(terminal: Terminal, asked: _Asked, header: dada.Header | None, file_size: int) -> int:
    _refuse_to_replace(asked.file, asked.force)
    with Ring.open(asked.ring) as source:
        end = source.head if asked.drain else None
        with joined(source, start=asked.start, policy=asked.policy, name="export") as reader:
            intake = Intake(reader, source.capacity_bytes)
            losses = Losses(terminal, intake)
            with (
                _Files(asked, header, file_size) as out,
                terminal.progress("exporting") as progress,
                stoppable() as stop,
            ):
                try:
                    _copy(intake, losses, out, asked, end, stop, progress)
                finally:
                    out.finish()
                    losses.total()
    names = [str(path) for path in out.paths]
    done = {"files": names, "frames": progress.frames, "bytes": progress.bytes, "filled_bytes": out.filled}
    terminal.summary(done, f"{progress.frames} frames, {size_text(progress.bytes)}, in {len(names)} files")
    return ERROR if intake.corrupt else DONE


def _copy(
    intake: Intake, losses: Losses, out: "_Files", asked: _Asked, end: int | None, stop: Stop, progress: Progress
) -> None:
    heard = time.monotonic()
    while not stop.asked and (asked.count is None or progress.frames < asked.count):
        taken = intake.take(0 if end is not None else LOOK_S)
        if taken is None:
            if end is not None:
                return
            if asked.timeout_s is not None and time.monotonic() - heard >= asked.timeout_s:
                raise Blocked(f"no frame within {asked.timeout_s} s; {progress.frames} frames were written before")
            continue
        heard = time.monotonic()
        losses.tell(taken)
        if end is not None:
            if taken.seq >= end:
                return
            taken = taken.first(end - taken.seq)
        if asked.count is not None:
            taken = taken.first(asked.count - progress.frames)
        out.put(taken)
        progress.add(taken.count, taken.count * taken.frame_bytes)


def _refuse_to_replace(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise Failed(f"{path} exists; choose another name, or --force to replace it")


class _Files:
    """One file, or several of `file_size` bytes of data; with a DADA header each, or without."""

    def __init__(self, asked: _Asked, header: dada.Header | None, file_size: int) -> None:
        self._asked, self._header, self._file_size = asked, header, file_size
        self._file: BinaryIO | None = None
        self._room = 0
        self._next: int | None = None
        self._each = 0
        self.paths: list[Path] = []
        self.filled = 0

    def put(self, taken: Taken) -> None:
        """Write what was taken, and what belongs where something is missing before it or in its place."""
        if self._next is not None and taken.seq > self._next:
            self._fill(taken.seq - self._next, self._next)
        if taken.gap and self._next is not None:
            self._fill(taken.gap, taken.seq)
        if taken.count:
            if self._header is not None and self._each not in (0, taken.frame_bytes):
                raise Failed(
                    f"frame {taken.seq} has {taken.frame_bytes} bytes, those before it {self._each}: a DADA file has frames of one length"
                )
            self._each = taken.frame_bytes
            self._write(taken.block, taken.seq * taken.frame_bytes)
        if taken.count or self._next is not None:
            self._next = taken.seq + (taken.gap or taken.count)

    def _fill(self, count: int, seq: int) -> None:
        size = count * self._each
        if self._asked.gaps == "refuse":
            raise Failed(f"{count} frames from sequence {seq} on were lost, and --gaps refuse says to end there")
        if self._asked.gaps == "skip":
            return
        if size > FILL_MOST:
            raise Failed(
                f"{count} frames from sequence {seq} on were lost: {size_text(size)} of zeros are more than {size_text(FILL_MOST)}. "
                f"Go on in another file with --start {seq + count}, or say --gaps skip."
            )
        self.filled += size
        for at in range(0, size, len(ZEROS)):
            self._write(memoryview(ZEROS)[: min(len(ZEROS), size - at)], seq * self._each + at)

    def _write(self, data: memoryview, offset: int) -> None:
        while len(data):
            file = self._file or self._open(offset)
            piece = data[: self._room] if self._file_size else data
            file.write(piece)
            self._room -= len(piece)
            offset += len(piece)
            data = data[len(piece) :]
            if self._file_size and not self._room:
                self._close(file)

    def _open(self, offset: int) -> BinaryIO:
        path = self._asked.file
        if self.paths:
            path = path.with_name(f"{path.stem}.{len(self.paths):06d}{path.suffix}")
        _refuse_to_replace(path, self._asked.force)
        file = self._file = path.with_name(path.name + PART).open("wb", buffering=1 << 20)
        self.paths.append(path)
        self._room = self._file_size
        if self._header is not None:
            said = {"OBS_OFFSET": offset, "FILE_NUMBER": len(self.paths) - 1}
            if self._file_size:
                said["FILE_SIZE"] = self._file_size
            file.write(self._header.but(**said).to_bytes())
        return file

    def _close(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._file = None
        self.paths[-1].with_name(self.paths[-1].name + PART).replace(self.paths[-1])

    def finish(self) -> None:
        """The last file is complete; without a frame there is an empty one."""
        if self._file is None and not self.paths:
            self._open(0)
        if self._file is not None:
            self._close(self._file)

    def __enter__(self) -> "_Files":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
