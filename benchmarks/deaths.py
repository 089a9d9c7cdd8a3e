"""A lossless reader is killed: how long do the others get nothing, and is anything lost?

The writer writes a frame every PACE_S into a ring that holds four, so that the dead reader's hold stops it almost at once. A supervisor
waits on the reader's pidfd, as an agent does, and reaps the ring. Owns the scene and the longest gap around the death.
"""

import itertools
import os
import select
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ours import memory
from benchmarks.race import PATIENCE_S, Wrong, seen
from halftrack_dataplane.ring import Ring

PACE_S = 0.0001
FRAMES = 4000
SLOTS = 4
DIES_AFTER_S = 0.1  # in the midst of about half a second
AROUND_S = 0.05  # of the death: a gap that ends within it counts
_TIME = struct.Struct("<d")


def longest_gap(share: float = 1.0) -> float:
    """Milliseconds between two frames of the surviving reader, at worst, around the other one's death."""
    frames = max(1000, int(FRAMES * share))
    with memory() as folder:
        path = folder / "bench.ring"
        Ring.create(path, capacity_bytes=1 << 16, slots=SLOTS).close()
        died, tell_death = os.pipe()

        def write() -> Iterator[None]:
            with Ring.open(path) as ring, ring.writer() as writer:
                yield
                for number in range(frames):
                    writer.write(number.to_bytes(8, "little"), timeout_s=PATIENCE_S)
                    time.sleep(PACE_S)
                yield

        def survive() -> Iterator[float | None]:
            with Ring.open(path) as ring, ring.reader(start="oldest") as reader:
                yield None
                came = []
                for number in range(frames):
                    frame = reader.read(PATIENCE_S)
                    if frame is None or frame.seq != number or frame.payload != number.to_bytes(8, "little"):
                        raise Wrong(f"frame {number} did not reach the surviving reader")
                    came.append(time.perf_counter())
                yield _worst(came, _TIME.unpack(os.read(died, _TIME.size))[0])

        def supervise() -> Iterator[None]:
            with Ring.open(path) as ring:
                victim = _victim(path)
                yield
                time.sleep(DIES_AFTER_S)
                os.write(tell_death, _TIME.pack(time.perf_counter()))
                _kill_and_reap(ring, victim)
                yield

        try:
            return seen([write, survive, supervise])[1].figure
        finally:
            os.close(died)
            os.close(tell_death)


def _victim(path: Path) -> int:
    """Forks a lossless reader that reads until it is killed; returns once it has joined."""
    joined, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(PATIENCE_S)
            with Ring.open(path) as ring, ring.reader(start="oldest", name="victim") as reader:
                os.write(tell, b".")
                for _ in reader:
                    pass
        finally:
            os._exit(1)
    os.close(tell)
    if not os.read(joined, 1):
        raise Wrong("the reader that is to be killed could not join")
    os.close(joined)
    return child


def _kill_and_reap(ring: Ring, victim: int) -> None:
    pidfd = os.pidfd_open(victim)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    os.kill(victim, signal.SIGKILL)
    poll.poll(PATIENCE_S * 1000)
    gone = ring.reap()
    os.waitpid(victim, 0)
    os.close(pidfd)
    if len(gone) != 1:
        raise Wrong(f"one reader was killed, and {len(gone)} were reaped")


def _worst(came: list[float], death: float) -> float:
    gaps = [after - before for before, after in itertools.pairwise(came) if 0 <= after - death <= AROUND_S]
    if not gaps:
        raise Wrong(f"no frame within {AROUND_S} s of the death")
    return max(gaps) * 1e3
