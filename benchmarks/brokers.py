"""The peers with a server or a wire of their own: NATS, Redis streams, gRPC. Each used as its users do, on this machine only.

Owns starting and ending the servers, in a folder of their own that goes with what is in it. Returns frames a second; every receiver checks
number and order. What is not installed is Missing: nats-server and nats-py, redis-server and redis, grpcio.
"""

import asyncio
import importlib.util
import itertools
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from benchmarks.ours import PAYLOADS, PERIOD, memory
from benchmarks.race import PATIENCE_S, Missing, Wrong, timed

REDIS_BATCH = 128  # commands of one pipeline: one by one each would wait for its answer
NATS_FLUSH = 4  # periods between two flushes: a publisher that never waits is cut off by the server as too fast


def needs(program: str, package: str, debian: str = "") -> None:
    """Raise Missing for what is not here; imports nothing, since some of these must not be imported before a fork."""
    if program and shutil.which(program) is None:
        raise Missing(f"no {program}: apt-get install {debian or program}")
    if importlib.util.find_spec(package) is None:
        raise Missing(f"no Python package {package}: pip install -e '.[bench]'")


@contextmanager
def server(command: Sequence[str], ready: str) -> Iterator[re.Match[str]]:
    """A server that is there when its log says so (a line that `ready` matches), and gone afterwards."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        too_late = threading.Timer(PATIENCE_S, child.kill)
        too_late.start()
        try:
            found, said = None, []
            for line in child.stdout or ():
                said.append(line)
                found = re.search(ready, line) or found
                if found and re.search(r"[Rr]eady", line):
                    break
            else:
                raise Missing(f"{command[0]} ended: {''.join(said[-3:]).strip()}")
            too_late.cancel()
            yield found
        finally:
            too_late.cancel()
            child.kill()


def _rate(periods: int, sides: Sequence) -> float:
    return periods * PERIOD / timed(sides)


def nats(count: int) -> float:
    """Publish and subscribe through nats-server over TCP."""
    needs("nats-server", "nats")
    periods = max(1, count // PERIOD)
    with server(["nats-server", "-a", "127.0.0.1", "-p", "-1"], r"client connections on 127\.0\.0\.1:(\d+)") as found:
        address = f"nats://127.0.0.1:{found[1]}"

        def connected(loop: asyncio.AbstractEventLoop) -> object:
            import nats as package

            return loop.run_until_complete(package.connect(address))

        def write() -> Iterator[None]:
            loop = asyncio.new_event_loop()
            client = connected(loop)

            async def send() -> None:
                for period in range(periods):
                    for data in PAYLOADS:
                        await client.publish("bench", data)
                    if period % NATS_FLUSH == 0:
                        await client.flush(PATIENCE_S)
                await client.flush(PATIENCE_S)

            yield
            loop.run_until_complete(send())
            yield
            loop.run_until_complete(client.close())

        def read() -> Iterator[None]:
            loop = asyncio.new_event_loop()
            client = connected(loop)
            wanted = itertools.chain.from_iterable(itertools.repeat(PAYLOADS, periods))

            async def subscribed() -> object:
                subscription = await client.subscribe("bench", pending_msgs_limit=0, pending_bytes_limit=0)
                await client.flush(PATIENCE_S)
                return subscription

            async def receive() -> None:
                for one in wanted:
                    message = await anext(messages)
                    if message.data != one:
                        raise Wrong("a frame from NATS is not what was sent")

            messages = loop.run_until_complete(subscribed()).messages
            yield
            loop.run_until_complete(receive())
            yield

        return _rate(periods, [write, read])


def redis(count: int) -> float:
    """XADD in pipelines and XREAD, over a UNIX socket, with nothing kept on disk."""
    needs("redis-server", "redis")
    periods = max(1, count // PERIOD)
    with memory() as folder:
        path = str(folder / "redis.sock")
        command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
        with server([*command, "--dir", str(folder)], "[Rr]eady to accept"):

            def write() -> Iterator[None]:
                import redis as package

                client = package.Redis(unix_socket_path=path)
                client.ping()
                yield
                for _ in range(periods):
                    for at in range(0, PERIOD, REDIS_BATCH):
                        pipeline = client.pipeline(transaction=False)
                        for data in PAYLOADS[at : at + REDIS_BATCH]:
                            pipeline.xadd("bench", {"f": data})
                        pipeline.execute()
                yield

            def read() -> Iterator[None]:
                import redis as package

                client = package.Redis(unix_socket_path=path)
                client.ping()
                yield
                last, seen = "0", 0
                while seen < periods * PERIOD:
                    for _, entries in client.xread({"bench": last}, count=PERIOD, block=PATIENCE_S * 1000):
                        for identity, fields in entries:
                            if fields[b"f"] != PAYLOADS[seen % PERIOD]:
                                raise Wrong("a frame from Redis is not what was sent")
                            last, seen = identity, seen + 1
                yield

            return _rate(periods, [write, read])


def grpc(count: int) -> float:
    """One stream of messages of bytes to a server, over a UNIX socket."""
    needs("", "grpc")
    periods = max(1, count // PERIOD)
    with memory() as folder:
        address = f"unix:{folder}/grpc.sock"

        def write() -> Iterator[None]:
            import grpc as package

            with package.insecure_channel(address) as channel:
                package.channel_ready_future(channel).result(PATIENCE_S)
                send = channel.stream_unary("/bench/send", request_serializer=bytes, response_deserializer=bytes)
                yield
                answer = send(itertools.chain.from_iterable(itertools.repeat(PAYLOADS, periods)), timeout=PATIENCE_S)
                if answer != b"all":
                    raise Wrong("a frame from gRPC is not what was sent")
                yield

        def read() -> Iterator[None]:
            import grpc as package

            over = threading.Event()

            def take(frames: Iterator[bytes], _context: object) -> bytes:
                wanted = itertools.chain.from_iterable(itertools.repeat(PAYLOADS, periods))
                good = all(one == two for one, two in itertools.zip_longest(frames, wanted))
                over.set()
                return b"all" if good else b"wrong"

            server = package.server(ThreadPoolExecutor(1))
            handler = package.stream_unary_rpc_method_handler(take, bytes, bytes)
            server.add_generic_rpc_handlers((package.method_handlers_generic_handler("bench", {"send": handler}),))
            server.add_insecure_port(address)
            server.start()
            yield
            if not over.wait(PATIENCE_S):
                raise Wrong("nothing came over gRPC")
            yield
            server.stop(None)

        return _rate(periods, [write, read])
