"""The verbs that put packets from the network into a ring: `capture udp`, `capture vdif`, and `capture spead` of stream_cli_spead."""

import time
from dataclasses import dataclass
from typing import Any, Literal

import click

from halftrack_dataplane import vdif
from halftrack_dataplane.datagrams import BUFFER_BYTES, BadAddress, Listening, address, listening
from halftrack_dataplane.packet_capture import Capture
from halftrack_dataplane.stream_cli_frame import (
    DONE,
    SECONDS,
    Blocked,
    Program,
    Progress,
    Stop,
    Terminal,
    size_bytes,
    size_text,
    stoppable,
    verb,
)
from halftrack_dataplane.stream_cli_rings import Full, Work, creation_options, opened, timeout_option

Numbers = Literal["arrival", "le64", "be64", "vdif"]

_OPTIONS = (
    click.argument("ring"),
    click.option(
        "--listen", required=True, metavar="HOST:PORT", help="Where packets come in; port 0: any, and it is told."
    ),
    click.option(
        "--frame-bytes", type=click.IntRange(1, 65507), metavar="N", help="Frames of N bytes.  [default: the ring's]"
    ),
    click.option(
        "--window",
        type=click.IntRange(1, 4096),
        default=64,
        show_default=True,
        metavar="N",
        help="Packets that one may be out of order by.",
    ),
    click.option(
        "--buffer",
        type=size_bytes,
        default=f"{BUFFER_BYTES >> 20}MiB",
        show_default=True,
        metavar="SIZE",
        help="The socket's buffer.",
    ),
    click.option("--count", type=click.IntRange(1), metavar="N", help="End when N frames have come."),
    click.option("--seconds", type=SECONDS, metavar="S", help="End after S seconds."),
    timeout_option,
    click.option(
        "--full",
        type=click.Choice(["block", "drop", "overwrite"]),
        default="drop",
        show_default=True,
        help="What to do when there is no room.",
    ),
    creation_options,
    click.option("--epoch", type=click.IntRange(0), default=0, show_default=True, help="The frames' epoch."),
)


def capture_options(work: Work) -> Work:
    """What all captures have."""
    for option in reversed(_OPTIONS):
        work = option(work)
    return work


