"""Flow control in a graph that divides: the slowest reader of a branch sets that branch's pace, and no other's."""

from pathlib import Path

from halftrack_dataplane.ring import Reader, Ring, Writer
from halftrack_dataplane.spool_reader import SpoolReader
from halftrack_dataplane.spool_segments import Limits
from halftrack_dataplane.spool_writer import Spooler, segment_bytes_for
from tests.ring.ring_peers import payload

FRAMES = 4000


def forward(upstream: Reader, downstream: Writer, credit: Ring) -> int:
    """A vertex that takes what it may pass on: as long as its output has credit. How many frames that was."""
    moved = 0
    while credit.credit_bytes > credit.capacity_bytes // 2 and (frame := upstream.read(0)) is not None:
        downstream.write(frame.payload, timeout_s=0)
        moved += 1
    return moved


# invariant: S2
def test_a_slow_branch_behind_a_spool_holds_up_nobody_but_itself(folder: Path) -> None:
    with (
        Ring.create(folder / "source", capacity_bytes=1 << 16, slots=256) as source,
        Ring.create(folder / "quick", capacity_bytes=1 << 16, slots=256) as quick,
        source.writer() as instrument,
        quick.writer() as vertex,
        source.reader(name="quick vertex") as upstream,
        quick.reader(name="sink") as sink,
        Spooler(source, folder / "spool", Limits(1 << 30, segment_bytes_for(source, 1 << 20))) as spooler,
        SpoolReader(folder / "spool", folder / "source", name="slow-sink", start=0) as slow,
    ):
        taken = 0
        for seq in range(FRAMES):
            instrument.write(payload(seq, 900), timeout_s=0)  # it never waits
            forward(upstream, vertex, quick)
            while (frame := sink.read(0)) is not None:
                assert frame.payload == payload(frame.seq, 900)
            if seq % 20 == 0:
                spooler.step(0)
            if seq % 100 == 0:  # a hundredth of the others' pace
                assert slow.read(0).payload == payload(taken, 900)  # type: ignore[union-attr]
                taken += 1
        spooler.step(0)
        spooler.sync()
        assert sink.cursor == FRAMES
        assert source.stats().blocked == quick.stats().blocked == 0
        assert FRAMES - taken > 10 * (source.head - source.tail)  # far more than the ring holds
        for seq in range(taken, FRAMES):
            assert slow.read(0).payload == payload(seq, 900)  # type: ignore[union-attr]
        assert slow.read(0) is None


# invariant: S2
def test_credit_of_the_slowest_lossless_reader_reaches_upstream(folder: Path) -> None:
    with (
        Ring.create(folder / "a", capacity_bytes=1 << 16, slots=256) as first,
        Ring.create(folder / "b", capacity_bytes=1 << 14, slots=256) as second,
        first.writer(full="drop") as instrument,
        second.writer() as vertex,
        first.reader() as upstream,
        second.reader(name="slow sink") as sink,
        first.reader(policy="lossy", name="display") as display,
    ):
        seq = 0
        while instrument.write(payload(seq, 900)) >= 0:
            forward(upstream, vertex, second)
            seq += 1
        assert (
            second.credit_bytes <= second.capacity_bytes // 2
        )  # the sink's lag stopped the vertex, and that the instrument
        assert first.credit_bytes < 2048
        assert display.lag_frames > 0  # a lossy reader holds nothing up
        while upstream.lag_frames or sink.lag_frames:
            forward(upstream, vertex, second)
            frame = sink.read(0)
            assert frame is not None
            assert frame.payload == payload(frame.seq, 900)
        assert first.credit_bytes == first.capacity_bytes
        assert instrument.write(b"on") == seq
