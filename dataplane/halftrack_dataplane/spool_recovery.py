"""Where a spooler goes on: what its predecessor left on the disk, however that ended, and whether the ring is still the same stream.

Owns the first look at a spool that is there. Changes nothing but what a crash left behind the last whole record. Never joins the ring.
"""

import os
from dataclasses import dataclass, replace

from halftrack_dataplane.ring import Ring
from halftrack_dataplane.spool_cursor import SpoolCursor
from halftrack_dataplane.spool_files import Disk, Folder, SegmentFile, segment_path
from halftrack_dataplane.spool_segments import Identity, Losses, Segment, lost_below, tail_of
from halftrack_dataplane.spool_stream import compared, continued, standing_of

ZEROS = memoryview(bytes(1 << 20))


@dataclass(frozen=True, slots=True)
class Left:
    """What is there: the newest segment, where in it and at which sequence to go on, all segments, and the losses so far.

    `anew`: the ring was made anew since that segment was begun, and goes on with the spool's numbers.
    """

    active: SegmentFile
    offset: int
    end_seq: int
    segments: tuple[Segment, ...]
    losses: Losses
    anew: bool


def left_in(folder: Folder, ring: Ring, segment_bytes: int, disk: Disk) -> Left | None:
    """What a spool holds; None if it never began. SpoolMismatch if that is not this ring's stream; OSError if the disk fails."""
    for path in folder.unfinished():
        disk.remove(path)
    firsts = folder.firsts()
    if not firsts:
        return None
    active = SegmentFile(folder.path, firsts[-1], writable=True)
    try:
        head, tail = active.head, tail_of(active.data, active.head)
        anew = _goes_on(folder, head.identity, tail.end_seq, ring)
        blank(active, tail.offset, active.bytes, disk)
        disk.sync(active.fd)  # what a killed spooler wrote last may be in memory alone, and the ring is to let go of it
        if tail.last is None:
            active.grow(segment_bytes)  # nothing in it yet, and a frame of this ring may need more
        stats = [os.stat(segment_path(folder.path, first)) for first in firsts]
    except BaseException:
        active.close()
        raise
    segments = [
        Segment(first, end, stat.st_size, stat.st_mtime_ns)
        for first, end, stat in zip(firsts, [*firsts[1:], tail.end_seq], stats, strict=True)
    ]
    counted = head.losses
    counted = replace(counted, missed=counted.missed + tail.missed, corrupt=counted.corrupt + tail.corrupt)
    places = [place.seq for place in folder.consumers().values()]
    losses = lost_below(
        firsts[0], min(places, default=firsts[0]), counted
    )  # a crash can come between letting go and counting
    return Left(active, tail.offset, tail.end_seq, tuple(segments), losses, anew)


def _goes_on(folder: Folder, spool: Identity, end_seq: int, ring: Ring) -> bool:
    cursor = SpoolCursor(folder, settled=True)
    try:
        return continued(spool, end_seq, standing_of(ring), compared(ring, cursor), str(folder.path))
    finally:
        cursor.close()


def blank(active: SegmentFile, begin: int, end: int, disk: Disk) -> None:
    """Zeros from `begin` to `end`, on the disk: nothing that lies there may ever follow on what is written before it."""
    dirty = False
    for at in range(begin, end, len(ZEROS)):
        chunk = ZEROS[: min(len(ZEROS), end - at)]
        if active.data[at : at + len(chunk)].strip(b"\0"):
            dirty = True
            written = 0
            while written < len(chunk):
                written += disk.write(active.fd, [chunk[written:]], at + written)
    if dirty:
        disk.sync(active.fd)