def place_of(text: str, *, may_choose: bool = False) -> tuple[str, int]:
    """HOST:PORT, refused in the words of a command line."""
    try:
        return address(text, may_choose=may_choose)
    except BadAddress as error:
        raise click.UsageError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a capture is complete: after so many frames or seconds; a silence beyond `timeout_s` ends it with status 3."""

    count: int | None
    seconds: float | None
    timeout_s: float | None

    def reached(self, frames: int, began_s: float, heard_s: float, now_s: float) -> bool:
        """Is it complete? Blocked if nothing came for too long."""
        if self.timeout_s is not None and now_s - heard_s >= self.timeout_s:
            raise Blocked(f"no packet within {self.timeout_s} s; {frames} frames were captured before")
        enough = self.count is not None and frames >= self.count
        return enough or (self.seconds is not None and now_s - began_s >= self.seconds)


def declare(program: Program) -> click.Group:
    """Add the verbs to the program. The group, for others that capture."""

    @program.group("capture")
    def from_network() -> None:
        """Put packets from the network into a ring."""

    verb(
        from_network,
        "udp",
        "halftrack-stream capture udp --listen 0.0.0.0:7148 /dev/shm/adc.ring --frame-bytes 8192 --create",
        "halftrack-stream capture udp --listen 0.0.0.0:7148 /dev/shm/adc.ring --numbers be64 --window 256 --count 100000",
    )(udp)
    verb(
        from_network,
        "vdif",
        "halftrack-stream capture vdif --listen 0.0.0.0:46220 /dev/shm/vlbi.ring --frame-bytes 8032 --per-second 25000 --create",
        "halftrack-stream capture vdif --listen 0.0.0.0:46220 /dev/shm/vlbi.ring --numbers le64 --seconds 60",
    )(capture_vdif)
    return from_network


@capture_options
@click.option(
    "--numbers",
    type=click.Choice(["none", "le64", "be64"]),
    default="none",
    show_default=True,
    help="A packet's number: its first 8 bytes, which are no part of the frame.",
)
def udp(terminal: Terminal, ring: str, numbers: str, **options: Any) -> int:
    """Put the packets that come in at --listen into RING, one a frame, in the order of their numbers.

    Packets without numbers are taken as they come, and what the network loses cannot be seen. What is lost, or finds no room, is declared
    as a gap. A record has the time at which its first frame came. A sender that begins again gets the next epoch.
    """
    kind: Numbers = "arrival" if numbers == "none" else "le64" if numbers == "le64" else "be64"
    return _captured(terminal, ring, kind, prefixed=kind != "arrival", numbering=None, **options)


@capture_options
@click.option("--per-second", type=click.IntRange(1), metavar="N", help="Frames a second of a thread.")
@click.option(
    "--threads", type=click.IntRange(1, vdif.THREADS), default=1, show_default=True, help="Threads 0 to N - 1."
)
@click.option(
    "--numbers",
    type=click.Choice(["header", "le64", "be64"]),
    default="header",
    show_default=True,
    help="From the frame's header, or 8 bytes before it.",
)
@click.option("--prefixed", is_flag=True, help="8 bytes before each frame are to be left out.")
def capture_vdif(
    terminal: Terminal, ring: str, numbers: str, per_second: int | None, threads: int, prefixed: bool, **options: Any
) -> int:
    """Put the VDIF frames that come in at --listen into RING, each with its header, in the order of their numbers.

    A number is made of a header's second, frame and thread, for which --per-second has to be known, or is in 8 bytes before the header.
    What is lost is declared as a gap. A record has its first frame's time by its header, or by the clock if --numbers is not header.
    """
    if numbers != "header":
        kind: Numbers = "le64" if numbers == "le64" else "be64"
        return _captured(terminal, ring, kind, prefixed=True, numbering=None, **options)
    if per_second is None:
        raise click.UsageError("say how many frames a second a thread has, --per-second N, or --numbers le64 or be64.")
    try:
        numbering = vdif.Numbering(per_second, threads)
    except vdif.VdifError as error:
        raise click.UsageError(str(error)) from None
    return _captured(terminal, ring, "vdif", prefixed=prefixed, numbering=numbering, **options)


def _captured(
    terminal: Terminal,
    ring: str,
    numbers: Numbers,
    *,
    prefixed: bool,
    numbering: vdif.Numbering | None,
    listen: str,
    frame_bytes: int | None,
    window: int,
    buffer: int,
    count: int | None,
    seconds: float | None,
    timeout: float | None,
    full: Full,
    create: bool,
    size: int | None,
    slots: int | None,
    epoch: int,
) -> int:
    host, port = place_of(listen, may_choose=True)
    with opened(ring, create, size, slots, frame_bytes=frame_bytes or 0) as target:
        each = frame_bytes or target.frame_bytes
        if not each:
            raise click.UsageError(f"{ring} takes frames of any length: say --frame-bytes N.")
        heard = listening(host, port, buffer)
        with heard.socket, target.writer(full=full, name="capture") as writer, stoppable() as stop:
            note_of_listening(terminal, heard, port)
            capture = Capture(
                writer,
                target.capacity_bytes,
                heard.socket.fileno(),
                frame_bytes=each,
                numbers=numbers,
                prefixed=prefixed,
                window=max(window, numbering.threads) if numbering else window,
                keep_on=lambda: not stop.asked,
                numbering=numbering,
                epochs_s=[vdif.epoch_s(number) for number in range(vdif.EPOCHS)],
                leaps_s=vdif.LEAPS,
                epoch=epoch,
            )
            try:
                with terminal.progress("capturing") as progress:
                    _run(capture, Bounds(count, seconds, timeout), stop, progress, each)
            finally:
                capture.finish()
                said(terminal, ring, counts(capture), capture.frames * each, target.head)
    return DONE


def note_of_listening(terminal: Terminal, heard: Listening, port: int) -> None:
    """Say which port the kernel chose, and that it gave less buffer than was asked for."""
    if not port:
        terminal.note(f"listening on port {heard.port}")
    if heard.granted_bytes < heard.asked_bytes:
        terminal.note(
            f"the kernel gives the socket {size_text(heard.granted_bytes)} of buffer, not {size_text(heard.asked_bytes)}: raise it with "
            f"sysctl -w net.core.rmem_max={heard.asked_bytes}, or say --buffer"
        )


def _run(capture: Capture, bounds: Bounds, stop: Stop, progress: Progress, each: int) -> None:
    began = last = time.monotonic()
    packets = 0
    while not stop.asked and not bounds.reached(capture.frames, began, last, time.monotonic()):
        done = capture.step(None if bounds.count is None else bounds.count - capture.frames)
        if capture.packets != packets:
            packets, last = capture.packets, time.monotonic()
        progress.add(done, done * each)


def counts(capture: Capture) -> dict[str, int]:
    """All that a capture counts."""
    order = capture.order
    return {
        "packets": capture.packets,
        "frames": capture.frames,
        "lost": order.lost,
        "late": order.late,
        "duplicates": order.duplicates,
        "strays": order.strays,
        "restarts": order.restarts,
        "wrong_size": capture.wrong_size,
        "unfit": capture.unfit,
        "dropped": capture.dropped,
        "kernel_drops": capture.kernel_drops,
    }


def said(terminal: Terminal, ring: str, counted: dict[str, int], size: int, next_seq: int) -> None:
    """What went wrong on standard error, if anything did; how it went as the verb's summary."""
    wrong = {name: number for name, number in counted.items() if number and name not in ("packets", "frames")}
    if wrong:
        terminal.note(
            "not as sent: " + ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in wrong.items())
        )
    done = {"ring": ring, **counted, "bytes": size, "next_seq": next_seq}
    terminal.summary(done, f"{counted['frames']} frames, {size_text(size)}, up to sequence {next_seq}")
