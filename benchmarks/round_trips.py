"""There and back: how long 64 B take to another process and back again, both sides awake or asleep before each trip.

Owns the loops that ours and iceoryx2 share with the bare cache line and futex of native/floor.c: trips in batches, of which the lower
quartile counts where nobody sleeps (a busy neighbour only ever adds), and single trips a pause apart, of which the median counts.
"""

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.ours import PAYLOADS, SLOTS, SMALL, memory
from benchmarks.peers import DEEP, GREETED, Greeting, Small, estate, iceoryx, service
from benchmarks.race import PATIENCE_S, Side, Wrong, seen
from halftrack_dataplane.ring import Ring

BATCHES = 100

ASLEEP_S = 0.001  # between trips: long enough for the other side to stop waiting awake and to sleep
Send = Callable[[bytes], object]
Receive = Callable[[], Any]  # something with a payload


class Received:
    """What iceoryx2's receiver has, in the shape of our frames."""

    __slots__ = ("payload",)
    payload: bytes


def awake(send: Send, receive: Receive, trips: int) -> float:
    """Nanoseconds a trip."""
    means = []
    each = max(1, trips // BATCHES)
    sent = [PAYLOADS[n % len(PAYLOADS)] for n in range(each)]
    for _ in range(BATCHES):
        began = time.perf_counter()
        for data in sent:
            send(data)
            if receive().payload != data:
                raise Wrong("what came back is not what was sent")
        means.append((time.perf_counter() - began) / each)
    return statistics.quantiles(means)[0] * 1e9


def asleep(send: Send, receive: Receive, trips: int) -> float:
    """Nanoseconds a trip, each of them begun when the other side sleeps."""
    took = []
    for n in range(trips):
        data = PAYLOADS[n % len(PAYLOADS)]
        time.sleep(ASLEEP_S)
        began = time.perf_counter()
        send(data)
        if receive().payload != data:
            raise Wrong("what came back is not what was sent")
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e9


def ours(trips: int, *, sleeping: bool) -> float:
    """Two rings, `write` and `read`."""
    total = trips if sleeping else max(1, trips // BATCHES) * BATCHES

    def end(out: Path, back: Path, carry: Callable[[Send, Receive], float]) -> Side:
        def side() -> Iterator[float | None]:
            with ExitStack() as held:
                rings = [held.enter_context(Ring.open(path)) for path in (out, back)]
                writer = held.enter_context(rings[0].writer())
                reader = held.enter_context(rings[1].reader(start="oldest"))
                for ring in rings:
                    ring.prefault()
                yield None
                yield carry(writer.write, reader.read)

        return side

    def echo(send: Send, receive: Receive) -> float:
        for _ in range(total):
            send(receive().payload)
        return 0.0

    with memory() as folder:
        out, back = folder / "out.ring", folder / "back.ring"
        for path in (out, back):
            Ring.create(path, capacity_bytes=1 << 20, slots=SLOTS, frame_bytes=SMALL).close()
        there = asleep if sleeping else awake
        return seen(
            [end(out, back, lambda send, receive: there(send, receive, trips)), end(back, out, echo)], pinned=True
        )[0].figure


def iceoryx2(trips: int) -> float:
    """Two services, both sides looking all the time."""
    with estate() as home:
        return _iceoryx2(iceoryx(), home, trips)


def _iceoryx2(iox: ModuleType, home: str, trips: int) -> float:
    names = ["there", "back"]
    greetings = [Greeting(), Greeting()]
    total = max(1, trips // BATCHES) * BATCHES

    def end(out: str, back: str, carry: Callable[[Send, Receive], float]) -> Side:
        def side() -> Iterator[float | None]:
            held = [service(iox, home, name, Small, DEEP) for name in (out, back)]
            publisher = held[0][1].publisher_builder().create()
            subscriber = held[1][1].subscriber_builder().create()

            def send(data: bytes) -> None:
                sample = publisher.loan_uninit()
                ctypes.memmove(sample.payload_ptr, data, SMALL)
                sample.assume_init().send()

            received = Received()

            def receive() -> Received:
                give_up = time.perf_counter() + PATIENCE_S
                while (sample := subscriber.receive()) is None:
                    if time.perf_counter() > give_up:
                        raise Wrong("nothing came back")
                received.payload = ctypes.string_at(sample.payload_ptr, SMALL)
                sample.delete()
                return received if received.payload != GREETED else receive()

            if out == names[0]:  # the greeting's way is there and back, as every trip's
                greetings[0].send(lambda: send(GREETED))
                greetings[1].receive(subscriber.receive)
            else:
                greetings[0].receive(subscriber.receive)
                greetings[1].send(lambda: send(GREETED))
            yield None
            yield carry(send, receive)

        return side

    def echo(send: Send, receive: Receive) -> float:
        for _ in range(total):
            send(receive().payload)
        return 0.0

    sides = [
        end(*names, lambda send, receive: awake(send, receive, trips)),
        end(*reversed(names), echo),
    ]
    return seen(sides, pinned=True)[0].figure
