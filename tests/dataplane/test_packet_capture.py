"""Packets from a real socket on the loopback into a ring: in place, in order, with everything that went wrong counted and declared."""

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane import vdif
from halftrack_dataplane.datagrams import BadAddress, address, listening
from halftrack_dataplane.frames import FrameTooLarge, RingError, WrongLength
from halftrack_dataplane.packet_capture import Capture
from halftrack_dataplane.ring import Ring
from tests.dataplane.test_packet_order import Order, Taker, networks

SIZE = 64
EPOCH = 20  # of half-years: 2010, with three leap seconds before the frames of the test and one among them


def frame(seq: int, size: int = SIZE) -> bytes:
    """What packet `seq` carries."""
    return seq.to_bytes(8, "little") * (size // 8)


@contextmanager
def captures(ring: Ring, full: Any = "drop", **options: Any) -> Iterator[tuple[Capture, socket.socket]]:
    """A capture into `ring`, and a socket that sends to it."""
    heard = listening("127.0.0.1", 0, 4 << 20)
    with heard.socket, ring.writer(full=full) as writer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", heard.port))
        options = {"frame_bytes": SIZE, "numbers": "le64", **options}
        yield Capture(writer, ring.capacity_bytes, heard.socket.fileno(), **options), sender


def told(ring: Ring, first: int) -> list[tuple[str, int]]:
    """What a ring has from `first` on, every frame checked against its sequence."""
    story, at = [], first
    while at < ring.head:
        record = ring.peek(at)
        assert record is not None
        assert record.gap or record.payload == frame(at)
        story += [("lost" if record.gap else "frame", at + more) for more in range(record.gap or 1)]
        at += record.gap or 1
    return story


def take(capture: Capture, packets: int) -> None:
    """Until it has received so many; each step waits for a tenth of a second at most."""
    for _ in range(100):
        if capture.packets >= packets:
            return
        capture.step(packets - capture.packets)
    raise AssertionError(f"{capture.packets} of {packets} packets came")


# invariants: S1, S2
@settings(deadline=None, max_examples=100)
@given(networks(), st.integers(1, 200), st.sampled_from(["le64", "be64"]))
def test_what_is_in_the_ring_is_what_the_model_makes_of_the_packets(
    network: tuple[int, list[int]], pause: int, numbers: str
) -> None:
    window, seen = network
    model = Taker(Order(window))
    order = "<Q" if numbers == "le64" else ">Q"
    with (
        Ring.create(None, capacity_bytes=1 << 20, frame_bytes=SIZE) as ring,
        captures(ring, window=window, numbers=numbers) as (capture, sender),
    ):
        for sent, seq in enumerate(seen, 1):
            sender.send(struct.pack(order, seq) + frame(seq))
            model.take(seq)
            if sent % pause == 0:  # received in one call or in several
                take(capture, sent)
        take(capture, len(seen))
        capture.finish()
        model.give_up()
        got, wanted = capture.order, model.order
        assert told(ring, seen[0] if seen else 0) == model.story
        assert (got.lost, got.late, got.duplicates) == (wanted.lost, wanted.late, wanted.duplicates)
        assert got.delivered + got.late + got.duplicates == len(seen)
        assert capture.frames == got.delivered
        assert (capture.wrong_size, capture.unfit, capture.dropped, capture.kernel_drops) == (0, 0, 0, 0)


def test_packets_without_numbers_are_taken_as_they_come() -> None:
    with Ring.create(None, capacity_bytes=1 << 16, frame_bytes=SIZE) as ring:
        with captures(ring, numbers="arrival") as (capture, sender):
            for seq in range(300):
                sender.send(frame(seq))
            take(capture, 300)
        assert told(ring, 0) == [("frame", seq) for seq in range(300)]
        record = ring.peek(0)
        assert record is not None
        assert record.timestamp_ns > 0


def test_packets_of_another_size_are_counted_and_left_out() -> None:
    with Ring.create(None, capacity_bytes=1 << 16, frame_bytes=SIZE) as ring:
        with captures(ring) as (capture, sender):
            for seq, size in enumerate((SIZE, SIZE - 8, SIZE + 8, 0, SIZE)):
                sender.send(struct.pack("<Q", seq) + frame(seq, size))
            take(capture, 5)
            capture.finish()
        assert capture.wrong_size == 3
        assert told(ring, 0) == [("frame", 0), ("lost", 1), ("lost", 2), ("lost", 3), ("frame", 4)]


# invariant: S2
def test_what_finds_no_room_is_declared_when_there_is_room_again() -> None:
    with Ring.create(None, capacity_bytes=4096, slots=8, frame_bytes=SIZE) as ring:
        reader = ring.reader(start="oldest")
        with captures(ring) as (capture, sender):
            for seq in range(200):
                sender.send(struct.pack("<Q", seq) + frame(seq))
            take(capture, 200)
            kept = ring.head
            assert 0 < kept < 200
            assert (capture.frames, capture.dropped) == (kept, 200 - kept)
            for seq in range(kept):
                one = reader.read(0)
                assert one is not None
                assert one.payload == frame(seq)
            sender.send(struct.pack("<Q", 200) + frame(200))
            take(capture, 201)
            gap, last = reader.read(0), reader.read(0)
        assert gap is not None
        assert last is not None
        assert (gap.seq, gap.gap, last.seq, last.payload) == (kept, 200 - kept, 200, frame(200))


def test_a_wait_for_room_ends_when_it_is_asked_to() -> None:
    asked: list[bool] = []

    def keep_on() -> bool:
        asked.append(True)
        return False

    with Ring.create(None, capacity_bytes=4096, slots=2, frame_bytes=SIZE) as ring:
        reader = ring.reader(start="oldest")
        with captures(ring, "block", keep_on=keep_on) as (capture, sender):
            for seq in range(4):
                sender.send(struct.pack("<Q", 2 * seq) + frame(2 * seq))
            take(capture, 4)
            capture.finish()
        assert asked
        assert capture.dropped > 0
        reader.close()


# invariant: S2
def test_what_the_kernel_drops_is_counted_and_is_a_gap() -> None:
    with Ring.create(None, capacity_bytes=1 << 20, frame_bytes=SIZE) as ring:
        heard = listening("127.0.0.1", 0, 4096)
        with heard.socket, ring.writer() as writer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", heard.port))
            capture = Capture(writer, ring.capacity_bytes, heard.socket.fileno(), frame_bytes=SIZE, numbers="le64")
            for seq in range(500):
                sender.send(struct.pack("<Q", seq) + frame(seq))
            for _ in range(3):
                capture.step()
            sender.send(struct.pack("<Q", 500) + frame(500))  # the count comes with a packet
            before = capture.packets
            take(capture, before + 1)
            capture.finish()
        assert capture.kernel_drops == capture.order.lost == 501 - capture.packets > 0
        assert [seq for _, seq in told(ring, 0)] == list(range(501))


def test_a_sender_that_begins_again_gets_the_next_epoch() -> None:
    with Ring.create(None, capacity_bytes=1 << 20, frame_bytes=SIZE) as ring:
        with captures(ring, epoch=3) as (capture, sender):
            for seq in [*range(1 << 30, (1 << 30) + 10), *range(50)]:
                sender.send(struct.pack("<Q", seq) + frame(seq))
            take(capture, 60)
        records = [ring.peek(seq) for seq in range(1 << 30, ring.head)]
        assert [(one.epoch, one.payload) for one in records if one] == [
            *[(3, frame(seq)) for seq in range(1 << 30, (1 << 30) + 10)],
            *[(4, frame(seq)) for seq in range(15, 50)],
        ]
        assert (capture.order.strays, capture.order.restarts) == (15, 1)


def _vdif(numbering: vdif.Numbering, number: int, threads: int) -> vdif.Header:
    at, thread = divmod(number, threads)
    seconds, nr = divmod(at, numbering.per_second)
    return vdif.Header(seconds - vdif.epoch_s(EPOCH), EPOCH, nr, 96, thread)


# invariant: S2
def test_vdif_frames_are_numbered_and_timed_by_their_headers() -> None:
    numbering = vdif.Numbering(25, threads=4)
    first = (vdif.LEAPS[-1] - 3) * 100
    numbers = [first + at for at in range(240) if at not in (7, 100, 101, 102, 199)]
    sent = [numbers[at ^ 3] if at ^ 3 < len(numbers) else numbers[at] for at in range(len(numbers))]
    with Ring.create(None, capacity_bytes=1 << 20, frame_bytes=96) as ring:
        epochs = [vdif.epoch_s(epoch) for epoch in range(64)]
        options: dict[str, Any] = {"frame_bytes": 96, "numbers": "vdif", "numbering": numbering, "epochs_s": epochs}
        options["leaps_s"] = vdif.LEAPS
        with captures(ring, **options) as (capture, sender):
            for number in dict.fromkeys(sent):
                header = _vdif(numbering, number, 4)
                assert numbering.number(header) == number
                sender.send(header.to_bytes() + bytes([number % 251]) * 64)
            sender.send(vdif.Header(1, EPOCH, 25, 96).to_bytes() + bytes(64))  # a frame that no second has
            sender.send(vdif.Header(1, EPOCH, 1, 96, thread=4).to_bytes() + bytes(64))
            take(capture, len(set(sent)) + 2)
            capture.finish()
        assert capture.unfit == 2
        at, times = first, 0
        while at < ring.head:
            record = ring.peek(at)
            assert record is not None
            if not record.gap:
                header = vdif.Header.parse(bytes(record.payload))
                assert numbering.number(header) == at
                assert record.payload[32:] == bytes([at % 251]) * 64
                times += record.timestamp_ns == numbering.time_ns(header)
                assert 0 <= numbering.time_ns(header) - record.timestamp_ns < 10**10  # its record's first frame's
            at += record.gap or 1
        assert times > 3
        assert capture.order.lost == 240 - len(numbers)


@pytest.mark.parametrize(
    ("text", "place"),
    [("127.0.0.1:7", ("127.0.0.1", 7)), (":7148", ("0.0.0.0", 7148)), ("[::1]:65535", ("::1", 65535))],
)
def test_addresses(text: str, place: tuple[str, int]) -> None:
    assert address(text) == place


@pytest.mark.parametrize("text", ["", "host", "host:", "host:0", "host:65536", "::1:7", "host:7:8", "host:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadAddress, match="HOST:PORT"):
        address(text)


def test_a_ring_that_cannot_take_the_frames_is_refused() -> None:
    with Ring.create(None, capacity_bytes=4096, frame_bytes=SIZE) as ring:
        with pytest.raises(WrongLength), captures(ring, frame_bytes=32):
            pass
        with pytest.raises(ValueError, match="not 'le16'"), captures(ring, numbers="le16"):
            pass
    with Ring.create(None, shared=True) as ring, pytest.raises(RingError, match="other writers"), captures(ring):
        pass
    with Ring.create(None, capacity_bytes=4096) as ring, pytest.raises(FrameTooLarge), captures(ring, frame_bytes=4096):
        pass


def chunks(of: Sequence[int], size: int) -> list[Sequence[int]]:
    """`of` in pieces."""
    return [of[at : at + size] for at in range(0, len(of), size)]


# invariant: S1
@pytest.mark.parametrize("size", [8, 64, 1000, 8192])
def test_the_ring_wraps_many_times_and_no_byte_is_off(size: int) -> None:
    with Ring.create(None, capacity_bytes=1 << 16, frame_bytes=size) as ring:
        reader = ring.reader(start="oldest", verify=False)
        with captures(ring, frame_bytes=size) as (capture, sender):
            for some in chunks(range(600), 6):
                for seq in some:
                    sender.send(struct.pack("<Q", seq) + frame(seq, size))
                take(capture, some[-1] + 1)
                for seq in some:
                    one = reader.read(1)
                    assert one is not None
                    assert (one.seq, one.payload) == (seq, frame(seq, size))
        assert capture.dropped == 0
        reader.close()
