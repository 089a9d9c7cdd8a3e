"""The spooler: a lossless reader of a ring that puts its records on the disk, and lets the ring go on only from what is durable there.

Owns the order of things: write, sync, then release; sync a segment before the next one begins; let old ones go only by spool_segments.py's
word. What it cannot write waits, and the ring's own policy applies meanwhile. Never reads what it has written, but to recover.
"""

import errno
import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from halftrack_dataplane.frames import Evicted, reader_name
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.ring_reader import Reader
from halftrack_dataplane.spool_files import STATES, Disk, Folder, Lock, Mark, SegmentFile, segment_path
from halftrack_dataplane.spool_packing import Packer
from halftrack_dataplane.spool_record import FIELDS_BYTES, GAP, MISSED, record
from halftrack_dataplane.spool_recovery import blank, left_in
from halftrack_dataplane.spool_segments import (
    HEAD_BYTES,
    Head,
    Limits,
    Losses,
    Segment,
    SpoolFailed,
    room_for,
)
from halftrack_dataplane.spool_stream import identity_of

SYNC_S = 0.01
SYNC_BYTES = 16 << 20  # a group of 8 MiB and more reaches what the disk can do; the ring must hold it meanwhile
PACK_BYTES = 4 << 20  # in one write: much more than a system call costs, little enough for a look at the clock
TEND_S = 1.0  # how often consumers' places are looked at while nothing is short
LOOK_S = 0.05  # how often while something is
SEGMENT_BYTES = 64 << 20
SHARE = 8  # a limit holds as many segments at least: what goes, goes in such parts
PRIORITY = 255  # the highest: a writer that spares anybody spares the one who reads for many
_WAITABLE = (errno.ENOSPC, errno.EDQUOT)

Start = int | Literal["now", "oldest"]


