"""The peers that Python can reach: os.pipe, pyzmq and iceoryx2, each used as its users do, with no message ever dropped.

Returns frames or bytes a second. Every receiver checks number and order, as ours does and with the same functions. An absent package
makes its peer Missing.
"""

import ctypes
import os
import select
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.compiled import checks
from benchmarks.ours import PAYLOADS, PERIOD, SMALL, memory
from benchmarks.race import PATIENCE_S, Missing, Wrong, timed

DEEP = 64  # samples that iceoryx2 keeps for a subscriber: as many as our 4 MiB hold frames of 64 KiB
DEEP_OF_1MIB = 8


def pipe(count: int) -> float:
    """os.pipe with the largest buffer that an ordinary user may ask for; frames of one size, so it needs no lengths."""
    import fcntl

    periods = max(1, count // PERIOD)
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 1 << 20)

    def write() -> Iterator[None]:
        os.close(out)
        yield
        for _ in range(periods):
            for data in PAYLOADS:
                os.write(into, data)
        yield

    def read() -> Iterator[None]:
        os.close(into)
        yield
        for _ in range(periods):
            for wanted in PAYLOADS:
                if os.read(out, SMALL) != wanted:
                    raise Wrong("a frame from the pipe is not what was sent")
        yield

    try:
        return periods * PERIOD / timed([write, read], pinned=True)
    finally:
        os.close(out)
        os.close(into)


