"""Any order of writing, spooling, crashing, reading and committing: what was released is delivered once, in order, or named in a gap."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from halftrack_dataplane.frame import Batch, Frame
from halftrack_dataplane.frames import RingFull
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.spool_files import Folder
from halftrack_dataplane.spool_reader import SpoolReader
from halftrack_dataplane.spool_segments import Limits
from halftrack_dataplane.spool_writer import Spooler, segment_bytes_for
from tests.dataplane.spool_disks import Remembering

BASE = 1000
PERIOD = 7  # of the lengths of frames


def payload(seq: int, size: int) -> bytes:
    """What is in frame `seq`: its number over and over."""
    return (b"%d " % seq * (size // 2 + 1))[:size]


class Stream(RuleBasedStateMachine):
    """A ring of 16 KiB, a spool of a few segments, one consumer that reads the disk alone and one that joins the ring."""

    @initialize(
        full=st.sampled_from(["block", "drop-oldest"]), segments=st.integers(2, 5), fixed=st.sampled_from([0, 48])
    )
    def begin(self, full: str, segments: int, fixed: int) -> None:
        """A ring with a writer, its spooler, and two consumers."""
        where = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
        self.where = Path(tempfile.mkdtemp(prefix="halftrack-test-", dir=where))
        self.fixed, self.full = fixed, full
        self.ring = Ring.create(
            self.where / "ring", capacity_bytes=16384, slots=64, base_seq=BASE, schema="x", frame_bytes=fixed
        )
        self.writer = self.ring.writer()
        size = segment_bytes_for(self.ring, 0)
        self.limits = Limits(segments * size, size, 0, full)  # type: ignore[arg-type]
        self.disk = Remembering()
        self.sizes: dict[int, int | None] = {}  # of every sequence; None: in a declared gap
        self.unsafe: set[int] = set()  # what a crash took, or the ring had reclaimed before the spooler came back
        self.spooler: Spooler | None = None
        self.durable = BASE
        self.spool()
        self.readers = {name: self.reader(name) for name in ("disk", "both")}
        self.expected = dict.fromkeys(self.readers, BASE)
        self.gone: set[int] = set()

    def spool(self) -> None:
        """Start a spooler; what the ring no longer has from its end on, nobody can give back."""
        self.unsafe |= set(range(self.durable, self.ring.tail))
        self.spooler = Spooler(self.ring, self.where / "spool", self.limits, disk=self.disk, start="oldest", sync_s=10)

    def reader(self, name: str) -> SpoolReader:
        """A consumer, new or started again."""
        return SpoolReader(self.where / "spool", self.where / "ring" if name == "both" else None, name=name)

    # -- the instrument ---------------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 40), size=st.integers(0, 900))
    def write(self, count: int, size: int) -> None:
        """Frames, as long as there is room."""
        for _ in range(count):
            seq, length = self.ring.head, self.fixed or size
            try:
                self.writer.write(payload(seq, length), epoch=seq // 50, timestamp_ns=seq // PERIOD, timeout_s=0)
            except RingFull:
                return
            self.sizes[seq] = length

    @rule(count=st.integers(1, 20))
    def lose(self, count: int) -> None:
        """A gap of the instrument's own."""
        seq = self.ring.head
        try:
            self.writer.gap(count, timeout_s=0)
        except RingFull:
            return
        self.sizes |= dict.fromkeys(range(seq, seq + count))

    # -- the spooler ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.spooler is not None)
    @rule(steps=st.integers(1, 4), sync=st.booleans())
    def step(self, steps: int, sync: bool) -> None:
        """Some of its work."""
        assert self.spooler is not None
        for _ in range(steps):
            self.spooler.step(0)
        if sync:
            self.spooler.sync()
        self.durable = self.spooler.durable_seq

    @precondition(lambda self: self.spooler is not None)
    @rule(keep=st.floats(0, 1))
    def crash(self, keep: float) -> None:
        """It dies, and some of what it had not synced is gone."""
        assert self.spooler is not None
        self.disk.crash(self.spooler, keep)
        self.spooler = None

    @precondition(lambda self: self.spooler is None)
    @rule()
    def restart(self) -> None:
        """The next one goes on."""
        self.spool()
        assert self.spooler is not None
        assert self.spooler.durable_seq >= self.durable  # what was released is there
        self.durable = (
            self.spooler.durable_seq
        )  # and what it has found, it has made durable, since it lets the ring go on from there

    # -- consumers --------------------------------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(["disk", "both"]), calls=st.integers(1, 30), how=st.sampled_from(["read", "many", "view"])
    )
    def read(self, name: str, calls: int, how: str) -> None:
        """Read on, in one of the ways."""
        for _ in range(calls):
            if not self.take(name, how):
                return

    def take(self, name: str, how: str) -> bool:
        """One call, and a look at all that it gave."""
        reader = self.readers[name]
        got: Frame | Batch | None = (
            reader.read(0) if how == "read" else reader.read_many(9, 0) if how == "many" else reader.view_many(9, 0)
        )
        if got is None:
            return False
        assert got.seq == self.expected[name]
        if got.gap:
            self.allowed(name, range(got.seq, got.seq + got.gap))
            self.expected[name] += got.gap
        else:
            frames = [got.payload] if isinstance(got, Frame) else got.payload
            if isinstance(frames, memoryview):
                size = got.frame_bytes if isinstance(got, Batch) else 0
                frames = [bytes(frames[at * size : (at + 1) * size]) for at in range(got.count)]
            for seq, frame in enumerate(frames, got.seq):
                size = self.sizes[seq]
                assert size is not None
                assert bytes(frame) == payload(seq, size)
                assert how == "many" or got.epoch == seq // 50
            self.expected[name] += len(frames)
        return True

    def allowed(self, name: str, gap: range) -> None:
        """A gap is of what the instrument declared, what a crash took, or what the limit dropped."""
        oldest = Folder(self.where / "spool").oldest()
        for seq in gap:
            declared = seq in self.sizes and self.sizes[seq] is None
            dropped = self.full == "drop-oldest" and seq < oldest
            crashed = seq in self.unsafe or (self.spooler is None and self.durable <= seq < self.ring.tail)
            assert declared or dropped or crashed, (name, seq)
            if dropped:
                self.gone.add(seq)

    @rule(name=st.sampled_from(["disk", "both"]))
    def commit(self, name: str) -> None:
        """All that was read is done with."""
        self.readers[name].release()
        self.readers[name].commit()

    @rule(name=st.sampled_from(["disk", "both"]))
    def come_back(self, name: str) -> None:
        """A consumer dies, and its next life goes on from what it has committed."""
        committed = self.readers[name].committed
        self.readers[name].close()
        self.readers[name] = self.reader(name)
        assert self.readers[name].cursor == committed
        self.expected[name] = self.readers[name].cursor

    # -- what always holds ------------------------------------------------------------------------------------------------

    @invariant()
    def the_ring_is_held_from_what_is_not_durable(self) -> None:
        """Released is durable; and the limit is one."""
        if getattr(self, "spooler", None) is not None:
            assert self.spooler is not None
            held = next(reader for reader in self.ring.stats().readers if reader.name == "spool")
            assert held.cursor <= max(self.spooler.durable_seq, self.ring.tail)
            files = list((self.where / "spool").glob("*.seg"))
            assert sum(file.stat().st_size for file in files) <= self.limits.bytes

    def teardown(self) -> None:
        """In the end everybody gets everything: up to the head, by the disk alone and through the ring."""
        if not hasattr(self, "readers"):
            return
        try:
            if self.spooler is None:
                self.spool()
            assert self.spooler is not None
            for _ in range(500):
                self.spooler.step(0)
                self.spooler.sync()
                self.spooler._tended_ns = 0
                for name, reader in self.readers.items():
                    while self.take(name, "many"):
                        pass
                    reader.commit()
                if set(self.expected.values()) == {self.ring.head}:
                    break
            assert set(self.expected.values()) == {self.ring.head}
            assert self.spooler.durable_seq == self.ring.head
            assert self.spooler.losses.lost >= len(self.gone)
        finally:
            for each in (*self.readers.values(), self.spooler, self.writer, self.ring):
                if each is not None:
                    each.close()
            shutil.rmtree(self.where)


Stream.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestStream = Stream.TestCase
