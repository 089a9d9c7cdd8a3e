"""The source of a real stream in a test: frames at a pace into a ring, from a thread of the test's own process.

Owns the pace and the hold: it never runs so far ahead of a member, dead or alive, that the ring no longer has what a restart
needs. On a loaded machine a restart takes seconds, and that must not be what a test finds.
"""

import threading
import time
from collections.abc import Callable, Sequence

from typing_extensions import Buffer

from halftrack_dataplane.frames import Frame, RingFull, reader_name
from halftrack_dataplane.kept import kept_name
from halftrack_dataplane.ring import Ring

WAIT_S = 0.002
SLICE_S = 0.05

FrameAt = Callable[[int], Buffer]


class Feeder:
    """Writes frames until it is told to stop, or has none left; `fed` is what went in."""

    def __init__(
        self, ring: Ring, frames: Sequence[Frame] | FrameAt, rate_frames_per_s: float, most_ahead: int
    ) -> None:
        self.fed: list[Frame] = []
        self._ring = ring
        self._frames = frames
        self._rate = rate_frames_per_s
        self._most_ahead = most_ahead
        self._at: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="halftrack-feeder", daemon=True)

    def begin(self) -> None:
        """From now on."""
        self._thread.start()

    def forget(self, member: str) -> None:
        """That member has ended and does not come back: neither its reader nor the one that kept its input holds anything up."""
        with self._lock:
            self._ring.reap()  # else it would be found there again
            for reader in (reader_name(member), kept_name(member)):
                self._at.pop(reader, None)

    def stop(self) -> None:
        """No more frames; those of a list are all written first."""
        if callable(self._frames):
            self._stopping.set()
        self._rate = 0.0
        self._thread.join()

    def close(self) -> None:
        """At once."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        began, paced = time.monotonic(), 0
        with self._ring.writer(name="feeder") as writer:
            while not self._stopping.is_set() and (frame := self._next()) is not None:
                while not self._stopping.is_set() and self._ahead() > self._most_ahead:
                    self._stopping.wait(WAIT_S)
                    began, paced = time.monotonic(), 0
                if self._rate:
                    self._stopping.wait(max(0.0, began + paced / self._rate - time.monotonic()))
                paced += 1
                while not self._stopping.is_set():
                    try:
                        writer.write(frame.payload, timestamp_ns=frame.timestamp_ns, timeout_s=SLICE_S)
                    except RingFull:
                        continue
                    self.fed.append(frame)
                    break

    def _next(self) -> Frame | None:
        seq = len(self.fed)
        if callable(self._frames):
            return Frame(seq, 0, seq * 1_000_000, bytes(self._frames(seq)))
        return self._frames[seq] if seq < len(self._frames) else None

    def _ahead(self) -> int:
        """Of the slowest member that ever was and is still wanted."""
        with self._lock:
            if len(self.fed) % 16 == 0 or len(self.fed) - min(self._at.values(), default=0) > self._most_ahead:
                self._at |= {reader.name: reader.cursor for reader in self._ring.stats().readers}
            return len(self.fed) - min(self._at.values(), default=0)
