"""The places that sinks write to, for the tests that hold for all of them: how a sink into one is made, and what is in it."""

import asyncio
import importlib
import sqlite3
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from halftrack_dataplane.engines import segments
from halftrack_dataplane.sdk import Away, Param
from tests.engines.servers import KafkaBroker, NatsServer, PostgresServer, absent

T = TypeVar("T")
Found = list[tuple[int, int, bytes]]  # seq, gap, payload


class Place(ABC):
    """One place. `module` and `name` are the sink's class, `params` what its manifest would say."""

    module: str
    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(exist_ok=True)

    @property
    def params(self) -> dict[str, Param]:
        """Of the manifest."""
        return {}

    @abstractmethod
    def found(self) -> Found:
        """What is there, in the order in which it is there; read without the sink."""

    server: Any = None

    def kill(self) -> None:
        """The server, if there is one."""
        if self.server is not None:
            self.server.kill()

    def start(self) -> None:
        """The server, if there is one, where it was."""
        if self.server is not None:
            self.server.start()

    def end(self) -> None:
        """For good."""
        if self.server is not None:
            self.server.stop()


class Segments(Place):
    """Files."""

    module, name = "segments", "SegmentSink"

    @property
    def params(self) -> dict[str, Param]:
        return {"segment_bytes": 20_000}

    def found(self) -> Found:
        return [(frame.seq, frame.gap, bytes(frame.payload)) for frame in segments.recorded(self.data)]


class Sqlite(Place):
    """A file of SQLite."""

    module, name = "sqlite", "SqliteSink"

    def found(self) -> Found:
        with sqlite3.connect(self.data / "stream.db") as database:
            frames = database.execute(
                "SELECT seq, 0, payload FROM frames UNION ALL SELECT seq, count, x'' FROM gaps ORDER BY 1"
            )
            return [(seq, gap, bytes(payload)) for seq, gap, payload in frames]


class JetStream(Place):
    """A stream of a real nats-server."""

    module, name = "jetstream", "JetStreamSink"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        try:
            import nats  # noqa: F401
        except ImportError:
            absent("nats-py is not here (pip install 'halftrack[nats]')")
        self.server = NatsServer(folder)
        self.server.start()

    @property
    def params(self) -> dict[str, Param]:
        return {"servers": self.server.url, "js_stream": "spectra", "create_bytes": 64 << 20}

    def found(self) -> Found:
        return asyncio.run(read(self.server.url, "spectra"))


async def read(url: str, stream: str) -> Found:
    """By a plain consumer that knows nothing of us."""
    import nats

    client = await nats.connect(url)
    context = client.jetstream()
    total = (await context.stream_info(stream)).state.messages
    subscription = await context.subscribe("", stream=stream, ordered_consumer=True)
    found = []
    while len(found) < total:
        message = await subscription.next_msg(timeout=10)
        headers = message.headers or {}
        name, _, seq = headers["Nats-Msg-Id"].split(":")
        assert name == stream
        found.append((int(seq), int(headers.get("Halftrack-Gap", "0")), message.data))
    await client.close()
    return found


class Postgres(Place):
    """A database of a real PostgreSQL server."""

    module, name = "postgres", "PostgresSink"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        try:
            import psycopg  # noqa: F401
        except ImportError:
            absent("psycopg is not here (pip install 'halftrack[postgres]')")
        self.server = PostgresServer()
        self.server.start()

    @property
    def params(self) -> dict[str, Param]:
        return {"connect": self.server.connect}

    def found(self) -> Found:
        import psycopg

        with psycopg.connect(self.server.connect) as connection:
            asked = "SELECT seq, 0, payload FROM frames UNION ALL SELECT seq, count, '' FROM gaps ORDER BY 1"
            return [(seq, gap, bytes(payload)) for seq, gap, payload in connection.execute(asked).fetchall()]


class Kafka(Place):
    """A partition of Kafka's, or of its mock."""

    module, name = "kafka", "KafkaSink"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        try:
            import confluent_kafka  # noqa: F401
        except ImportError:
            absent("confluent-kafka is not here (pip install 'halftrack[kafka]')")
        self.server = KafkaBroker(folder)
        self.server.start()
        self.topic = f"spectra-{uuid.uuid4().hex}"

    @property
    def params(self) -> dict[str, Param]:
        return {"servers": self.server.servers, "topic": self.topic}

    def found(self) -> Found:
        return kafka_messages(self.server.servers, self.topic)


def kafka_messages(servers: str, topic: str) -> Found:
    """By a plain consumer of committed messages that knows nothing of us; without our headers, the offset stands for the number."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    config = {"bootstrap.servers": servers, "group.id": "reader", "isolation.level": "read_committed", "log_level": 2}
    consumer = Consumer(config | {"enable.auto.commit": False, "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: Found = []
    while True:
        for message in consumer.consume(500, 5):
            if message.error() is not None:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                consumer.close()
                return found
            headers = {name: value.decode() for name, value in message.headers() or ()}
            seq = int(headers.get("Halftrack-Id", f":{message.offset()}").rpartition(":")[2])
            found.append((seq, int(headers.get("Halftrack-Gap", "0")), message.value()))


PLACES: dict[str, type[Place]] = {
    "files": Segments,
    "sqlite": Sqlite,
    "jetstream": JetStream,
    "postgres": Postgres,
    "kafka": Kafka,
}


def calmly(act: Callable[[], T], seconds: float = 15.0) -> T:
    """What the runner does: again, until the place is there."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except Away:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def opened(kind: str, folder: Path) -> Iterator[Place]:
    """A place of that kind, and its end."""
    place = PLACES[kind](folder)
    try:
        yield place
    finally:
        place.end()


def sink_of(place: Place, **params: Param) -> Any:
    """A sink into it."""
    made = getattr(importlib.import_module(f"halftrack_dataplane.engines.{place.module}"), place.name)
    return made(place.params | params, str(place.data))
