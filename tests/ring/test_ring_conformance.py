"""What a ring does, said once for the fast ring and the reference ring."""

from pathlib import Path
from typing import Any

import pytest

from halftrack_dataplane.frames import (
    Evicted,
    Frame,
    FrameTooLarge,
    ReadersFull,
    RingError,
    RingFull,
    RingMissing,
    WriterBusy,
)
from tests.ring.ring_peers import payload


def drain(reader: Any) -> list[Frame]:
    return list(iter(lambda: reader.read(0), None))


def test_a_new_ring_is_empty_and_says_what_it_is(ring: Any, path: Path) -> None:
    assert (ring.head, ring.tail) == (100, 100)
    assert (ring.path, ring.capacity_bytes, ring.slots, ring.label, ring.generation) == (str(path), 4096, 8, "sky", 3)
    stats = ring.stats()
    assert (stats.used_bytes, stats.dropped, stats.gap_frames, stats.evicted) == (0, 0, 0, 0)
    assert stats.readers == ()
    assert stats.writer_pid == 0


def test_create_refuses_what_exists_and_open_what_does_not(rings: Any, ring: Any, path: Path) -> None:
    with pytest.raises(FileExistsError):
        rings.Ring.create(path)
    with pytest.raises(RingMissing, match="no ring at"):
        rings.Ring.open(path.with_name("other"))
    assert rings.Ring.open(path).label == "sky"


@pytest.mark.parametrize(
    "wrong", [{"slots": 12}, {"slots": 1}, {"capacity_bytes": 0}, {"base_seq": -1}, {"label": "x" * 128}]
)
def test_create_refuses_impossible_numbers(rings: Any, path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"slots|base_seq|label"):
        rings.Ring.create(path, **wrong)
    with pytest.raises(RingMissing):
        rings.Ring.open(path)


