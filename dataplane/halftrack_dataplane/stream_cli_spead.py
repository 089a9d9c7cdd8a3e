"""The verbs for SPEAD: `capture spead` and `send spead`. What a heap is, spead_heaps knows."""

import time
from typing import Any

import click

from halftrack_dataplane.arrivals import Arrivals
from halftrack_dataplane.datagrams import Listening, listening
from halftrack_dataplane.intake import Intake
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.ring_writer import Writer
from halftrack_dataplane.spead_heaps import PACKET_BYTES, HeapReceiver, HeapSender, SpeadMissing, SpeadUnfit
from halftrack_dataplane.stream_cli_capture import Bounds, capture_options, note_of_listening, place_of, said
from halftrack_dataplane.stream_cli_frame import (
    DONE,
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
from halftrack_dataplane.stream_cli_rings import Full, Losses, joined, opened, start_option, timeout_option

LOOK_S = 0.1


def declare(program: Program, captures: click.Group) -> None:
    """Add the verbs to the program."""
    verb(
        captures,
        "spead",
        "halftrack-stream capture spead --listen 0.0.0.0:7148 /dev/shm/sky.ring --create --item 0x3300",
        "halftrack-stream capture spead --listen 0.0.0.0:7148 /dev/shm/sky.ring --step 4096 --seconds 60",
    )(capture_spead)

    @program.group("send")
    def to_network() -> None:
        """Send a ring's frames into the network."""

    verb(
        to_network,
        "spead",
        "halftrack-stream send spead /dev/shm/sky.ring 10.0.0.7:7148",
        "halftrack-stream send spead /dev/shm/sky.ring 10.0.0.7:7148 --start oldest --drain --rate 1GB --step 4096",
    )(send_spead)


def _number(_context: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else int(value, 0)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no item's identifier; write it as 0x3300 or as 13056") from None


@capture_options
@click.option("--item", callback=_number, metavar="ID", help="Which item is the frame.  [default: the only one]")
@click.option(
    "--step", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="The heap counter goes up by N."
)
def capture_spead(
    terminal: Terminal, ring: str, item: int | None, step: int, listen: str, buffer: int, **options: Any
) -> int:
    """Put SPEAD heaps that come in at --listen into RING, one a frame: the bytes of one item, in the order of the heap counter.

    Heaps that are lost or incomplete are declared as a gap. Frames have the time at which they came. It ends when the sender ends
    its stream. Needs the package spead2 (the extra `spead`).
    """
    host, port = place_of(listen, may_choose=True)
    try:
        heard = listening(host, port, buffer)
        with heard.socket:
            receiver = HeapReceiver(heard, item=item, step=step)
            try:
                note_of_listening(terminal, heard, port)
                return _captured(terminal, ring, receiver, heard, **options)
            finally:
                receiver.close()
    except (SpeadMissing, SpeadUnfit) as error:
        raise Failed(str(error)) from None


def _captured(
    terminal: Terminal,
    ring: str,
    receiver: HeapReceiver,
    heard: Listening,
    *,
    frame_bytes: int | None,
    window: int,
    count: int | None,
    seconds: float | None,
    timeout: float | None,
    full: Full,
    create: bool,
    size: int | None,
    slots: int | None,
    epoch: int,
) -> int:
    with opened(ring, create, size, slots, frame_bytes=frame_bytes or 0) as target:
        each = frame_bytes or target.frame_bytes
        with target.writer(full=full, name="capture") as writer, stoppable() as stop:
            taker = _Taker(writer, receiver, each, window, epoch)
            try:
                with terminal.progress("capturing") as progress:
                    _run(taker, Bounds(count, seconds, timeout), stop, progress)
            finally:
                taker.arrivals.give_up()
                said(terminal, ring, taker.counts(), taker.arrivals.out.bytes, target.head)
    return DONE


class _Taker:
    """Heaps on their way into a ring."""

    def __init__(self, writer: Writer, receiver: HeapReceiver, each: int, window: int, epoch: int) -> None:
        self.arrivals = Arrivals(writer, window=window, epoch=epoch)
        self.receiver, self._each = receiver, each
        self.heaps = self.wrong_size = 0

    def step(self) -> bool:
        """Take what there is; False if nothing came for a while."""
        heap = self.receiver.take(0)
        if heap is None:
            self.arrivals.flush()
            heap = self.receiver.take(LOOK_S)
        if heap is None:
            self.arrivals.give_up()
            return False
        self.heaps += 1
        if self._each and len(heap[1]) != self._each:
            self.wrong_size += 1
        else:
            self.arrivals.take(heap[0], time.time_ns(), heap[1])
        return True

    def counts(self) -> dict[str, int]:
        """All that is counted."""
        order = self.arrivals.order
        return {
            "packets": self.heaps,
            "frames": self.arrivals.out.frames,
            "lost": order.lost,
            "late": order.late,
            "duplicates": order.duplicates,
            "strays": order.strays,
            "restarts": order.restarts,
            "wrong_size": self.wrong_size,
            "incomplete": self.receiver.incomplete,
            "dropped": self.arrivals.out.dropped,
        }


def _run(taker: _Taker, bounds: Bounds, stop: Stop, progress: Progress) -> None:
    began = last = time.monotonic()
    arrivals = taker.arrivals
    while not stop.asked and not taker.receiver.ended:
        if bounds.reached(arrivals.order.delivered, began, last, time.monotonic()):
            return
        if taker.step():
            last = time.monotonic()
        progress.add(arrivals.out.frames - progress.frames, arrivals.out.bytes - progress.bytes)


@click.argument("ring")
@click.argument("to", metavar="HOST:PORT")
@start_option
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N frames.")
@click.option("--drain", is_flag=True, help="End after what is there when we join.")
@timeout_option
@click.option(
    "--rate", type=size_bytes, default="0", metavar="SIZE", help="Bytes a second on the wire.  [default: no limit]"
)
@click.option(
    "--step", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="The heap counter goes up by N."
)
@click.option(
    "--packet-bytes",
    type=click.IntRange(512, 65507),
    default=PACKET_BYTES,
    show_default=True,
    metavar="N",
    help="Of a packet at most.",
)
def send_spead(
    terminal: Terminal,
    ring: str,
    to: str,
    start: str,
    count: int | None,
    drain: bool,
    timeout: float | None,
    rate: int,
    step: int,
    packet_bytes: int,
) -> int:
    """Send RING's frames to HOST:PORT as SPEAD heaps of one item, with their sequence as heap counter.

    What was lost before is missing from the counters. In the end receivers are told that the stream ends. Needs the package spead2.
    """
    host, port = place_of(to)
    with Ring.open(ring) as source:
        end = source.head if drain else None
        with joined(source, start=start, name="send") as reader, stoppable() as stop:
            try:
                sender = HeapSender(host, port, step=step, rate=float(rate), packet_bytes=packet_bytes)
            except SpeadMissing as error:
                raise Failed(str(error)) from None
            intake = Intake(reader, source.capacity_bytes)
            losses = Losses(terminal, intake)
            with terminal.progress("sending") as progress:
                next_seq = _send(intake, losses, sender, Bounds(count, None, timeout), end, stop, progress)
            sender.end(next_seq)
            losses.total()
    done = {"ring": ring, "frames": progress.frames, "bytes": progress.bytes, "next_seq": next_seq}
    terminal.summary(done, f"{progress.frames} heaps, {size_text(progress.bytes)}, up to sequence {next_seq}")
    return DONE


def _send(
    intake: Intake, losses: Losses, sender: HeapSender, bounds: Bounds, end: int | None, stop: Stop, progress: Progress
) -> int:
    began = last = time.monotonic()
    next_seq = 0
    while not stop.asked and not bounds.reached(progress.frames, began, last, time.monotonic()):
        taken = intake.take(0 if end is not None else LOOK_S)
        if taken is None:
            if end is not None:
                return next_seq
            continue
        last = time.monotonic()
        losses.tell(taken)
        if bounds.count is not None:
            taken = taken.first(bounds.count - progress.frames)
        for at in range(taken.count):
            seq = taken.seq + at
            if end is not None and seq >= end:
                return next_seq
            sender.send(seq, taken.block[at * taken.frame_bytes : (at + 1) * taken.frame_bytes])
            next_seq = seq + 1
            progress.add(1, taken.frame_bytes)
    return next_seq
