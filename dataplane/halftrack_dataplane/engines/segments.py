"""A sink into files: segments of frames, each complete and named by what is in it, `FIRST-LAST.frames`.

Owns the folder. A segment is written as `FIRST.part`; a flush makes the part durable, and when it is large or old enough it gets its name
in one step. There always is a part, so the folder says where the stream goes on even when all segments were carried away: those,
and only those, may be removed at any time. At a start only a torn end is cut off, which no flush had acknowledged.

A segment is a row of records, each `RECORD` and then the payload: seq u64, epoch u64, timestamp_ns i64, gap u64 (> 0: [seq, seq + gap) was
declared lost, and there is no payload), length u32, crc32 u32 of the record before it and of the payload. `cuts.jsonl` has the owner
table's rows, each as often as it changed.

Params: `segment_bytes` (64 MiB), `segment_s` (60): what bounds a segment.
"""

import errno
import fcntl
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from halftrack_dataplane.engines.in_flight import end_of
from halftrack_dataplane.engines.settings import Settings, wrong
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.sdk import Away, Cut, Param

RECORD = struct.Struct("<QQqQII")
BEFORE_CRC = RECORD.size - 4
SEGMENT_BYTES, SEGMENT_S = 64 << 20, 60
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Part(NamedTuple):
    """What a file of records holds: the sequence after its last whole record, and the byte after it."""

    following: int
    end: int


class SegmentSink:
    """See the module."""

    def __init__(self, params: Mapping[str, Param], data_dir: str) -> None:
        settings = Settings(params)
        self._most_bytes = settings.whole("segment_bytes", SEGMENT_BYTES, 1)
        self._most_s = settings.whole("segment_s", SEGMENT_S, 1)
        self._folder = Path(data_dir)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._part = -1
        self._first = self._next = 0
        self._end = self._durable_end = 0
        self._began_s = 0.0
        self._rows: dict[int, Cut] = {}
        self._counts = {"recorded": 0, "segments": 0, "torn_bytes": 0}

    def next_seq(self) -> int:
        """After the last whole record."""
        if self._part < 0:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Away(f"another process writes into {self._folder}") from None
            self._resume()
        return self._next

    def consume(self, frame: Frame) -> None:
        """Append it."""
        payload = memoryview(frame.payload)
        head = RECORD.pack(frame.seq, frame.epoch, frame.timestamp_ns, frame.gap, payload.nbytes, 0)[:BEFORE_CRC]
        crc = zlib.crc32(payload, zlib.crc32(head))
        if self._end and self._end + RECORD.size + payload.nbytes > self._most_bytes:
            self._complete()
        self._append(b"".join((head, crc.to_bytes(4, "little"), payload)))
        self._next = end_of(frame)
        self._counts["recorded"] += 1

    def cuts(self, cuts: Sequence[Cut]) -> None:
        """Append the rows that are new or have changed."""
        changed = [cut for cut in cuts if self._rows.get(cut.epoch) != cut]
        if changed:
            self._rows |= {cut.epoch: cut for cut in changed}
            with open(self._folder / "cuts.jsonl", "a") as file:
                file.writelines(json.dumps(asdict(cut), sort_keys=True) + "\n" for cut in changed)
                file.flush()
                os.fsync(file.fileno())

    def flush(self) -> None:
        """Wait for the disk; name the segment if it is old enough."""
        self._settle()
        if self._end and time.monotonic() - self._began_s >= self._most_s:
            self._complete()

    def counters(self) -> dict[str, int]:
        """For the status."""
        return dict(self._counts)

    def close(self) -> None:
        """Without a flush."""
        for fd in (self._part, self._lock):
            if fd >= 0:
                os.close(fd)
        self._part = self._lock = -1

    def _append(self, data: bytes) -> None:
        if not self._end:
            self._began_s = time.monotonic()
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self._part, data[done:], self._end + done)
        except OSError as error:
            raise self._judged(error) from None  # what is torn is written over, or cut off at the next start
        self._end += len(data)

    def _settle(self) -> None:
        if self._end == self._durable_end:
            return
        try:
            os.fdatasync(self._part)
        except OSError:  # the kernel may have thrown the pages away, and would call the next attempt a success
            os.ftruncate(self._part, self._durable_end)
            raise
        self._durable_end = self._end

    def _complete(self) -> None:
        """The part becomes a segment. The next part comes first: at no moment is there none."""
        self._settle()
        finished, first = self._part, self._first
        try:
            self._begin(self._next)
        except OSError as error:
            raise self._judged(error) from None
        os.rename(self._path(first), self._folder / f"{first:020d}-{self._next - 1:020d}.frames")
        _sync(self._folder)
        os.close(finished)
        self._counts["segments"] += 1

    def _begin(self, first: int) -> None:
        part = os.open(self._path(first), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _sync(self._folder)
        self._part, self._first, self._end, self._durable_end = part, first, 0, 0

    def _path(self, first: int) -> Path:
        return self._folder / f"{first:020d}.part"

    def _resume(self) -> None:
        parts = sorted(self._folder.glob("*.part"))
        for path in parts[:-1]:  # a death between the making of the next part and the renaming of this one
            if (part := _scanned(path)).end:
                os.rename(path, self._folder / f"{path.stem}-{part.following - 1:020d}.frames")
            else:
                path.unlink()
            _sync(self._folder)
        named = segments(self._folder)
        after = 0 if not named else int(named[-1].stem.partition("-")[2]) + 1
        if not parts:
            self._begin(after)
            self._next = after
            return
        if int(parts[-1].stem) < after:
            raise wrong(
                f"{parts[-1]} begins before {named[-1]} ends: somebody has put files into the folder; take them out"
            )
        part = _scanned(parts[-1])
        self._begin(int(parts[-1].stem))
        self._counts["torn_bytes"] = os.fstat(self._part).st_size - part.end
        os.ftruncate(self._part, part.end)
        os.fsync(self._part)
        self._next, self._end, self._durable_end = part.following, part.end, part.end
        self._began_s = time.monotonic()

    def _judged(self, error: OSError) -> Exception:
        if error.errno in _NO_ROOM:
            return Away(f"{self._folder} takes nothing now: {error.strerror}")
        return error


def segments(folder: Path) -> list[Path]:
    """The complete segments of a folder, in order."""
    return sorted(folder.glob("*-*.frames"))


def recorded(folder: Path) -> Iterator[Frame]:
    """All frames and gaps that are in a folder, the part's too."""
    for path in [*segments(folder), *sorted(folder.glob("*.part"))]:
        for frame, _ in _records(path):
            yield frame


def _records(path: Path) -> Iterator[tuple[Frame, int]]:
    """The whole records of a file, each with the byte at which it ends; stops at a torn or damaged one."""
    end = 0
    with path.open("rb") as file:
        while len(head := file.read(RECORD.size)) == RECORD.size:
            seq, epoch, timestamp_ns, gap, length, crc = RECORD.unpack(head)
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload, zlib.crc32(head[:BEFORE_CRC])) != crc:
                return
            end += RECORD.size + length
            yield Frame(seq, epoch, timestamp_ns, payload, gap), end


def _scanned(path: Path) -> Part:
    following, end = int(path.stem), 0
    for frame, after in _records(path):
        following, end = end_of(frame), after
    return Part(following, end)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
