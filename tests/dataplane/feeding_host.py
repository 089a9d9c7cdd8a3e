"""A keeper and a capture as real processes, and a sender of numbered packets or frames: what an agent's driver does, in miniature."""

import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from halftrack_dataplane.feed_orders import FeedSpec
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec, dump
from halftrack_dataplane.status import Status, load
from tests.dataplane.processes import until

SIZE = 64
PROGRAMS = {
    "udp": b"from halftrack_dataplane.captures import Datagrams as Capture\n",
    "tcp": b"from halftrack_dataplane.stream_capture import Connections as Capture\n",
}


def payload(number: int) -> bytes:
    """What packet or frame `number` carries."""
    return number.to_bytes(8, "little") * (SIZE // 8)


class FeedingHost:
    """One feed, bound here as the agent's driver does, its keeper and its capture. Starts, kills, starts again."""

    def __init__(self, folder: Path, protocol: str, *, buffer_bytes: int = 4 << 20, slots: int = 1 << 16) -> None:
        self.folder, self.protocol = folder, protocol
        self.feed_dir = folder / ("long-" * 20) / "feeds"  # longer than a Unix address may be
        self.program = folder / "capture.py"
        self.program.write_bytes(PROGRAMS[protocol])
        self.ring = Ring.create(folder / "feed.ring", capacity_bytes=slots * SIZE, slots=slots)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        self.bound: socket.socket | None = socket.socket(socket.AF_INET, kind)
        force = 33 if os.geteuid() == 0 else socket.SO_RCVBUF  # SO_RCVBUFFORCE
        self.bound.setsockopt(socket.SOL_SOCKET, force, buffer_bytes)
        self.bound.setsockopt(socket.SOL_SOCKET, 40, 1)  # SO_RXQ_OVFL
        self.bound.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            self.bound.listen(64)
        self.port = int(self.bound.getsockname()[1])
        self.spec = FeedSpec("data", protocol, f"127.0.0.1:{self.port}", buffer_bytes)

    def keep(self, *, taker_path: str = "") -> None:
        """Start the keeper: with the socket the first time, later with word that its address is in use."""
        spec = RunSpec(
            "keeper", "f.feeds", feeds=(self.spec,), feed_dir=str(self.feed_dir), taker_path=taker_path,
            status_path=str(self.folder / "keeper.status"),
        )  # fmt: skip
        fds = () if self.bound is None else (self.bound.fileno(),)
        self._start(spec, {"HALFTRACK_FEEDS": str(fds[0]) if fds else "-1"}, fds)
        if self.bound is not None:
            self.bound.close()
            self.bound = None

    def capture(self, **params: str | int | bool) -> None:
        """Start the capture."""
        if self.protocol == "udp":
            params = {"frame_bytes": SIZE, "numbers": "le64", **params}
        spec = RunSpec(
            "source", "f", program=str(self.program), entry="capture:Capture", params=params, output_ring=str(self.folder / "feed.ring"),
            feed_dir=str(self.feed_dir), status_path=str(self.folder / "f.status"),
        )  # fmt: skip
        self._start(spec, {}, ())

    def _start(self, spec: RunSpec, environment: dict[str, str], fds: tuple[int, ...]) -> None:
        path = self.folder / f"{spec.name}.json"
        path.write_bytes(dump(spec))
        with (self.folder / f"{spec.name}.log").open("ab") as log:
            self.running[spec.name] = subprocess.Popen(
                [sys.executable, "-m", "halftrack_dataplane.run", str(path)],
                stdout=log, stderr=log, pass_fds=fds, env={**os.environ, **environment},
            )  # fmt: skip

    def end(self, name: str, *, kill: bool = False) -> None:
        """SIGTERM, or SIGKILL; and wait."""
        process = self.running.pop(name)
        process.kill() if kill else process.terminate()
        process.wait(20)
        self.ring.reap()
        (self.folder / ("f.status" if name == "f" else "keeper.status")).unlink(missing_ok=True)

    def log(self, name: str) -> str:
        """What it has said."""
        return (self.folder / f"{name}.log").read_text()

    def status(self, name: str) -> Status | None:
        """Its status file."""
        path = self.folder / f"{name}.status"
        return load(path.read_bytes()) if path.exists() else None

    def has_its_sockets(self, connections: str = "") -> bool:
        """Does the keeper have what an earlier one has given away?"""
        found = self.status("keeper")
        if found is None or found.message:
            return False
        return not connections or found.counters.get(connections) == 1

    def reach(self, head: int, seconds: float = 20.0) -> None:
        """Until the ring is so far."""
        try:
            until(lambda: self.ring.head >= head, f"the ring reaches {head}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is at {self.ring.head}: {self.log('f')[-2000:]}") from None

    def close(self) -> None:
        """End everything."""
        for name in list(self.running):
            self.end(name, kill=True)
        if self.bound is not None:
            self.bound.close()
        self.ring.close()


def who(path: Path, pid: int) -> None:
    """What the agent's shim writes about a workload, so that a keeper knows it."""
    ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    path.write_text(json.dumps({"pid": pid, "start_ticks": ticks}))


class Sender:
    """Packets with numbers, at a pace that two busy processors bear: so many, or for as long as a block lasts."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.next = 0
        self._enough = threading.Event()

    def send(self, count: int = 1 << 40, per_s: int = 4_000) -> None:
        """So many more."""
        began, first = time.monotonic(), self.next
        while self.next < first + count and not self._enough.is_set():
            self.socket.send(struct.pack("<Q", self.next) + payload(self.next))
            self.next += 1
            if self.next % 50 == 0 and (ahead := (self.next - first) / per_s - (time.monotonic() - began)) > 0:
                time.sleep(ahead)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send meanwhile."""
        with meanwhile(self.send, self._enough):
            yield


class FramesSender:
    """Frames behind their lengths over one connection, cut anywhere; then its end."""

    def __init__(self, port: int) -> None:
        self.next = 0
        self._port = port
        self._enough = threading.Event()

    def send(self) -> None:
        """Until told that it is enough."""
        luck, waiting = random.Random(2), b""
        with socket.create_connection(("127.0.0.1", self._port)) as line:
            while not self._enough.is_set():
                waiting += b"".join(struct.pack("<I", SIZE) + payload(self.next + more) for more in range(100))
                self.next += 100
                while len(waiting) > 4_000:
                    size = luck.randrange(1, 4_000)
                    line.sendall(waiting[:size])
                    waiting = waiting[size:]
                time.sleep(0.02)
            line.sendall(waiting)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send meanwhile."""
        with meanwhile(self.send, self._enough):
            yield


@contextmanager
def meanwhile(work: Callable[[], None], enough: threading.Event) -> Iterator[None]:
    """`work` in a thread for as long as the block lasts."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
