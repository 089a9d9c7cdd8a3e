"""Several writers of one ring, who may be held up by whom, how long frames are kept: said once for all rings."""

import threading
from pathlib import Path
from typing import Any

import pytest

from halftrack_dataplane.frames import Evicted, RingFull, WriterBusy
from tests.ring.ring_peers import payload


def drained(reader: Any) -> list[tuple[int, bytes]]:
    return [(frame.seq, bytes(frame.payload)) for frame in iter(lambda: reader.read(0), None)]


@pytest.fixture
def shared(rings: Any, path: Path) -> Any:
    """A small ring that several may write."""
    return rings.Ring.create(path, capacity_bytes=4096, slots=8, base_seq=100, shared=True)


# invariant: S1
def test_writers_of_a_shared_ring_take_turns_in_one_total_order(shared: Any) -> None:
    one, two, reader = shared.writer(name="one"), shared.writer(name="two"), shared.reader()
    assert shared.shared
    assert [one.write(b"1"), two.write(b"2"), two.write(b"22"), one.write(b"11")] == [100, 101, 102, 103]
    assert two.write_many([b"a", b"b", b"cc"]) == range(104, 107)
    assert one.gap(3) == 107
    assert two.write(b"z") == 110
    payloads = [(seq, data) for seq, data in drained(reader)]
    assert payloads == [
        (100, b"1"), (101, b"2"), (102, b"22"), (103, b"11"), (104, b"a"), (105, b"b"), (106, b"cc"), (107, b""), (110, b"z")
    ]  # fmt: skip
    one.close()
    assert two.write(b"still") == 111
    assert shared.stats().writer_pid == 0  # it is nobody's turn


def test_a_ring_that_is_not_shared_has_one_writer(ring: Any) -> None:
    with ring.writer(), pytest.raises(WriterBusy):
        ring.writer()
    assert not ring.shared


def test_a_claim_is_a_turn_until_it_is_committed_or_given_up(shared: Any) -> None:
    one, two, never = shared.writer(), shared.writer(), shared.writer(full="drop")
    one.claim(3)[:] = b"abc"
    assert shared.stats().writer_pid > 0
    for write in (lambda: two.write(b"x", timeout_s=0), lambda: two.claim(1, timeout_s=0.001)):
        with pytest.raises(RingFull):
            write()
    with pytest.raises(RingFull) as caught:
        two.write_many([b"x", b"y"], timeout_s=0)
    assert caught.value.written == 0
    assert never.write(b"x", timeout_s=0) == -1
    assert one.commit() == 100
    assert two.write(b"x", timeout_s=0) == 101
    two.claim(5)
    two.abort()
    assert one.write(b"y", timeout_s=0) == 102
    one.claim(7)
    one.close()
    assert two.write(b"z", timeout_s=0) == 103
    assert drained(shared.reader(start=100)) == [(100, b"abc"), (101, b"x"), (102, b"y"), (103, b"z")]
    assert shared.stats().dropped == 1


def test_who_will_not_wait_for_room_does_not_wait_behind_one_that_does(shared: Any) -> None:
    reader, patient, hasty = shared.reader(), shared.writer(), shared.writer(full="drop")
    while hasty.write(bytes(900)) >= 0:
        pass
    written: list[int] = []
    waiting = threading.Thread(target=lambda: written.append(patient.write(bytes(1500), timeout_s=30)))
    waiting.start()
    while not shared.stats().writer_pid:  # until it has the turn, and so waits for room
        pass
    dropped = shared.stats().dropped
    while hasty.write(b"x", timeout_s=30) >= 0:
        pass
    assert shared.stats().dropped > dropped
    while waiting.is_alive():
        reader.read(0)
    waiting.join()
    assert written == [shared.head - 1]
    assert (shared.stats().blocked, shared.stats().writer_pid) == (1, 0)
    assert shared.stats().blocked_s > 0


def test_frames_of_several_writers_share_records(rings: Any, path: Path) -> None:
    ring = rings.Ring.create(path, capacity_bytes=65536, slots=4, frame_bytes=8, shared=True)
    one, two = ring.writer(), ring.writer()
    for seq in range(100):
        (one, two)[seq % 3 == 0].write(seq.to_bytes(8, "little"))
    reader = ring.reader(start="oldest")
    batch = reader.view_many()
    assert batch.count == 100  # one record: four slots are enough for all
    assert bytes(batch.payload) == b"".join(seq.to_bytes(8, "little") for seq in range(100))


# invariant: S2
@pytest.mark.parametrize("frame_bytes", [0, 32])
def test_threads_that_write_at_once_lose_nothing_and_nobody_starves(rings: Any, path: Path, frame_bytes: int) -> None:
    ring, each = rings.Ring.create(path, capacity_bytes=1 << 16, slots=64, frame_bytes=frame_bytes, shared=True), 400
    reader, sequences = ring.reader(), [[] for _ in range(3)]  # type: ignore[var-annotated]

    def write(number: int) -> None:
        with ring.writer(name=f"writer {number}") as writer:
            for at in range(each):
                data = bytes([number]) + at.to_bytes(4, "little") + bytes(27)
                if at % 7 == 0:
                    view = writer.claim(32, 30)
                    view[:] = data
                    sequences[number].append(writer.commit())
                else:
                    sequences[number].append(writer.write(data, timeout_s=30))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    frames = [reader.read(30) for _ in range(3 * each)]
    for thread in threads:
        thread.join()
    assert [frame.seq for frame in frames] == list(range(3 * each))
    for number in range(3):
        mine = [frame for frame in frames if frame.payload[0] == number]
        assert [int.from_bytes(frame.payload[1:5], "little") for frame in mine] == list(range(each))
        assert [frame.seq for frame in mine] == sequences[number]
    assert reader.read(0) is None


