"""Refill: where an inlet gets what its input's ring no longer holds, from the spool of its edge.

Owns the inlet's place in the spool, which says what may go from there, and nothing else: where an inlet goes on, its own ring says. A spool that is
not there, or holds another stream, has nothing; it is looked for again. Never waits, and never holds up a ring.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runtime import Stop
from halftrack_dataplane.spool_cursor import Held, Lost, SpoolCursor
from halftrack_dataplane.spool_files import Bookmark, Folder, Lock
from halftrack_dataplane.spool_segments import SpoolError
from halftrack_dataplane.spool_stream import compared, continued, standing_of

AT_WORK = "spool"  # in the edge's folder, the spool that is written now
CONSUMER = "inlet"  # the one of an edge
AGAIN_S = 0.1  # between two looks for a spool that is not there
BEGIN_S = 10.0  # a new inlet gives its spool as long to begin as a process gives its ring


class Refill:
    """What the spool in one edge's folder has of one ring's stream."""

    def __init__(self, folder: str, ring: Ring) -> None:
        self._path = Path(folder) / AT_WORK
        self._ring = ring
        self._cursor: SpoolCursor | None = None
        self._bookmark: Bookmark | None = None
        self._inode = 0
        self._look_at, self._patient_until = 0.0, time.monotonic() + BEGIN_S
        self.frames = 0  # that came from the disk
        self.trouble = ""  # why there is no spool to be asked

    def at(self, seq: int) -> Held | Lost | None:
        """What it has at `seq`; None if that is nothing."""
        if not self._looked():
            return None
        assert self._cursor is not None  # noqa: S101 - it was looked for
        try:
            return self._cursor.at(seq)
        except (SpoolError, OSError) as error:
            self._let_go(error)
            return None

    @property
    def awaited(self) -> bool:
        """May a spool that has not answered yet still come? What a power cut has taken from the ring is nowhere else."""
        return time.monotonic() < self._patient_until

    def begin(self) -> int | None:
        """Where an inlet that knows no place of its own goes on: where it would begin without its ring, or with the oldest; None without a spool."""
        if not self._looked():
            return None
        try:
            place = Folder(self._path).consumers().get(CONSUMER)
            return Folder(self._path).oldest() if place is None else place.again
        except (SpoolError, OSError) as error:
            self._let_go(error)
            return None

    def commit(self, seq: int, again: int | None) -> None:
        """What lies below `seq` was passed on: the spool may let it go if it has to, and what is below `again` anyway. Not waited for."""
        if self._inode and self._found() != self._inode:
            self._let_go(None)  # it was set aside, and another one begun
        if not self._looked():
            return
        try:
            if self._bookmark is None:
                self._bookmark = Bookmark(self._path, CONSUMER)
            self._bookmark.commit(seq, again, durable=False)  # forgotten, it keeps a little for longer
        except (SpoolError, OSError) as error:
            self._let_go(error)

    def _looked(self) -> bool:
        """Is there a spool of this stream?"""
        if self._cursor is not None:
            return True
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + AGAIN_S
        ring = self._ring
        try:
            self._inode = self._found()
            cursor = SpoolCursor(Folder(self._path))
            spool, end_seq = cursor.newest.identity, cursor.durable_seq()
            try:
                continued(spool, end_seq, standing_of(ring), compared(ring, cursor), str(self._path))
            except SpoolError:
                cursor.close()
                raise
        except (SpoolError, OSError) as error:
            self._let_go(error)
            return False
        self._cursor, self.trouble = cursor, ""
        return True

    def _found(self) -> int:
        try:
            return os.stat(self._path).st_ino
        except OSError:
            return 0

    def _let_go(self, error: Exception | None) -> None:
        self.trouble = "" if error is None else f"nothing comes from its spool: {error}"
        for each in (self._cursor, self._bookmark):
            if each is not None:
                each.close()
        self._cursor = self._bookmark = None

    def close(self) -> None:
        """Let go of the spool; its place in there stays."""
        self._let_go(None)


def awaited(folder: str, stop: Stop) -> bool:
    """Wait until a spooler is at work there, so that whoever begins now has all from where it begins; False if none comes."""
    path, end = Path(folder) / AT_WORK, time.monotonic() + BEGIN_S
    while not stop.asked and time.monotonic() < end:
        with suppress(SpoolError, OSError):
            if Lock.held(path) and Folder(path).oldest() >= 0:
                return True
        stop.sleep(0.02)
    return False
