"""Our ring from Python, each way used as its users use it. Returns frames or bytes a second; never compares.

Geometry: 4 MiB of frames, more than a second-level cache and far less than half of a third-level one, so that what the writer writes is
still near when the reader reads it; 8 MiB for frames of 1 MiB, so that several are on their way. Lossless readers, policy block, pages mapped before the first frame.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.compiled import checks
from benchmarks.race import PATIENCE_S, Side, Wrong, timed
from halftrack_dataplane.ring import Reader, Ring, Writer

Stores = Literal["cached", "streamed", "chosen"]
SMALL = 64
RING_BYTES = 4 << 20
RING_BYTES_OF_1MIB = 8 << 20
SLOTS = 4096
PERIOD = 1024  # frames that are made in advance; also how many go in one list or array
PAYLOADS = [number.to_bytes(8, "little") + bytes([number % 251]) * (SMALL - 8) for number in range(PERIOD)]


@contextmanager
def memory() -> Iterator[Path]:
    """A folder in memory, which goes with what is in it; the default place when there is none."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a folder with a random name is made in it
    with tempfile.TemporaryDirectory(dir=where, prefix="halftrack-bench-") as folder:
        yield Path(folder)


def writes(path: Path, carry: Callable[[Writer], None], stores: Stores = "chosen") -> Side:
    """The writing side: everything that is needed before the first frame, then `carry`."""

    def side() -> Iterator[None]:
        with Ring.open(path) as ring, ring.writer(name="bench", stores=stores) as writer:
            ring.prefault()
            yield
            carry(writer)
            yield

    return side


def reads(path: Path, carry: Callable[[Reader], None]) -> Side:
    """A reading side."""

    def side() -> Iterator[None]:
        with Ring.open(path) as ring, ring.reader(name="bench", start="oldest") as reader:
            ring.prefault()
            yield
            carry(reader)
            yield

    return side


def carried(
    write: Callable[[Writer], None],
    read: Callable[[Reader], None],
    size: int = SMALL,
    readers: int = 1,
    stores: Stores = "chosen",
) -> float:
    """Seconds that it takes: a ring for frames of one size, a writer, and so many readers."""
    capacity = RING_BYTES if size < 1 << 20 else RING_BYTES_OF_1MIB
    with memory() as folder:
        path = folder / "bench.ring"
        Ring.create(path, capacity_bytes=capacity, slots=SLOTS, frame_bytes=size).close()
        return timed([writes(path, write, stores), *[reads(path, read)] * readers], pinned=readers == 1)


def one_by_one(count: int) -> float:
    """Frames of 64 B a second: `write(bytes)`, and `for frame in reader`."""
    periods = max(1, count // PERIOD)

    def write(writer: Writer) -> None:
        one = writer.write
        for _ in range(periods):
            for data in PAYLOADS:
                one(data)

    def read(reader: Reader) -> None:
        for period in range(periods):
            for wanted, frame in zip(PAYLOADS, reader, strict=False):
                if frame.payload != wanted:
                    raise Wrong(f"frame {frame.seq} is not what was sent")
            if frame.seq != (period + 1) * PERIOD - 1:
                raise Wrong(f"frame {(period + 1) * PERIOD - 1} has sequence {frame.seq}")

    return periods * PERIOD / carried(write, read)


def lists(count: int) -> float:
    """Frames of 64 B a second: `write_many` and `read_many` of lists of bytes."""
    periods = max(1, count // PERIOD)
    numbered = checks().numbered_list

    def write(writer: Writer) -> None:
        for _ in range(periods):
            writer.write_many(PAYLOADS)

    def read(reader: Reader) -> None:
        seq = 0
        while seq < periods * PERIOD:
            batch = reader.read_many(PERIOD - seq % PERIOD)  # so that each list's numbers rise
            if batch is None or batch.seq != seq or not numbered(batch.payload, SMALL, seq % PERIOD):
                raise Wrong(f"the list from {seq} on is not what was sent")
            seq += batch.count

    return periods * PERIOD / carried(write, read)


def arrays(count: int, *, viewed: bool = False, readers: int = 1) -> float:
    """Frames of 64 B a second: `write_array`, and `read_into` an array, or `view_many` with every byte read."""
    periods = max(1, count // PERIOD)

    def write(writer: Writer) -> None:
        rows, stamp = np.zeros((PERIOD, SMALL), np.uint8), checks().stamp
        flat = rows.reshape(-1)
        for first in range(0, periods * PERIOD, PERIOD):
            stamp(flat, SMALL, first)
            writer.write_array(rows)

    def read(reader: Reader) -> None:
        rows, numbered = np.zeros((PERIOD, SMALL), np.uint8), checks().numbered
        flat, seq = rows.reshape(-1), 0
        while seq < periods * PERIOD:
            batch = reader.read_into(rows)
            if batch is None or batch.seq != seq or not numbered(flat, SMALL, batch.count, seq):
                raise Wrong(f"the array from {seq} on is not what was sent")
            seq += batch.count

    return periods * PERIOD / carried(write, _views(periods * PERIOD) if viewed else read, readers=readers)


def _views(count: int) -> Callable[[Reader], None]:
    """Reads every byte of every view; as the rows are zero but for their numbers, the sum is known."""

    def read(reader: Reader) -> None:
        seq, numbered = 0, checks().numbered
        while seq < count:
            batch = reader.view_many()
            if batch is None or batch.seq != seq or not numbered(batch.payload, SMALL, 1, seq):
                raise Wrong(f"the view from {seq} on is not what was sent")
            last = seq + batch.count - 1
            if int(np.frombuffer(batch.payload, np.uint64).sum()) != (seq + last) * batch.count // 2:
                raise Wrong(f"the bytes of the view from {seq} on are not what was sent")
            seq = last + 1

    return read


def _blocks_of(size: int, count: int) -> Callable[[Reader], None]:
    """Views blocks, and reads every byte of them."""

    def read(reader: Reader) -> None:
        is_block, view = checks().is_block, reader.view
        for number in range(count):
            frame = view(PATIENCE_S)
            if frame is None or frame.seq != number or not is_block(frame.payload, size, number):
                raise Wrong(f"frame {number} is not what was sent")

    return read


def blocks(size: int, count: int, readers: int = 1) -> float:
    """Bytes a second in large frames: `claim`, filled in place, `commit`; `view`, every byte read."""

    def write(writer: Writer) -> None:
        fill, claim, commit = checks().fill, writer.claim, writer.commit
        for number in range(count):
            fill(claim(size), number)
            commit()

    return count * size / carried(write, _blocks_of(size, count), size, readers)


def copies(size: int, count: int, stores: Stores) -> float:
    """Bytes a second in large frames that are copied in, by these stores, and viewed, every byte read."""

    def write(writer: Writer) -> None:
        block, fill = memoryview(bytearray(size)), checks().fill
        for number in range(count):
            fill(block, number)
            writer.write(block)

    return count * size / carried(write, _blocks_of(size, count), size, stores=stores)
