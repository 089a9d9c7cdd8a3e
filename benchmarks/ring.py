"""The ring against os.pipe and ZeroMQ's ipc, one process to another, in one run on one machine.

    python benchmarks/ring.py [--json] [--quick]

Prints a line per case: {"case", "unit", "ours", "peers", "ratio"}, ratio over the better peer. Rounds of all carriers alternate, and the
median counts, so that a machine that is busy for a second is busy for all. Exit status 1 when any carrier lost a frame.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: `benchmarks` is not installed

from benchmarks.carriers import CARRIERS, Carrier

CASES = ((64, 200_000), (65_536, 10_000))  # bytes, frames: about a tenth of a second a round on a desktop
ROUNDS = 5


def frames_per_s(carrier: Carrier, size: int, count: int) -> float:
    """From the first frame sent to the last one received; 0 when the receiver found something wrong."""
    ready_read, ready_write = os.pipe()
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        carrier.prepare(Path(folder))
        child = os.fork()
        if child == 0:
            _receive(carrier, size, count, ready_write)
        os.read(ready_read, 1)
        began = time.perf_counter()
        carrier.send(size, count)
        _, status = os.waitpid(child, 0)
        took = time.perf_counter() - began
        carrier.close()
    for end in (ready_read, ready_write):
        os.close(end)
    return count / took if status == 0 else 0.0


def _receive(carrier: Carrier, size: int, count: int, ready: int) -> None:
    status = 1
    try:
        carrier.receive(size, count, lambda: _tell(ready))
        status = 0
    except Exception as error:  # noqa: BLE001 - a forked child has nobody else to tell
        print(f"{carrier.name}: {error}", file=sys.stderr)
        _tell(ready)
    finally:
        os._exit(status)


def _tell(ready: int) -> None:
    os.write(ready, b".")


def _memory() -> str | None:
    """Rings and sockets belong into memory; the default place when there is none."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a folder with a random name is made in it


def compared(size: int, count: int, rounds: int) -> dict[str, object]:
    """One case: the median of each carrier."""
    seen: dict[str, list[float]] = {kind.name: [] for kind in CARRIERS}
    for _ in range(rounds):
        for kind in CARRIERS:
            seen[kind.name].append(frames_per_s(kind(), size, count))
    rates = {name: 0.0 if 0.0 in values else statistics.median(values) for name, values in seen.items()}
    ours = rates.pop("ring")
    return {
        "case": f"one to one, {size} B",
        "unit": "frames/s",
        "ours": round(ours),
        "peers": {name: round(rate) for name, rate in rates.items()},
        "ratio": round(ours / max(rates.values()), 2) if all(rates.values()) else 0.0,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the ring against its peers")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="a tenth of the frames, one round: does it run at all?")
    chosen = parser.parse_args()
    wrong = 0
    for size, count in CASES:
        line = compared(size, count // (10 if chosen.quick else 1), 1 if chosen.quick else ROUNDS)
        print(json.dumps(line) if chosen.json else _sentence(line), flush=True)
        wrong += not line["ratio"]
    return 1 if wrong else 0


def _sentence(line: dict[str, object]) -> str:
    return f"{line['case']}: {line['ours']:,} {line['unit']}, {line['ratio']} x the best of {line['peers']}"


if __name__ == "__main__":
    sys.exit(main())