# ---- who is waited for ------------------------------------------------------------------------------------------------


def test_a_writer_that_overwrites_spares_readers_of_priority(ring: Any) -> None:
    slow, science = ring.reader(name="display"), ring.reader(name="science", priority=5)
    writer = ring.writer(full="overwrite", spare=5)
    for _ in range(8):
        writer.write(b"x", timeout_s=0)
    with pytest.raises(RingFull):
        writer.write(b"x", timeout_s=0)
    with pytest.raises(Evicted):
        slow.read(0)
    assert science.read(0).seq == 100
    assert writer.write(b"x", timeout_s=0) == 108
    assert ring.stats().readers[0].priority == 5
    assert (ring.stats().evicted, science.missed) == (1, 0)


@pytest.mark.parametrize(
    "wrong", [{"full": "block", "spare": 1}, {"full": "overwrite", "spare": -1}, {"full": "overwrite", "spare": 256}]
)
def test_a_priority_that_makes_no_sense_is_refused(ring: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="spare"):
        ring.writer(**wrong)
    for priority in (-1, 256):
        with pytest.raises(ValueError, match="priority"):
            ring.reader(priority=priority)
    ring.writer().close()


# ---- how full it is ---------------------------------------------------------------------------------------------------


def test_credit_is_what_fits_before_a_lossless_reader_is_in_the_way(ring: Any) -> None:
    assert ring.credit_bytes == 4096
    writer, reader, lossy = ring.writer(), ring.reader(), ring.reader(policy="lossy")
    for _ in range(3):
        writer.write(bytes(1000), timeout_s=0)
    assert ring.credit_bytes == 4096 - 3 * 1024
    assert ring.stats().credit_bytes == ring.credit_bytes
    reader.read(0)
    assert ring.credit_bytes == 4096 - 2 * 1024
    while reader.read(0):
        pass
    assert ring.credit_bytes == 4096
    assert lossy.lag_frames == 3
    writer.write(bytes(1000), timeout_s=0)
    reader.close()
    assert ring.credit_bytes == 4096


def test_the_high_water_mark_is_how_far_readers_lagged_when_room_was_needed(ring: Any) -> None:
    writer, reader = ring.writer(), ring.reader()
    for _ in range(8):
        writer.write(b"x")
    for _ in range(6):
        reader.read(0)
    writer.write(b"y", timeout_s=0)
    assert ring.stats().readers[0].most_lag_frames == 2
    for _ in range(5):
        writer.write(b"z", timeout_s=0)
    with pytest.raises(RingFull):
        writer.write(b"z", timeout_s=0)
    assert (ring.stats().readers[0].most_lag_frames, ring.stats().most_lag_frames) == (8, 8)
    reader.close()
    again = ring.reader()
    assert again.lag_frames == 0
    assert (ring.stats().readers[0].most_lag_frames, ring.stats().most_lag_frames) == (0, 8)


# ---- how long it is kept ----------------------------------------------------------------------------------------------


def test_frames_older_than_what_is_retained_go_early(rings: Any, path: Path) -> None:
    ring = rings.Ring.create(path, capacity_bytes=1 << 16, slots=64, retain_s=10)
    assert ring.retain_s == 10
    writer = ring.writer()
    for second in range(30):
        writer.write(payload(second), timestamp_ns=second * 10**9)
        assert ring.tail == max(0, second - 10)
    writer.gap(5, timestamp_ns=100 * 10**9)
    assert (ring.tail, ring.head) == (30, 35)
    writer.write(b"no time of its own")  # as time goes back, nothing is old
    assert ring.tail == 30


# invariant: S2
def test_what_a_lossless_reader_needs_is_never_too_old(rings: Any, path: Path) -> None:
    ring = rings.Ring.create(path, capacity_bytes=1 << 16, slots=64, retain_s=1)
    writer, reader, lossy = ring.writer(), ring.reader(), ring.reader(policy="lossy")
    for second in range(20):
        writer.write(payload(second), timestamp_ns=second * 10**9)
    assert ring.tail == 0
    assert [seq for seq, _ in drained(reader)] == list(range(20))
    writer.write(b"", timestamp_ns=20 * 10**9)
    assert ring.tail == 19
    assert (lossy.read(0).seq, lossy.missed) == (19, 19)


@pytest.mark.parametrize("wrong", [0, -1, 10**9])
def test_a_retention_that_makes_no_sense_is_refused(rings: Any, path: Path, wrong: float) -> None:
    with pytest.raises(ValueError, match="retain_s"):
        rings.Ring.create(path, retain_s=wrong)
