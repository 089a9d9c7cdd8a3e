"""Frames with numbers of their own on their way into a ring: in order, once each, with a declared gap where one is missing.

Owns the frames that wait for an earlier one, and batches of those that are next. Never judges a number (that is packet_order) and
never waits: its caller says when a hole has lasted long enough. What `capture` does in Cython for packets, for whatever is slower.

A ring that never held a frame begins at the first number that arrives; any other goes on with its own numbers. A sender that began
again gets an epoch of its own, one higher, since how much was lost between the two cannot be known.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import TypedDict

from halftrack_dataplane.frames import RingError
from halftrack_dataplane.packet_order import Order
from halftrack_dataplane.ring_writer import Writer

BATCH_FRAMES, BATCH_BYTES = 64, 1 << 20  # in hand at most, but for a single frame that is larger
NEWEST = (1 << 62) - 1  # the greatest sequence of a ring


class Stamp(TypedDict):
    """What a write says of its frames, and how long it waits for room."""

    epoch: int
    timestamp_ns: int
    timeout_s: float | None


class Declaring:
    """A writer whose drops are gaps: what finds no room is declared as soon as there is some, so sequences stay those that are meant."""

    def __init__(self, writer: Writer, timeout_s: float | None = None) -> None:
        self._writer, self._timeout_s = writer, timeout_s
        self._owed = 0
        self.frames = 0
        self.bytes = 0
        self.dropped = 0

    def put(self, frames: Sequence[bytes] | memoryview, *, epoch: int = 0, timestamp_ns: int = 0) -> int:
        """Write frames: a list of them, or rows in one buffer. How many found room."""
        count, done = len(frames), 0
        if self.settled(epoch):
            stamp: Stamp = {"epoch": epoch, "timestamp_ns": timestamp_ns, "timeout_s": self._timeout_s}
            if isinstance(frames, memoryview):
                done = len(self._writer.write_array(frames, **stamp))
            else:
                done = len(self._writer.write_many(frames, **stamp))
        self.frames += done
        self.bytes += frames.nbytes // count * done if isinstance(frames, memoryview) else sum(map(len, frames[:done]))
        self.dropped += count - done
        self._owed += count - done
        return done

    def lose(self, count: int) -> None:
        """The next `count` sequences are lost; declared before the next frame, or by `settled`."""
        self._owed += count

    def settled(self, epoch: int = 0) -> bool:
        """Declares what is lost; False if there is no room even for that."""
        if self._owed and self._writer.gap(self._owed, epoch=epoch, timeout_s=self._timeout_s) >= 0:
            self._owed = 0
        return not self._owed


class Arrivals:
    """Takes frames as they come and writes them in order."""

    def __init__(
        self, writer: Writer, *, window: int = 64, timeout_s: float | None = None, epoch: int = 0, group: int = 1
    ) -> None:
        self._writer = writer
        self.out = Declaring(writer, timeout_s)
        self.order = Order(window, group)
        self.epoch = epoch
        self._fresh = True
        self._kept: dict[int, tuple[int, bytes]] = {}
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._batch_ns = 0

    def take(self, seq: int, timestamp_ns: int, payload: bytes) -> None:
        """One frame has arrived."""
        order = self.order
        while (word := order.judge(seq)) in ("beyond", "again"):
            if word == "beyond":
                self._lose(order.surrender(seq))
                self._pass_on_kept()
            else:
                self.give_up()
                order.restart(seq)
                self.epoch += 1
        self._begin(order.expected)
        if word == "ahead":
            order.keep(seq)
            self._kept[seq] = (timestamp_ns, payload)
        elif word == "next":
            self._pass_on(timestamp_ns, payload)
            self._pass_on_kept()

    def give_up(self) -> None:
        """Waits for no hole any longer: all that is kept is written, with gaps between."""
        while self.order.waiting:
            self._lose(self.order.surrender())
            self._pass_on_kept()
        self.flush()
        self.out.settled(self.epoch)

    def flush(self) -> None:
        """Write what is in hand."""
        if not self._batch:
            return
        frames, self._batch, self._batch_bytes = self._batch, [], 0
        self.out.put(frames, epoch=self.epoch, timestamp_ns=self._batch_ns)

    def _begin(self, seq: int) -> None:
        if self._fresh:
            self._fresh = False
            if seq <= NEWEST:
                with suppress(RingError):  # it held frames before: it goes on with its own numbers
                    self._writer.start_at(seq)

    def _pass_on(self, timestamp_ns: int, payload: bytes) -> None:
        if not self._batch:
            self._batch_ns = timestamp_ns
        self._batch.append(payload)
        self._batch_bytes += len(payload)
        self.order.advance()
        if len(self._batch) >= BATCH_FRAMES or self._batch_bytes >= BATCH_BYTES:
            self.flush()

    def _pass_on_kept(self) -> None:
        while self.order.due:
            self._pass_on(*self._kept.pop(self.order.expected))

    def _lose(self, count: int) -> None:
        if count:
            self.flush()
            self.out.lose(count)
