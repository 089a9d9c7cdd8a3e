"""Both ends of the bridge's fast path in one process, on plain sockets: an outlet, and inlets with their replicas. For tests."""

import os
import select
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq

from halftrack_dataplane.bridge_data import FRAME_COST
from halftrack_dataplane.bridge_inlet import Inlet
from halftrack_dataplane.bridge_lane import Lane
from halftrack_dataplane.bridge_outlet import Outlet
from halftrack_dataplane.bridge_sockets import SERVED
from halftrack_dataplane.ring import Reader, Ring

PATIENCE_S = 10.0


class Far:
    """A receiver: its connection, its replica, its place at the outlet."""

    def __init__(self, ends: "Ends", name: str, **replica: Any) -> None:
        self.socket = ends.context.socket(zmq.DEALER)
        self.socket.linger = 0
        for option, value in ends.narrow.items():
            self.socket.setsockopt(option, value)
        self.socket.connect(ends.address)
        self.socket.send(name.encode())
        assert ends.router.poll(PATIENCE_S * 1000)
        self.routing = ends.router.recv_multipart()[0]
        self.ring = Ring.create(ends.folder / f"{name}.ring", **{"capacity_bytes": 4 << 20, "slots": 4096} | replica)
        self.writer = self.ring.writer()
        self.inlet = Inlet(self.writer)
        self.inlet.attach(self.socket)
        self.inlet.welcomed()
        self.lane: Lane | None = None
        self.reader: Reader | None = None

    def join(self, ends: "Ends", next_seq: int = -1, credit: int = 1 << 30) -> Lane:
        """Say hello."""
        start: Any = next_seq if next_seq >= 0 else "oldest"
        self.reader = ends.ring.reader(policy="lossy", start=start)
        self.lane = ends.outlet.join(self.routing, self.reader, next_seq, credit)
        return self.lane

    def leave(self, ends: "Ends") -> None:
        """The session ends."""
        if self.lane is not None and self.reader is not None:
            ends.outlet.leave(self.lane)
            self.reader.close()
        self.lane = self.reader = None

    def take(self) -> list[str]:
        """Whatever is there, and every word on the way; gaps are written."""
        said = []
        while (word := self.inlet.take()) != "nothing":
            said.append(word)
            if word == "gap":
                gap = self.inlet.gap()
                self.inlet.owes(FRAME_COST)
                if self.ring.head == self.ring.tail == 0 and gap.first == 0:
                    self.writer.start_at(gap.first + gap.count)
                else:
                    self.writer.gap(gap.first + gap.count - self.ring.head, timeout_s=0)
            elif word in ("torn", "ahead", "wrong", "waits", "unknown", "broken"):
                break
        return said


class Ends:
    """A ring, its outlet, and any number of receivers."""

    def __init__(self, folder: Path, *, linger_us: int = 0, narrow: bool = False, **ring: Any) -> None:
        self.folder = folder
        self.address = f"ipc://{folder}/bridge.ipc"
        self.narrow = {zmq.SNDBUF: 4096, zmq.RCVBUF: 4096, zmq.RCVHWM: 1} if narrow else {}
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.router = self.context.socket(zmq.ROUTER)
        self.router.linger = 0
        self.router.router_mandatory = True
        for option, value in self.narrow.items():
            self.router.setsockopt(option, value)
        self.router.sndhwm = SERVED
        self.router.bind(self.address)
        self.ring = Ring.create(folder / "source.ring", **{"capacity_bytes": 4 << 20, "slots": 4096} | ring)
        self.writer = self.ring.writer(full="overwrite")
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.outlet = Outlet(self.ring, self.router, self.wake_fd, linger_us)
        self.fars: list[Far] = []

    def far(self, **replica: Any) -> Far:
        """One more receiver."""
        self.fars.append(Far(self, f"far{len(self.fars)}", **replica))
        return self.fars[-1]

    def carry(self) -> None:
        """Send and take until every replica has all."""
        deadline = time.monotonic() + PATIENCE_S
        while any(far.ring.head < self.ring.head for far in self.fars):
            assert time.monotonic() < deadline, [far.ring.head for far in self.fars]
            self.outlet.pump()
            for far in self.fars:
                assert not set(far.take()) - {"turn", "gap", "control"}
                if far.lane is not None and far.inlet.owed:
                    far.lane.grant(far.inlet.owed)
                    far.inlet.returned()

    def close(self) -> None:
        """Everything, the context first: what is in flight points at the rings."""
        for far in self.fars:
            far.inlet.drop()
            far.leave(self)
        for far in self.fars:
            far.socket.close(0)
        self.router.close(0)
        self.context.term()
        assert self.outlet.in_flight == 0
        os.close(self.wake_fd)
        for ring in (self.ring, *[far.ring for far in self.fars]):
            ring.close()


def readable(fd: int, seconds: float) -> bool:
    """Within so many seconds?"""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


@contextmanager
def ends(folder: Path, **options: Any) -> Iterator[Ends]:
    """Closed afterwards."""
    made = Ends(folder, **options)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def scene(**options: Any) -> Iterator[Ends]:
    """One example's own folder: a fixture's would be all examples'."""
    folder = tempfile.TemporaryDirectory(dir="/dev/shm", prefix="halftrack-test-")
    with folder as path, ends(Path(path), **options) as made:
        yield made


def payload(seq: int, length: int) -> bytes:
    """What is in a frame: its sequence, over and over."""
    return (seq.to_bytes(8, "little") * (length // 8 + 1))[:length]
