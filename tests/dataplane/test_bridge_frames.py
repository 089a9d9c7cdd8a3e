"""The bridge's fast path: what is written comes out, once, in order and whole, whoever lags, dies or overwrites."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane import libzmq
from halftrack_dataplane.bridge_pacing import Pacing
from halftrack_dataplane.ring import Ring
from tests.dataplane.bridge_ends import PATIENCE_S, Ends, Far, ends, payload, readable, scene
from tests.dataplane.processes import until

LARGE = 64 << 10
lengths = st.sampled_from([0, 1, 63, 64, 100, 4000, Pacing.UNCOPIED_BYTES - 1, Pacing.UNCOPIED_BYTES, LARGE, 200_000])
steps = st.one_of(
    st.tuples(st.just("frames"), st.integers(1, 40), lengths, st.integers(0, 3)),
    st.tuples(st.just("gap"), st.integers(1, 5), st.just(0), st.just(0)),
    st.tuples(st.just("carry"), st.just(0), st.just(0), st.just(0)),
)


def write(made: Ends, count: int, length: int, epoch: int = 0) -> None:
    for _ in range(count):
        seq = made.ring.head
        made.writer.write(payload(seq, length), epoch=epoch, timestamp_ns=seq if epoch else 0)


def same(far: Far, ring: Ring, first: int) -> None:
    """Every frame that both retain from `first` on, bit by bit."""
    assert far.ring.head == ring.head
    for seq in range(max(first, ring.tail, far.ring.tail), ring.head):
        assert far.ring.peek(seq) == ring.peek(seq), seq


@given(script=st.lists(steps, min_size=1, max_size=8), credit=st.sampled_from([1, 5000, 1 << 30]), late=st.booleans())
@settings(max_examples=60, deadline=None)
def test_replicas_are_the_ring_whatever_is_written_and_whoever_joins_late(
    script: list[tuple[str, int, int, int]], credit: int, late: bool
) -> None:
    with scene(capacity_bytes=16 << 20) as made:
        far, other = made.far(capacity_bytes=16 << 20), made.far(capacity_bytes=16 << 20)
        far.join(made, 0, credit)
        if not late:
            other.join(made, 0, credit)
        for word, count, length, epoch in script:
            if word == "frames":
                write(made, count, length, epoch)
            elif word == "gap":
                made.writer.gap(count)
            elif not late:
                made.carry()
        if late:
            for _ in range(3):
                made.outlet.pump(1)
                far.take()
            other.join(made, 0, credit)
        made.carry()
        for each in (far, other):
            same(each, made.ring, 0)
            assert each.inlet.duplicates == 0


def test_one_read_of_the_ring_serves_all_who_stand_at_the_same_place(folder: Path) -> None:
    with ends(folder, capacity_bytes=16 << 20) as made:
        for _ in range(3):
            made.far(capacity_bytes=16 << 20).join(made, 0)
        write(made, 20, LARGE)
        write(made, 3000, 64)
        made.carry()
        lanes = [far.lane for far in made.fars]
        assert all(lane is not None and lane.frames == 3020 for lane in lanes)
        alone = -(-3000 * 64 // Pacing.COALESCED_BYTES)
        assert made.outlet.reads <= 20 + alone + 2


def test_a_laggard_reads_for_itself_and_joins_the_others_again(folder: Path) -> None:
    with ends(folder) as made:
        far, laggard = made.far(), made.far()
        far.join(made, 0)
        lane = laggard.join(made, 0, credit=1)
        for _ in range(40):  # twice the ring and more; the laggard got one message
            write(made, 3, LARGE)
            made.outlet.pump()
            until(lambda: far.take() is not None and far.ring.head == made.ring.head, "who keeps up has all")
        same(far, made.ring, 0)
        lane.grant(1 << 30)
        made.carry()
        same(laggard, made.ring, 0)
        assert lane.missed == laggard.ring.stats().gap_frames > 0
        read = made.outlet.reads
        write(made, 10, LARGE)
        made.carry()
        assert made.outlet.reads == read + 10


def test_what_the_writer_overwrites_on_its_way_is_void_and_never_wrong(folder: Path) -> None:
    """Nobody reads at the far end, the writer goes on: libzmq still points at bytes that are other frames' by then."""
    with ends(folder, narrow=True) as made:
        far = made.far()
        far.join(made, 0)
        write(made, 12, LARGE)
        while made.outlet.pump():
            pass
        assert made.outlet.in_flight > 2
        write(made, 80, LARGE)  # more than the ring holds
        said: list[str] = []
        until(lambda: "torn" in said or said.extend(far.take()) or "torn" in said, "a void payload is told")
        for seq in range(far.ring.head):
            frame = far.ring.peek(seq)
            assert frame is not None
            assert frame.payload == payload(seq, LARGE)
        assert far.ring.head < 12


