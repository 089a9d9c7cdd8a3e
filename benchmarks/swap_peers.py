"""What people do today when a step of a stream has a new version: a PyZMQ script that is stopped and started, a JetStream consumer that is attached again.

Owns the scripts of these peers: a source, a worker that is replaced in the middle, a sink that notes what comes when. Returns the longest pause
at the sink and the share of frames that came, once each. Run as a program, it is the worker: `swap_peers.py zmq|jetstream IN OUT`.
"""

import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: `benchmarks` is not installed

from benchmarks import brokers
from benchmarks.ours import memory
from benchmarks.race import PATIENCE_S, Missing, Wrong, seen

FRAMES = 12_000
RATE = {"zmq": 20_000, "jetstream": 4_000}  # a second; what nats-py can publish and take on two processors, with room
BURST = 20
SILENCE_S = 0.5  # after which, when all was sent, the sink takes what has not come for lost
NUMBER = struct.Struct("<Q")
Figures = dict[str, float]


def pyzmq(share: float) -> Figures:
    """PUB, a worker that subscribes and publishes, SUB. The worker is stopped with SIGTERM, and the next one started when it has gone."""
    frames = max(10_000, int(FRAMES * share))  # a SUB socket comes back 100 ms after its PUB has gone
    with memory() as folder:
        into, out = f"ipc://{folder}/in.ipc", f"ipc://{folder}/out.ipc"

        def write() -> Iterator[None]:
            import zmq

            with zmq.Context() as context, context.socket(zmq.PUB) as socket:
                socket.bind(into)
                yield
                _paced(_numbers(folder, frames), RATE["zmq"], socket.send)
                yield

        def read() -> Iterator[float | None]:
            import zmq

            with zmq.Context() as context, context.socket(zmq.SUB) as socket:
                socket.subscribe(b"")
                socket.connect(out)
                yield None
                came = []
                while (heard := socket.poll(SILENCE_S * 1000)) or not (folder / "sent").exists():
                    if heard:
                        came.append((NUMBER.unpack(socket.recv())[0], time.monotonic()))
                yield _noted(folder, came)

        seen([write, read, _supervised(folder, "zmq", into, out, frames / RATE["zmq"] / 2)])
        return json.loads((folder / "figures").read_text())  # type: ignore[no-any-return]


def jetstream(share: float) -> Figures:
    """A stream, a durable consumer that publishes into a second one. The consumer's process is replaced; what it had not acknowledged comes again."""
    brokers.needs("nats-server", "nats")
    frames = max(2000, int(FRAMES * share))
    with memory() as folder:
        command = ["nats-server", "-js", "-sd", str(folder / "js"), "-a", "127.0.0.1", "-p", "-1"]
        with brokers.server(command, r"client connections on 127\.0\.0\.1:(\d+)") as found:
            address = f"nats://127.0.0.1:{found[1]}"
            asyncio.run(_streams(address))

            def write() -> Iterator[None]:
                loop = asyncio.new_event_loop()
                client = loop.run_until_complete(_connected(address))
                yield
                loop.run_until_complete(_published(client, _numbers(folder, frames)))
                yield
                loop.run_until_complete(client.close())

            def read() -> Iterator[float | None]:
                loop = asyncio.new_event_loop()
                client = loop.run_until_complete(_connected(address))
                subscription = loop.run_until_complete(
                    client.subscribe("out", pending_msgs_limit=0, pending_bytes_limit=0)
                )
                yield None
                yield _noted(folder, loop.run_until_complete(_until_silent(subscription, (folder / "sent").exists)))
                loop.run_until_complete(client.close())

            seen([write, read, _supervised(folder, "jetstream", address, "", frames / RATE["jetstream"] / 2)])
        return json.loads((folder / "figures").read_text())  # type: ignore[no-any-return]


def _numbers(folder: Path, frames: int) -> Iterator[int]:
    """Of frames to send: half of them before the worker is replaced, whatever falls into that, and half with the next one."""
    left, number, began = frames // 2, 0, time.monotonic()
    while left > 0 and time.monotonic() < began + PATIENCE_S:
        yield from range(number, number + BURST)
        number += BURST
        left -= BURST if (folder / "again").exists() else 0
    (folder / "sent").write_text(str(number))