def pyzmq(count: int) -> float:
    """PUSH and PULL over a UNIX socket, with their default marks."""
    try:
        import zmq
    except ImportError as error:
        raise Missing(str(error)) from error
    periods = max(1, count // PERIOD)
    with memory() as folder:
        address = f"ipc://{folder}/bench.ipc"

        def write() -> Iterator[None]:
            with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
                socket.sndtimeo = PATIENCE_S * 1000
                socket.connect(address)
                socket.send(
                    b"connected"
                )  # who connects before the other binds tries again only after a tenth of a second
                yield
                for _ in range(periods):
                    for data in PAYLOADS:
                        socket.send(data)
                yield

        def read() -> Iterator[None]:
            with zmq.Context() as context, context.socket(zmq.PULL) as socket:
                socket.rcvtimeo = PATIENCE_S * 1000
                socket.bind(address)
                socket.recv()
                yield
                for _ in range(periods):
                    for wanted in PAYLOADS:
                        if socket.recv() != wanted:
                            raise Wrong("a frame from ZeroMQ is not what was sent")
                yield

        return periods * PERIOD / timed([write, read])


# -- iceoryx2 ----------------------------------------------------------------------------------------------------------


class Small(ctypes.Structure):
    """A frame of 64 B, as iceoryx2 wants to be told what it carries."""

    _fields_ = [("bytes", ctypes.c_uint8 * SMALL)]


def iceoryx() -> ModuleType:
    """The package, silent."""
    try:
        import iceoryx2
    except ImportError as error:
        raise Missing(str(error)) from error
    iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
    return iceoryx2


@contextmanager
def estate() -> Iterator[str]:
    """A name for a service, which is also the prefix of all that its processes leave; a side that was killed cannot tidy up."""
    name = f"halftrack-bench-{uuid.uuid4()}"
    try:
        yield name
    finally:
        for left in Path("/dev/shm").glob(f"{name}*"):  # noqa: S108 - where iceoryx2 keeps its segments
            left.unlink(missing_ok=True)
        shutil.rmtree(Path(tempfile.gettempdir()) / name, ignore_errors=True)


def service(iox: ModuleType, name: str, part: str, kind: Any, deep: int, readers: int = 1) -> tuple[Any, Any]:
    """A node and its service that loses nothing: no overflow, so that a full buffer makes the publisher wait."""
    config = iox.config.default()
    config.global_cfg.prefix = iox.FileName.new(name)
    config.global_cfg.root_path = iox.Path.new(f"{tempfile.gettempdir()}/{name}/")
    node = iox.NodeBuilder.new().config(config).create(iox.ServiceType.Ipc)
    made = node.service_builder(iox.ServiceName.new(part)).publish_subscribe(kind)
    made = made.enable_safe_overflow(False).subscriber_max_buffer_size(deep).history_size(0).max_subscribers(readers)
    return node, made.open_or_create()


class Greeting:
    """Frames before the first: sent until every reader has had one, since what is sent before a connection stands goes to nobody."""

    def __init__(self, readers: int = 1) -> None:
        self._readers = readers
        self._seen, self._saw = os.pipe()

    def __del__(self) -> None:
        os.close(self._seen)
        os.close(self._saw)

    def send(self, send: Callable[[], None]) -> None:
        """The writer's part."""
        answers, give_up = 0, time.perf_counter() + PATIENCE_S
        while answers < self._readers:
            send()
            if select.select([self._seen], [], [], 0.005)[0]:
                answers += len(os.read(self._seen, 1))
            if time.perf_counter() > give_up:
                raise Wrong("no reader answers")

    def receive(self, receive: Callable[[], Any]) -> None:
        """A reader's part."""
        while receive() is None:
            pass
        os.write(self._saw, b".")


def received(receive: Callable[[], Any]) -> Any:
    """The next sample."""
    while (sample := receive()) is None:
        pass
    return sample


GREETING = 1 << 40  # no frame's number
GREETED = b"\xff" * SMALL


def small_frames(count: int) -> float:
    """Frames of 64 B a second through iceoryx2, one by one: loaned, copied in, sent; received, copied out."""
    with estate() as name:
        return _small_frames(iceoryx(), name, max(1, count // PERIOD))


def _small_frames(iox: ModuleType, name: str, periods: int) -> float:
    greeting = Greeting()

    def write() -> Iterator[None]:
        _node, made = service(iox, name, "small", Small, DEEP * 16)
        publisher = made.publisher_builder().create()
        loan, move = publisher.loan_uninit, ctypes.memmove

        def send(data: bytes) -> None:
            sample = loan()
            move(sample.payload_ptr, data, SMALL)
            sample.assume_init().send()

        greeting.send(lambda: send(GREETED))
        yield
        for _ in range(periods):
            for data in PAYLOADS:
                sample = loan()
                move(sample.payload_ptr, data, SMALL)
                sample.assume_init().send()
        yield

    def read() -> Iterator[None]:
        _node, made = service(iox, name, "small", Small, DEEP * 16)
        receive, string_at = made.subscriber_builder().create().receive, ctypes.string_at
        greeting.receive(receive)
        yield
        for period in range(periods):
            for wanted in PAYLOADS:
                while (sample := receive()) is None:
                    pass
                while (data := string_at(sample.payload_ptr, SMALL)) != wanted:
                    if period or data != GREETED:
                        raise Wrong("a frame from iceoryx2 is not what was sent")
                    sample = received(receive)
                sample.delete()
        yield

    return periods * PERIOD / timed([write, read], pinned=True)


def blocks(size: int, count: int, readers: int = 1) -> float:
    """Bytes a second through iceoryx2 in large frames: loaned, filled in place, sent; every byte read in place."""
    with estate() as name:
        return _blocks(iceoryx(), name, size, count, readers)


def _blocks(iox: ModuleType, name: str, size: int, count: int, readers: int) -> float:
    check = checks()
    deep = DEEP if size < 1 << 20 else DEEP_OF_1MIB
    kind, greeting = iox.Slice[ctypes.c_uint8], Greeting(readers)

    def write() -> Iterator[None]:
        _node, made = service(iox, name, "blocks", kind, deep, readers)
        publisher = made.publisher_builder().initial_max_slice_len(size).create()
        loan = publisher.loan_slice_uninit

        def send(number: int) -> None:
            sample = loan(size)
            check.fill_at(sample.payload_ptr, size, number)
            sample.assume_init().send()

        greeting.send(lambda: send(GREETING))
        yield
        for number in range(count):
            send(number)
        yield

    def read() -> Iterator[None]:
        _node, made = service(iox, name, "blocks", kind, deep, readers)
        receive = made.subscriber_builder().create().receive
        greeting.receive(receive)
        yield
        for number in range(count):
            while (sample := receive()) is None:
                pass
            while not number and check.is_block_at(sample.payload_ptr, size, GREETING):
                sample = received(receive)
            if not check.is_block_at(sample.payload_ptr, size, number):
                raise Wrong("a frame from iceoryx2 is not what was sent")
            sample.delete()
        yield

    return count * size / timed([write, read], pinned=readers == 1)
