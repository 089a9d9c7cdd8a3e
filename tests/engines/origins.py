"""The places that sources fetch from, for the tests that hold for all of them: how messages come there, and how a source of them is made."""

import asyncio
import importlib
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from halftrack_dataplane.frames import Frame
from halftrack_dataplane.sdk import Param
from tests.dataplane.stream_program import frame_of
from tests.engines.places import calmly
from tests.engines.servers import KafkaBroker, NatsServer, absent
from tests.engines.streams import SIZE


class Origin(ABC):
    """One place. `module` and `name` are the source's class, `params` what its manifest would say."""

    module: str
    name: str
    server: Any

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.put_in = 0

    @property
    @abstractmethod
    def params(self) -> dict[str, Param]:
        """Of the manifest."""

    @abstractmethod
    def publish(self, payloads: Sequence[bytes]) -> None:
        """By somebody who knows nothing of us."""

    def more(self, count: int) -> None:
        """As many messages more, which tell their number."""
        self.publish([frame_of(seq, SIZE) for seq in range(self.put_in, self.put_in + count)])
        self.put_in += count

    def kill(self) -> None:
        """The server."""
        self.server.kill()

    def start(self) -> None:
        """The server, where it was."""
        self.server.start()

    def end(self) -> None:
        """For good."""
        self.server.stop()


class JetStream(Origin):
    """A stream of a real nats-server."""

    module, name = "jetstream_source", "JetStreamSource"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        try:
            import nats  # noqa: F401
        except ImportError:
            absent("nats-py is not here (pip install 'halftrack[nats]')")
        self.server = NatsServer(folder)
        self.server.start()
        self.asked("add_stream", name="feed", subjects=["feed"])

    @property
    def params(self) -> dict[str, Param]:
        return {"servers": self.server.url, "js_stream": "feed"}

    def publish(self, payloads: Sequence[bytes]) -> None:
        asyncio.run(self._publish(payloads))

    async def _publish(self, payloads: Sequence[bytes]) -> None:
        import nats

        client = await nats.connect(self.server.url)
        context = client.jetstream()
        for payload in payloads:
            await context.publish("feed", payload, timeout=10)
        await client.close()

    def asked(self, method: str, *words: Any, **options: Any) -> None:
        """Of JetStream's management, by nats-py's own method."""
        asyncio.run(self._asked(method, *words, **options))

    async def _asked(self, method: str, *words: Any, **options: Any) -> None:
        import nats

        client = await nats.connect(self.server.url)
        await getattr(client.jetstream(), method)(*words, **options)
        await client.close()


class Kafka(Origin):
    """A partition of Kafka's, or of its mock; half of its messages come in transactions, whose ends take offsets."""

    module, name = "kafka_source", "KafkaSource"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        try:
            import confluent_kafka  # noqa: F401
        except ImportError:
            absent("confluent-kafka is not here (pip install 'halftrack[kafka]')")
        self.server = KafkaBroker(folder)
        self.server.start()
        self.topic = f"feed-{uuid.uuid4().hex}"
        self._producers = [self._producer(**{"transactional.id": self.topic}), self._producer()]
        self._producers[0].init_transactions(10)
        self._producers[1].list_topics(self.topic, 10)  # makes it
        self._turn = 0

    def _producer(self, **config: str) -> Any:
        from confluent_kafka import Producer

        return Producer({"bootstrap.servers": self.server.servers, "log_level": 2, "enable.idempotence": True} | config)

    @property
    def params(self) -> dict[str, Param]:
        return {"servers": self.server.servers, "topic": self.topic}

    def publish(self, payloads: Sequence[bytes]) -> None:
        for at in range(0, len(payloads), 50):
            producer = self._producers[self._turn]
            if self._turn == 0:
                producer.begin_transaction()
            for payload in payloads[at : at + 50]:
                producer.produce(self.topic, payload, partition=0)
            assert producer.flush(10) == 0
            if self._turn == 0:
                producer.commit_transaction(10)
            self._turn = 1 - self._turn


ORIGINS: dict[str, type[Origin]] = {"jetstream": JetStream, "kafka": Kafka}


def opened(kind: str, folder: Path) -> Iterator[Origin]:
    """An origin of that kind, and its end."""
    origin = ORIGINS[kind](folder)
    try:
        yield origin
    finally:
        origin.end()


def source_of(origin: Origin, **params: Param) -> Any:
    """A source of it."""
    made = getattr(importlib.import_module(f"halftrack_dataplane.engines.{origin.module}"), origin.name)
    return made(origin.params | params)


def one(source: Any, seq: int) -> Sequence[Frame]:
    """What a fetch brings, as soon as the place is there."""
    return calmly(lambda: source.fetch(seq, 0.1))


def fetched(source: Any, begin: int, end: int) -> list[Frame]:
    """All frames from `begin` on, until `end` comes next."""
    frames: list[Frame] = []
    following = begin
    while following < end:
        for frame in one(source, following):
            assert frame.seq == following
            frames.append(frame)
            following = frame.seq + max(frame.gap, 1)
    return frames
