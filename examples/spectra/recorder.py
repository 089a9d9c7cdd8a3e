"""The sink release: appends every frame to files, so that another process can judge the stream after the fact.

Owns the files in its data folder and their form. Its position is the end of its own last whole record, so that a frame is
either recorded or asked for again, whenever it is killed: a torn record at the end is cut off at the start.

`records-SEQ.bin`, a segment that begins with sequence SEQ, is a row of records, each `RECORD` and then the payload:

    seq         u64
    epoch       u64
    arrival_ns  u64  monotonic clock of this host when the frame was consumed
    gap         u32  > 0: the stream declared the loss of [seq, seq + gap), and there is no payload
    length      u32  of the payload
    crc32       u32  of the payload

`cuts.jsonl` has the owner table's rows, each as often as it changed; the last row of an epoch is the one that holds.
"""

import json
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from halftrack_dataplane.sdk import Cut, Frame, Param, Sink

RECORD = struct.Struct("<QQQIII")
SEGMENT_BYTES = 64 << 20  # a restart reads one segment: a fraction of a second


class Record(NamedTuple):
    """A recorded frame."""

    seq: int
    epoch: int
    arrival_ns: int
    gap: int
    payload: bytes

    @property
    def next_seq(self) -> int:
        """The sequence that must follow."""
        return self.seq + max(1, self.gap)


class Recorder(Sink):
    """Appends; never rewrites anything but a torn end."""

    def __init__(self, params: Mapping[str, Param], data_dir: str) -> None:
        """Find the end of what is recorded."""
        self._folder = Path(data_dir)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._next_seq = 0
        self._recorded = 0
        self._rows: dict[int, Cut] = {}
        self._segment = -1
        if found := segments(self._folder):
            self._resume(found[-1])

    def next_seq(self) -> int:
        """Where to go on."""
        return self._next_seq

    def counters(self) -> dict[str, int]:
        """What this process has recorded."""
        return {"recorded": self._recorded}

    def consume(self, frame: Frame) -> None:
        """Append the frame."""
        payload = bytes(frame.payload)
        head = RECORD.pack(frame.seq, frame.epoch, time.monotonic_ns(), frame.gap, len(payload), zlib.crc32(payload))
        if self._segment < 0 or os.lseek(self._segment, 0, os.SEEK_CUR) >= SEGMENT_BYTES:
            self._begin(frame.seq)
        _write(self._segment, head + payload)
        self._next_seq = frame.seq + max(1, frame.gap)
        self._recorded += 1

    def cuts(self, cuts: Sequence[Cut]) -> None:
        """Append the rows that are new or have changed."""
        changed = [cut for cut in cuts if self._rows.get(cut.epoch) != cut]
        if not changed:
            return
        self._rows |= {cut.epoch: cut for cut in changed}
        lines = "".join(json.dumps(asdict(cut), sort_keys=True) + "\n" for cut in changed)
        table = os.open(self._folder / "cuts.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            _write(table, lines.encode())
            os.fsync(table)
        finally:
            os.close(table)

    def flush(self) -> None:
        """Wait for the disk."""
        if self._segment >= 0:
            os.fdatasync(self._segment)

    def _begin(self, seq: int) -> None:
        if self._segment >= 0:
            os.fdatasync(self._segment)
            os.close(self._segment)
        self._segment = os.open(self._folder / f"records-{seq:020d}.bin", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)

    def _resume(self, path: Path) -> None:
        end = 0
        self._next_seq = int(path.stem.removeprefix("records-"))
        for record, after in _records(path):
            end, self._next_seq = after, record.next_seq
        self._segment = os.open(path, os.O_RDWR)
        os.ftruncate(self._segment, end)
        os.lseek(self._segment, end, os.SEEK_SET)


def segments(folder: Path) -> list[Path]:
    """The segments of a recording, in order."""
    return sorted(folder.glob("records-*.bin"))


def recorded(folder: Path) -> Iterator[Record]:
    """All whole records of a recording, in the order in which they were written."""
    for path in segments(folder):
        for record, _ in _records(path):
            yield record


def _records(path: Path) -> Iterator[tuple[Record, int]]:
    """The whole records of a segment, each with the offset at which it ends; stops at a torn or damaged one."""
    with path.open("rb") as file:
        end = 0
        while len(head := file.read(RECORD.size)) == RECORD.size:
            seq, epoch, arrival_ns, gap, length, crc = RECORD.unpack(head)
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload) != crc:
                return
            end += RECORD.size + length
            yield Record(seq, epoch, arrival_ns, gap, payload), end


def _write(fd: int, data: bytes) -> None:
    """All of `data`: a disk that fills up raises, and what it tore is cut off at the next start."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
