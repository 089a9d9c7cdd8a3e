"""What every source that fetches promises, wherever from: one suite for all of them."""

import importlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from halftrack_dataplane.engines import segments
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.parts import is_none
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.sdk import Away, Counting, Fetched
from tests.dataplane.processes import Host, until
from tests.dataplane.stream_program import frame_of
from tests.engines.origins import ORIGINS, Origin, fetched, one, opened, source_of
from tests.engines.places import PLACES, calmly, sink_of
from tests.engines.streams import SIZE

SOURCES = {kind: (origin.module, origin.name) for kind, origin in ORIGINS.items()}


@pytest.fixture(params=sorted(ORIGINS))
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Origin]:
    yield from opened(request.param, tmp_path)


def test_it_is_a_source_that_fetches_and_counts(origin: Origin) -> None:
    source = source_of(origin)
    assert isinstance(source, Fetched)
    assert isinstance(source, Counting)
    assert one(source, 0) == []
    origin.more(1)
    assert bytes(fetched(source, 0, 1)[0].payload) == frame_of(0, SIZE)
    source.close()


@pytest.mark.parametrize("seed", range(2))
def test_lives_that_end_anywhere_bring_each_message_once(origin: Origin, seed: int) -> None:
    # invariant: S1
    chance = random.Random(seed)
    got: list[bytes] = []
    following = 0
    while following < 600:
        if origin.put_in < 600 and chance.random() < 0.7:
            origin.more(chance.randrange(1, 200))
        source = source_of(origin)
        for _ in range(chance.randrange(1, 5)):
            frames = one(source, following)
            taken = frames[: chance.randrange(len(frames) + 1)] if chance.random() < 0.3 else frames
            for frame in taken:
                assert (frame.seq, frame.gap) == (following, 0)
                following += 1
                if not is_none(frame.payload):
                    got.append(bytes(frame.payload))
        source.close()
    assert got == [frame_of(seq, SIZE) for seq in range(len(got))]
    assert len(got) >= 500


def test_a_place_that_is_away_is_away_and_then_goes_on(origin: Origin) -> None:
    origin.more(5)
    source = source_of(origin)
    fetched(source, 0, 5)
    origin.kill()
    with pytest.raises(Away):
        list(iter(lambda: source.fetch(5, 0.1), None))
    origin.start()
    origin.more(5)
    assert bytes(fetched(source, 5, 10)[-1].payload) == frame_of(9, SIZE)
    source.close()


@pytest.mark.parametrize("kind", ["jetstream", "kafka"])
def test_a_loss_that_a_sink_has_declared_stays_one(kind: str, tmp_path: Path) -> None:
    # invariant: S2
    place = PLACES[kind](tmp_path)
    try:
        sink = sink_of(place)
        calmly(sink.next_seq)
        for frame in (Frame(0, 1, 5, b"a"), Frame(1, 1, 6, b"", 40), Frame(41, 1, 7, b"b")):
            sink.consume(frame)
        sink.flush()
        sink.close()
        module, name = SOURCES[kind]
        source = getattr(importlib.import_module(f"halftrack_dataplane.engines.{module}"), name)(place.params)
        found = fetched(source, 0, 3)
        assert [(f.seq, f.timestamp_ns, f.gap, bytes(f.payload)) for f in found] == [
            (0, 5, 0, b"a"),
            (1, 6, 1, b""),
            (2, 7, 0, b"b"),
        ]
        source.close()
    finally:
        place.end()


def test_a_source_and_a_server_that_are_killed_lose_and_repeat_nothing(origin: Origin, folder: Path) -> None:
    # invariant: S1
    chance = random.Random(8)
    host = Host(folder)
    try:
        ring = host.ring("s/source", slots=8192, capacity_bytes=4 << 20)
        source, sink = _processes(host, origin)
        host.start(source)
        host.start(sink)
        for number in range(5):
            origin.more(chance.randrange(50, 300))
            until(lambda: ring.head > origin.put_in - 40, f"frame {origin.put_in - 40}")
            if number % 3 != 1:
                origin.kill()
            if number % 3 != 0:
                host.kill("s.source")
                host.start(source)
            if number % 3 != 1:
                origin.start()
        until(lambda: ring.head >= origin.put_in, f"all {origin.put_in}: {host.status('s.source')}", 30)
        host.check()
        head = ring.head
        until(lambda: (host.status("s.sink") or Status0).seq_out >= head, "the sink")
    finally:
        host.close()
    found = [frame for frame in segments.recorded(folder / "data") if not is_none(frame.payload)]
    assert not any(frame.gap for frame in found)
    assert [bytes(frame.payload) for frame in found] == [frame_of(seq, SIZE) for seq in range(origin.put_in)]


class Status0:
    """Of a process that has said nothing yet."""

    seq_out = 0


def _processes(host: Host, origin: Origin) -> tuple[RunSpec, RunSpec]:
    """A source from it into the ring, and a sink from there into files."""
    program = host.folder / "program.py"
    program.write_text(
        f"from halftrack_dataplane.engines.{origin.module} import {origin.name} as Source\n"
        "from halftrack_dataplane.engines.segments import SegmentSink as Sink\n"
    )
    ring = host.path("s/source")
    status = host.folder / "status"
    source = RunSpec(
        role="source",
        name="s.source",
        status_path=str(status / "s.source"),
        program=str(program),
        entry="program:Source",
        output_ring=ring,
        params=origin.params,
    )
    sink = RunSpec(
        role="sink",
        name="s.sink",
        status_path=str(status / "s.sink"),
        program=str(program),
        entry="program:Sink",
        input_ring=ring,
        data_dir=str(host.folder / "data"),
    )
    return source, sink
