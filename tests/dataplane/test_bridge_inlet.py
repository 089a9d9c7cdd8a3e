"""The bridge's receiving end alone: what is taken, what is passed over, and what is told."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane import bridge_data as wire
from halftrack_dataplane.frames import WrongLength
from tests.dataplane.bridge_ends import PATIENCE_S, Ends, Far, ends, payload, scene
from tests.dataplane.processes import until


def send(made: Ends, far: Far, message: wire.Data | wire.Gap | list[bytes]) -> None:
    parts = message if isinstance(message, list) else wire.encode(message)
    for part in parts:
        made.router.send_multipart([far.routing, part])
    assert far.socket.poll(PATIENCE_S * 1000)


def batch(far: Far, first: int, counts: list[int], length: int = 16) -> wire.Data:
    records = tuple(wire.Record(count, length, 7, 70 + number) for number, count in enumerate(counts))
    body = b"".join(payload(seq, length) for seq in range(first, first + sum(counts)))
    return wire.Data(first, records, body)


@given(held=st.integers(0, 12), first=st.integers(0, 12), counts=st.lists(st.integers(1, 5), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_duplicates_are_passed_over_and_holes_are_told(held: int, first: int, counts: list[int]) -> None:
    with scene() as made:
        far = made.far()
        for seq in range(held):
            far.writer.write(payload(seq, 16))
        send(made, far, batch(far, first, counts))
        words = far.take()
        if first > held:
            assert words == ["ahead"]
            assert far.inlet.first == first
            assert far.ring.head == held
            return
        assert words == ["turn"]
        end = first + sum(counts)
        assert far.ring.head == max(held, end)
        assert far.inlet.duplicates == min(held, end) - first
        assert far.inlet.frames == max(end - held, 0)
        assert far.inlet.owed == sum(counts) * (16 + wire.FRAME_COST)
        for seq in range(far.ring.head):
            frame = far.ring.peek(seq)
            assert frame is not None
            assert frame.payload == payload(seq, 16)
            if seq >= held:
                assert frame.epoch == 7


def test_a_full_ring_holds_a_message_up_and_it_goes_on_where_it_was(folder: Path) -> None:
    with ends(folder) as made:
        far = made.far(capacity_bytes=1 << 16, slots=16)
        reader = far.ring.reader(start="oldest")
        send(made, far, batch(far, 0, [30, 1, 40], 1000))
        began = time.monotonic()
        assert far.take() == ["waits"]
        assert time.monotonic() - began < 5, "a slice, not for ever"
        for seq in range(71):
            frame = reader.read(0)
            while frame is None:
                assert far.take() in (["waits"], ["turn"])
                frame = reader.read(0)
            assert (frame.seq, frame.payload) == (seq, payload(seq, 1000))
        assert (far.inlet.frames, far.inlet.duplicates) == (71, 0)
        reader.close()


def test_a_message_that_is_given_up_is_not_gone_on_with(folder: Path) -> None:
    with ends(folder) as made:
        far = made.far(capacity_bytes=1 << 16, slots=16)
        reader = far.ring.reader(start="oldest")
        send(made, far, batch(far, 0, [100], 1000))
        assert far.take() == ["waits"]
        head = far.ring.head
        far.inlet.drop()
        assert far.take() == []
        send(made, far, batch(far, head, [1], 1000))
        reader.close()
        assert far.take() == ["turn"]
        assert far.ring.head == head + 1


def test_what_is_not_frames_is_handed_on_and_other_sessions_frames_are_not_taken(folder: Path) -> None:
    with ends(folder) as made:
        far = made.far()
        send(made, far, [b"\x93\x02\xa4beat\xc4\x01x"])
        assert far.inlet.take() == "control"
        assert far.inlet.control() == [b"\x93\x02\xa4beat\xc4\x01x"]
        far.inlet.begin()
        for late in (False, True):
            send(made, far, wire.encode(batch(far, 0, [2]), late=late))
        send(made, far, [b"\x93\x02\xa4beat\xc4\x01x"])  # behind them: with it, all of them were taken off
        until(lambda: "control" in far.take(), "taken off")
        far.inlet.control()
        assert (far.ring.head, far.inlet.owed) == (0, 0)
        far.inlet.welcomed()
        send(made, far, wire.encode(batch(far, 0, [2]), late=True))
        until(lambda: far.take() is not None and far.ring.head == 2, "the same again, for us")
        made.router.send_multipart([far.routing, *[b"x"] * 4])
        assert far.socket.poll(PATIENCE_S * 1000)
        assert far.inlet.take() == "wrong"
        assert "too many parts" in str(far.inlet.refused())


def test_a_frame_that_the_replica_cannot_hold_raises_the_rings_own_error(folder: Path) -> None:
    with ends(folder) as made:
        far = made.far(frame_bytes=16)
        send(made, far, batch(far, 0, [1, 2], 24))
        assert far.take() == ["unknown"]
        with pytest.raises(WrongLength, match="16 bytes, not 24"):
            far.inlet.unwritable()
