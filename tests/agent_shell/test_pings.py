"""What gRPC says on a connection by itself, seen on the wire: no ping, of either side. Words are the session's own, and who pings too often is thrown out."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc

from halftrack_controller.daemon import SERVER_OPTIONS
from halftrack_proto.channel import CHUNK_BYTES, CLIENT_OPTIONS

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, PING, GOAWAY = 0, 6, 7  # RFC 9113, 6
HEAD_BYTES = 9
CHUNKS = 64


class Frames:
    """One direction of a connection, as far as it has come."""

    def __init__(self, seen: Counter[int], left: bytes) -> None:
        self._seen, self._left, self._skip = seen, left, len(left)

    def came(self, data: bytes) -> None:
        self._left += data
        while len(self._left) >= self._skip + HEAD_BYTES:
            head = self._left[self._skip : self._skip + HEAD_BYTES]
            self._seen[head[3]] += 1
            self._left, self._skip = self._left[self._skip + HEAD_BYTES :], int.from_bytes(head[:3])


async def carried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frames: Frames) -> None:
    while data := await reader.read(1 << 16):
        frames.came(data)
        writer.write(data)
        await writer.drain()
    writer.close()


async def pings(client: Any, server_side: Any) -> Counter[int]:
    """Frames by their kind, of both directions, of a stream of much each way."""
    seen, over, open_ = Counter[int](), asyncio.Event(), list[asyncio.StreamWriter]()

    async def echo(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for data in requests:
            yield data

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        open_.extend((writer, far_writer))
        await asyncio.gather(
            carried(reader, far_writer, Frames(seen, PREFACE)), carried(far_reader, writer, Frames(seen, b""))
        )
        over.set()

    handler = grpc.method_handlers_generic_handler("s", {"Echo": grpc.stream_stream_rpc_method_handler(echo)})
    server = grpc.aio.server(options=server_side)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    door = await asyncio.start_server(between, "127.0.0.1", 0)
    address = f"127.0.0.1:{door.sockets[0].getsockname()[1]}"
    async with grpc.aio.insecure_channel(address, options=client) as channel:
        call: Any = channel.stream_stream("/s/Echo")()
        for _ in range(CHUNKS):
            await call.write(bytes(CHUNK_BYTES))
            assert len(await call.read()) == CHUNK_BYTES
        found = seen.copy()  # a server that goes away pings once more
    for writer in open_:
        writer.close()
    await over.wait()
    await server.stop(0)
    door.close()
    return found


def test_grpc_says_nothing_by_itself() -> None:
    async def work() -> None:
        seen = await pings(CLIENT_OPTIONS, SERVER_OPTIONS)
        assert seen[DATA] >= 2 * CHUNKS
        assert seen[PING] == 0
        probing = [(name, value) for name, value in CLIENT_OPTIONS if name != "grpc.http2.bdp_probe"]
        assert (await pings(probing, SERVER_OPTIONS))[PING] > 0, "or nothing would be seen here at all"
        probing = [(name, value) for name, value in SERVER_OPTIONS if name != "grpc.http2.bdp_probe"]
        assert (await pings(CLIENT_OPTIONS, probing))[PING] > 0

    asyncio.run(work())


def test_nobody_keeps_a_connection_alive_but_the_sessions_words() -> None:
    """gRPC's keepalives are off for clients unless asked for; asked for, servers call them `too_many_pings`."""
    names = {name for name, _ in (*CLIENT_OPTIONS, *SERVER_OPTIONS)}
    assert [name for name in names if "keepalive" in name or "ping" in name] == []
