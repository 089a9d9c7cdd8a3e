"""What every sink promises, whatever it writes into: one suite for all of them."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from halftrack_dataplane.frames import Frame
from halftrack_dataplane.sdk import Sink
from tests.dataplane.processes import until
from tests.dataplane.stream_program import frame_of
from tests.engines.places import PLACES, Place, calmly, opened, sink_of
from tests.engines.streams import SIZE, Stream, assert_whole


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    yield from opened(request.param, tmp_path)


def test_it_is_a_sink_that_counts(place: Place) -> None:
    sink = sink_of(place)
    calmly(sink.next_seq)
    assert callable(Sink.consume)
    assert sink.counters()
    sink.close()


@pytest.mark.parametrize("seed", range(2))
def test_lives_that_end_anywhere_leave_each_frame_once(place: Place, seed: int) -> None:
    # invariant: S1
    chance = random.Random(seed)
    end, durable = 1200, 0
    while durable < end:
        sink = sink_of(place, **({} if place.module == "segments" else {"window_frames": chance.choice((7, 64, 1024))}))
        begins = calmly(sink.next_seq)
        assert begins >= durable  # what was flushed is there
        for seq in range(begins, min(begins + chance.randrange(1, 400), end)):
            calmly(lambda sink=sink, seq=seq: sink.consume(Frame(seq, 1, seq, frame_of(seq, SIZE))))  # type: ignore[misc]
            if chance.random() < 0.05:
                calmly(sink.flush)
                durable = seq + 1
        if chance.random() < 0.5:
            calmly(sink.flush)
            durable = seq + 1
        sink.close()  # as a death does: without a flush
    assert_whole(place.found(), end)


def test_declared_gaps_are_in_it(place: Place) -> None:
    # invariant: S2
    sink = sink_of(place)
    assert calmly(sink.next_seq) == 0
    for frame in (Frame(0, 1, 5, b"a"), Frame(1, 1, 5, b"", 40), Frame(41, 1, 5, b"b"), Frame(42, 1, 5, b"", 8)):
        sink.consume(frame)
    sink.flush()
    sink.close()
    assert place.found() == [(0, 0, b"a"), (1, 40, b""), (41, 0, b"b"), (42, 8, b"")]
    again = sink_of(place)
    assert calmly(again.next_seq) == 50
    again.close()


def test_flushed_is_durable_and_the_rest_may_not_be(place: Place) -> None:
    # invariant: D1
    sink = sink_of(place)
    calmly(sink.next_seq)
    for seq in range(10):
        sink.consume(Frame(seq, 1, 5, frame_of(seq, SIZE)))
    sink.flush()
    for seq in range(10, 15):
        sink.consume(Frame(seq, 1, 5, frame_of(seq, SIZE)))
    sink.close()
    again = sink_of(place)
    assert 10 <= calmly(again.next_seq) <= 15
    again.close()


def test_a_sink_and_a_server_that_are_killed_lose_and_repeat_nothing(place: Place, folder: Path) -> None:
    # invariant: S1
    chance = random.Random(4)
    program = f"from halftrack_dataplane.engines.{place.module} import {place.name} as Sink\n"
    slots = 1 << 15  # half a minute: with less, a slow machine's sink is gone for longer than the ring lasts
    stream = Stream(folder, program, "program:Sink", data=place.data, slots=slots)
    try:
        sink = stream.sink(**place.params)
        stream.start(stream.source)
        stream.start(sink)
        for number in range(6):
            _more(stream, chance.randrange(100, 600))
            stream.check()
            stream.settled_so_far("s.sink")
            if number % 3 != 1:
                place.kill()
            if number % 3 != 0:
                stream.kill("s.sink")
                stream.start(sink)
            if number % 3 != 1:
                _more(stream, chance.randrange(10, 300))
                place.start()
        stream.kill("s.source")
        last = stream.source_ring.head
        stream.settled("s.sink", last)
    finally:
        stream.close()
    assert_whole(place.found(), last)


def _more(stream: Stream, frames: int) -> None:
    mark = stream.source_ring.head + frames
    until(lambda: stream.source_ring.head >= mark, f"frame {mark}")
