"""A source: the user's frames, paced and numbered, into a ring. It never drops: a full ring holds it back."""

import time

from halftrack_dataplane import fetching
from halftrack_dataplane.frames import RingFull
from halftrack_dataplane.ring import Writer
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import EXIT_SPEC, TICK_S, Stop, Unable, load_program, open_ring, ring_writer
from halftrack_dataplane.sdk import Buffer, Counting, Fetched, Source
from halftrack_dataplane.status import Status, StatusFile

BURST_S = 0.25  # what a source may make up for after a stall; more would be a burst that no instrument makes


class Pace:
    """A token bucket over bytes: when may the next frame go? `rate` 0 means at once."""

    def __init__(self, rate_bytes_per_s: int) -> None:
        self._rate = rate_bytes_per_s
        self._due: float | None = None

    def wait_s(self, now: float, size_bytes: int) -> float:
        """How long a frame of that size has to wait; counts it as sent."""
        if self._rate == 0:
            return 0.0
        due = now if self._due is None else max(self._due, now - BURST_S)
        self._due = due + size_bytes / self._rate
        return max(due - now, 0.0)


def run(spec: RunSpec, stop: Stop) -> None:
    """The role's loop."""
    rate = spec.params.get("rate_bytes_per_s", 0)
    if type(rate) is not int or rate < 0:
        raise Unable(
            EXIT_SPEC, f"param 'rate_bytes_per_s' must be an integer from 0 (as fast as possible) on, not {rate!r}"
        )
    ring = open_ring(spec.output_ring, stop)
    source: Source | Fetched = load_program(spec.program, spec.entry)(spec.params)
    if isinstance(source, Fetched):
        fetching.run(spec, source, ring, stop, Pace(rate).wait_s)
        return
    with ring_writer(ring, spec.name, stop) as writer:
        pace, file = Pace(rate), StatusFile(spec.status_path)
        bytes_out = 0

        def status() -> Status:
            own = {"bytes": bytes_out} | (source.counters() if isinstance(source, Counting) else {})
            return Status(spec.name, spec.role, seq_out=ring.head, counters=own)

        try:
            for frame in source.frames(ring.head):
                size = memoryview(frame).nbytes
                stop.sleep(pace.wait_s(time.monotonic(), size))
                if not _put(writer, frame, stop):
                    break
                bytes_out += size
                file.offer(status)
        finally:
            file.offer(status, last=True)
        while (
            not stop.asked
        ):  # the frames have ended; the ring still has a writer, so that nobody takes that for a death
            stop.sleep(TICK_S)


def _put(writer: Writer, frame: Buffer, stop: Stop) -> bool:
    while not stop.asked:
        try:
            writer.write(frame, timestamp_ns=time.time_ns(), timeout_s=TICK_S)
        except RingFull:
            continue
        return True
    return False
