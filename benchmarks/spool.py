"""A spool against what the disk can do: sustained writing, the writer beside it, and catching up.

    python benchmarks/spool.py [--json] [--quick] [--only WORD] [--folder DIR] [--write FILE]

Owns the spool's cases, which `benchmarks/ring.py` prints like its own. The disk is DIR's (the system's folder for temporary files). The plain
side of each case does the same calls with the same sizes and the same syncs, with nothing in between. Exit status 1 when a count was off.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: `benchmarks` is not installed

from benchmarks import cases, summary
from benchmarks.ours import memory
from benchmarks.race import Side, Wrong, medians, seen, timed
from benchmarks.ring import table
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.spool_reader import SpoolReader
from halftrack_dataplane.spool_record import crc32c
from halftrack_dataplane.spool_segments import Limits
from halftrack_dataplane.spool_writer import PACK_BYTES, SYNC_BYTES, SYNC_S, Spooler

RING_BYTES = 64 << 20
SEGMENT_BYTES = 64 << 20
TOTAL_BYTES = 192 << 20  # three segments: rolling is part of it
BURST_BYTES = 32 << 20  # fits into the ring: what a writer is slowed down by is not a full ring
BLOCK = 1 << 16
ROUNDS = 5
QUICK = 0.02
PLAIN_WRITE, PLAIN_READ, SUMMED = "plain writes and syncs", "plain reads of the same files", "plain reads, summed up"
ALONE, READER = "nobody beside", "a reader that copies beside"


@dataclass(frozen=True)
class Place:
    """Where a round's ring and spool are."""

    ring: Path
    spool: Path


@contextmanager
def place(disk: Path, frame_bytes: int) -> Iterator[Place]:
    """A ring in memory and a folder on the disk, both gone afterwards."""
    with memory() as near, tempfile.TemporaryDirectory(dir=disk, prefix="halftrack-bench-") as far:
        path = near / "bench.ring"
        Ring.create(path, capacity_bytes=RING_BYTES, frame_bytes=frame_bytes).close()
        yield Place(path, Path(far) / "spool")


