"""A source: the user's frames, paced and numbered, into a ring. It never drops: a full ring holds it back."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from halftrack_dataplane import fetching
from halftrack_dataplane.capturing import Capturing, Taking, place_of
from halftrack_dataplane.feeds import Feeds
from halftrack_dataplane.frames import RingFull
from halftrack_dataplane.numbering import Numbering
from halftrack_dataplane.ring import Ring, Writer
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import EXIT_SPEC, TICK_S, Stop, Unable, load_program, open_ring, ring_writer
from halftrack_dataplane.sdk import Buffer, Counting, Fed, Fetched, Source
from halftrack_dataplane.status import FREE, STEADY, Status, StatusFile

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
    ring = open_ring(spec.output_ring, stop)
    source: Any = load_program(spec.program, spec.entry)(spec.params)
    feeds = Feeds(spec.feed_dir, stop)
    try:
        if spec.feed_dir:
            feeds.open()
        if isinstance(source, Fed):
            source.use(feeds)
        if isinstance(source, Capturing):
            _capture(spec, source, ring, feeds, stop)
        else:
            _frames(spec, source, ring, feeds, stop)
    finally:
        feeds.close()


def _capture(spec: RunSpec, source: Capturing, ring: Ring, feeds: Feeds, stop: Stop) -> None:
    with Numbering(spec.numbers_path, ring) as numbering:
        file = StatusFile(spec.status_path)

        def offer(counters: Mapping[str, int]) -> None:
            file.offer(
                lambda: Status(spec.name, spec.role, seq_out=ring.head, counters=counters, message=numbering.trouble),
                last=stop.asked,
            )

        source.capture(Taking(spec.name, ring, feeds, stop, place_of(spec.output_ring), offer, numbering))


def _frames(spec: RunSpec, source: Source | Fetched, ring: Ring, feeds: Feeds, stop: Stop) -> None:
    rate = spec.params.get("rate_bytes_per_s", 0)
    if type(rate) is not int or rate < 0:
        raise Unable(
            EXIT_SPEC, f"param 'rate_bytes_per_s' must be an integer from 0 (as fast as possible) on, not {rate!r}"
        )
    if isinstance(source, Fetched):
        fetching.run(spec, source, ring, stop, Pace(rate).wait_s)
        return
    live = isinstance(source, Fed) or bool(getattr(source, "live", False))
    with (
        ring_writer(ring, spec.name, stop) as writer,
        Numbering(spec.numbers_path if live else "", ring) as numbering,
    ):
        numbering.start(writer)
        pace, file = Pace(rate), StatusFile(spec.status_path)
        bytes_out, beats = 0, FREE

        def status() -> Status:
            own = {"bytes": bytes_out} | (source.counters() if isinstance(source, Counting) else {})
            return Status(spec.name, spec.role, seq_out=ring.head, counters=own, message=numbering.trouble, beats=beats)

        def beat() -> None:
            file.offer(status)

        beat()  # before the program waits for its first frame, for as long as it likes
        feeds.attended = beat
        try:
            for frame in source.frames(ring.head):
                numbering.give(ring.head)
                size = memoryview(frame).nbytes
                stop.sleep(pace.wait_s(time.monotonic(), size), beat)
                if not _put(writer, frame, stop, beat):
                    break
                bytes_out += size
                beat()
                if spec.feed_dir:
                    feeds.attend()
        finally:
            file.offer(status, last=True)
        beats = STEADY
        while (
            not stop.asked
        ):  # the frames have ended; the ring still has a writer, so that nobody takes that for a death
            stop.sleep(TICK_S, beat)


def _put(writer: Writer, frame: Buffer, stop: Stop, beat: Callable[[], None]) -> bool:
    while not stop.asked:
        try:
            writer.write(frame, timestamp_ns=time.time_ns(), timeout_s=TICK_S)
        except RingFull:
            beat()
        else:
            return True
    return False
