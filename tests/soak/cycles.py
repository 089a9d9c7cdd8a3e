"""`python -m tests.soak.cycles`: COUNT times a ring is made, joined, written, read, left and removed; cycles.json says what was left.

Exit status 1 when a descriptor, a file, a mapping or memory is. Every other ring has no name (a memfd).
"""

import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from halftrack_dataplane.ring import Ring
from tests.soak.run import memory_kib

WARM = 1000  # cycles before the first look: interpreters and allocators take what they keep
GROWTH_KIB = 1024  # a byte a cycle would show in a million; allocators breathe by less
SHOWN_S = 30.0


@dataclass(frozen=True, slots=True)
class Look:
    """What this process holds."""

    memory_kib: int
    descriptors: int
    mappings: int
    files: int

    @classmethod
    def taken(cls, folder: Path) -> "Look":
        """Now. `files` are those in `folder`, and segments of rings that are in no folder of a test."""
        return cls(
            memory_kib=memory_kib(),
            descriptors=len(os.listdir("/proc/self/fd")),
            mappings=sum(
                "ring" in line for line in Path("/proc/self/maps").read_text().splitlines() if ".so" not in line
            ),
            files=len(list(folder.iterdir())),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """cycles.json."""

    count: int
    seconds: float
    before: Look
    after: Look

    @property
    def left(self) -> list[str]:
        """What is there that was not."""
        before, after = asdict(self.before), asdict(self.after)
        return [
            f"{after[name] - before[name]} {name}"
            for name in before
            if after[name] - before[name] > (GROWTH_KIB if name == "memory_kib" else 0)
        ]


def cycle(path: Path | None, number: int) -> None:
    """One life of a ring, with all who may hold one."""
    with (
        Ring.create(path, capacity_bytes=4096, slots=4, checked=number % 3 == 0) as ring,
        Ring.open(ring.fileno() if path is None else path) as other,
        Ring.open(ring.fileno() if path is None else path, readonly=True) as looking,
        ring.writer() as writer,
        other.reader(start="oldest") as reader,
    ):
        writer.write(number.to_bytes(8, "little"))
        frame = reader.view(0)
        if frame is None or bytes(frame.payload) != number.to_bytes(8, "little") or looking.head != 1:
            raise AssertionError(f"cycle {number}: the frame is not what was written")
    if path is not None:
        path.unlink()


def cycles(count: int, *, warm: int = WARM, quiet: bool = False) -> Report:
    """So many lives of rings, after some to warm up."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="halftrack-cycles-", dir=where))
    try:
        for number in range(warm):
            cycle(None if number % 2 else folder / "ring", number)
        before, began = Look.taken(folder), time.monotonic()
        shown = began
        for number in range(count):
            cycle(None if number % 2 else folder / "ring", number)
            if not quiet and number % 1000 == 0 and time.monotonic() - shown > SHOWN_S:
                shown = time.monotonic()
                print(f"cycles: {number} of {count}, {memory_kib()} KiB", file=sys.stderr, flush=True)
        return Report(count, round(time.monotonic() - began, 3), before, Look.taken(folder))
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Run, write cycles.json, say it in a line."""
    report = cycles(int(os.environ.get("COUNT", "100000")))
    Path("cycles.json").write_text(json.dumps({**asdict(report), "left": report.left}, indent=2) + "\n")
    left = ", ".join(report.left) or "nothing"
    print(f"cycles: {report.count} in {report.seconds:.1f} s; left behind: {left}")
    return int(bool(report.left))


if __name__ == "__main__":
    sys.exit(main())
