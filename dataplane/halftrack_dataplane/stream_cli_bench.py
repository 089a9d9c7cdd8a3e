"""The verb that measures this machine: `bench`, one writer and one reader process on a ring of their own, and nobody else's.

Owns both processes and the ring, which has no name and goes with them. Run as a module it is one of the two. For a comparison with other
carriers, under the same load and in the same run, there is benchmarks/.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
from rich.table import Table

from halftrack_dataplane.frames import Batch
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.stream_cli_frame import DONE, Failed, Program, Terminal, size_bytes, size_text, verb

LAST = 1  # the epoch of the frame that ends a measurement; all others have 0
STALL_S = 10.0  # a writer or reader that hears nothing for so long is alone
BIG_BYTES = 16 << 10  # from here on a view costs less than a copy
SLOTS = 4096


@dataclass(frozen=True, slots=True)
class Case:
    """What one measurement moves: frames of one length, so many at once."""

    frame_bytes: int
    batch: int

    @property
    def way(self) -> str:
        """How the reader takes them."""
        return "views" if self.frame_bytes >= BIG_BYTES else "copies"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one measurement has found."""

    frame_bytes: int
    batch: int
    way: str
    frames: int
    seconds: float
    frames_per_s: float
    gbytes_per_s: float


CASES = (Case(64, 1), Case(64, 32), Case(64 << 10, 1), Case(1 << 20, 1))


def declare(program: Program) -> None:
    """Add the verb to the program."""
    verb(
        program,
        "bench",
        "halftrack-stream bench",
        "halftrack-stream bench --frame-bytes 8KiB --batch 16 --seconds 5 -o json",
    )(bench)


@click.option("--frame-bytes", type=size_bytes, multiple=True, metavar="SIZE", help="Of one frame; may be repeated.")
@click.option("--batch", type=click.IntRange(1, 1024), default=1, show_default=True, help="Frames that go at once.")
@click.option(
    "--seconds",
    type=click.FloatRange(0.05, 600),
    default=1.0,
    show_default=True,
    help="How long each measurement takes.",
)
@click.option("--size", type=size_bytes, default="16MiB", show_default=True, metavar="SIZE", help="Of the ring.")
def bench(terminal: Terminal, frame_bytes: Sequence[int], batch: int, seconds: float, size: int) -> int:
    """Measure how fast one process writes to another here: frames and bytes a second, every sequence checked.

    The writer copies each frame into the ring; the reader copies small ones out and views those from 16KiB on. Without --frame-bytes
    it measures 64B one by one and in batches of 32, 64KiB and 1MiB.
    """
    cases = [Case(each, batch) for each in frame_bytes] or list(CASES)
    if too_big := next((case for case in cases if not 1 <= case.frame_bytes * case.batch <= size // 2), None):
        raise click.UsageError(
            f"{too_big.batch} frames of {too_big.frame_bytes} bytes do not fit half of a ring of {size_text(size)}: "
            "choose a greater --size"
        )
    done = []
    for number, case in enumerate(cases, 1):
        with terminal.progress(f"measuring {number} of {len(cases)}"):
            done.append(_measured(case, seconds, size))
    terminal.result(done, _table(done))
    return DONE


def _measured(case: Case, seconds: float, size: int) -> Measured:
    with Ring.create(None, capacity_bytes=size, slots=SLOTS, frame_bytes=case.frame_bytes, label="bench") as ring:
        children: list[subprocess.Popen[bytes]] = []
        try:
            for role in ("read", "write"):
                words = [sys.executable, "-m", __name__, role, ring.fileno(), case.frame_bytes, case.batch, seconds]
                children.append(
                    subprocess.Popen(list(map(str, words)), pass_fds=[ring.fileno()], stdout=subprocess.PIPE)
                )
            reader, writer = children
            said, _ = reader.communicate(timeout=seconds + 2 * STALL_S)
            statuses = reader.returncode, writer.wait(STALL_S)
        except subprocess.TimeoutExpired:
            raise Failed("a process of the measurement did not end; this machine is too busy to measure") from None
        finally:
            for child in children:
                child.kill()
                child.communicate()
    if any(statuses):
        raise Failed(f"a process of the measurement failed (exit statuses {statuses}); what it said is above")
    found = json.loads(said)
    rate = found["frames"] / found["seconds"]
    return Measured(
        case.frame_bytes,
        case.batch,
        case.way,
        found["frames"],
        round(found["seconds"], 4),
        round(rate),
        round(rate * case.frame_bytes / 1e9, 3),
    )


def _table(rows: Sequence[Measured]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for column in ("FRAME", "AT ONCE", "READ AS", "FRAMES/S", "GB/S"):
        table.add_column(column, justify="left" if column in ("FRAME", "READ AS") else "right")
    for row in rows:
        numbers = f"{row.frames_per_s:,.0f}", f"{row.gbytes_per_s:.3f}"
        table.add_row(size_text(row.frame_bytes), str(row.batch), row.way, *numbers)
    return table


# ------------------------------------------------------------------------------------------------------- the two processes


def _write(ring: Ring, case: Case, seconds: float) -> None:
    """Waits for the reader, then writes for so long, and says that it is over."""
    deadline = time.monotonic() + STALL_S
    while not ring.stats().readers:
        if time.monotonic() > deadline:
            raise SystemExit("no reader came")
        time.sleep(0.001)
    frame = bytes(case.frame_bytes)
    block = memoryview(bytes(case.frame_bytes * case.batch)).cast("B", (case.batch, case.frame_bytes))
    with ring.writer(name="bench") as writer:
        end = time.monotonic() + seconds
        while time.monotonic() < end:  # asked once for many frames: a question costs as much as a small frame
            for _ in range(64):
                if case.batch == 1:
                    writer.write(frame, timeout_s=STALL_S)
                else:
                    writer.write_array(block, timeout_s=STALL_S)
        writer.write(frame, epoch=LAST, timeout_s=STALL_S)


def _read(ring: Ring, case: Case) -> dict[str, Any]:
    """Reads until it is told that it is over. Time runs from the first frame to the last."""
    with ring.reader(name="bench", start=0) as reader:
        room = bytearray(max(64 << 10, case.frame_bytes * case.batch))
        took: Callable[[], Batch | None] = partial(reader.read_into, room, STALL_S)
        if case.frame_bytes >= BIG_BYTES:
            took = partial(reader.view_many, timeout_s=STALL_S)
        first = took()
        began = time.monotonic()
        expected = first.count if first is not None else 0
        while True:
            batch = took()
            if batch is None or batch.seq != expected or batch.gap:
                raise SystemExit(f"expected sequence {expected}, found {batch}")
            expected += batch.count
            if batch.epoch == LAST:
                return {"frames": expected, "seconds": time.monotonic() - began}


def _main(role: str, fd: str, frame_bytes: str, batch: str, seconds: str) -> None:
    case = Case(int(frame_bytes), int(batch))
    with Ring.open(int(fd)) as ring:
        os.close(int(fd))
        ring.prefault()
        if role == "write":
            _write(ring, case, float(seconds))
        else:
            print(json.dumps(_read(ring, case)), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
