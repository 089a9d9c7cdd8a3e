"""What the link asks a controller for: no more at once than a second of the limit has, since whatever is under way is on the link, and lost with it."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from halftrack_agent.identity import Identity, Membership
from halftrack_agent.link import Ends, Link
from halftrack_model.ids import digest_of
from halftrack_proto import artifact_codec
from halftrack_proto.channel import CLIENT_OPTIONS
from halftrack_proto.messages import FetchChunk
from halftrack_proto.v1 import artifacts_pb2_grpc
from tests.agent_shell.test_link import Bench

BLOB = random.Random(3).randbytes(200_000)
DIGEST = digest_of(BLOB)


class Controller(artifacts_pb2_grpc.ArtifactsServicer):
    """Sends what it is asked for, or, being of before, all that follows."""

    def __init__(self, *, old: bool) -> None:
        self._old = old
        self.wishes: list[int] = []
        self.sent = 0

    async def Fetch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 - gRPC's name
        wish = artifact_codec.fetch_request_of(request)
        self.wishes.append(wish.offset)
        end = len(BLOB) if self._old or not wish.most_bytes else min(len(BLOB), wish.offset + wish.most_bytes)
        yield artifact_codec.fetch_chunk_message(FetchChunk(len(BLOB), b""))
        for at in range(wish.offset, end, wish.chunk_bytes):
            data = BLOB[at : min(end, at + wish.chunk_bytes)]
            self.sent += len(data)
            yield artifact_codec.fetch_chunk_message(FetchChunk(0, data))


def fetched(folder: Path, controller: Controller, at_once: int) -> list[tuple[int, int]]:
    """How much had come and been sent, at each piece that was read."""
    steps: list[tuple[int, int]] = []

    async def run() -> None:
        server = grpc.aio.server()
        artifacts_pb2_grpc.add_ArtifactsServicer_to_server(controller, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        bench = Bench(folder)
        ends = Ends(
            bench.hello, bench.observed, lambda: (), bench.plans.append, bench.outbox, at_once_bytes=lambda: at_once
        )
        member = Membership("g", "h", "", "", {}, {}, 1)
        link, came = Link(lambda: Identity(folder, member, b"", b"", b""), ends), b""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CLIENT_OPTIONS) as channel:
            link._channel = channel
            async for _, data in link.chunks(DIGEST, 0):
                came += data
                steps.append((len(came), controller.sent))
        assert came == BLOB
        await server.stop(0)
        bench.outbox.close()

    asyncio.run(run())
    return steps


@pytest.mark.parametrize("at_once", [1 << 10, 30_000, len(BLOB) // 4, len(BLOB)])
def test_under_a_limit_no_more_is_under_way_than_was_asked_for(tmp_path: Path, at_once: int) -> None:
    controller = Controller(old=False)
    for came, sent in fetched(tmp_path, controller, at_once):
        assert sent - came <= at_once
    assert controller.wishes == [*range(0, len(BLOB), at_once)]
    assert controller.sent == len(BLOB)


@pytest.mark.parametrize(("old", "at_once"), [(True, 1 << 10), (False, 0)])
def test_a_controller_of_before_is_asked_once_and_so_is_one_without_a_limit(
    tmp_path: Path, old: bool, at_once: int
) -> None:
    controller = Controller(old=old)
    fetched(tmp_path, controller, at_once)
    assert controller.wishes == [0]
