"""Rings of eight frames with spools, and an inlet of all of them, of which any may die between any two steps; and a power cut, which takes whatever is in memory."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from halftrack_dataplane import spooling
from halftrack_dataplane.frames import RingFull
from halftrack_dataplane.joining import Inlet
from halftrack_dataplane.ring import Ring, Writer
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import Stop
from halftrack_dataplane.spool_orders import SpoolOrders
from halftrack_dataplane.spool_writer import Spooler
from tests.dataplane.inlet_reference import Given, Stream
from tests.dataplane.spool_disks import abandon
from tests.dataplane.test_inlet_rings import Act


class Spooled:
    """Rings of eight frames, a spool each, and an inlet of all; any of them may die between any two steps."""

    def __init__(self, folder: Path, streams: Sequence[Stream], spec: RunSpec, size_bytes: int, full: str) -> None:
        self.streams = streams
        self.rings = [Ring.create(folder / f"in{n}", slots=8, capacity_bytes=4096) for n in range(len(streams))]
        self.writers: list[Writer] = [ring.writer() for ring in self.rings]
        self.orders = [SpoolOrders(str(folder / f"spool{n}"), size_bytes, 0, full) for n in range(len(streams))]
        self.spoolers: list[Spooler | None] = [self.spooler(n) for n in range(len(streams))]
        self.output = Ring.create(folder / "out", slots=1 << 12, capacity_bytes=1 << 20)
        inputs = [replace(each, spool=orders.folder) for each, orders in zip(spec.inputs, self.orders, strict=True)]
        self.spec = replace(spec, inputs=tuple(inputs))
        self.begin()

    def spooler(self, which: int) -> Spooler:
        return spooling.begun(self.rings[which], self.orders[which], f"s{which}", lambda text: None, Stop())

    def begin(self) -> None:
        self.writer = self.output.writer()
        self.inlet = Inlet(self.spec, self.rings, self.output, self.writer)

    def die(self) -> None:
        self.inlet.close()
        self.writer.close()

    def spool(self, which: int) -> None:
        held = self.spoolers[which]
        if held is None:
            self.spoolers[which] = self.spooler(which)
        else:
            held.step(0)
            held.sync()

    def publish(self, which: int, count: int) -> bool:
        stream, ring, writer = self.streams[which], self.rings[which], self.writers[which]
        for each in stream[ring.head : ring.head + count]:
            try:
                if each is None:
                    writer.gap(1, timeout_s=0)
                else:
                    writer.write(each.payload, epoch=each.epoch, timestamp_ns=each.time_ns, timeout_s=0)
            except RingFull:
                return False
        return ring.head < len(stream)

    def step(self, most: int) -> bool:
        found = [self.inlet.step(0.0, 0) for _ in range(most)]
        self.inlet._commits._at = 0.0  # as if each step took a second: what may go, goes at once
        self.inlet._commits.offer(self.inlet._inputs)
        return () in found

    def play(self, acts: Sequence[Act]) -> None:
        for what, number in acts:
            which = number % len(self.rings)
            if what == "die":
                self.die()
                self.begin()
            elif what == "crash" and (held := self.spoolers[which]) is not None:
                abandon(held)  # what it has not released is in the ring, until somebody needs the room
                self.spoolers[which] = None
            elif what == "spool":
                self.spool(which)
            elif what == "step":
                self.step(number)
            elif what.isdecimal():
                self.publish(int(what) % len(self.rings), number)

    def finish(self) -> None:
        """All is published while the inlet sleeps, as far as that goes; then it wakes up."""
        for _ in range(2000):
            for which in range(len(self.rings)):
                self.spool(which)
                self.publish(which, 64)
            if all(ring.head == len(stream) for ring, stream in zip(self.rings, self.streams, strict=True)):
                break
            self.step(1)
        for _ in range(2000):
            if not self.step(8):
                return
        raise AssertionError("it does not come to an end")

    def close(self) -> None:
        self.die()
        for held in self.spoolers:
            if held is not None:
                held.close()
        for writer in self.writers:
            writer.close()
        for ring in [*self.rings, self.output]:
            ring.close()


class Powered(Spooled):
    """One input, whose source gives its frames once, and a sink that keeps what it takes on a disk. A power cut takes all that is in memory."""

    def __init__(self, folder: Path, streams: Sequence[Stream], spec: RunSpec, size_bytes: int, full: str) -> None:
        self.kept: list[Given | None] = []
        self.taken_away: set[int] = set()  # by the power, before they had come to a disk
        self.folder, self.life = folder, 0
        super().__init__(folder, streams, spec, size_bytes, full)
        self.output = self._small_output()

    def _small_output(self) -> Ring:
        self.die()
        self.output.close()
        self.life += 1
        self.output = Ring.create(self.folder / f"out.{self.life}", slots=16, capacity_bytes=4096)
        self.begin()
        self.sink = self.output.reader(policy="lossless", name="sink", start="oldest")
        return self.output

    def consume(self, most: int) -> bool:
        """The sink takes so many records; False if there were none."""
        for number in range(most):
            frame = self.sink.read(0)
            if frame is None:
                return number > 0
            for seq in range(frame.seq, frame.seq + max(frame.gap, 1)):
                if seq >= len(self.kept):
                    assert seq == len(self.kept), "the sink is never given a number before its turn"
                    self.kept.append(
                        None if frame.gap else Given(frame.timestamp_ns, frame.epoch, bytes(frame.payload))
                    )
        return True

    def cut_power(self, passed_over: int) -> None:
        """The source begins anew, before its inlet or after it: behind all numbers that it may have given, or a little before, as a replica does."""
        head, spooler = self.rings[0].head, self.spoolers[0]
        assert spooler is not None
        durable, begins = spooler.durable_seq, min(head + passed_over, len(self.streams[0]))
        if passed_over > 3:
            begins = max(spooler.folder.oldest(), durable - passed_over, *(seq + 1 for seq in self.taken_away))
        self.taken_away |= set(range(durable, begins))
        abandon(spooler)
        self.writers[0].close()
        self.rings[0].close()
        self.rings[0] = Ring.create(self.folder / f"in.{self.life}", slots=8, capacity_bytes=4096)
        self.writers[0] = self.rings[0].writer()
        if passed_over % 2:
            self._small_output()
        if begins:
            self.writers[0].start_at(begins)
        self.publish(0, 1)
        self.spoolers[0] = self.spooler(0)
        if not passed_over % 2:
            self._small_output()

    def spool(self, which: int) -> None:
        held = self.spoolers[which]
        assert held is not None
        held._tended_ns, end = 0, held.end_seq  # as above: what may go, goes
        super().spool(which)
        assert held.end_seq >= end, "what is on the disk is not written again"

    def play(self, acts: Sequence[Act]) -> None:
        for what, number in acts:
            if what == "power":
                if self.rings[0].head:
                    self.cut_power(number)
            elif what == "consume":
                self.consume(number)
            else:
                super().play([(what, number)])

    def finish(self) -> None:
        for _ in range(4000):
            self.spool(0)
            moved = self.publish(0, 4)
            if not any([moved, self.step(4), self.consume(4)]):
                return
        raise AssertionError("it does not come to an end")
