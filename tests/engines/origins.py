"""The places that sources fetch from, for the tests that hold for all of them: how messages come there, and how a source of them is made."""

import asyncio
import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from halftrack_dataplane.frames import Frame
from halftrack_dataplane.sdk import Param
from tests.dataplane.stream_program import frame_of
from tests.engines.places import calmly
from tests.engines.servers import NatsServer, absent
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


ORIGINS: dict[str, type[Origin]] = {"jetstream": JetStream}


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
