"""Frames into a Kafka partition and messages out of one: what a break leaves, holes that are no loss, settings.

Against librdkafka's mock of a broker, or real ones that HALFTRACK_TEST_KAFKA names.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.engines import kafka_link
from halftrack_dataplane.engines.kafka import KafkaSink
from halftrack_dataplane.engines.kafka_source import KafkaSource
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.parts import is_none
from halftrack_dataplane.runtime import Unable
from halftrack_dataplane.sdk import Away
from tests.dataplane.stream_program import frame_of
from tests.engines import origins, places
from tests.engines.origins import fetched, one, source_of
from tests.engines.places import calmly
from tests.engines.servers import absent
from tests.engines.streams import SIZE, assert_whole

try:
    import confluent_kafka
except ImportError:
    absent("confluent-kafka is not here (pip install 'halftrack[kafka]')")

Make = Callable[..., KafkaSink]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[places.Kafka]:
    kept = places.Kafka(tmp_path)
    yield kept
    kept.end()


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[origins.Kafka]:
    origin = origins.Kafka(tmp_path)
    yield origin
    origin.end()


def _sink(place: places.Kafka, **params: str | int) -> KafkaSink:
    return KafkaSink(place.params | params, str(place.data))


def _fed(sink: KafkaSink, end: int) -> None:
    for seq in range(calmly(sink.next_seq), end):
        sink.consume(Frame(seq, 1, seq, frame_of(seq, SIZE)))


class Breaking:
    """A producer whose next commit never brings an answer, be it that it was done or not."""

    def __init__(self, producer: Any, *, done: bool) -> None:
        self._producer, self._done = producer, done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def commit_transaction(self, timeout_s: float) -> None:
        if self._done:
            self._producer.commit_transaction(timeout_s)
        else:
            self._producer.flush(timeout_s)
        error = confluent_kafka.KafkaError(confluent_kafka.KafkaError._TIMED_OUT, "no answer")
        raise confluent_kafka.KafkaException(error)


@pytest.mark.parametrize("done", [False, True])
def test_a_commit_without_an_answer_leaves_each_frame_once(place: places.Kafka, done: bool) -> None:
    # invariant: S1
    sink = _sink(place)
    for end in (10, 30, 31):
        _fed(sink, end)
        sink._producer = Breaking(sink._producer, done=done)
        with pytest.raises(Away, match="no answer"):
            sink.flush()
    calmly(sink.flush)
    sink.close()
    assert_whole(place.found(), 31)


def test_what_a_message_says(place: places.Kafka) -> None:
    class Keyed(KafkaSink):
        def key(self, frame: Frame) -> bytes:
            return b"key %d" % frame.seq

        def headers(self, frame: Frame) -> dict[str, str]:
            return {"unit": "Jy", "Halftrack-Id": "forged"}

    sink = Keyed(place.params, str(place.data))
    calmly(sink.next_seq)
    sink.consume(Frame(0, 3, 17, b"a"))
    sink.flush()
    config = {"bootstrap.servers": place.server.servers, "group.id": "reader", "log_level": 2}
    consumer = confluent_kafka.Consumer(config)
    consumer.assign([confluent_kafka.TopicPartition(place.topic, 0, 0)])
    message = calmly(lambda: consumer.poll(5))
    assert (message.key(), message.value()) == (b"key 0", b"a")
    headers = dict(message.headers())
    assert headers["unit"] == b"Jy"
    assert headers["Halftrack-Timestamp-Ns"] == b"17"
    assert headers["Halftrack-Id"] == f"{place.topic}:3:0".encode()
    consumer.close()
    sink.close()


def test_an_empty_partition_begins_where_it_is_told(place: places.Kafka) -> None:
    sink = _sink(place, begin_seq=70)
    assert calmly(sink.next_seq) == 70
    sink.consume(Frame(70, 0, 0, b"x"))
    sink.flush()
    sink.close()
    assert calmly(_sink(place, begin_seq=70).next_seq) == 71


def test_a_partition_of_another_stream_is_refused(place: places.Kafka) -> None:
    sink = _sink(place, stream="others")
    _fed(sink, 1)
    sink.flush()
    sink.close()
    with pytest.raises(Unable, match="ends with a message of 'others'"):
        calmly(_sink(place).next_seq)
    with pytest.raises(Unable, match="there is no partition 9000"):
        calmly(_sink(place, partition=9000).next_seq)


def test_a_message_that_is_too_large_is_told(place: places.Kafka) -> None:
    sink = _sink(place)
    calmly(sink.next_seq)
    sink.consume(Frame(0, 0, 0, bytes(2 << 20)))
    with pytest.raises(Unable, match="too large"):
        sink.flush()
    sink.close()


@pytest.mark.parametrize(
    ("mode", "text", "told"),
    [
        (0o644, "sasl.password=12345", "chmod 600"),
        (0o600, "# ours\n\nenable.idempotence=false", "line 3: it sets enable.idempotence"),
        (0o600, "sasl.password", "line 1: it has no ="),
        (0o600, "sasl.passwort=12345", "refuses its settings"),
    ],
)
def test_wrong_settings_are_told_without_their_secrets(tmp_path: Path, mode: int, text: str, told: str) -> None:
    path = tmp_path / "kafka.properties"
    path.write_text(text)
    path.chmod(mode)
    params = {"topic": "x", "config_path": str(path)}
    with pytest.raises(Unable, match=told) as caught:
        KafkaSink(params, str(tmp_path)).next_seq()
    assert "12345" not in str(caught.value)
    with pytest.raises(Unable, match=told):
        KafkaSource(params).fetch(0, 0.1)


def test_settings_of_the_file_reach_the_client(
    place: places.Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_link, "ANSWER_S", 2.0)
    path = tmp_path / "kafka.properties"
    path.write_text("client.id = ours\nsecurity.protocol = plaintext\n")
    path.chmod(0o600)
    assert calmly(_sink(place, config_path=str(path)).next_seq) == 0
    path.write_text("security.protocol = ssl\n")
    unreached = KafkaSource({"servers": place.server.servers, "topic": "x", "config_path": str(path)})
    with pytest.raises(Away):
        unreached.fetch(0, 0.1)


def test_ends_of_transactions_are_frames_of_none_and_numbers_are_offsets(feed: origins.Kafka) -> None:
    # invariant: S1
    feed.more(100)  # the first half in a transaction
    source = source_of(feed)
    frames = fetched(source, 0, 101)
    assert [is_none(frame.payload) for frame in frames] == [seq == 50 for seq in range(101)]
    assert not any(frame.gap for frame in frames)
    assert source.counters() | {"connections": 1} == {"fetched": 100, "none": 1, "removed": 0, "connections": 1}
    assert all(frame.timestamp_ns > 1_600_000_000_000_000_000 for frame in frames)
    shifted = source_of(feed, first_offset=-1000)
    assert bytes(fetched(shifted, 1051, 1052)[0].payload) == frame_of(50, SIZE)
    source.close()
    shifted.close()


def test_a_partition_that_was_made_anew_is_refused(feed: origins.Kafka) -> None:
    feed.more(5)
    with pytest.raises(Unable, match="set first_offset to -100"):
        one(source_of(feed), 100)


def test_a_topic_that_is_not_there_is_away(feed: origins.Kafka) -> None:
    with pytest.raises(Away, match="nowhere"):
        source_of(feed, topic="nowhere").fetch(0, 0.1)


class Message(NamedTuple):
    """What a source looks at in a message of the client's."""

    at: int

    def error(self) -> None:
        return None

    def offset(self) -> int:
        return self.at

    def timestamp(self) -> tuple[int, int]:
        return 1, self.at

    def headers(self) -> None:
        return None

    def key(self) -> None:
        return None

    def value(self) -> bytes:
        return b"%d" % self.at


@given(st.sets(st.integers(0, 120), min_size=1), st.integers(0, 130), st.integers(1, 40), st.integers(0, 30))
def test_only_what_the_partition_was_cut_by_is_lost(offsets: set[int], low: int, batch: int, first: int) -> None:
    # invariant: S2
    source = KafkaSource({"topic": "x", "first_offset": first})
    source._next = 0
    source._brokers.ends = lambda consumer: (low, 1000)  # type: ignore[method-assign]
    messages = [Message(at) for at in sorted(offsets) if at >= first]
    frames = [frame for at in range(0, len(messages), batch) for frame in source._frames(messages[at : at + batch])]
    following = 0
    for frame in frames:
        assert frame.seq == following
        following += max(frame.gap, 1)
        if frame.gap:
            assert following + first <= low or following + first in offsets
        elif is_none(frame.payload):
            assert frame.seq + first >= low
        else:
            assert frame.payload == b"%d" % (frame.seq + first)
    assert [frame.seq + first for frame in frames if not frame.gap and not is_none(frame.payload)] == sorted(
        at for at in offsets if at >= first
    )