def segment_bytes_for(ring: Ring, wanted: int) -> int:
    """The size of segments for this ring: `wanted`, or as much more as its largest frame needs; whole pages."""
    least = HEAD_BYTES + FIELDS_BYTES + (ring.frame_bytes or ring.capacity_bytes // 2)
    return -(-max(wanted, least, 2 * HEAD_BYTES) // HEAD_BYTES) * HEAD_BYTES


class Spooler:
    """Spools one ring into one folder, step by step.

    Of what a step could not do for want of room the state tells ("full": the limit; "disk full"), and the next step tries again. A disk that
    fails raises SpoolFailed: what was not released is still in the ring, and the next spooler goes on from what is on the disk.
    """

    def __init__(
        self,
        ring: Ring,
        path: Path,
        limits: Limits,
        *,
        start: Start = "now",
        sync_s: float = SYNC_S,
        name: str = "spool",
        disk: Disk | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        if limits.segment_bytes < segment_bytes_for(ring, 0):
            raise ValueError(f"segments of {limits.segment_bytes} bytes; a frame of this ring may need more")
        self.ring, self.folder, self.limits = ring, Folder(path), limits
        self._disk = disk or Disk()
        self._name = reader_name(name)
        self._tell = tell
        self._sync_ns, self._sync_bytes = int(sync_s * 1e9), min(SYNC_BYTES, ring.capacity_bytes // 4)
        self._identity = identity_of(ring)
        self._pending: Sequence[memoryview | bytes] = ()
        self._pending_end = self._pending_bytes = self._written = 0
        self._unsynced, self._since_ns = 0, 0
        self._gap_to: int | None = None
        self._rolling = False
        self._tended_ns = 0
        self.frames = self.bytes = 0
        self._reader: Reader | None = None
        self._closing, self._closed = ExitStack(), False
        self.folder.make()
        self._closing.callback(Lock(path).release)
        try:
            self._mark = Mark(path, writable=True)
            self._closing.callback(self._mark.close)
            self._closing.callback(self._leave)
            self._mark.put(state=STATES.index("gone"), pid=os.getpid())
            self._come_back(start)
            self._closing.callback(self._shut)
        except BaseException as error:
            self._closing.close()
            if isinstance(error, OSError):
                raise SpoolFailed(f"nothing can be spooled into {path}: {error.strerror}") from error
            raise
        self._say("spooling")

    # -- coming back ------------------------------------------------------------------------------------------------------

    def _come_back(self, start: Start) -> None:
        left = left_in(self.folder, self.ring, self.limits.segment_bytes, self._disk)
        if left is None:
            self._salt = secrets.randbits(64)
            self._end = self.durable_seq = self._join(start)
            self.losses = Losses(lost_to=self._end)
            self._segments: list[Segment] = []
            self._begin()
        else:
            self._salt = left.active.head.salt
            self._end = self.durable_seq = left.end_seq
            self.losses, self._segments = left.losses, list(left.segments)
            self._active, self._offset = left.active, left.offset
            self._join(left.end_seq)
            self._rolling = left.anew and left.offset > HEAD_BYTES  # the next head says which ring it comes from
            if left.anew:
                self._tell(
                    f"the ring was made anew, and has begun behind the spool, which goes on after sequence {self._end - 1}"
                )

    def _join(self, start: Start) -> int:
        """Join the ring, and say at which sequence the spool goes on; what the ring no longer has from there becomes a gap."""
        verify, priority = self.ring.checked, PRIORITY
        reader = self.ring.reader(policy="lossless", name=self._name, start=start, verify=verify, priority=priority)
        self._reader, self._packer = reader, Packer(reader, self._salt)
        at = reader.cursor
        if isinstance(start, int) and at < start:
            reader.seek(start)  # a ring made anew that comes by here again
        self._gap_to = at if isinstance(start, int) and at > start else None
        return start if isinstance(start, int) else at

    def _shut(self) -> None:
        self._active.close()

    def _leave(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    # -- one step ---------------------------------------------------------------------------------------------------------

    def step(self, timeout_s: float) -> str:
        """Take what is there, or wait for it for `timeout_s` at most; write it, sync if it is time. Returns the state."""
        try:
            self._tend()
            if self._write_on(timeout_s) and self._sync_due():
                self.sync()
        except Evicted:
            self._rejoin()
        return self.state

    def _write_on(self, timeout_s: float) -> bool:
        """False if there is no room; then nothing but waiting was done."""
        if not (self._push() and (not self._rolling or self._roll())):
            if self._sync_due():
                self.sync()
            time.sleep(min(timeout_s, LOOK_S))  # consumers and other programs make room, and nobody tells us
            return False
        self._say("spooling")
        if self._gap_to is not None:
            self._put_gap(self._gap_to)
            return True
        room = self._active.bytes - self._offset
        packed = self._packer.pack(room, PACK_BYTES, self._patience_s(timeout_s))
        if packed is None:
            return True
        if packed.needed:
            self._rolling = True
            return True
        self._pending, self._pending_bytes, self._pending_end = packed.parts, packed.bytes, packed.end_seq
        self._written = 0
        self.frames += packed.frames
        if packed.corrupt:
            self.losses = replace(self.losses, corrupt=self.losses.corrupt + packed.corrupt)
        self._push()
        return True

    def _patience_s(self, timeout_s: float) -> float:
        if not self._unsynced:
            return timeout_s
        return min(timeout_s, max(0.0, (self._since_ns + self._sync_ns - time.monotonic_ns()) / 1e9))

    def _put_gap(self, end: int) -> None:
        if self._active.bytes - self._offset < FIELDS_BYTES:
            self._rolling = True
            return
        count = end - self._end
        self._pending = [record(self._salt, self._end, count=count, flags=GAP | MISSED)]
        self._pending_bytes, self._pending_end, self._written = FIELDS_BYTES, end, 0
        self._gap_to = None
        self.losses = replace(self.losses, missed=self.losses.missed + count)
        self._tell(f"missed: sequences {self._end} to {end - 1}, which the ring had reclaimed")
        self._push()

    def _push(self) -> bool:
        """Write what is pending; False if the disk is full."""
        while self._written < self._pending_bytes:
            parts = _behind(self._pending, self._written)
            try:
                self._written += self._disk.write(self._active.fd, parts, self._offset + self._written)
            except OSError as error:
                if error.errno in _WAITABLE:
                    self._say("disk full")
                    return False
                raise self._failed(error) from error
        if self._pending_bytes:
            self._packer.check()
            if not self._unsynced:
                self._since_ns = time.monotonic_ns()
            self._unsynced += self._pending_bytes
            self._offset += self._pending_bytes
            self._end = self._pending_end
            self.bytes += self._pending_bytes
            self._pending, self._pending_bytes = (), 0
        return True

    def _sync_due(self) -> bool:
        late = time.monotonic_ns() - self._since_ns >= self._sync_ns
        return self._unsynced > 0 and (late or self._unsynced >= self._sync_bytes)

    def sync(self) -> None:
        """Put on the disk what was written, and let the ring go on from there."""
        if self._unsynced:
            self._synced()
            self._unsynced = 0
            self.durable_seq = self._end
            self._segments[-1] = replace(self._segments[-1], end=self._end, written_ns=time.time_ns())
            self._show()
            self._packer.release(self._end)

    def _synced(self) -> None:
        try:
            self._disk.sync(self._active.fd)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> SpoolFailed:
        self._say("failed")
        return SpoolFailed(
            f"{self._active.path}: {error.strerror}. Nothing after sequence {self.durable_seq} is certain to be on the disk, and the ring "
            "still holds it for as long as its other readers and its size allow. Check the disk, then start the spooler again"
        )

    def _rejoin(self) -> None:
        """Somebody evicted us, so what we lent from the ring may be anything by now, and has no place here."""
        if self._pending_bytes:
            blank(self._active, self._offset, self._offset + self._pending_bytes, self._disk)
            self._pending, self._pending_bytes = (), 0
        self._tell(f"evicted from the ring; joining again at sequence {self._end}")
        self._leave()
        self._join(self._end)

    # -- segments ---------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        head = Head(self._salt, self._end, self._identity, self.losses)
        self._active = SegmentFile.create(self.folder.path, head, self.limits.segment_bytes, self._disk)
        self._segments.append(Segment(self._end, self._end, self.limits.segment_bytes, time.time_ns()))
        self._offset = HEAD_BYTES

    def _roll(self) -> bool:
        """To a new segment; False if there is no room for one."""
        self.sync()
        fits = self._let_go(self.limits.segment_bytes)
        if not fits:
            self._say("full")
            return False
        before = self._active
        try:
            self._begin()
        except OSError as error:
            if error.errno not in _WAITABLE:
                raise self._failed(error) from error
            self._let_go(self.limits.bytes, replace(self.limits, full="block"))  # what is kept for re-reading only
            self._say("disk full")
            return False
        before.close()
        self._rolling = False
        return True

    def _let_go(self, needed: int, limits: Limits | None = None) -> bool:
        places = tuple(self.folder.consumers().values())
        lost = self.losses.lost
        room = room_for(needed, self._segments, places, limits or self.limits, self.losses, time.time_ns())
        for segment in self._segments[: room.go]:
            self._disk.remove(segment_path(self.folder.path, segment.first))
        self._segments = self._segments[room.go :]
        self.losses = room.losses
        if room.losses.lost > lost:
            below = room.losses.lost_to
            self._tell(
                f"dropped: {room.losses.lost - lost} frames below {below}, which no consumer of all has committed"
            )
        self._show()
        return room.fits

    def _tend(self) -> None:
        now = time.monotonic_ns()
        if now - self._tended_ns >= TEND_S * 1e9:
            self._tended_ns = now
            self._let_go(0)

    # -- how it stands ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """One of STATES."""
        return STATES[self._mark.get("state")]

    @property
    def end_seq(self) -> int:
        """The next sequence to be written."""
        return self._end

    @property
    def held_bytes(self) -> int:
        """What its segments take on the disk."""
        return sum(segment.bytes for segment in self._segments)

    def _say(self, state: str) -> None:
        if state != self.state:
            self._mark.put(state=STATES.index(state), since_ns=time.time_ns())
            self._tell(f"{state}, at sequence {self._end}")
            self._show()

    def _show(self) -> None:
        losses = self.losses
        self._mark.put(durable_seq=self.durable_seq, frames=self.frames, bytes=self.bytes)
        self._mark.put(lost=losses.lost, missed=losses.missed, corrupt=losses.corrupt)

    def close(self) -> None:
        """Put the rest on the disk as far as that goes, and give up the place in the ring. Again: nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.state != "failed":
                if self._push():
                    self.sync()
                self._say("gone")
        finally:
            self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _behind(parts: Sequence[memoryview | bytes], count: int) -> Sequence[memoryview | bytes]:
    """The parts without their first `count` bytes."""
    rest = list(parts)
    while count >= len(rest[0]):
        count -= len(rest.pop(0))
    return [memoryview(rest[0])[count:], *rest[1:]]
