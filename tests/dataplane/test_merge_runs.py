"""The merge's runs over real rings: what passes is what lay there, what is dropped is compared as by hand, and what may stop a run does."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane.frames import Evicted, Frame, FrameTooLarge, RingError, WrongLength
from halftrack_dataplane.merge_runs import HISTORY, Runs, digest
from halftrack_dataplane.ring import Reader, Ring, Writer

PATIENCE_S = 20.0
records = st.lists(  # (frames, 0: a gap; their length; epoch and time; the size of the gap)
    st.tuples(st.integers(0, 5), st.integers(0, 70), st.integers(0, 2), st.integers(1, 3)), min_size=1, max_size=20
)


class Bench:
    """Input rings with their readers, and an output."""

    def __init__(self, stack: ExitStack, *, fixed: int = 0, slots: int = 64, inputs: int = 2) -> None:
        self.output = stack.enter_context(
            Ring.create(None, capacity_bytes=1 << 16, slots=slots, label="out", frame_bytes=fixed)
        )
        self.writer: Writer = stack.enter_context(self.output.writer(name="merge"))
        self.rings = [stack.enter_context(Ring.create(None, capacity_bytes=1 << 20, slots=256)) for _ in range(inputs)]
        self.writers: list[Writer] = [stack.enter_context(ring.writer()) for ring in self.rings]
        self.readers: list[Reader] = [stack.enter_context(ring.reader(start=0)) for ring in self.rings]
        self.runs = Runs(self.writer)

    def write(self, ring: int, rows: list[tuple[int, int, int, int]], altered: frozenset[int] = frozenset()) -> None:
        """Records into one input; frame n is filled with its number, and those `altered` with another."""
        writer, seq = self.writers[ring], self.rings[ring].head
        for frames, length, epoch, gap in rows:
            if not frames:
                writer.gap(gap, epoch=epoch, timestamp_ns=epoch)
                seq += gap
                continue
            batch = [bytes([(n + (n in altered)) & 0xFF]) * length for n in range(seq, seq + frames)]
            writer.write_many(batch, epoch=epoch, timestamp_ns=epoch)
            seq += frames

    def passed_all(self, ring: int, epoch: int) -> None:
        """Everything of one input to the output, gaps too, run by run."""
        while True:
            seq, end, gap = self.runs.look(self.readers[ring])
            if not end:
                return
            if gap:
                self.writer.gap(end - seq, epoch=epoch)
                self.runs.drop(self.readers[ring], end)
            else:
                assert self.runs.pass_run(self.readers[ring], end, epoch, self.runs.stamp(), 0) == end - seq


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def frames_of(ring: Ring) -> list[Frame]:
    """All that is retained."""
    with ring.reader(start="oldest") as reader:
        return list(iter(lambda: reader.read(0), None))


@settings(max_examples=150, deadline=None)
@given(records, st.integers(0, 5))
def test_what_passes_is_what_lay_there(rows: list[tuple[int, int, int, int]], epoch: int) -> None:
    # invariant: S1
    with ExitStack() as stack:
        bench = Bench(stack, slots=256)
        bench.write(0, rows)
        wanted = frames_of(bench.rings[0])
        bench.passed_all(0, epoch)
        found = frames_of(bench.output)
        shown = [(frame.seq, frame.gap, bytes(frame.payload)) for frame in wanted]
        assert [(frame.seq, frame.gap, bytes(frame.payload)) for frame in found] == shown
        assert all(frame.epoch == epoch for frame in found)
        times = {frame.seq: frame.timestamp_ns for frame in wanted if not frame.gap}
        assert {frame.seq: frame.timestamp_ns for frame in found if not frame.gap} == times
        assert bench.readers[0].cursor == bench.output.head


@settings(max_examples=150, deadline=None)
@given(records, records, st.frozensets(st.integers(0, 60), max_size=12))
def test_what_is_dropped_is_compared_as_by_hand(
    first: list[tuple[int, int, int, int]], second: list[tuple[int, int, int, int]], altered: frozenset[int]
) -> None:
    # invariant: S1
    with ExitStack() as stack:
        bench = Bench(stack, slots=256)
        bench.write(0, first)
        bench.write(1, second, altered)
        one, other = ({f.seq: bytes(f.payload) for f in frames_of(ring) if not f.gap} for ring in bench.rings)
        bench.passed_all(0, 1)
        equal, different, differing = 0, 0, []
        while (found := bench.runs.look(bench.readers[1]))[1] and found[0] < bench.output.head:
            counted = bench.runs.drop(bench.readers[1], min(found[1], bench.output.head))
            equal, different, differing = equal + counted[0], different + counted[1], differing + counted[2]
            assert len(counted[2]) == min(counted[1], 8)
        known = [seq for seq in other if seq in one]
        wrong = [seq for seq in known if one[seq] != other[seq]]
        assert (equal, different) == (len(known) - len(wrong), len(wrong))
        assert set(differing) <= {(seq, digest(other[seq]), digest(one[seq])) for seq in wrong}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 200), st.randoms(use_true_random=False))
def test_frames_of_one_record_are_told_apart(length: int, frames: int, chance: Random) -> None:
    """However many are summed up side by side. invariant: S1"""
    with ExitStack() as stack:
        bench = Bench(stack, slots=256)
        one = [chance.randbytes(length) for _ in range(frames)]
        wrong = sorted(chance.sample(range(frames), min(frames, 5)))
        other = [bytes([frame[0] ^ 1, *frame[1:]]) if seq in wrong else frame for seq, frame in enumerate(one)]
        for writer, batch in zip(bench.writers, (one, other), strict=True):
            writer.write_many(batch, epoch=1, timestamp_ns=1)
        bench.passed_all(0, 1)
        told = [(seq, digest(other[seq]), digest(one[seq])) for seq in wrong]
        assert bench.runs.drop(bench.readers[1], frames) == (frames - len(wrong), len(wrong), told)


def test_a_run_stops_when_the_owner_table_changes(stack: ExitStack) -> None:
    # invariant: S1
    bench = Bench(stack)
    bench.write(0, [(5, 8, 0, 0)])
    stamp = bench.runs.stamp()
    assert bench.runs.pass_run(bench.readers[0], 2, 1, stamp, 0) == 2
    for change in (
        lambda: bench.output.propose_cut(1, 1, 4, "1"),
        lambda: bench.output.withdraw_cut(1),
        lambda: bench.output.propose_cut(2, 1, None, "1"),
        lambda: bench.output.apply_cut(2, 2),
    ):
        stamp = bench.runs.stamp()
        change()
        assert bench.runs.pass_run(bench.readers[0], 5, 1, stamp, 0) == 0
        assert bench.output.head == 2
    assert bench.runs.pass_run(bench.readers[0], 5, 1, bench.runs.stamp(), 0) == 3


def test_a_full_output_takes_what_fits_and_the_rest_later(stack: ExitStack) -> None:
    # invariant: S1
    bench = Bench(stack, slots=4)
    bench.write(0, [(1, 8, 0, 0)] * 10)
    with bench.output.reader(start=0) as sink:
        assert bench.runs.pass_run(bench.readers[0], 10, 1, bench.runs.stamp(), 0.001) == 4
        assert bench.readers[0].cursor == 4
        for _ in range(2):
            sink.read(0)
        assert bench.runs.pass_run(bench.readers[0], 10, 1, bench.runs.stamp(), 0.001) == 2
    assert bench.runs.pass_run(bench.readers[0], 10, 1, bench.runs.stamp(), 0) == 4
    assert [frame.payload[0] for frame in frames_of(bench.output)] == [6, 7, 8, 9]


def test_what_cannot_pass_is_refused_by_name(stack: ExitStack) -> None:
    bench = Bench(stack)
    bench.write(0, [(1, 40_000, 0, 0)])
    with pytest.raises(FrameTooLarge):
        bench.runs.pass_run(bench.readers[0], 1, 1, bench.runs.stamp(), 0)
    fixed = Bench(stack, fixed=8)
    fixed.write(0, [(1, 9, 0, 0)])
    with pytest.raises(WrongLength):
        fixed.runs.pass_run(fixed.readers[0], 1, 1, fixed.runs.stamp(), 0)
    assert fixed.output.head == bench.output.head == 0
    bench.write(1, [(3, 8, 0, 0)])
    assert bench.runs.drop(bench.readers[1], 2) == (0, 0, [])
    with pytest.raises(RingError, match="is at 2, and the output wants 0"):
        bench.runs.pass_run(bench.readers[1], 3, 1, bench.runs.stamp(), 0)


def test_an_evicted_reader_passes_nothing_and_says_so(stack: ExitStack) -> None:
    # invariant: S1
    bench = Bench(stack)
    bench.write(0, [(3, 8, 0, 0)])
    bench.rings[0].evict(bench.readers[0].slot)
    for attempt in (
        lambda: bench.runs.pass_run(bench.readers[0], 3, 1, bench.runs.stamp(), 0),
        lambda: bench.runs.drop(bench.readers[0], 3),
        lambda: bench.runs.look(bench.readers[0]),
    ):
        with pytest.raises(Evicted):
            attempt()
    assert bench.output.head == 0


def test_digests_are_of_bytes_and_length_and_their_memory_is_bounded(stack: ExitStack) -> None:
    assert len({digest(bytes(length)) for length in range(200)}) == 200
    bench = Bench(stack)
    left = HISTORY + 3
    while left:
        count = min(left, 4096)
        bench.writers[0].write_many([b"ab"] * count)
        end = bench.output.head + count
        while bench.output.head < end:
            bench.runs.pass_run(bench.readers[0], end, 1, bench.runs.stamp(), 0)
        left -= count
    bench.writers[1].write_many([b"ab"] * 5)
    assert bench.runs.drop(bench.readers[1], 5)[:2] == (2, 0)


@pytest.mark.parametrize("what", ["likely", "other", "table"])
def test_a_wait_ends_with_whatever_comes_first(stack: ExitStack, what: str) -> None:
    """A wake-up that is missed costs a slice of waiting, a tenth of a second; most of them must cost far less."""
    bench = Bench(stack)
    took_s = []
    for epoch in range(1, 16):
        stamp, waiting, came = bench.runs.stamp(), threading.Event(), [0.0]

        def wake(epoch: int = epoch, waiting: threading.Event = waiting, came: list[float] = came) -> None:
            waiting.wait(PATIENCE_S)
            threading.Event().wait(0.01)  # until it sleeps, nearly always; where it does not, it finds what has come
            came[0] = time.monotonic()
            if what == "table":
                bench.output.propose_cut(epoch, 1, None, "1")
            else:
                bench.writers[what == "other"].write(b"x")

        waker = threading.Thread(target=wake)
        waker.start()
        while bench.runs.stamp() == stamp and not any(bench.runs.look(reader)[1] for reader in bench.readers):
            waiting.set()
            bench.runs.wait(bench.readers, bench.readers[0], stamp, PATIENCE_S)
        took_s.append(time.monotonic() - came[0])
        waker.join()
        for reader in bench.readers:
            bench.runs.drop(reader, bench.runs.look(reader)[1])
    assert sorted(took_s)[len(took_s) // 2] < 0.03, took_s
