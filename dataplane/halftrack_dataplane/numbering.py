"""Which numbers a stream may have given out: on the disk before they are, so that who begins anew after a power cut gives none of them twice.

A ring's numbers end with the ring, which is memory; a sink's place does not. So whoever numbers frames that it cannot give again takes its numbers in
advance, a block at a time (as the hi/lo scheme of databases' sequences does): what it takes is durable before the first of them is given, and
what it has taken and not given when the power goes is passed over. Blocks are as large as the stream is quick, so that there is a sync
every ten seconds or so, in a thread beside the stream; an orderly end gives back what is left.

Two slots in one file are written in turn, so a torn write costs neither the one before it nor a new block of a full disk.
"""

import contextlib
import hashlib
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from halftrack_dataplane.ring import Ring, Writer

LEAST, MOST, GROWTH = 64, 1 << 28, 8  # of a block; and by what factor it is larger than the one before at most
BLOCK_S = 10.0  # what a block shall last for
WAIT_S = 1.0  # for a disk, with nothing left to give: then the stream goes on all the same, and says so
_SLOT_BYTES = 4096  # far enough apart that one write never touches both
_SLOT = struct.Struct("<8sQQQ16sI")
_MAGIC = b"HTNUMBER"


@dataclass(frozen=True, slots=True)
class Taken:
    """Numbers below `end` may have been given; those from `begin` on for inputs that began at `origin` (a digest; zeros: never again the same)."""

    turn: int = 0
    begin: int = 0
    end: int = 0
    origin: bytes = bytes(16)

    def pack(self) -> bytes:
        """A slot's bytes."""
        body = _SLOT.pack(_MAGIC, self.turn, self.begin, self.end, self.origin, 0)[:-4]
        return body + struct.pack("<I", zlib.crc32(body))


def unpacked(slot: bytes) -> Taken | None:
    """What a slot says; None when it is damaged, or was never written."""
    if len(slot) < _SLOT.size:
        return None
    magic, turn, begin, end, origin, checksum = _SLOT.unpack_from(slot)
    if magic != _MAGIC or checksum != zlib.crc32(slot[: _SLOT.size - 4]):
        return None
    return Taken(turn, begin, end, origin)


def taken(path: Path) -> Taken:
    """The newest that the file says; nothing, when there is none that can be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return Taken()
    found = [unpacked(data[at : at + _SLOT.size]) for at in (0, _SLOT_BYTES)]
    return max((each for each in found if each is not None), key=lambda each: each.turn, default=Taken())


class Numbering:
    """The numbers of one ring, given by one process at a time. With an empty path it keeps nothing; without the ring, whoever gives them starts it."""

    def __init__(
        self,
        path: str,
        ring: Ring | None = None,
        sync: Callable[[int], None] = os.fdatasync,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._ring, self._sync, self._now = Path(path), ring, sync, now
        self._kept = bool(path)
        self._taken = taken(self._path) if path else Taken()
        self._enough = self._taken.end if path else 1 << 62  # below, nothing is to be done
        self._block, self._at, self._from = LEAST // GROWTH, now(), 0
        self._taking: threading.Thread | None = None
        self._late = False  # the disk has kept us waiting once, and has not answered since
        self._given, self._floor = -1, 0
        self.trouble = ""

    def begin(self, origin: Sequence[int] | None, others: Iterable[Path] = ()) -> int:
        """The first number of a ring that is made anew: one that nobody has given, here or by what `others` say. If its frames are made
        of inputs that begin where they did (`origin`; None: never), they are the same again, and so are their numbers."""
        if not self._kept:
            return 0
        mark = bytes(16) if origin is None else hashlib.blake2b(repr(tuple(origin)).encode(), digest_size=16).digest()
        if origin is not None and mark == self._taken.origin:
            self._floor = self._taken.end  # a life before may have come further than this one will
            return self._taken.begin
        first = max([self._taken.end, *(taken(path).end for path in others)])
        self._write(first, first, mark)
        return first

    def start(self, writer: Writer, origin: Sequence[int] | None = None) -> None:
        """As `begin`, for a ring that holds nothing yet; any other goes on."""
        if self._ring is not None and self._ring.head == self._ring.base_seq:
            writer.start_at(max(self.begin(origin), self._ring.head))

    def give(self, number: int) -> None:
        """`number` is about to be given, and all below it: returns when that is durable, or cannot be."""
        self._given = max(number, self._given)
        if number >= self._enough:
            self._take(number)

    def left(self, head: int) -> int:
        """How many numbers from `head` on may be given now; at least one."""
        self.give(head)
        return max(self._taken.end - head, 1) if self._kept and not self.trouble else 1 << 30

    def close(self) -> None:
        """An orderly end: what was taken and not given is given back."""
        if self._taking is not None:
            self._taking.join()
        if not self._kept or self._given < 0:
            return
        end = max(self._floor, self._given + 1 if self._ring is None else self._ring.head)
        if end < self._taken.end:
            self._write(self._taken.begin, end, self._taken.origin)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, number: int) -> None:
        """The next block: beside the stream while the last one is not used up."""
        if self._taking is not None and not self._taking.is_alive():
            self._taking, self._late = None, False
        if self._taking is None and number >= self._enough:
            passed_s = max(self._now() - self._at, 0.001)
            wanted = int((number - self._from) / passed_s * BLOCK_S)
            self._block = min(max(wanted, LEAST), self._block * GROWTH, MOST)
            self._at, self._from = self._now(), number
            end = max(number, self._taken.end) + self._block
            self._taking = threading.Thread(
                target=self._write, args=(self._taken.begin, end, self._taken.origin), daemon=True
            )
            self._taking.start()
        if number >= self._taken.end and self._taking is not None and not self._late:
            self._taking.join(WAIT_S)
            self._late = self._taking.is_alive()
            if self._late:
                self.trouble = "numbers are not durable yet: the disk does not answer"

    def _write(self, begin: int, end: int, origin: bytes) -> None:
        found = Taken(self._taken.turn + 1, begin, end, origin)
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                new = os.fstat(fd).st_size < 2 * _SLOT_BYTES
                if new:
                    os.posix_fallocate(fd, 0, 2 * _SLOT_BYTES)
                os.pwrite(fd, found.pack(), found.turn % 2 * _SLOT_BYTES)
                self._sync(fd)
            finally:
                os.close(fd)
            if new:
                _sync_folder(self._path.parent)
        except OSError as error:
            self.trouble = f"numbers are not durable, and may be given twice after a power cut: {error.strerror}"
            self._enough = end  # asked again then
        else:
            self._taken, self.trouble = found, ""
            self._enough = end - (end - max(self._from, begin)) // 2


def others_of(path: str) -> list[Path]:
    """What other members of the same vertex have taken on this host: `VERTEX@MEMBER` each."""
    mine = Path(path)
    vertex, at, _ = mine.name.partition("@")
    with contextlib.suppress(OSError):
        return [each for each in mine.parent.glob(f"{vertex}@*") if each != mine] if at else []
    return []


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
