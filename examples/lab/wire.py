"""A wire in user space: carries Ethernet frames between pairs of interfaces, and does to them what bad links do.

Owns delay, jitter, loss and cuts; each link is controlled on its own, both directions alike. It stands in for netem, which
not every kernel has. Frames of a direction keep their order. What it holds is bounded: a direction with more than
`QUEUE_BYTES` waiting drops what comes, as a switch would, and counts it.

Runs as `python -m examples.lab.wire SOCKET SEED NAME=LEFT,RIGHT ...`; `Control` speaks to it over the Unix socket, one JSON
object a datagram.
"""

import contextlib
import json
import os
import random
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FRAME_BYTES = 16 << 10  # larger than any frame at the lab's MTU of 9000
QUEUE_BYTES = 16 << 20  # half a second of the demo's stream
BURST = 64  # frames taken from one interface before the others have their turn
_ETH_P_ALL = 3
_PACKET_IGNORE_OUTGOING = 23
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_SOL_PACKET = 263


@dataclass(frozen=True, slots=True)
class Fault:
    """What a link does to frames now. All zero is a good link."""

    cut: bool = False
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class Carried:
    """A link's counters, both directions together."""

    frames: int
    bytes: int
    lost: int
    cut: int
    overflowed: int


class _Direction:
    """One way of a link."""

    def __init__(self, source: socket.socket, target: socket.socket, rng: random.Random) -> None:
        self.source, self.target, self.rng = source, target, rng
        self.fault = Fault()
        self.queue: deque[tuple[float, bytes]] = deque()
        self.queued = 0
        self.frames = self.bytes = self.lost = self.cut = self.overflowed = 0
        self._buffer = bytearray(FRAME_BYTES)
        self._view = memoryview(self._buffer)

    def take(self, now: float) -> None:
        """Read what has come in and send, delay or drop it."""
        fault, source, target, view = self.fault, self.source, self.target, self._view
        plain = not (fault.cut or fault.delay_ms or fault.jitter_ms or fault.loss_percent or self.queue)
        for _ in range(BURST):
            try:
                size = source.recv_into(self._buffer)
            except (BlockingIOError, InterruptedError):
                return
            if plain:
                self._send(target, view[:size])
            elif fault.cut:
                self.cut += 1
            elif fault.loss_percent and self.rng.random() * 100 < fault.loss_percent:
                self.lost += 1
            elif self.queued + size > QUEUE_BYTES:
                self.overflowed += 1
            else:
                self._hold(bytes(view[:size]), now)

    def _hold(self, frame: bytes, now: float) -> None:
        due = now + (self.fault.delay_ms + self.rng.random() * self.fault.jitter_ms) / 1000
        if self.queue:
            due = max(due, self.queue[-1][0])
        self.queue.append((due, frame))
        self.queued += len(frame)

    def release(self, now: float) -> None:
        """Send what is due."""
        while self.queue and self.queue[0][0] <= now:
            frame = self.queue.popleft()[1]
            self.queued -= len(frame)
            self._send(self.target, frame)

    def _send(self, target: socket.socket, frame: bytes | memoryview) -> None:
        try:
            target.send(frame)
        except (
            OSError
        ):  # the interface's queue is full, or it is going away: a link loses frames, that is no error of the wire
            self.overflowed += 1
            return
        self.frames += 1
        self.bytes += len(frame)


class Wire:
    """All links of the lab, moved by one thread."""

    def __init__(self, links: Mapping[str, tuple[str, str]], control: Path, seed: int) -> None:
        """Attach to the interfaces of this namespace and listen on `control`."""
        self._links: dict[str, tuple[_Direction, _Direction]] = {}
        self._poll = select.epoll()
        self._by_fd: dict[int, _Direction] = {}
        for name, ends in links.items():
            left, right = (_attached(end) for end in ends)
            rng = random.Random(f"{seed}/{name}")
            pair = _Direction(left, right, rng), _Direction(right, left, rng)
            self._links[name] = pair
            for direction in pair:
                self._by_fd[direction.source.fileno()] = direction
                self._poll.register(direction.source, select.EPOLLIN)
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._control.setblocking(False)
        self._control.bind(str(control))
        self._poll.register(self._control, select.EPOLLIN)

    def run(self) -> None:
        """Carry frames until killed."""
        while True:
            ready = self._poll.poll(self._patience())
            now = time.monotonic()
            for fd, _ in ready:
                direction = self._by_fd.get(fd)
                if direction is None:
                    self._obey()
                else:
                    direction.take(now)
            for direction in self._by_fd.values():
                if direction.queue:
                    direction.release(now)

    def _patience(self) -> float:
        """How long nothing is due; -1 for as long as it takes."""
        due = [direction.queue[0][0] for direction in self._by_fd.values() if direction.queue]
        return max(0.0, min(due) - time.monotonic()) if due else -1

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                request, sender = self._control.recvfrom(65536)
                answer = json.dumps(self._answer(request)).encode()
                with contextlib.suppress(OSError):  # who asked may be gone
                    self._control.sendto(answer, sender)

    def _answer(self, request: bytes) -> object:
        try:
            asked = json.loads(request)
            for name, fault in asked.get("set", {}).items():
                for direction in self._links[name]:
                    direction.fault = Fault(**fault)
                    if direction.fault.cut:
                        direction.cut += len(direction.queue)
                        direction.queue.clear()
                        direction.queued = 0
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return {"error": f"{type(error).__name__}: {error}"}
        return {"links": {name: asdict(_carried(pair)) for name, pair in self._links.items()}}


class Control:
    """The other end of the wire's control socket."""

    def __init__(self, path: Path) -> None:
        """`path` is the socket that the wire was started with."""
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("")  # an abstract address of our own, so that the wire can answer
        self._socket.settimeout(2.0)

    def set(self, faults: Mapping[str, Fault]) -> dict[str, Carried]:
        """Make the named links do this from now on; every link's counters."""
        request = {"set": {name: asdict(fault) for name, fault in faults.items()}}
        self._socket.sendto(json.dumps(request).encode(), str(self._path))
        answer = json.loads(self._socket.recv(65536))
        if "error" in answer:
            raise ValueError(answer["error"])
        return {name: Carried(**counters) for name, counters in answer["links"].items()}

    def carried(self) -> dict[str, Carried]:
        """Every link's counters."""
        return self.set({})

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


def _attached(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # protocol 0: nothing arrives before the options are set
    sock.setblocking(False)
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, QUEUE_BYTES)
        except PermissionError:  # an ordinary user's namespace: as much as the machine allows everybody
            sock.setsockopt(socket.SOL_SOCKET, plain, QUEUE_BYTES)
    sock.bind((interface, _ETH_P_ALL))
    return sock


def _carried(pair: Sequence[_Direction]) -> Carried:
    return Carried(
        *(sum(getattr(one, name) for one in pair) for name in ("frames", "bytes", "lost", "cut", "overflowed"))
    )


def main(argv: Sequence[str]) -> None:
    """Run the wire that the command line describes."""
    control, seed, *links = argv
    pairs = {}
    for link in links:
        name, ends = link.split("=")
        left, right = ends.split(",")
        pairs[name] = (left, right)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # a real wire waits for nobody
    Wire(pairs, Path(control), int(seed)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
