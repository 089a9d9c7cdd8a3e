"""What carries frames from one process to another: our ring and the peers it is held against, each used as its users do.

A carrier is prepared in the parent, received from in a forked child and sent into by the parent. `receive` checks that what it
got is what was sent, in number and order, since a fast wrong answer is none. Owns no clock and no comparison.
"""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import zmq

from halftrack_dataplane.ring import Ring

RING_BYTES = 16 << 20
RING_SLOTS = 8192
PATIENCE_S = 30  # for one frame; nothing here may hang
STAMP = struct.Struct("<Q")  # each payload begins with its number


def payload(size: int, number: int, body: bytearray) -> bytearray:
    """`body` with its number in front; the same object each time, as a producer would reuse its buffer."""
    STAMP.pack_into(body, 0, number)
    return body


class Wrong(Exception):  # noqa: N818
    """A carrier has lost, repeated or reordered a frame."""


def expect(number: int, data: bytes | bytearray | memoryview, size: int) -> None:
    """Raise Wrong unless `data` is the frame `number`."""
    if len(data) != size or STAMP.unpack_from(data)[0] != number:
        raise Wrong(f"frame {number} is not what came")


class Carrier(Protocol):
    """One way from process to process. `ready` is called once the receiver can be sent to."""

    name: str

    def prepare(self, folder: Path) -> None: ...
    def receive(self, size: int, count: int, ready: Callable[[], None]) -> None: ...
    def send(self, size: int, count: int) -> None: ...
    def close(self) -> None: ...


class OurRing:
    """A ring with one lossless reader."""

    name = "ring"

    def prepare(self, folder: Path) -> None:
        self._path = folder / "bench.ring"
        self._ring = Ring.create(self._path, capacity_bytes=RING_BYTES, slots=RING_SLOTS)

    def receive(self, size: int, count: int, ready: Callable[[], None]) -> None:
        with Ring.open(self._path) as ring, ring.reader(policy="lossless", name="bench", start="oldest") as reader:
            ready()
            for number in range(count):
                frame = reader.read(PATIENCE_S)
                if frame is None or frame.seq != number:
                    raise Wrong(f"expected frame {number}, got {frame and frame.seq}")
                expect(number, frame.payload, size)

    def send(self, size: int, count: int) -> None:
        body = bytearray(size)
        with self._ring.writer(full="block", name="bench") as writer:
            for number in range(count):
                writer.write(payload(size, number, body), timeout_s=PATIENCE_S)

    def close(self) -> None:
        self._ring.close()
        self._path.unlink()


class Pipe:
    """os.pipe with the largest buffer that an ordinary user may ask for; frames of one size, so it needs no lengths."""

    name = "pipe"

    def prepare(self, folder: Path) -> None:
        import fcntl

        del folder
        self._read, self._write = os.pipe()
        fcntl.fcntl(self._write, fcntl.F_SETPIPE_SZ, 1 << 20)

    def receive(self, size: int, count: int, ready: Callable[[], None]) -> None:
        os.close(self._write)
        ready()
        with open(self._read, "rb", buffering=0, closefd=False) as pipe:
            for number in range(count):
                data = pipe.read(size)
                while len(data) < size and (more := pipe.read(size - len(data))):
                    data += more
                expect(number, data, size)

    def send(self, size: int, count: int) -> None:
        body = bytearray(size)
        for number in range(count):
            view = memoryview(payload(size, number, body))
            while view:
                view = view[os.write(self._write, view) :]

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class ZmqIpc:
    """pyzmq PUSH/PULL over a UNIX socket, with its default marks."""

    name = "zmq-ipc"

    def prepare(self, folder: Path) -> None:
        self._address = f"ipc://{folder}/bench.ipc"

    def receive(self, size: int, count: int, ready: Callable[[], None]) -> None:
        with zmq.Context() as context, context.socket(zmq.PULL) as socket:
            socket.rcvtimeo = PATIENCE_S * 1000
            socket.bind(self._address)
            ready()
            for number in range(count):
                expect(number, socket.recv(), size)

    def send(self, size: int, count: int) -> None:
        body = bytearray(size)
        # Both live until close(): a socket that the collector ends while its last messages are on their way left the
        # receiver without them in one run of twelve.
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.sndtimeo = PATIENCE_S * 1000
        self._socket.connect(self._address)
        for number in range(count):
            self._socket.send(payload(size, number, body))

    def close(self) -> None:
        self._context.destroy(linger=0)  # only now: the receiver is done


CARRIERS: tuple[type[Carrier], ...] = (OurRing, Pipe, ZmqIpc)
