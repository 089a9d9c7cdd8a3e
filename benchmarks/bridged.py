"""Our bridge as it runs: a server and receivers in processes of their own, a writer before them and readers behind. Returns rates and
times; never compares.

Geometry: the source's ring has 16 MiB, each replica half of that; credit is the receivers' default. A bridge never holds a writer up, so
the writer keeps to half of its ring itself, by looking at the replicas, as an instrument keeps to its rate.
"""

import contextlib
import json
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.compiled import ROOT, checks
from benchmarks.ours import PERIOD, SLOTS, SMALL, memory
from benchmarks.race import PATIENCE_S, Side, Wrong, seen, timed
from halftrack_dataplane import curve
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec, dump

RING_BYTES = 16 << 20
WARM = 64  # frames that have passed before the clock runs: connections stand, pages are mapped
PACE_S = 5e-5  # between two looks of a writer that is ahead
APART_S = 0.002  # between two frames whose way is timed: all have gone to sleep
_TIME = struct.Struct("<d")


@dataclass(frozen=True)
class Bridge:
    """A running bridge: where its source's ring and its replicas are."""

    source: Path
    replicas: list[Path]
    size: int


def free_port() -> int:
    """A TCP port that nobody listened on a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _specs(folder: Path, hosts: list[str]) -> Iterator[RunSpec]:
    """The server's and each receiver's, with keys of their own."""
    keys = {name: curve.generate() for name in ("server", *hosts)}
    for name, pair in keys.items():
        curve.write_secret(str(folder / f"{name}.key"), pair.secret)
    (folder / "peers.json").write_text(json.dumps({host: keys[host].public for host in hosts}))
    address = f"127.0.0.1:{free_port()}"
    yield RunSpec(
        role="bridge-server",
        name="bridge",
        rings_dir=str(folder),
        listen=address,
        curve_secret_path=str(folder / "server.key"),
        curve_public=keys["server"].public,
        peers_path=str(folder / "peers.json"),
    )
    for host in hosts:
        yield RunSpec(
            role="bridge-receiver",
            name=host,
            output_ring=str(folder / f"{host}.ring"),
            ring_name="source",
            connect=address,
            curve_secret_path=str(folder / f"{host}.key"),
            curve_public=keys[host].public,
            server_public=keys["server"].public,
        )


@contextmanager
def bridge(size: int, hosts: int, *, secured: bool) -> Iterator[Bridge]:
    """A bridge whose connections stand, for frames of `size`."""
    with memory() as folder, contextlib.ExitStack() as ends:
        names = [f"host{number}" for number in range(hosts)]
        made = Bridge(folder / "source.ring", [folder / f"{name}.ring" for name in names], size)
        Ring.create(made.source, capacity_bytes=RING_BYTES, slots=SLOTS, frame_bytes=size).close()
        for replica in made.replicas:
            Ring.create(replica, capacity_bytes=RING_BYTES // 2, slots=SLOTS, frame_bytes=size).close()
        for spec in _specs(folder, names):
            path = folder / f"{spec.name}.json"
            path.write_bytes(dump(spec))
            ends.callback(_end, _started(path, secured))
        _warm(made)
        yield made


def _started(spec: Path, secured: bool) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "benchmarks/bridge_process.py", *([] if secured else ["--plain"]), str(spec)], cwd=ROOT
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _warm(made: Bridge) -> None:
    with contextlib.ExitStack() as open_rings:
        replicas = [open_rings.enter_context(Ring.open(path)) for path in made.replicas]
        writer = open_rings.enter_context(open_rings.enter_context(Ring.open(made.source)).writer())
        end = time.monotonic() + PATIENCE_S
        for _ in range(WARM):
            writer.write(bytes(made.size))
        while any(replica.head < WARM for replica in replicas):
            if time.monotonic() > end:
                raise Wrong("the bridge does not stand")
            time.sleep(0.01)


def _writes(made: Bridge, count: int) -> Side:
    """Writes `count` frames, small ones by the thousand, and never more than half a ring ahead of the last host."""
    each = PERIOD if made.size == SMALL else 1
    ahead = max(RING_BYTES // 2 // made.size - each, each)

    def side() -> Iterator[None]:
        rows, stamp, fill = np.zeros((PERIOD, SMALL), np.uint8), checks().stamp, checks().fill
        flat = rows.reshape(-1)
        with contextlib.ExitStack() as open_rings:
            replicas = [open_rings.enter_context(Ring.open(path)) for path in made.replicas]
            ring = open_rings.enter_context(Ring.open(made.source))
            writer = open_rings.enter_context(ring.writer())
            ring.prefault()
            yield
            for number in range(0, count, each):
                while number + WARM - min([replica.head for replica in replicas]) > ahead:
                    time.sleep(PACE_S)
                if each == 1:
                    fill(writer.claim(made.size), number)
                    writer.commit()
                else:
                    stamp(flat, SMALL, number)
                    writer.write_array(rows)
            yield

    return side


def _reads(path: Path, size: int, count: int) -> Side:
    """Reads every byte of large frames and every number of small ones, in place."""

    def side() -> Iterator[None]:
        numbered, is_block = checks().numbered, checks().is_block
        with Ring.open(path) as ring, ring.reader(start=WARM) as reader:
            ring.prefault()
            yield
            number = 0
            while number < count:
                batch = reader.view_many(timeout_s=PATIENCE_S)
                if batch is None or batch.gap or batch.seq != number + WARM:
                    raise Wrong(f"frame {number} did not come: {batch}")
                small = size == SMALL
                if not (
                    numbered(batch.payload, size, batch.count, number)
                    if small
                    else is_block(batch.payload, size, number)
                ):
                    raise Wrong(f"frame {number} is not what was sent")
                number += batch.count
            yield

    return side


def frames(size: int, count: int, hosts: int = 1, *, secured: bool = False) -> float:
    """Frames a second that each host gets."""
    count = count // PERIOD * PERIOD if size == SMALL else count
    with bridge(size, hosts, secured=secured) as made:
        return count / timed([_writes(made, count), *[_reads(path, size, count) for path in made.replicas]])


def one_way(count: int) -> float:
    """Seconds from `write` to the waiting reader at the other host, the median; a frame of 64 B at a time, everybody asleep before it."""

    def write() -> Iterator[None]:
        with Ring.open(made.source) as ring, ring.writer() as writer:
            yield
            for _ in range(count):
                time.sleep(APART_S)
                writer.write(_TIME.pack(time.perf_counter()).ljust(SMALL, b"\0"))
            yield

    def read() -> Iterator[float | None]:
        with Ring.open(made.replicas[0]) as ring, ring.reader(start=WARM) as reader:
            yield None
            took = []
            for number in range(count):
                frame = reader.read(PATIENCE_S)
                if frame is None or frame.seq != number + WARM:
                    raise Wrong(f"frame {number} did not come")
                took.append(time.perf_counter() - _TIME.unpack_from(frame.payload)[0])
            yield statistics.median(took)

    with bridge(SMALL, 1, secured=False) as made:
        return seen([write, read])[1].figure


def one_way_pyzmq(count: int) -> float:
    """The same over PUSH and PULL, from Python."""
    import zmq

    address = f"tcp://127.0.0.1:{free_port()}"

    def write() -> Iterator[None]:
        with zmq.Context() as context, context.socket(zmq.PUSH) as sender:
            sender.bind(address)
            sender.send(b"connected")
            yield
            for _ in range(count):
                time.sleep(APART_S)
                sender.send(_TIME.pack(time.perf_counter()).ljust(SMALL, b"\0"))
            yield

    def read() -> Iterator[float | None]:
        with zmq.Context() as context, context.socket(zmq.PULL) as receiver:
            receiver.rcvtimeo = PATIENCE_S * 1000
            receiver.connect(address)
            receiver.recv()
            yield None
            took = []
            for _ in range(count):
                sent = _TIME.unpack_from(receiver.recv())[0]
                took.append(time.perf_counter() - sent)
            yield statistics.median(took)

    return seen([write, read])[1].figure
