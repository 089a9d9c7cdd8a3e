"""Batches, rings of one frame length, sampling, patience, checksums, times: said once for all rings."""

import array
import time
from pathlib import Path
from typing import Any

import pytest

from halftrack_dataplane.frames import Batch, Evicted, Frame, FrameTooLarge, RingError, RingFull, WrongLength
from tests.ring.test_ring_conformance import drain


def numbered(first: int, count: int, length: int = 64) -> list[bytes]:
    """Frames that say their number all over."""
    return [seq.to_bytes(8, "little") * (length // 8) for seq in range(first, first + count)]


@pytest.fixture
def even(rings: Any, path: Path) -> Any:
    """A ring whose frames all have 64 bytes: records of up to 16 of them."""
    return rings.Ring.create(path, capacity_bytes=65536, slots=8, base_seq=100, frame_bytes=64, schema="<u8")


def test_an_even_ring_says_so(rings: Any, even: Any, path: Path) -> None:
    other = rings.Ring.open(path)
    assert (other.frame_bytes, other.schema, other.checked) == (64, "<u8", False)
    for wrong in ({"frame_bytes": 4097}, {"frame_bytes": -1}, {"schema": "x" * 2048}):
        with pytest.raises(ValueError, match=r"frame_bytes|label|slots"):
            rings.Ring.create(path.with_name("wrong"), capacity_bytes=8192, **wrong)


# invariant: S1
def test_frames_of_one_length_share_records_and_arrive_one_by_one(even: Any) -> None:
    writer, reader, frames = even.writer(), even.reader(), numbered(100, 200)
    for seq, frame in enumerate(frames, 100):
        assert writer.write(frame, epoch=seq // 150, timestamp_ns=7) == seq
        assert reader.read(0) == Frame(seq, seq // 150, 7, frame)
    assert reader.read(0) is None


# invariant: S1
def test_a_record_grows_while_it_is_read(even: Any) -> None:
    """Eight records of sixteen frames: more frames than descriptors are retained, and a growing record is found by all."""
    writer, reader, frames = even.writer(), even.reader(), numbered(100, 128)
    for frame in frames:
        writer.write(frame, timeout_s=0)
    with pytest.raises(RingFull):
        writer.write(frames[0], timeout_s=0)
    assert even.tail == 100
    for seq in (100, 115, 116, 227):
        assert even.peek(seq).payload == frames[seq - 100]
    assert [reader.read(0).seq for _ in range(15)] == list(range(100, 115))
    with pytest.raises(RingFull):  # a record goes as a whole
        writer.write(frames[0], timeout_s=0)
    assert reader.view(0).seq == 115
    with pytest.raises(RingFull):
        writer.write(frames[0], timeout_s=0)
    reader.release()
    assert writer.write(frames[0], timeout_s=0) == 228
    assert even.tail == 116
    assert [frame.payload for frame in drain(reader)] == [*frames[16:], frames[0]]


def test_another_epoch_or_time_is_another_record(even: Any) -> None:
    writer, reader, frame = even.writer(), even.reader(), bytes(64)
    for epoch, stamp in ((0, 0), (0, 0), (1, 0), (1, 5), (1, 5)):
        writer.write(frame, epoch=epoch, timestamp_ns=stamp)
    batches = [reader.view_many(timeout_s=0) for _ in range(3)]
    assert [(b.seq, b.count, b.epoch, b.timestamp_ns) for b in batches] == [
        (100, 2, 0, 0),
        (102, 1, 1, 0),
        (103, 2, 1, 5),
    ]


def test_a_wrong_length_is_refused_and_changes_nothing(even: Any) -> None:
    writer = even.writer()
    for act in (
        lambda: writer.write(bytes(63)),
        lambda: writer.write(b""),
        lambda: writer.claim(65),
        lambda: writer.claim(0),
        lambda: writer.write_many([bytes(64), bytes(65)]),
    ):
        with pytest.raises(WrongLength):
            act()
    with pytest.raises(FrameTooLarge):
        writer.claim(65536)
    assert even.head == 100
    assert even.stats().dropped == 0


# invariant: S1
@pytest.mark.parametrize("frame_bytes", [0, 64])
def test_batches_are_what_writing_one_by_one_would_have_been(rings: Any, path: Path, frame_bytes: int) -> None:
    ring = rings.Ring.create(path, capacity_bytes=65536, slots=64, frame_bytes=frame_bytes)
    writer, reader, frames = ring.writer(), ring.reader(), numbered(0, 50)
    assert writer.write_many(frames[:20], epoch=3, timestamp_ns=9) == range(20)
    assert writer.write_many([]) == range(20, 20)
    assert writer.write_array(memoryview(b"".join(frames[20:])).cast("B", (30, 64)), epoch=3, timestamp_ns=9) == range(
        20, 50
    )
    for seq in range(50):
        assert reader.read(0) == Frame(seq, 3, 9, frames[seq])
    reader.seek(0)
    assert reader.read_many(10, 0) == Batch(0, 10, 3, 9, 64, frames[:10])
    assert reader.read_many(1000, 0) == Batch(10, 40, 3, 9, 64, frames[10:])
    assert reader.read_many(1000, 0) is None


def test_batches_of_different_lengths_keep_them(ring: Any) -> None:
    writer, reader = ring.writer(), ring.reader()
    frames: list[Any] = [b"", b"a", b"b", bytearray(b"cc"), memoryview(b"dd"), b"e" * 300]
    assert writer.write_many(frames) == range(100, 106)
    batch = reader.read_many(timeout_s=0)
    assert (batch.seq, batch.count, batch.payload) == (100, 6, [bytes(frame) for frame in frames])
    with pytest.raises(FrameTooLarge):
        writer.write_many([b"x", bytes(2049)])
    assert ring.head == 106


def test_arrays_are_frames_by_their_first_axis(ring: Any) -> None:
    writer, reader = ring.writer(), ring.reader()
    assert writer.write_array(array.array("I", [1, 2, 3])) == range(100, 103)
    assert [frame.payload for frame in drain(reader)] == [n.to_bytes(4, "little") for n in (1, 2, 3)]
    assert writer.write_array(b"") == range(103, 103)
    with pytest.raises(ValueError, match="first axis"):
        writer.write_array(memoryview(b"a").cast("B", []))


def test_a_gap_comes_alone(ring: Any) -> None:
    writer, reader = ring.writer(), ring.reader()
    writer.write(b"a")
    writer.gap(10, epoch=2, timestamp_ns=3)
    writer.write(b"b")
    room = bytearray(8)
    assert reader.read_many(timeout_s=0).payload == [b"a"]
    assert reader.read_many(timeout_s=0) == Batch(101, 0, 2, 3, 0, [], 10)
    assert reader.read_many(timeout_s=0).payload == [b"b"]
    reader.seek(101)
    assert reader.read_into(room, 0) == Batch(101, 0, 2, 3, 0, None, 10)
    reader.seek(105)
    batch = reader.view_many(timeout_s=0)
    assert (batch.seq, batch.count, batch.gap, bytes(batch.payload)) == (105, 0, 6, b"")
    reader.release()
    assert reader.cursor == 111


def test_a_batch_has_one_epoch(ring: Any) -> None:
    writer, reader = ring.writer(), ring.reader()
    for epoch in (1, 1, 2):
        writer.write(b"x", epoch=epoch)
    assert reader.read_many(timeout_s=0).count == 2
    assert reader.read_many(timeout_s=0) == Batch(102, 1, 2, 0, 1, [b"x"])
    for call in (reader.read_many, reader.view_many):
        with pytest.raises(ValueError, match="at least one"):
            call(0)


def test_reading_into_a_buffer_takes_whole_frames(even: Any) -> None:
    writer, reader, frames = even.writer(), even.reader(), numbered(100, 16)
    writer.write_many(frames)
    room = bytearray(200)
    assert reader.read_into(room, 0) == Batch(100, 3, 0, 0, 64, None)
    assert bytes(room[:192]) == b"".join(frames[:3])
    with pytest.raises(ValueError, match="63 bytes"):
        reader.read_into(bytearray(63), 0)
    assert reader.read_into(bytearray(5000), 0).count == 13
    assert reader.read_into(room, 0) is None


def test_a_view_of_many_is_the_rings_memory(even: Any) -> None:
    writer, reader, frames = even.writer(), even.reader(), numbered(100, 16)
    writer.write_many(frames)
    batch = reader.view_many(5, 0)
    assert (batch.seq, batch.count, bytes(batch.payload), batch.payload.readonly) == (
        100,
        5,
        b"".join(frames[:5]),
        True,
    )
    assert reader.cursor == 100
    batch = reader.view_many(timeout_s=0)
    assert (batch.seq, batch.count) == (105, 11)
    reader.release()
    assert reader.cursor == 116
    with pytest.raises(RingError, match="lossless"):
        even.reader(policy="lossy").view_many(timeout_s=0)


def test_several_frames_are_claimed_at_once(even: Any) -> None:
    writer, reader, frames = even.writer(), even.reader(), numbered(100, 40)
    writer.claim(64 * 40)[:] = b"".join(frames)
    assert even.head == 100
    assert writer.commit(epoch=1, timestamp_ns=2) == 100
    assert reader.view_many(timeout_s=0).count == 40  # one record, however long
    assert writer.write(frames[0], epoch=1, timestamp_ns=2) == 140
    reader.seek(100)
    assert [frame.payload for frame in drain(reader)] == [*frames, frames[0]]
    writer.claim(64)
    writer.abort()
    assert writer.write(frames[1], epoch=1, timestamp_ns=2) == 141
    assert reader.read(0) == Frame(141, 1, 2, frames[1])


# invariant: S2
def test_a_batch_that_does_not_fit_says_how_much_of_it_did(even: Any) -> None:
    reader, frames = even.reader(), numbered(100, 200)
    with even.writer() as writer:
        with pytest.raises(RingFull) as full:
            writer.write_many(frames, timeout_s=0)
        assert full.value.written == 128 == even.head - 100
    with even.writer(full="drop") as writer:
        assert writer.write_many(frames[:10]) == range(228, 228)
        assert even.stats().dropped == 10
        assert reader.read_many(16, 0).count == 16
        assert writer.write_many(frames[:20]) == range(228, 244)
        assert even.stats().dropped == 14
    with even.writer(full="overwrite") as writer:
        assert writer.write_array(memoryview(b"".join(frames)).cast("B", (200, 64))) == range(244, 444)
    with pytest.raises(Evicted):
        reader.read_many(timeout_s=0)


# invariant: S2
def test_a_lossy_reader_of_batches_counts_what_it_missed(even: Any) -> None:
    reader, writer, frames = even.reader(policy="lossy"), even.writer(), numbered(100, 300)
    writer.write_many(frames)
    first = even.tail
    batch = reader.read_many(1000, 0)
    assert (batch.seq, batch.payload) == (first, frames[first - 100 :])
    assert (reader.overruns, reader.missed) == (1, first - 100)


def test_sampling_takes_every_nth_or_the_latest(ring: Any) -> None:
    writer, third = ring.writer(), ring.reader(policy="sample", every=3)
    latest = ring.reader(policy="sample", latest=True)
    for seq in range(100, 108):
        writer.write(str(seq).encode())
    assert [frame.seq for frame in drain(third)] == [102, 105]
    assert [frame.seq for frame in drain(latest)] == [107]
    for seq in range(108, 130):
        writer.write(str(seq).encode())
    assert third.read(0).seq == 123  # overrun: on at the oldest multiple of three
    assert latest.read(0).seq == 129
    with pytest.raises(RingError, match="lossless"):
        latest.view(0)
    for batch in (lambda: third.read_many(9, 0), lambda: third.read_into(bytearray(99), 0)):
        with pytest.raises(RingError, match="single frames"):
            batch()
    with ring.reader(policy="sample", per_s=20, start="oldest") as slow:
        before = time.monotonic()
        assert [slow.read(1).seq for _ in range(3)] == [122, 123, 124]
        assert time.monotonic() - before >= 0.1
        assert slow.read(0) is None
    for wrong in ({"every": 0}, {"per_s": 0}, {"per_s": -1.0}):
        with pytest.raises(ValueError, match="positive"):
            ring.reader(policy="sample", **wrong)
    with pytest.raises(ValueError, match="sample"):
        ring.reader(every=2)


# invariant: S2
def test_a_writer_that_waits_in_slices_is_held_up_for_no_longer(ring: Any) -> None:
    """As every process of a stream waits, so that it sees whether it was told to stop."""
    with ring.reader(evict_after_s=0.1) as slow, ring.writer() as writer:
        for _ in range(8):
            writer.write(b"x")
        before = time.monotonic()
        while True:
            try:
                assert writer.write(b"x", timeout_s=0.03) == 108
                break
            except RingFull:
                assert time.monotonic() - before < 10
        assert time.monotonic() - before >= 0.1
        with pytest.raises(Evicted):
            slow.read(0)


# invariant: S2
def test_a_reader_that_holds_up_the_writer_for_too_long_is_evicted(ring: Any) -> None:
    patient, brief = ring.reader(), ring.reader(evict_after_s=0.05)
    with ring.writer() as writer:
        for _ in range(8):
            writer.write(b"x")
        assert patient.read(0).seq == 100
        before = time.monotonic()
        assert writer.write(b"x", timeout_s=20) == 108
        assert 0.05 <= time.monotonic() - before < 10
        assert ring.stats().evicted == 1
        with pytest.raises(Evicted):
            brief.read(0)
        with pytest.raises(RingFull):  # the other one has all the time in the world
            writer.write(b"x", timeout_s=0.1)
        assert [frame.seq for frame in drain(patient)] == list(range(101, 109))
    with pytest.raises(ValueError, match="positive"):
        ring.reader(evict_after_s=0)


def test_times_find_sequences(ring: Any) -> None:
    assert ring.seq_at(0) == 100
    writer = ring.writer()
    for stamp in (10, 20, 20, 30):
        writer.write(b"x", timestamp_ns=stamp)
    assert [ring.seq_at(at) for at in (-5, 10, 11, 20, 21, 30, 31)] == [100, 100, 101, 101, 103, 103, 104]
    for stamp in range(40, 140, 10):
        writer.write(b"x", timestamp_ns=stamp)
    assert (ring.seq_at(0), ring.seq_at(75), ring.seq_at(1000)) == (ring.tail, 108, 114)


def test_checked_rings_look_like_others_to_whom_they_are_whole(rings: Any, path: Path) -> None:
    ring = rings.Ring.create(path, capacity_bytes=65536, slots=64, frame_bytes=64, checked=True)
    assert ring.checked
    writer, frames = ring.writer(), numbered(0, 40)
    readers = [
        ring.reader(verify=verify, policy=policy) for verify in (True, False) for policy in ("lossless", "lossy")
    ]
    writer.write_many(frames)
    writer.write(frames[0])
    writer.gap(3)
    for reader in readers:
        assert reader.read_many(1000, 0).payload == [*frames, frames[0]]
        assert reader.read(0).gap == 3