# invariant: S1
def test_frames_arrive_whole_in_order_with_their_marks(ring: Any) -> None:
    writer, reader = ring.writer(name="w"), ring.reader(name="r")
    for seq in range(100, 200):
        assert writer.write(payload(seq), epoch=seq // 50, timestamp_ns=-seq) == seq
        assert reader.read() == Frame(seq, seq // 50, -seq, payload(seq))
    assert reader.read(0) is None
    assert reader.lag_frames == 0
    assert ring.stats().readers[0].name == "r"


def test_any_buffer_can_be_written(ring: Any) -> None:
    writer, reader = ring.writer(), ring.reader()
    grid = memoryview(bytes(range(24)))
    for data in (b"", b"x", bytearray(b"yy"), grid.cast("I"), grid[::2], grid.cast("B", (4, 6))):
        writer.write(data)
        frame = reader.read(0)
        assert frame is not None
        assert frame.payload == memoryview(data).tobytes()
        assert frame.gap == 0
    with pytest.raises(TypeError):
        writer.write("text")
    assert ring.head == 106


def test_a_frame_may_take_half_the_ring_and_no_more(ring: Any) -> None:
    writer, reader = ring.writer(), ring.reader(policy="lossy")
    for seq in range(100, 110):  # padding at the wrap must never make half a ring too much
        writer.write(b"small")
        assert writer.write(bytes([seq]) * 2048) == ring.head - 1
    assert drain(reader)[-1].payload == bytes([109]) * 2048
    with pytest.raises(FrameTooLarge, match="2049"):
        writer.write(bytes(2049))
    with pytest.raises(FrameTooLarge):
        writer.claim(2049)


# invariant: S2
@pytest.mark.parametrize("size", [0, 1500], ids=["descriptors", "bytes"])
def test_a_lossless_reader_gates_descriptors_and_bytes(ring: Any, size: int) -> None:
    reader, writer = ring.reader(), ring.writer(full="block")
    kept = 8 if size == 0 else 2
    for _ in range(kept):
        writer.write(bytes(size), timeout_s=0)
    with pytest.raises(RingFull, match="lossless reader"):
        writer.write(bytes(size), timeout_s=0)
    assert ring.tail == 100
    assert reader.read(0).seq == 100
    writer.write(bytes(size), timeout_s=0)
    assert [frame.seq for frame in drain(reader)] == list(range(101, 101 + kept))
    assert (reader.overruns, reader.missed) == (0, 0)


# invariant: S2
def test_a_lossy_reader_counts_what_it_missed(ring: Any) -> None:
    reader, writer = ring.reader(policy="lossy"), ring.writer()
    for seq in range(100, 120):
        writer.write(payload(seq, 8), timeout_s=0)
    frames = drain(reader)
    assert [frame.seq for frame in frames] == list(range(112, 120))
    assert all(frame.payload == payload(frame.seq, 8) for frame in frames)
    assert (reader.overruns, reader.missed) == (1, 12)
    assert ring.stats().readers[0].overruns == 1


# invariant: S2
def test_drop_returns_minus_one_and_counts(ring: Any) -> None:
    reader, writer = ring.reader(), ring.writer(full="drop")
    results = [writer.write(b"x") for _ in range(11)]
    assert results == [*range(100, 108), -1, -1, -1]
    with pytest.raises(RingFull):
        writer.claim(1)
    assert writer.gap(5) == -1
    assert ring.stats().dropped == 9
    assert [frame.seq for frame in drain(reader)] == list(range(100, 108))
    assert writer.write(b"x") == 108


# invariant: S2
def test_overwrite_evicts_lossless_readers_in_the_way_loudly(ring: Any) -> None:
    slow, quick, writer = ring.reader(name="slow"), ring.reader(), ring.writer(full="overwrite")
    for seq in range(100, 120):
        assert writer.write(b"x") == seq
        assert quick.read(0).seq == seq
    with pytest.raises(Evicted, match=r"'slow'.*100"):
        slow.read(0)
    with pytest.raises(Evicted):
        slow.view(0)
    stats = ring.stats()
    assert stats.evicted == 1
    assert [reader.slot for reader in stats.readers] == [quick.slot]


def test_a_claim_is_invisible_until_committed(ring: Any) -> None:
    writer, reader = ring.writer(), ring.reader()
    view = writer.claim(5)
    view[:] = b"hello"
    assert (reader.read(0), ring.head) == (None, 100)
    with pytest.raises(RingError, match="claimed"):
        writer.write(b"x")
    with pytest.raises(RingError, match="claimed"):
        writer.claim(1)
    assert writer.commit(epoch=7, timestamp_ns=9) == 100
    assert reader.read(0) == Frame(100, 7, 9, b"hello")
    with pytest.raises(ValueError, match="released"):
        view[0] = 1
    writer.claim(3)
    writer.abort()
    writer.abort()
    with pytest.raises(RingError, match="nothing is claimed"):
        writer.commit()
    assert writer.write(b"next") == 101
    assert reader.read(0).payload == b"next"


# invariant: S2
def test_a_gap_record_stands_for_its_sequences(ring: Any) -> None:
    writer, reader = ring.writer(), ring.reader()
    writer.write(b"a")
    assert writer.gap(1000, epoch=2, timestamp_ns=5) == 101
    assert ring.head == 1101
    inside = ring.reader(start=600)
    assert [reader.read(0), reader.read(0)] == [Frame(100, 0, 0, b"a"), Frame(101, 2, 5, b"", 1000)]
    assert inside.read(0) == Frame(600, 2, 5, b"", 501)
    assert writer.write(b"b", timeout_s=0) == 1101
    assert reader.read(0) == inside.read(0) == Frame(1101, 0, 0, b"b")
    assert ring.stats().gap_frames == 1000
    with pytest.raises(ValueError, match="at least one"):
        writer.gap(0)


def test_a_ring_that_never_held_a_frame_may_start_anywhere_above(ring: Any) -> None:
    writer, early = ring.writer(), ring.reader()
    with pytest.raises(RingError, match="cannot start at 99"):
        writer.start_at(99)
    writer.start_at(100)
    writer.start_at(5000)
    with pytest.raises(RingError, match="declare a gap"):
        writer.start_at(6000)
    assert (ring.head, ring.stats().gap_frames) == (5000, 0)
    assert early.read(0) == Frame(100, 0, 0, b"", 4900)
    assert writer.write(b"first", timeout_s=0) == 5000
    assert early.read(0) == Frame(5000, 0, 0, b"first")
    with ring.reader(start="oldest") as late:
        assert late.read(0).seq == 5000


def test_a_view_is_the_rings_memory_until_it_is_released(ring: Any) -> None:
    writer, reader = ring.writer(), ring.reader()
    for seq in range(100, 108):
        writer.write(payload(seq, 300))
    frame = reader.view(0)
    assert bytes(frame.payload) == payload(100, 300)
    assert frame.payload.readonly
    assert reader.cursor == 100
    with pytest.raises(RingFull):
        writer.write(b"x", timeout_s=0)
    reader.release()
    reader.release()
    assert reader.cursor == 101
    with pytest.raises(ValueError, match="released"):
        bytes(frame.payload)
    assert writer.write(b"x", timeout_s=0) == 108
    assert reader.view(0).seq == 101
    assert reader.view(0).seq == 102
    assert reader.read(0).seq == 103
    with pytest.raises(RingError, match="lossless"):
        ring.reader(policy="lossy").view(0)


def test_a_view_outlives_everything_it_came_from(rings: Any, ring: Any) -> None:
    if rings.__name__.endswith("c_ring"):
        pytest.skip("in C, whoever unmaps the ring ends its views")
    writer, reader = ring.writer(), ring.reader()
    writer.write(b"still here")
    part = reader.view(0).payload[6:]  # an export of the export: it cannot be ended for its owner
    reader.close()
    writer.close()
    ring.close()
    del reader, writer
    assert bytes(part) == b"here"


# invariant: S2
def test_joining_at_a_sequence(ring: Any) -> None:
    writer = ring.writer()
    for seq in range(100, 120):
        writer.write(payload(seq, 8))
    assert (ring.tail, ring.head) == (112, 120)
    starts = {"now": (120, 0, 0), "oldest": (112, 0, 0), 115: (115, 0, 0), 105: (112, 1, 7), 130: (130, 0, 0)}
    for start, (cursor, overruns, missed) in starts.items():
        for policy in ("lossless", "lossy"):
            with ring.reader(policy=policy, start=start) as reader:
                assert (reader.cursor, reader.overruns, reader.missed) == (cursor, overruns, missed)
                frame = reader.read(0)
                assert (frame.seq if frame else None) == (cursor if cursor < 120 else None)
    with ring.reader(start=122) as ahead:
        writer.write(b"120")
        writer.write(b"121")
        assert ahead.read(0) is None
        writer.write(b"122")
        assert ahead.read(0).seq == 122
    for wrong in ("then", -1, True):
        with pytest.raises(ValueError, match="start"):
            ring.reader(start=wrong)
    with pytest.raises(ValueError, match="policy"):
        ring.reader(policy="some")


def test_seeking_back_and_forth(ring: Any) -> None:
    writer, reader = ring.writer(), ring.reader()
    for seq in range(100, 108):
        writer.write(payload(seq, 8))
    assert len(drain(reader)) == 8
    reader.seek(103)
    assert reader.lag_frames == 5
    assert reader.view(0).seq == 103
    reader.seek(106)
    assert reader.read(0).seq == 106
    for _ in range(4):
        writer.write(b"x", timeout_s=0)
    reader.seek(100)
    assert (reader.cursor, reader.overruns, reader.missed) == (104, 1, 4)
    with pytest.raises(RingFull):
        writer.write(b"x", timeout_s=0)


def test_peek_needs_no_slot(rings: Any, ring: Any, path: Path) -> None:
    with ring.writer() as writer:
        for seq in range(100, 110):
            writer.write(payload(seq, 8), epoch=1)
        writer.gap(3)
    looking = rings.Ring.open(path, readonly=True)
    assert looking.peek(105) == Frame(105, 1, 0, payload(105, 8))
    assert looking.peek(111) == Frame(111, 0, 0, b"", 2)
    assert looking.peek(102) is None
    assert looking.peek(113) is None
    assert looking.stats() == ring.stats()
    for act in (
        looking.writer,
        looking.reader,
        looking.reap,
        lambda: looking.evict(0),
        lambda: looking.withdraw_cut(1),
    ):
        with pytest.raises(RingError, match="read-only"):
            act()


def test_one_writer_at_a_time(rings: Any, ring: Any, path: Path) -> None:
    writer = ring.writer(name="first")
    with pytest.raises(WriterBusy, match="'first'"):
        rings.Ring.open(path).writer()
    assert ring.stats().writer_pid > 0
    writer.write(b"a")
    writer.close()
    writer.close()
    with pytest.raises(RingError, match="closed"):
        writer.write(b"b")
    with ring.writer(full="drop") as second:
        assert second.write(b"b") == 101
    with pytest.raises(ValueError, match="full"):
        ring.writer(full="maybe")


def test_sixty_four_readers(ring: Any) -> None:
    readers = [ring.reader(name=str(number)) for number in range(64)]
    with pytest.raises(ReadersFull, match="64"):
        ring.reader()
    assert [reader.slot for reader in readers] == list(range(64))
    readers[17].close()
    readers[17] = ring.reader(name="again")
    assert readers[17].slot == 17
    ring.evict(30)
    with pytest.raises(ReadersFull):  # an evicted reader keeps its slot until it knows
        ring.reader()
    with pytest.raises(Evicted):
        readers[30].read(0)
    readers[30] = ring.reader()
    assert readers[30].slot == 30
    with ring.writer() as writer:
        writer.write(b"to all")
    assert all(reader.read(0).payload == b"to all" for reader in readers)


def test_evicting_frees_the_writer_and_is_counted_once(ring: Any) -> None:
    reader, writer = ring.reader(), ring.writer()
    for _ in range(8):
        writer.write(b"x")
    ring.evict(reader.slot)
    ring.evict(reader.slot)
    ring.evict(5)
    assert writer.write(b"x", timeout_s=0) == 108
    assert ring.stats().evicted == 1
    for act in (reader.read, reader.view, reader.release, lambda: reader.seek(100)):
        with pytest.raises(Evicted):
            act()
    with pytest.raises(ValueError, match="slots"):
        ring.evict(64)
    assert ring.reap() == ()


def test_closed_means_closed(ring: Any) -> None:
    reader = ring.reader()
    reader.close()
    reader.close()
    with pytest.raises(RingError, match="closed"):
        reader.read(0)
    ring.close()
    ring.close()
    with pytest.raises(RingError, match="closed"):
        ring.stats()
