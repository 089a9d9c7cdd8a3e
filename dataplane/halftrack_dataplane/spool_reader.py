"""A reader of a stream that is spooled: first from the disk, then from the ring, and from the disk again if it cannot keep up.

Owns its place, in memory and on the disk, and which of the two it reads from. It reads the ring as a lossy reader, so it never holds the
writer up: what overruns it is in the spool, since the spooler is lossless. Never says that something is lost while either has it.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

from typing_extensions import Buffer

from halftrack_dataplane.frame import Batch, Frame
from halftrack_dataplane.frames import ReadersFull, RingError
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.ring_reader import Reader
from halftrack_dataplane.spool_cursor import Held, Lost, SpoolCursor
from halftrack_dataplane.spool_files import Bookmark, Folder
from halftrack_dataplane.spool_segments import SpoolMismatch
from halftrack_dataplane.spool_stream import compared, continued, standing_of

LOOK_S = 0.005  # with no ring to wait on: half a group of the spooler's, which is as soon as anything can have come
BUFFER_BYTES = 256 << 10  # a block of the ring's frames; doubled for frames that need more

Taken = TypeVar("Taken", Frame, Batch)
Start = int | Literal["resume", "oldest"]


class SpoolReader:
    """Reads what a spool holds, and what its ring holds beyond, in order, each frame once; what neither has is a gap.

    `name` registers a consumer: nothing goes for good before it has committed it (but see the spooler's limit), and it resumes there. Without
    a name it has no place. `ring` None: only what is on the disk. `start`: "resume" (the oldest if it never committed), "oldest", or a
    sequence. It reads like a Reader, and belongs to one thread at a time.
    """

    policy = "spool"
    missed = overruns = 0  # what is lost comes as a gap

    def __init__(
        self,
        path: str | PathLike[str],
        ring: str | PathLike[str] | None = None,
        *,
        name: str = "",
        start: Start = "resume",
    ) -> None:
        self.name = name
        self._folder = Folder(Path(path))
        self._live: Reader | None = None
        self._ring: Ring | None = None
        self._bookmark: Bookmark | None = None
        self._view: memoryview | None = None
        self._view_end = 0
        self._cursor: SpoolCursor | None = SpoolCursor(self._folder)
        self._frame_bytes, self._most = 0, 0
        try:
            if ring is not None:
                self._ring = self._opened(ring, self._cursor)
                self._frame_bytes, self._most = self._ring.frame_bytes, self._ring.capacity_bytes // 2
            self._buffer = bytearray(min(BUFFER_BYTES, self._most))
            self._position = self._begin(start)
            if self._ring is not None and self._bookmark is not None and self._position > self._ring.head:
                raise SpoolMismatch(
                    f"{name!r} of {path} has got to sequence {self._position}, and the ring is at {self._ring.head}: it was made anew"
                )
        except BaseException:
            self.close()
            raise

    def _begin(self, start: Start) -> int:
        """Where to read from. A consumer that is new holds its place from here on."""
        if isinstance(start, bool) or (isinstance(start, str) and start not in ("resume", "oldest")):
            raise ValueError(f"start must be 'resume', 'oldest' or a sequence, not {start!r}")
        place = None
        if self.name:
            self._bookmark = Bookmark(self._folder.path, self.name)
            place = self._bookmark.place
        at = self._folder.oldest() if isinstance(start, str) else start
        if start == "resume" and place is not None:
            return place.seq
        if self._bookmark is not None and place is None:
            self._bookmark.commit(at)
            if start != at:  # the oldest may have gone before we held it
                at = max(at, self._folder.oldest())
        return at

    @staticmethod
    def _opened(path: str | PathLike[str], cursor: SpoolCursor) -> Ring:
        """The ring, if it is the one that was spooled."""
        ring = Ring.open(path)
        try:
            continued(cursor.newest.identity, cursor.durable_seq(), standing_of(ring), compared(ring, cursor))
        except SpoolMismatch:
            ring.close()
            raise
        return ring

    # -- where the next frame comes from ----------------------------------------------------------------------------------

    def _take(
        self,
        timeout_s: float | None,
        live: Callable[[Reader, float | None], Taken | None],
        held: Callable[[Held], Taken],
        gap: Callable[[int, int, int, int], Taken],
    ) -> Taken | None:
        """The next of whatever is asked for, by one of three ways; None if there is none in time."""
        self.release()
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            if self._live is not None:
                taken = live(self._live, left)
                if taken is None or taken.seq == self._position:
                    return taken
                self._leave()  # overrun: it gave us what comes later, and the spool has what we want
            found = self._found()
            if isinstance(found, Lost):
                return gap(self._position, found.end - self._position, 0, 0)
            if found is not None:
                entry = found.entry
                if entry.gap:
                    return gap(self._position, entry.end_seq - self._position, entry.epoch, entry.timestamp_ns)
                return held(found)
            if self._live is None:
                if left == 0.0:
                    return None
                time.sleep(LOOK_S if left is None else min(LOOK_S, left))

    def _found(self) -> Held | Lost | None:
        """What the spool has next; None if the ring has been joined instead, or if there is nothing yet."""
        if self._cursor is None:
            raise RingError("this SpoolReader is closed")
        if self._ring is None:
            return self._cursor.at(self._position)
        ring = self._ring
        tail, head = ring.tail, ring.head
        if self._position >= tail + (head - tail) // 2 and self._joined(ring):  # far from being overrun at once
            return None
        found = self._cursor.at(self._position)
        if isinstance(found, Held):
            return found
        if self._joined(ring):
            return None
        tail = ring.tail  # it has gone from the ring. So if it was ever spooled, it is on the disk by now
        found = self._cursor.at(self._position)
        if isinstance(found, Held) or self._position >= tail:
            return found
        return Lost(tail if found is None else min(tail, found.end))

    def _joined(self, ring: Ring) -> bool:
        """Join the ring where we are; False if it no longer has that."""
        if ring.tail > self._position:
            return False
        try:
            self._live = ring.reader(policy="lossy", name=self.name or "spool reader", start=self._position)
        except ReadersFull:  # the disk has it, too, a little later
            return False
        if self._live.cursor != self._position:
            self._leave()
        return self._live is not None

    def _leave(self) -> None:
        if self._live is not None:
            self._live.close()
            self._live = None

    # -- reading ----------------------------------------------------------------------------------------------------------

    def read(self, timeout_s: float | None = None) -> Frame | None:
        """The next frame or gap, copied; None if there is none within `timeout_s` (None: wait, 0: only look)."""
        taken = self._take(timeout_s, lambda ring, left: ring.read(left), self._copied, _gap_frame)
        return self._passed(taken)

    def view(self, timeout_s: float | None = None) -> Frame | None:
        """Like `read`, but the payload is a view of the spool, or of a copy of what is in the ring, until the next call."""
        taken = self._take(timeout_s, _viewed, self._lent_frame, _gap_frame)
        return self._viewing(taken)

    def read_many(self, limit: int = 1024, timeout_s: float | None = None) -> Batch | None:
        """Up to `limit` frames as a Batch with a list of bytes; None if there is none within `timeout_s`. A gap comes alone."""
        _positive(limit)
        taken = self._take(
            timeout_s,
            lambda ring, left: ring.read_many(limit, left),
            lambda held: self._listed(held, limit),
            _gap_batch,
        )
        return self._passed(taken)

    def read_into(self, buffer: Buffer, timeout_s: float | None = None) -> Batch | None:
        """Copies as many whole frames of one record as there are and fit into `buffer`; a Batch without payload, or None."""
        room = memoryview(buffer).cast("B")
        taken = self._take(
            timeout_s, lambda ring, left: ring.read_into(room, left), lambda held: self._filled(held, room), _gap_alone
        )
        return self._passed(taken)

    def view_many(self, limit: int = 1 << 32, timeout_s: float | None = None) -> Batch | None:
        """Up to `limit` frames of one record as a Batch whose payload is one block. See `view`."""
        _positive(limit)
        taken = self._take(
            timeout_s,
            lambda ring, left: self._block(ring, limit, left),
            lambda held: self._lent(held, limit),
            _gap_batch,
        )
        return self._viewing(taken)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        """The next frame, for ever: `for frame in reader`."""
        while (frame := self.read()) is None:
            pass
        return frame

    def _passed(self, taken: Taken | None) -> Taken | None:
        if taken is not None:
            self._position = _end_of(taken)
        return taken

    def _viewing(self, taken: Taken | None) -> Taken | None:
        if taken is not None:
            self._view_end = _end_of(taken)
            self._view = taken.payload if isinstance(taken.payload, memoryview) else memoryview(b"")
        return taken

    def release(self) -> None:
        """Done with the current view: it ends, and the cursor moves on. Without a view it does nothing."""
        if self._view is not None:
            _retire(self._view)
            self._view = None
            self._position = self._view_end

    # -- out of a record --------------------------------------------------------------------------------------------------

    def _span(self, held: Held, limit: int) -> tuple[int, int, int]:
        """How many frames from here on, and where they lie."""
        entry = held.entry
        skip = self._position - entry.seq
        count = min(entry.count - skip, limit)
        begin = entry.at + skip * entry.frame_bytes
        return count, begin, begin + count * entry.frame_bytes

    def _copied(self, held: Held) -> Frame:
        _, begin, end = self._span(held, 1)
        return Frame(self._position, held.entry.epoch, held.entry.timestamp_ns, held.file.data[begin:end])

    def _lent_frame(self, held: Held) -> Frame:
        _, begin, end = self._span(held, 1)
        view = memoryview(held.file.data)[begin:end]
        return Frame(self._position, held.entry.epoch, held.entry.timestamp_ns, view)

    def _listed(self, held: Held, limit: int) -> Batch:
        count, begin, end = self._span(held, limit)
        size, data = held.entry.frame_bytes, held.file.data[begin:end]
        frames = [data[at : at + size] for at in range(0, end - begin, size)] if size else [b""] * count
        return self._batch(held, count, frames)

    def _filled(self, held: Held, room: memoryview) -> Batch:
        size = held.entry.frame_bytes
        count, begin, end = self._span(held, room.nbytes // size if size else 1 << 62)
        if not count:
            raise ValueError(f"a buffer of {room.nbytes} bytes; the next frame has {size}")
        with memoryview(held.file.data) as data:
            room[: end - begin] = data[begin:end]
        return self._batch(held, count, None)

    def _lent(self, held: Held, limit: int) -> Batch:
        count, begin, end = self._span(held, limit)
        return self._batch(held, count, memoryview(held.file.data)[begin:end])

    def _batch(self, held: Held, count: int, payload: object) -> Batch:
        entry = held.entry
        return Batch(self._position, count, entry.epoch, entry.timestamp_ns, entry.frame_bytes, payload)

    def _block(self, ring: Reader, limit: int, left: float | None) -> Batch | None:
        """A record of the ring, copied: a lossy reader cannot hold what it looks at."""
        while True:
            room = memoryview(self._buffer)
            if self._frame_bytes:
                room = room[: min(len(room) // self._frame_bytes, limit) * self._frame_bytes]
            try:
                got = ring.read_into(room, left)
                break
            except ValueError:
                if len(self._buffer) >= self._most:
                    raise
                self._buffer = bytearray(min(2 * len(self._buffer), self._most))
        if got is None:
            return None
        payload = memoryview(self._buffer)[: got.count * got.frame_bytes]
        return Batch(got.seq, got.count, got.epoch, got.timestamp_ns, got.frame_bytes, payload, got.gap)

    # -- its place --------------------------------------------------------------------------------------------------------

    def commit(self, seq: int | None = None) -> None:
        """Done with everything below `seq` (None: below `cursor`), on the disk when this returns; a restart resumes there."""
        if self._bookmark is None:
            raise RingError("a SpoolReader without a name has no place to commit; open it with name=...")
        wanted = self.cursor if seq is None else seq
        if wanted > max(self._position, self._view_end):
            raise ValueError(f"sequence {wanted} has not been read yet; the next one is {self._position}")
        self._bookmark.commit(wanted)

    def seek(self, seq: int) -> None:
        """Go on at `seq`; what neither spool nor ring has from there comes as a gap. What is committed stays."""
        if self._view is not None:
            _retire(self._view)
            self._view = None
        self._leave()
        self._position = self._view_end = seq

    @property
    def cursor(self) -> int:
        """The next sequence that this reader wants; while it views one, that one."""
        return self._position

    @property
    def schema(self) -> str:
        """What a frame is, as the ring's header said it; `structured.dtype_of` makes a NumPy dtype of it."""
        return "" if self._cursor is None else self._cursor.newest.identity.schema

    @property
    def committed(self) -> int | None:
        """Up to where it has committed; None without a name."""
        return None if self._bookmark is None or self._bookmark.place is None else self._bookmark.place.seq

    @property
    def lag_frames(self) -> int:
        """Sequences published, or without a ring durable, and not yet consumed."""
        if self._cursor is None:
            return 0
        return max(0, (self._ring.head if self._ring is not None else self._cursor.durable_seq()) - self._position)

    @property
    def from_ring(self) -> bool:
        """Does it read from the ring at present, or from the disk?"""
        return self._live is not None

    def close(self) -> None:
        """Let go of ring, spool and name. What was not committed is read again by the next of this name."""
        if self._view is not None:
            _retire(self._view)
            self._view = None
        self._leave()
        for each in (self._cursor, self._bookmark, self._ring):
            if each is not None:
                each.close()
        self._cursor = self._bookmark = self._ring = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _gap_frame(seq: int, count: int, epoch: int, timestamp_ns: int) -> Frame:
    return Frame(seq, epoch, timestamp_ns, b"", count)


def _gap_batch(seq: int, count: int, epoch: int, timestamp_ns: int) -> Batch:
    return Batch(seq, 0, epoch, timestamp_ns, 0, [], count)


def _gap_alone(seq: int, count: int, epoch: int, timestamp_ns: int) -> Batch:
    return Batch(seq, 0, epoch, timestamp_ns, 0, None, count)


def _viewed(ring: Reader, left: float | None) -> Frame | None:
    frame = ring.read(left)
    if frame is None:
        return None
    return Frame(frame.seq, frame.epoch, frame.timestamp_ns, memoryview(frame.payload), frame.gap)


def _end_of(taken: Frame | Batch) -> int:
    count = 1 if isinstance(taken, Frame) else taken.count
    return taken.seq + (taken.gap or count)


def _positive(limit: int) -> None:
    if limit < 1:
        raise ValueError(f"a batch has at least one frame, not {limit}")


def _retire(view: memoryview) -> None:
    """End a view that we handed out. Arrays made from it keep it alive, and the memory with it."""
    with suppress(BufferError):
        view.release()
