"""Frames into JetStream, with a real nats-server that is killed, read back by a plain consumer that knows nothing of us."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from halftrack_dataplane.engines.jetstream import JetStreamSink
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.runtime import Unable
from halftrack_dataplane.sdk import Away
from tests.dataplane.stream_program import frame_of
from tests.engines.places import calmly, read
from tests.engines.servers import NatsServer, absent
from tests.engines.streams import SIZE, assert_whole

try:
    import nats
except ImportError:
    absent("nats-py is not here (pip install 'halftrack[nats]')")

CREATE = 64 << 20


def stored(server: NatsServer, stream: str) -> list[tuple[int, int, bytes]]:
    """(seq, gap, payload) of all messages, in the order of the stream."""
    return asyncio.run(read(server.url, stream))


Make = Callable[..., JetStreamSink]


@pytest.fixture
def sink_of(nats_server: NatsServer, tmp_path: Path) -> Iterator[Make]:
    """Makes sinks into the test's server; their connections end with it."""
    made: list[JetStreamSink] = []

    def make(**params: str | int) -> JetStreamSink:
        base = {"servers": nats_server.url, "js_stream": "spectra", "create_bytes": CREATE}
        made.append(JetStreamSink(base | params, str(tmp_path)))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def test_frames_are_stored_once_beyond_the_duplicate_window(sink_of: Make, nats_server: NatsServer) -> None:
    # invariant: S1
    asyncio.run(_made(nats_server.url, duplicate_window=0.1))
    first, second = sink_of(), sink_of()
    assert calmly(first.next_seq) == calmly(second.next_seq) == 0
    for seq in range(100):
        first.consume(Frame(seq, 3, 17, frame_of(seq, SIZE)))
    first.flush()
    time.sleep(0.3)  # the window is over; this is the time that is waited for
    for seq in range(120):  # as if no acknowledgement had ever come
        second.consume(Frame(seq, 3, 17, frame_of(seq, SIZE)))
    second.flush()
    assert_whole(stored(nats_server, "spectra"), 120)
    assert sink_of().next_seq() == 120


async def _made(url: str, **config: float) -> None:
    client = await nats.connect(url)
    await client.jetstream().add_stream(name="spectra", subjects=["spectra"], discard="new", **config)
    await client.close()


def test_two_sinks_at_once_bring_every_frame_once(sink_of: Make, nats_server: NatsServer) -> None:
    # invariant: S1
    chance = random.Random(7)
    sinks = [sink_of(), sink_of()]
    following = [sink.next_seq() for sink in sinks]
    while min(following) < 600:
        who = chance.randrange(2)
        for _ in range(chance.randrange(1, 90)):
            sinks[who].consume(Frame(following[who], 1, 0, frame_of(following[who], SIZE)))
            following[who] += 1
        if chance.random() < 0.5:
            sinks[who].flush()
    for sink in sinks:
        sink.flush()
    assert_whole(stored(nats_server, "spectra"), 600)


def test_what_the_server_loses_after_it_acknowledged_is_declared(sink_of: Make, nats_server: NatsServer) -> None:
    # invariant: S2
    sink = sink_of()
    assert sink.next_seq() == 0
    for seq in range(10):
        sink.consume(Frame(seq, 1, 5, b"x"))
    sink.flush()
    asyncio.run(_recreated(nats_server.url))  # its disk was replaced
    sink.consume(Frame(10, 1, 5, b"y"))
    calmly(sink.flush)
    assert stored(nats_server, "spectra") == [(0, 10, b""), (10, 0, b"y")]
    assert sink.counters()["lost_by_engine"] == 10


async def _recreated(url: str) -> None:
    client = await nats.connect(url)
    await client.jetstream().delete_stream("spectra")
    await client.close()
    await _made(url)


def test_a_full_stream_makes_the_sink_wait(tmp_path: Path, sink_of: Make, nats_server: NatsServer) -> None:
    sink = sink_of(create_bytes=8192, window_frames=4)
    assert sink.next_seq() == 0
    taken = _filled(sink)
    assert taken < 20
    asyncio.run(_purged(nats_server.url))
    for seq in range(taken, taken + 3):
        calmly(lambda seq=seq: sink.consume(Frame(seq, 0, 0, bytes(1024))))  # type: ignore[misc]
    calmly(sink.flush)
    assert stored(nats_server, "spectra")[-1] == (taken + 2, 0, bytes(1024))
    asyncio.run(_purged(nats_server.url))
    assert sink_of().next_seq() == taken + 3  # by the note: the newest message is gone
    (tmp_path / "jetstream.json").unlink()
    with pytest.raises(Unable, match="begin_seq"):
        sink_of().next_seq()
    assert sink_of(begin_seq=77).next_seq() == 77


def _filled(sink: JetStreamSink) -> int:
    """How many frames of 1024 bytes it takes until the stream is full."""
    for seq in range(100):
        try:
            sink.consume(Frame(seq, 0, 0, bytes(1024)))
        except Away as error:
            assert "takes nothing: maximum bytes exceeded" in str(error)  # noqa: PT017 - what it says is half of the test
            return seq
    raise AssertionError("it is never full")


async def _purged(url: str) -> None:
    client = await nats.connect(url)
    await client.jetstream().purge_stream("spectra")
    await client.close()


def test_a_wrong_configuration_is_told(tmp_path: Path, sink_of: Make, nats_server: NatsServer) -> None:
    with pytest.raises(Unable, match="there is no JetStream stream 'spectra'"):
        sink_of(create_bytes=0).next_seq()
    with pytest.raises(Unable, match="'js_stream' must be a text"):
        JetStreamSink({"servers": nats_server.url}, str(tmp_path))
    sink = sink_of(stream="others")
    sink.consume(Frame(0, 0, 0, b"x"))
    sink.flush()
    with pytest.raises(Unable, match="ends with a message of 'others'"):
        sink_of().next_seq()
    with pytest.raises(Unable, match="max_payload"):
        sink.consume(Frame(1, 0, 0, bytes(2 << 20)))


def test_a_server_that_is_away_is_away(sink_of: Make, nats_server: NatsServer) -> None:
    nats_server.kill()
    sink = sink_of()
    with pytest.raises(Away, match="no NATS server at"):
        sink.next_seq()