def _paced(numbers: Iterator[int], rate: int, send: Callable[[bytes], object]) -> None:
    due = time.monotonic()
    for number in numbers:
        send(NUMBER.pack(number))
        if number % BURST == BURST - 1:
            due += BURST / rate
            time.sleep(max(0.0, due - time.monotonic()))


def _noted(folder: Path, came: list[tuple[int, float]]) -> float:
    frames = int((folder / "sent").read_text())
    if len(came) < 2:
        raise Wrong(f"{len(came)} of {frames} frames came through the worker")
    pause = max(after[1] - before[1] for before, after in pairwise(came))
    once = len({number for number, _ in came})
    figures = {"pause_ms": pause * 1e3, "arrived": 100 * once / frames, "twice": float(len(came) - once)}
    (folder / "figures").write_text(json.dumps(figures))
    return pause


def _supervised(folder: Path, kind: str, into: str, out: str, after_s: float) -> Callable[[], Iterator[None]]:
    """Who replaces the worker, half-way."""

    def side() -> Iterator[None]:
        worker = _begun(kind, into, out)
        yield
        time.sleep(after_s)
        worker.terminate()
        worker.wait(PATIENCE_S)
        worker = _begun(kind, into, out)
        (folder / "again").touch()
        yield
        worker.kill()
        worker.wait()

    return side


def _begun(kind: str, into: str, out: str) -> subprocess.Popen[bytes]:
    """Started, and ready by its own word."""
    command = [sys.executable, __file__, kind, into, out]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if worker.stdout is None or worker.stdout.readline() != b"ready\n":
        raise Missing(f"the worker for {kind} does not start")
    return worker


# ---------------------------------------------------------------------------------------------------------------- NATS


async def _connected(address: str) -> Any:
    import nats

    async def unheard(_error: Exception) -> None:
        """The server goes before some of its clients, and nats-py would tell each time that it tries again."""

    return await nats.connect(address, error_cb=unheard, allow_reconnect=False)


async def _streams(address: str) -> None:
    client = await _connected(address)
    await client.jetstream().add_stream(name="in", subjects=["in"])
    await client.close()


async def _published(client: Any, numbers: Iterator[int]) -> None:
    due = time.monotonic()
    for number in numbers:
        await client.publish("in", NUMBER.pack(number))
        if number % BURST == BURST - 1:
            due += BURST / RATE["jetstream"]
            await client.flush(PATIENCE_S)
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _until_silent(subscription: Any, over: Callable[[], bool]) -> list[tuple[int, float]]:
    came = []
    while True:
        try:
            message = await subscription.next_msg(SILENCE_S)
        except TimeoutError:
            if over():
                return came
            continue
        came.append((NUMBER.unpack(message.data)[0], time.monotonic()))


async def _worked(address: str) -> None:
    """Takes, hands on, acknowledges; until it is told to end."""
    client = await _connected(address)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    consumer = await client.jetstream().pull_subscribe("in", durable="worker")
    print("ready", flush=True)
    while not ended.is_set():
        try:
            batch = await consumer.fetch(64, timeout=0.2)
        except TimeoutError:
            continue
        for message in batch:
            await client.publish("out", message.data)
            await message.ack()
    await client.close()


def _relayed(into: str, out: str) -> None:
    import zmq

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with zmq.Context() as context, context.socket(zmq.SUB) as source, context.socket(zmq.PUB) as target:
        source.subscribe(b"")
        source.connect(into)
        target.bind(out)
        print("ready", flush=True)
        while True:
            target.send(source.recv())


def _orphaned() -> None:
    """Ends the worker when whoever supervises it has gone, however that went: nothing is left behind."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_orphaned, daemon=True).start()
    if sys.argv[1] == "zmq":
        _relayed(sys.argv[2], sys.argv[3])
    else:
        asyncio.run(_worked(sys.argv[2]))