def test_small_frames_are_copied_so_nothing_can_happen_to_them(folder: Path) -> None:
    with ends(folder, narrow=True) as made:
        far = made.far()
        far.join(made, 0)
        write(made, 600, 1000)
        while made.outlet.pump():
            pass
        sent = far.lane.next_seq if far.lane else 0
        write(made, 80, LARGE)
        until(lambda: far.take() is not None and far.ring.head >= sent, "all that went is there")
        for seq in range(sent):
            frame = far.ring.peek(seq)
            assert frame is not None
            assert frame.payload == payload(seq, 1000)


@pytest.mark.parametrize("length", [Pacing.UNCOPIED_BYTES - 8, LARGE])
def test_a_writer_that_is_always_faster_is_never_misread(folder: Path, length: int) -> None:
    """It laps the ring while frames are looked for, copied and sent: what comes is right, and what does not come is told."""
    with ends(folder, capacity_bytes=1 << 18) as made:
        far = made.far(capacity_bytes=1 << 22)
        lane = far.join(made, 0)
        stop = threading.Event()
        frames = [payload(number, length) for number in range(61)]

        def hurry() -> None:
            while not stop.is_set():
                made.writer.write_many(frames)  # as long as the sender looks, it holds no lock that this would need

        writing = threading.Thread(target=hurry)
        writing.start()
        try:
            began, seen, missed = time.monotonic(), 0, 0
            while time.monotonic() < began + 1.5 or not seen or not missed + lane.missed:
                assert time.monotonic() < began + PATIENCE_S, "the writer laps it, and something comes through"
                made.outlet.pump(4)
                if "torn" in far.take():  # what follows is of a session that is over
                    far.inlet.begin()
                    until(lambda: made.outlet.in_flight == 0 or far.take() is None, "libzmq lets go")
                    far.take()
                    far.inlet.welcomed()
                    missed += lane.missed
                    far.leave(made)
                    lane = far.join(made, far.ring.head)
                for seq in range(max(seen, far.ring.tail), far.ring.head):
                    frame = far.ring.peek(seq)
                    if frame is not None and not frame.gap:
                        assert frame.payload == frames[seq % len(frames)]
                seen = far.ring.head
        finally:
            stop.set()
            writing.join()


def test_what_is_in_flight_outlives_the_session_and_the_ring(folder: Path) -> None:
    with ends(folder, narrow=True) as made:
        far = made.far()
        lane = far.join(made, 0)
        write(made, 12, LARGE)
        while made.outlet.pump():
            pass
        made.outlet.leave(lane)
        assert far.reader is not None
        far.reader.close()
        far.lane = None
        made.writer.close()
        made.ring.close()
        Path(made.folder / "source.ring").unlink()
        assert made.outlet.in_flight > 0
        until(lambda: far.take() is not None and made.outlet.in_flight == 0, "libzmq lets go")
        until(lambda: far.take() is not None and far.ring.head == lane.next_seq, "what was sent has come")
        assert lane.next_seq > 3
        for seq in range(lane.next_seq):
            frame = far.ring.peek(seq)
            assert frame is not None
            assert frame.payload == payload(seq, LARGE)


