"""A capture that dies at any point between the socket and the ring: what comes after it puts everything there, once and in order."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import example, given, settings
from hypothesis import strategies as st

from halftrack_dataplane import capture_place, stream_place
from halftrack_dataplane.datagrams import listening
from halftrack_dataplane.packet_capture import Capture, place_bytes
from halftrack_dataplane.ring import Ring
from tests.dataplane.test_packet_capture import SIZE, frame, take, told
from tests.dataplane.test_packet_order import Order, Taker, networks


def ring() -> Ring:
    return Ring.create(None, capacity_bytes=1 << 20, frame_bytes=SIZE)


@contextmanager
def capturing(into: Ring, heard: socket.socket, window: int, before: bytes) -> Iterator[tuple[Capture, bytearray]]:
    """A capture in memory of its own, after one that left `before`."""
    left = capture_place.left(before, into.head, SIZE, "le64")
    memory = bytearray(place_bytes(SIZE, window))
    with into.writer() as writer:
        capture = Capture(
            writer, into.capacity_bytes, heard.fileno(), frame_bytes=SIZE, numbers="le64", window=window, place=memory,
            epoch=0 if left is None else left.epoch, expected=None if left is None else left.expected,
        )  # fmt: skip
        for held in () if left is None else left.packets:
            capture.feed(held.number, held.frame, held.timestamp_ns)
        yield capture, memory


def copied(whole: Ring, into: Ring, first: int, end: int) -> None:
    """The records of `whole` from `first` on, up to `end`: what the ring has if its writer dies before it publishes the rest."""
    with into.writer() as writer:
        at = first
        while at < end:
            found = whole.peek(at)
            assert found is not None
            if found.gap:
                writer.gap(found.gap)
            else:
                writer.write(found.payload)
            at += found.gap or 1


# invariants: S1, S2
@settings(deadline=None, max_examples=60)
@given(networks(), st.integers(1, 64), st.integers(0, 1 << 16), st.integers(0, 63))
@example((8, [0, 2, 3, 4, 1, 5]), 1, 4, 0)  # what waits for 1 came in calls before the last
def test_wherever_a_capture_dies_the_next_one_has_what_it_took(
    network: tuple[int, list[int]], pause: int, cut: int, published: int
) -> None:
    window, seen = network
    lowest = min(seen, default=0)
    seen = [0, *(number - lowest for number in seen)]  # the stream begins at 0, so that both rings do
    cut = 1 + cut % len(seen)
    heard = listening("127.0.0.1", 0, 4 << 20)
    with ring() as whole, ring() as rest, heard.socket, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", heard.port))
        heads = [0]
        with capturing(whole, heard.socket, window, b"") as (capture, memory):
            for sent, number in enumerate(seen[:cut], 1):
                sender.send(struct.pack("<Q", number) + frame(number))
                if sent % pause == 0 or sent == cut:
                    before = whole.head
                    take(capture, sent)
                    heads = _boundaries(whole, before)
        copied(whole, rest, 0, heads[published % len(heads)])  # it died somewhere in what came last
        with capturing(rest, heard.socket, window, bytes(memory)) as (capture, _):
            for number in seen[cut:]:
                sender.send(struct.pack("<Q", number) + frame(number))
            take(capture, len(seen) - cut)
            capture.finish()
        story = told(rest, 0)
        model = Taker(Order(window))
        for number in seen:
            model.take(number)
        model.give_up()
    assert [number for _, number in story] == list(range(len(story)))
    frames = {number for what, number in story if what == "frame"}
    assert frames <= set(seen)
    assert frames >= {number for what, number in model.story if what == "frame"}


def _boundaries(whole: Ring, first: int) -> list[int]:
    """Where a head can stand from `first` on: between records."""
    found, at = [first], first
    while at < whole.head:
        record = whole.peek(at)
        assert record is not None
        at += record.gap or 1
        found.append(at)
    return found


def test_a_place_of_other_frames_or_of_nothing_says_nothing() -> None:
    assert capture_place.left(b"", 0, SIZE, "le64") is None
    assert capture_place.left(bytes(place_bytes(SIZE, 64)), 0, SIZE, "le64") is None
    with (
        ring() as into,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard,
        capturing(into, heard, 64, b"") as (_, memory),
    ):
        assert capture_place.left(bytes(memory), 0, SIZE, "le64") is not None
        assert capture_place.left(bytes(memory), 0, SIZE, "be64") is None
        assert capture_place.left(bytes(memory), 0, SIZE * 2, "le64") is None
        assert capture_place.left(bytes(memory[:-1]), 0, SIZE, "le64") is None


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 20), st.integers(0, 1 << 40), st.integers(0, 500), st.booleans())
def test_a_turn_that_was_begun_is_finished_once(offset: int, length: int, seq: int, done: int, taken: bool) -> None:
    memory = bytearray(stream_place.SIZE)
    view = memoryview(memory)
    stream_place.begin(view)
    assert stream_place.read(bytes(memory)) is None
    stream_place.write(view, stream_place.Turn(1, 0, 0, 5))
    stream_place.write(view, stream_place.Turn(7, offset, seq, length))
    turn = stream_place.read(bytes(memory))
    assert turn == stream_place.Turn(7, offset, seq, length)
    stands = offset + length if taken else offset
    assert stream_place.published(turn, 7, stands, seq + done) == (0 if taken else done)
    assert stream_place.published(turn, 8, stands, seq + done) == 0
