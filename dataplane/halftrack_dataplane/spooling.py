"""The spool of an edge as a process: what an inlet's input ring holds goes to the disk, for as long as the inlet has not had it (ADR 29).

Owns which spool is the stream's: one that holds another stream than the ring is set aside, and one such is kept. What is written when is
`spool_writer`'s.
"""

import contextlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from halftrack_dataplane.beginning import begins_at
from halftrack_dataplane.refill import AT_WORK
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import EXIT_DONE, EXIT_SPEC, TICK_S, Stop, Unable, open_ring
from halftrack_dataplane.spool_files import Disk
from halftrack_dataplane.spool_orders import SpoolOrders
from halftrack_dataplane.spool_segments import Full, Limits, Losses, SpoolFailed, SpoolMismatch
from halftrack_dataplane.spool_writer import SEGMENT_BYTES, SHARE, Spooler, segment_bytes_for
from halftrack_dataplane.status import Status, StatusFile

LOOK_S = 0.02  # between two looks at a ring that has nothing yet
ASIDE = "aside"  # beside the spool at work: the last one that was of another stream


def limits_of(ring: Ring, orders: SpoolOrders) -> Limits:
    """The spooler's limits for this ring; Unable when it could not hold two segments."""
    segment = segment_bytes_for(ring, min(SEGMENT_BYTES, orders.size_bytes // SHARE))
    if orders.size_bytes < 2 * segment:
        raise Unable(
            EXIT_SPEC,
            f"a spool of {orders.size_bytes} bytes holds no two segments of {segment}, which a frame of {ring.path} may need: "
            f"write a size of at least {2 * segment}",
        )
    return Limits(orders.size_bytes, segment, orders.keep_ms * 1_000_000, cast(Full, orders.full))


def begun(ring: Ring, orders: SpoolOrders, name: str, tell: Callable[[str], None], stop: Stop) -> Spooler:
    """The spooler at work. A spool of another stream than the ring's is set aside first; which a ring made anew has, its first frame says."""
    limits, folder = limits_of(ring, orders), Path(orders.folder)

    def made() -> Spooler:
        return Spooler(ring, folder / AT_WORK, limits, start="oldest", name=name, tell=tell)

    untold = _has_no_frame(ring)
    try:
        return made()
    except SpoolMismatch as error:
        if untold:
            tell("waits for the first frame of a ring that was made anew")
            with ring.reader(policy="lossless", name=name, start="oldest"):  # what comes then waits for us
                while _has_no_frame(ring):
                    if stop.asked:
                        raise Unable(EXIT_DONE, "asked to stop while waiting for a stream") from None
                    stop.sleep(LOOK_S)
                return begun(ring, orders, name, tell, stop)
        aside = folder / ASIDE
        shutil.rmtree(aside, ignore_errors=True)
        (folder / AT_WORK).rename(aside)
        Disk().sync_folder(folder)
        tell(f"set aside in {aside}, and begun anew: {error}")
        return made()


def _has_no_frame(ring: Ring) -> bool:
    return ring.head in (ring.base_seq, begins_at(ring))


class Spooling:
    """One spooler, and what it tells."""

    def __init__(self, spec: RunSpec, ring: Ring, orders: SpoolOrders, stop: Stop) -> None:
        self._spec, self._ring, self._orders = spec, ring, orders
        self._spooler = begun(ring, orders, spec.name, _say, stop)
        self._before: Losses = self._spooler.losses  # earlier lives have told of these
        self._file = StatusFile(spec.status_path)

    def run(self, stop: Stop) -> None:
        """Until asked to stop. What drops at its limit does not wait for a disk either: it ends, and the ring goes on without it."""
        with self._spooler as spooler:
            while not stop.asked:
                state = spooler.step(TICK_S)
                if state == "disk full" and self._orders.full == "drop-oldest":
                    raise SpoolFailed(
                        f"the disk of {self._orders.folder} is full. The source goes on; what its ring lets go until there is room is lost "
                        "to whoever has not read it. Make room"
                    )
                self._file.offer(self._status)
            spooler.sync()
            self._file.offer(self._status, last=True)

    def _status(self) -> Status:
        spooler, before = self._spooler, self._before
        counters = {
            "frames": spooler.frames,
            "held_bytes": spooler.held_bytes,
            "lost": max(0, spooler.losses.lost - before.lost),
            "missed": max(0, spooler.losses.missed - before.missed),
            "corrupt": max(0, spooler.losses.corrupt - before.corrupt),
        }
        waits = "" if spooler.state == "spooling" else f"{spooler.state}: it holds up its source"
        lag = max(0, self._ring.head - spooler.durable_seq)
        return Status(
            self._spec.name, self._spec.role, spooler.end_seq, spooler.durable_seq, lag, counters, message=waits
        )


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a log without room stops no stream
        print(text, file=sys.stderr, flush=True)


def run(spec: RunSpec, stop: Stop) -> None:
    """The role's loop."""
    assert spec.spool is not None  # noqa: S101 - a spec of this role has them, or is refused
    Spooling(spec, open_ring(spec.input_ring, stop), spec.spool, stop).run(stop)