def test_a_full_connection_tells_when_there_is_room_again(folder: Path) -> None:
    with ends(folder, narrow=True, capacity_bytes=16 << 20) as made:
        far = made.far(capacity_bytes=16 << 20)
        far.join(made, 0)
        write(made, 60, LARGE)
        while made.outlet.pump():
            pass
        assert far.lane is not None
        assert far.lane.next_seq < 60, "what is in flight is bounded"
        assert made.outlet.rest() == -1, "it is not the ring that is waited for"
        until(lambda: far.take() is not None and readable(made.wake_fd, 0), "told by the I/O thread")
        made.carry()
        same(far, made.ring, 0)


def test_a_resting_outlet_is_woken_by_the_next_frame(folder: Path) -> None:
    with ends(folder) as made:
        far = made.far()
        far.join(made, 0)
        for _ in range(3):
            assert made.outlet.pump() == 0
            fd = made.outlet.rest()
            assert not readable(fd, 0.02)
            write(made, 1, 64)
            assert readable(fd, PATIENCE_S)
            made.carry()


def test_a_linger_holds_small_frames_back_and_large_ones_not(folder: Path) -> None:
    linger_s = 0.2
    with ends(folder, linger_us=int(linger_s * 1e6)) as made:
        far = made.far()
        far.join(made, 0)
        write(made, 5, 64)
        began = time.monotonic()
        assert made.outlet.pump() == 0
        due = made.outlet.due_s(time.monotonic_ns())
        assert due is not None
        assert due <= linger_s
        write(made, 1, LARGE)
        assert made.outlet.pump() == 2, "there is enough to travel with"
        assert time.monotonic() - began < linger_s
        write(made, 1, 64)
        assert made.outlet.pump() == 0
        until(lambda: made.outlet.pump() == 1, "alone, but not later than it was told")
        made.carry()


@pytest.mark.parametrize("alone", [True, False])
def test_an_evicted_reader_is_told_and_can_be_replaced(folder: Path, alone: bool) -> None:
    with ends(folder) as made:
        far = made.far()
        lane = far.join(made, 0)
        if not alone:
            made.far().join(made, 0)
        write(made, 10, LARGE)
        assert far.reader is not None
        made.ring.evict(far.reader.slot)
        made.outlet.pump()
        assert lane.trouble == "evicted"
        far.reader.close()
        far.reader = made.ring.reader(policy="lossy", start=lane.next_seq)
        made.outlet.rejoin(lane, far.reader)
        made.carry()
        for each in made.fars:
            same(each, made.ring, 0)


@pytest.mark.parametrize("where", ["/nowhere/zmq.so", None])
def test_a_libzmq_that_cannot_be_called_is_said_to_be_missing(where: str | None) -> None:
    import halftrack_dataplane.ring as loaded

    libzmq.load()
    with pytest.raises(libzmq.LibzmqMissing, match="is not loaded" if where else "does not show zmq_version"):
        libzmq.load(where or loaded.__file__)


def test_lanes_refuse_what_cannot_be(folder: Path) -> None:
    with ends(folder) as made:
        reader = made.ring.reader(policy="lossy")
        for routing in (b"", b"r" * 256):
            with pytest.raises(ValueError, match="cannot be"):
                made.outlet.join(routing, reader, 0, 1)
        reader.close()


def test_an_unreachable_receiver_is_in_trouble_and_the_others_are_not(folder: Path) -> None:
    with ends(folder) as made:
        far, gone = made.far(), made.far()
        far.join(made, 0)
        lane: Any = gone.join(made, 0)
        gone.inlet.drop()
        gone.socket.close(0)
        made.fars.remove(gone)

        def noticed() -> bool:
            write(made, 1, LARGE)
            made.outlet.pump()
            far.take()
            return bool(lane.trouble == "unreachable")

        until(noticed, "a peer that has gone is noticed")
        made.carry()
        same(far, made.ring, 0)
        made.outlet.leave(lane)
        assert gone.reader is not None
        gone.reader.close()
        gone.ring.close()
        assert os.path.exists(folder)
