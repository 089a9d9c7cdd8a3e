"""The verbs' way to a ring: options that several of them have, opening or making one, joining it, and saying what was lost.

Owns no verb. Never removes a ring: whoever created a stream does.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import click

from halftrack_dataplane.framing import Form
from halftrack_dataplane.intake import Intake, Taken
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.ring_reader import Reader
from halftrack_dataplane.stream_cli_frame import SECONDS, Failed, Terminal, size_bytes, start_place

Full = Literal["block", "drop", "overwrite"]
Policy = Literal["lossless", "lossy", "sample"]
Work = TypeVar("Work", bound=Callable[..., Any])

LOSSES_TOLD = 10  # one by one; a reader that is overrun a thousand times a second must not fill a terminal with it
SIZE_DEFAULT = 64 << 20

_CREATION = (
    click.option("--create", is_flag=True, help="Make RING first if it is not there."),
    click.option(
        "--size", type=size_bytes, metavar="SIZE", help="With --create: bytes of frames it holds.  [default: 64MiB]"
    ),
    click.option("--slots", type=click.IntRange(2), help="With --create: records it holds.  [default: 4096]"),
)
_FORMS = (
    click.option("--frame-bytes", type=click.IntRange(1), metavar="N", help="Frames of N bytes, one behind the other."),
    click.option("--lines", is_flag=True, help="A frame a line."),
    click.option("--framed", is_flag=True, help="Each frame behind its length: 32 bits, unsigned, little-endian."),
)
timeout_option = click.option("--timeout", type=SECONDS, metavar="S", help="Give up after S seconds (exit status 3).")
start_option = click.option(
    "--start",
    type=start_place,
    default="now",
    show_default=True,
    metavar="now|oldest|SEQ|@TIME_NS",
    help="Where to join.",
)
full_option = click.option(
    "--full",
    type=click.Choice(["block", "drop", "overwrite"]),
    default="block",
    show_default=True,
    help="What to do when there is no room.",
)


def creation_options(work: Work) -> Work:
    """--create, --size, --slots."""
    for option in reversed(_CREATION):
        work = option(work)
    return work


def form_options(work: Work) -> Work:
    """--frame-bytes, --lines, --framed."""
    for option in reversed(_FORMS):
        work = option(work)
    return work


def form_of(frame_bytes: int | None, lines: bool, framed: bool) -> Form | None:
    """The one form that was asked for, or None."""
    if (frame_bytes is not None) + lines + framed > 1:
        raise click.UsageError("--frame-bytes, --lines and --framed exclude each other: say one.")
    if frame_bytes is not None:
        return Form("fixed", frame_bytes)
    return Form("lines") if lines else Form("framed") if framed else None


def made(path: str, **options: Any) -> Ring:
    """A new ring; what no ring can be is refused in our words."""
    try:
        return Ring.create(path, **options)
    except ValueError as error:
        raise Failed(f"{path} cannot be made: {error}") from None


def opened(path: str, create: bool, size: int | None, slots: int | None, **options: Any) -> Ring:
    """The ring at `path`, made first if that was asked for and there is none."""
    if not create and (size is not None or slots is not None):
        raise click.UsageError("--size and --slots are for making a ring: add --create.")
    if create:
        try:
            return made(path, capacity_bytes=size or SIZE_DEFAULT, slots=slots or 4096, **options)
        except FileExistsError:
            pass
    return Ring.open(path)


def joined(
    ring: Ring, *, start: str, policy: Policy = "lossless", name: str = "", verify: bool = False, **options: Any
) -> Reader:
    """A reader of `ring` from where `start` says."""
    if verify and not ring.checked:
        raise Failed(f"{ring.path} has no checksums to verify; a ring has them when it is created with --checked")
    at: Any = start
    if start.startswith("@"):
        at = ring.seq_at(int(start[1:]))
    elif start.isdigit():
        at = int(start)
    return ring.reader(policy=policy, name=name, start=at, verify=verify, **options)


class Losses:
    """Says on standard error what a reader did not get: the first few one by one, all in the end."""

    def __init__(self, terminal: Terminal, intake: Intake) -> None:
        self._terminal, self._intake = terminal, intake
        self._told = 0

    def tell(self, taken: Taken) -> None:
        """What is missing before `taken`, or in its place."""
        if not (taken.missed or taken.corrupt or taken.gap):
            return
        if taken.missed:
            self._say(f"missed: {taken.missed} frames before sequence {taken.seq} (overrun, or gone before we joined)")
        if taken.corrupt:
            self._say(f"corrupt: {taken.corrupt} frames before sequence {taken.seq} do not match their checksum")
        if taken.gap:
            self._say(f"gap: sequences {taken.seq} to {taken.seq + taken.gap - 1} are declared as lost")

    def _say(self, text: str) -> None:
        self._told += 1
        if self._told <= LOSSES_TOLD:
            self._terminal.note(text)
        if self._told == LOSSES_TOLD:
            self._terminal.note("what else is missing is counted, and told in the end")

    def total(self) -> None:
        """All of it, if there is any."""
        intake = self._intake
        if intake.lost:
            self._terminal.note(
                f"lost: {intake.lost} frames: {intake.gap_frames} in {intake.gaps} declared gaps, {intake.missed} missed, "
                f"{intake.corrupt} corrupt"
            )
