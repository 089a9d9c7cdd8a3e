"""Finds what a spool holds at a sequence: frames, or the end of what is lost there. For one reader, segment by segment.

Owns which segment is open and mapped. Gives out only what is whole and durable; says that something is lost only when it cannot come any more. Never
waits, and changes nothing.
"""

from contextlib import suppress
from dataclasses import dataclass

from halftrack_dataplane.spool_files import Folder, Lock, Mark, SegmentFile
from halftrack_dataplane.spool_record import ALIGN, Entry, entry_at
from halftrack_dataplane.spool_segments import HEAD_BYTES, SpoolDamaged, SpoolError, next_whole, tail_of

MAP_BYTES = 4 << 20  # at once: less than 1 ms of what is in memory already, and what a disk reads ahead for
MADV_POPULATE_READ = 22  # linux/mman.h; Python does not name it yet


@dataclass(frozen=True, slots=True)
class Held:
    """The record that covers a sequence, and the bytes that its offsets are of."""

    entry: Entry
    file: SegmentFile


@dataclass(frozen=True, slots=True)
class Lost:
    """From the sequence that was asked for, the spool has nothing before `end`, and never will."""

    end: int


class SpoolCursor:
    """Looks into one spool. Going up costs nothing; going back searches a segment from its beginning. `settled`: nobody writes there."""

    def __init__(self, folder: Folder, *, settled: bool = False) -> None:
        self._folder = folder
        self._file: SegmentFile | None = None
        self._at = HEAD_BYTES
        self._mapped_to = 0
        self._held: Held | None = None
        self._reached = 0  # nothing below was asked for since the segment was opened
        self._mark = None if settled else self._marked()
        folder.oldest()  # or say that there is none
        file = self._opened(folder.firsts()[-1])
        self.newest = file.head
        self._whole_to = 0 if self._mark is not None else tail_of(file.data, file.head).end_seq
        file.close()

    def _marked(self) -> Mark | None:
        try:
            return Mark(self._folder.path)
        except (FileNotFoundError, ValueError):  # somebody has copied the segments alone
            return None

    def end_seq(self) -> int:
        """The sequence behind the last whole record. Reads all of the newest segment."""
        file = self._opened(self._folder.firsts()[-1])
        try:
            return tail_of(file.data, file.head).end_seq
        finally:
            file.close()

    def at(self, seq: int) -> Held | Lost | None:
        """What lies at `seq`; None while there is nothing yet."""
        held = self._held
        if held is not None and held.entry.seq <= seq < held.entry.end_seq:
            return held
        if self._file is None or seq < self._reached:
            lost = self._turn_to(seq)
            if lost is not None:
                return lost
        self._reached = seq
        while True:
            found = self._here(seq)
            if not isinstance(found, int):
                return found
            lost = Lost(found) if found > seq else self._turn_to(seq)
            if lost is not None:
                return lost

    def _here(self, seq: int) -> Held | Lost | int | None:
        """What the open segment has at `seq`; the first sequence of the next segment if this one has no more."""
        file = self._open
        salt = file.head.salt
        newer, settled = None, False
        while True:
            entry = entry_at(file.data, self._at, salt, frames=False)
            if entry is not None and not self._settled(entry):
                return None
            if entry is not None and entry.end_seq <= seq:
                self._at, settled = entry.end, False
            elif entry is not None and entry.seq > seq:
                return Lost(entry.seq)
            elif entry is not None and self._whole(file, entry):
                self._held = Held(entry, file)
                return self._held
            elif file.grow():
                continue
            elif not settled:  # should there be something by now? Then look again: it may have come since we looked
                newer, settled = self._newer(), True
                if newer is None and seq >= self.durable_seq():
                    return None
            else:
                behind = next_whole(file.data, self._at + ALIGN, salt, seq)
                if behind is None:
                    return newer
                self._at = behind

    def _settled(self, entry: Entry) -> bool:
        """Is it on the disk for good? What is not may be gone after a crash, and something else be there. Without a spooler, all is."""
        return self._mark is None or entry.end_seq <= self._mark.get("durable_seq") or not Lock.held(self._folder.path)

    def _whole(self, file: SegmentFile, entry: Entry) -> bool:
        """Are its frames what was written? The pages up to its end are mapped at once, which costs a tenth of a fault for each."""
        if entry.end > self._mapped_to:
            begin = self._at // HEAD_BYTES * HEAD_BYTES
            self._mapped_to = max(entry.end, begin + MAP_BYTES)
            with suppress(OSError):  # before Linux 5.14, pages come one by one
                file.data.madvise(MADV_POPULATE_READ, begin, min(self._mapped_to, file.bytes) - begin)
        return entry_at(file.data, self._at, file.head.salt) is not None

    @property
    def _open(self) -> SegmentFile:
        if self._file is None:
            raise SpoolError("this SpoolCursor is closed")
        return self._file

    def durable_seq(self) -> int:
        """What lies below was on the disk whole once: if it is not now, it is damaged, and not yet to come."""
        return self._whole_to if self._mark is None else self._mark.get("durable_seq")

    def _newer(self) -> int | None:
        first = self._open.head.first
        return next((other for other in self._folder.firsts() if other > first), None)

    def _turn_to(self, seq: int) -> Lost | None:
        """Open the segment that has `seq`; Lost if it went."""
        while True:
            firsts = self._folder.firsts()
            below = [first for first in firsts if first <= seq]
            above = next((first for first in firsts if first > seq), None)
            if not below:
                return Lost(self._folder.oldest() if above is None else above)
            try:
                file = self._opened(below[-1])
            except FileNotFoundError:
                continue  # it went between the two looks: the list is another one now
            except SpoolDamaged:
                if above is None:
                    raise
                return Lost(above)
            self._close()
            self._file, self._at, self._held, self._mapped_to = file, HEAD_BYTES, None, 0
            return None

    def _opened(self, first: int) -> SegmentFile:
        return SegmentFile(self._folder.path, first)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self) -> None:
        """Done with the spool. Views of it stay good."""
        self._held = None
        self._close()
        if self._mark is not None:
            self._mark.close()
            self._mark = None
