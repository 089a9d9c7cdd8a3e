"""Messages of a real nats-server that are deleted, lost on the way, or of a stream that was made anew."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.engines import jetstream_source
from halftrack_dataplane.engines.nats_link import Answer
from halftrack_dataplane.engines.nats_messages import delivered
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.runtime import Unable
from halftrack_dataplane.sdk import Away
from tests.dataplane.stream_program import frame_of
from tests.engines.origins import JetStream, fetched, one, source_of
from tests.engines.places import calmly
from tests.engines.streams import SIZE


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[JetStream]:
    origin = JetStream(tmp_path)
    yield origin
    origin.end()


def _gaps(frames: list[Frame]) -> list[tuple[int, int]]:
    return [(frame.seq, frame.gap) for frame in frames if frame.gap]


def test_what_was_deleted_is_declared_at_its_place(feed: JetStream) -> None:
    # invariant: S2
    feed.more(20)
    for number in (3, 4, 5, 11, 20):  # frames are these less one
        feed.asked("delete_msg", "feed", number)
    source = source_of(feed)
    frames = fetched(source, 0, 19)
    assert _gaps(frames) == [(2, 3), (10, 1)]
    assert all(bytes(frame.payload) == frame_of(frame.seq, SIZE) for frame in frames if not frame.gap)
    feed.more(1)
    assert _gaps(fetched(source, 19, 21)) == [(19, 1)]
    assert source.counters()["removed"] == 5
    source.close()


def test_what_expires_before_it_is_fetched_is_declared(feed: JetStream) -> None:
    # invariant: S2
    feed.more(30)
    feed.asked("purge_stream", "feed", seq=21)
    source = source_of(feed)
    assert _gaps(fetched(source, 5, 30)) == [(5, 15)]
    feed.asked("purge_stream", "feed")
    source.close()
    assert _gaps(fetched(source, 7, 30)) == [(7, 23)]
    feed.more(1)
    assert not _gaps(fetched(source, 30, 31))
    source.close()


def test_a_time_of_its_own_is_kept_else_it_is_the_servers(feed: JetStream) -> None:
    asyncio.run(_stamped(feed.server.url))
    source = source_of(feed)
    first, second = fetched(source, 0, 2)
    assert first.timestamp_ns == 17
    assert second.timestamp_ns > 1_600_000_000_000_000_000
    source.close()


async def _stamped(url: str) -> None:
    import nats

    client = await nats.connect(url)
    await client.jetstream().publish("feed", b"a", headers={"Halftrack-Timestamp-Ns": "17"})
    await client.jetstream().publish("feed", b"b", headers={"Halftrack-Timestamp-Ns": "yesterday"})
    await client.close()


def test_what_is_lost_between_the_server_and_us_is_asked_for_again(
    feed: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    # invariant: S1
    feed.more(100)
    source = source_of(feed)
    real, lost = jetstream_source.Link.answers, [0]

    def lossy(link: jetstream_source.Link, timeout_s: float) -> list[Answer]:
        heard = real(link, timeout_s)
        if len(heard) > 2 and lost[0] < 4:
            lost[0] += 1
            del heard[len(heard) // 2]
        return heard

    monkeypatch.setattr(jetstream_source.Link, "answers", lossy)
    frames = fetched(source, 0, 100)
    assert [bytes(frame.payload) for frame in frames] == [frame_of(seq, SIZE) for seq in range(100)]
    assert lost[0] == 4
    assert source.counters()["connections"] == 5
    source.close()


def test_a_consumer_that_somebody_removes_is_made_again(feed: JetStream) -> None:
    feed.more(3)
    source = source_of(feed)
    fetched(source, 0, 3)
    feed.asked("delete_consumer", "feed", source._subject.rpartition(".")[2])
    feed.more(3)
    assert len(fetched(source, 3, 6)) == 3
    source.close()


def test_a_stream_that_was_made_anew_is_refused_and_gone_on_with_when_told_so(feed: JetStream) -> None:
    # invariant: S1
    feed.more(50)
    source = source_of(feed)
    fetched(source, 0, 50)
    feed.asked("delete_stream", "feed")
    source.close()
    with pytest.raises(Away, match="there is no JetStream stream 'feed' yet"):
        source.fetch(50, 0.1)
    feed.asked("add_stream", name="feed", subjects=["feed"])
    feed.put_in = 0
    feed.more(2)
    with pytest.raises(Unable, match="set first_message to -49"):
        calmly(lambda: source.fetch(50, 0.1))
    again = source_of(feed, first_message=-49)
    assert [(frame.seq, bytes(frame.payload)) for frame in fetched(again, 50, 52)] == [
        (50, frame_of(0, SIZE)),
        (51, frame_of(1, SIZE)),
    ]
    again.close()


def test_a_stream_that_drops_what_was_acknowledged_is_refused(feed: JetStream) -> None:
    feed.asked("add_stream", name="work", subjects=["work"], retention="workqueue")
    with pytest.raises(Unable, match="retention 'limits'"):
        source_of(feed, js_stream="work").fetch(0, 0.1)


def test_large_messages_are_asked_for_a_few_at_a_time(feed: JetStream) -> None:
    source = source_of(feed)
    feed.publish([bytes(1_000_000)] * 12)
    asked = []
    following = 0
    while following < 12:
        following += len(one(source, following))
        asked.append(source._asked)
    assert max(asked) <= 8
    feed.publish([b"x"] * 300)
    fetched(source, 12, 300)
    source._ask(source._link)
    assert source._asked > 100
    source.close()


@given(st.integers(1, 1 << 62), st.integers(1, 1 << 62), st.integers(0, 1 << 62), st.booleans())
def test_what_a_reply_subject_says(js_seq: int, delivery: int, timestamp_ns: int, newer: bool) -> None:
    words = f"feed.consumer.1.{js_seq}.{delivery}.{timestamp_ns}.7"
    reply = f"$JS.ACK.domain.account.{words}.token" if newer else f"$JS.ACK.{words}"
    assert delivered(reply) == (js_seq, delivery, timestamp_ns)


@given(st.text(max_size=80) | st.text("$JSACK.19", max_size=80).map(lambda text: f"$JS.ACK.{text}"))
def test_what_is_no_reply_subject_says_nothing_wrong(reply: str) -> None:
    found = delivered(reply)
    assert found is None or all(number >= 0 for number in found)