def _writes(where: Place, frame_bytes: int, total: int) -> Side:
    def side() -> Iterator[float]:
        with Ring.open(where.ring) as ring, ring.writer(name="bench") as writer:
            ring.prefault()
            block = np.arange(BLOCK, dtype=np.uint8).reshape(-1, frame_bytes)
            yield 0.0
            began = time.perf_counter()
            for _ in range(total // BLOCK):
                writer.write_array(block)
            yield total / (time.perf_counter() - began)

    return side


def _spools(where: Place, frame_bytes: int, total: int) -> Side:
    def side() -> Iterator[None]:
        limits = Limits(8 * SEGMENT_BYTES, SEGMENT_BYTES)
        with Ring.open(where.ring) as ring, Spooler(ring, where.spool, limits, start="oldest") as spooler:
            ring.prefault()
            yield
            while spooler.durable_seq * frame_bytes < total:
                spooler.step(0.1)
            if spooler.frames * frame_bytes != total:
                raise Wrong(f"{spooler.frames} frames were spooled")
            yield

    return side


def _writes_plainly(folder: Path, total: int) -> Side:
    """Segments as large, reserved as they are, in writes as large, synced as often."""

    def side() -> Iterator[None]:
        block = memoryview(os.urandom(PACK_BYTES))
        yield
        for number in range(-(-total // SEGMENT_BYTES)):
            fd = os.open(folder / str(number), os.O_RDWR | os.O_CREAT, 0o600)
            os.posix_fallocate(fd, 0, SEGMENT_BYTES)
            os.fsync(fd)
            size, synced, since = min(SEGMENT_BYTES, total - number * SEGMENT_BYTES), 0, time.perf_counter()
            for at in range(0, size, PACK_BYTES):
                os.pwrite(fd, block[: size - at], at)
                end = min(size, at + PACK_BYTES)
                if end - synced >= SYNC_BYTES or time.perf_counter() - since >= SYNC_S or end == size:
                    os.fdatasync(fd)
                    synced, since = end, time.perf_counter()
            os.close(fd)
        yield

    return side


def spooled(disk: Path, frame_bytes: int, total: int) -> float:
    """Bytes a second from the writer's first frame until all are durable."""
    with place(disk, frame_bytes) as where:
        return total / timed([_writes(where, frame_bytes, total), _spools(where, frame_bytes, total)])


def plain(disk: Path, total: int) -> float:
    """The same for the disk alone."""
    with tempfile.TemporaryDirectory(dir=disk, prefix="halftrack-bench-") as folder:
        return total / timed([_writes_plainly(Path(folder), total)])


def _reads(where: Place, total: int) -> Side:
    """A lossless reader like any other: it copies what comes."""

    def side() -> Iterator[None]:
        room, got = bytearray(1 << 20), 0
        with Ring.open(where.ring) as ring, ring.reader(name="bench", start="oldest") as reader:
            ring.prefault()
            yield
            while got < total:
                got += reader.read_into(room).count * BLOCK
            yield

    return side


def burst(disk: Path, total: int, beside: str) -> float:
    """Bytes a second of a writer's burst that the ring has room for, with somebody beside it, or nobody."""
    with place(disk, BLOCK) as where:
        others = {"spooler": [_spools(where, BLOCK, total)], "reader": [_reads(where, total)], "": []}[beside]
        return seen([_writes(where, BLOCK, total), *others])[0].figure


@contextmanager
def full_spool(disk: Path, frame_bytes: int, total: int) -> Iterator[Path]:
    """A spool that holds `total` bytes of frames, with nobody beside it."""
    with place(disk, frame_bytes) as where:
        timed([_writes(where, frame_bytes, total), _spools(where, frame_bytes, total)])
        yield where.spool


def caught_up(spool: Path, total: int) -> float:
    """Bytes a second that a consumer gets from the disk as views, their checksums compared."""
    began, got = time.perf_counter(), 0
    with SpoolReader(spool) as reader:
        while (batch := reader.view_many(timeout_s=0)) is not None:
            got += batch.payload.nbytes
    if got != total:
        raise Wrong(f"{got} bytes came back of {total}")
    return got / (time.perf_counter() - began)


def read_plainly(spool: Path, *, summed: bool) -> float:
    """Bytes a second of reading the same files in blocks of a MiB; `summed`: and looking at each byte once, as a checksum does."""
    room, got, began = bytearray(1 << 20), 0, time.perf_counter()
    for path in sorted(spool.glob("*.seg")):
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(room):
                got += count
                if summed:
                    crc32c(room)
    return got / (time.perf_counter() - began)


def all_cases(disk: Path, spools: dict[int, Path], total: int, share: float) -> list[cases.Case]:
    """Every case. Bars: ours over the plain side's."""

    def giga(figure: float) -> float:
        return figure / 1e9

    found = [
        cases.Case(
            f"spooling, {name} frames, all durable",
            "GB/s",
            lambda size=size: giga(spooled(disk, size, total)),  # type: ignore[misc]
            {PLAIN_WRITE: lambda: giga(plain(disk, total))},
            {PLAIN_WRITE: 0.8},
        )
        for name, size in (("64 KiB", BLOCK), ("64 B", 64))
    ]
    size = int(BURST_BYTES * share) // BLOCK * BLOCK
    found.append(
        cases.Case(
            "a burst into the ring with a spooler beside",
            "GB/s",
            lambda: giga(burst(disk, size, "spooler")),
            {READER: lambda: giga(burst(disk, size, "reader")), ALONE: lambda: giga(burst(disk, size, ""))},
            {READER: 0.8},
        )
    )
    found += [
        cases.Case(
            f"catching up, {name} frames, as views",
            "GB/s",
            lambda path=path: giga(caught_up(path, total)),  # type: ignore[misc]
            {
                SUMMED: lambda path=path: giga(read_plainly(path, summed=True)),  # type: ignore[misc]
                PLAIN_READ: lambda path=path: giga(read_plainly(path, summed=False)),  # type: ignore[misc]
            },
            {SUMMED: 0.5},
        )
        for name, path in (("64 KiB", spools[BLOCK]), ("64 B", spools[64]))
    ]
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="a spool against what the disk can do")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of the table")
    parser.add_argument("--quick", action="store_true", help="little of it, one round: does it run at all?")
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help=f"rounds of each case ({ROUNDS})")
    parser.add_argument("--only", default="", metavar="WORD", help="only cases with this in their name")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the disk is")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the JSON lines there as well")
    options = parser.parse_args()
    share = QUICK if options.quick else 1.0
    total = int(TOTAL_BYTES * share) // BLOCK * BLOCK
    lines = []
    with full_spool(options.folder, BLOCK, total) as large, full_spool(options.folder, 64, total) as small:
        for case in all_cases(options.folder, {BLOCK: large, 64: small}, total, share):
            if options.only not in case.name:
                continue
            rounds = options.rounds or (1 if options.quick else ROUNDS)
            figures, reasons = medians({"ours": case.ours, **case.peers}, rounds)
            lines.append(case.line(figures, cases.placement()))
            for reason in reasons:
                print(f"{case.name}: {reason}", file=sys.stderr)
            print(json.dumps(lines[-1], ensure_ascii=False) if options.json else table(case, lines[-1]), flush=True)
    if options.write:
        options.write.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return int(bool(summary.wrong(lines)))


if __name__ == "__main__":
    sys.exit(main())
