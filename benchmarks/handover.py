"""A state from blue to green, beside memcpy and pickle: how much of the memory's speed does a hand-over have?

    python benchmarks/handover.py [--json] [--quick] [--rounds N] [--mib N] [--write FILE]

Blue is this process, green another one. A hand-over is all of it: blue's copy into shared memory with its checksums, green's look at the folder,
its check of every byte, and the first use of the state where it lies. memcpy is the same bytes between two arrays that are in memory
already. pickle is `dumps` here and `loads` here, with nothing in between, which is less than a hand-over by it would need. Rounds take turns, so that
each sees the same machine. Exit status 1 when a byte was off, or when `--bar` is given and missed.
"""

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: `benchmarks` is not installed

from halftrack_dataplane.snapshots import Snapshot, SnapshotFolder

MIB, QUICK_MIB = 256, 32
ROUNDS, QUICK_ROUNDS = 15, 5
BAR = 0.5  # of memcpy's speed
BLUE, SCHEMA, RELEASE = "a@1.0.0", "bench/1", "1.0.0"

Array = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Round:
    """Seconds of one round. `pause` is the part of `handover` for which blue's stream waits."""

    memcpy: float
    pickle: float
    handover: float
    pause: float


class Green:
    """The other process: told to take the newest snapshot, it answers with the last word of the state."""

    def __init__(self, folder: str) -> None:
        argv = [sys.executable, str(Path(__file__)), "--green", folder]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout
        self._answers.readline()

    def take(self) -> int:
        """The last word of what it has taken over."""
        self._orders.write("take\n")
        return int(self._answers.readline())

    def close(self) -> None:
        """End it."""
        self._orders.close()
        self._process.wait(10)


def green(folder: str) -> None:
    """The loop of the other process. It lets go of a state before it takes the next one."""
    snapshots = SnapshotFolder(folder)
    print("ready", flush=True)
    for _ in sys.stdin:
        found = snapshots.read(snapshots.entries()[0])
        word = -1 if found is None else int(np.frombuffer(found.state, dtype=np.uint64)[-1])  # type: ignore[call-overload]
        del found
        print(word, flush=True)


def timed(act: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def rounds(folder: str, mib: int, count: int) -> list[Round]:
    """All of it; AssertionError when green got something else than blue gave."""
    state: Array = np.arange(mib << 17, dtype=np.uint64)
    copy = np.zeros_like(state)
    blue, other = SnapshotFolder(folder), Green(folder)
    found = []
    try:
        for number in range(-3, count):  # the first take the memory that later ones use again
            state[-1] = number + 100
            snapshot = Snapshot(SCHEMA, RELEASE, number + 10, number + 10, state)
            memcpy = timed(lambda: np.copyto(copy, state))
            pickled = timed(lambda: pickle.loads(pickle.dumps(state, protocol=5)))  # noqa: S301 - our own bytes
            began = time.perf_counter()
            blue.write(BLUE, snapshot)
            pause = time.perf_counter() - began
            word = other.take()
            whole = time.perf_counter() - began
            assert word == number + 100, f"green has {word} of round {number}"
            if number >= 0:
                found.append(Round(memcpy, pickled, whole, pause))
    finally:
        other.close()
        blue.close()
    return found


def summary(found: list[Round], mib: int) -> dict[str, float]:
    """What a reader wants to know: medians, and how the two compare round by round."""
    ms = {
        name: round(statistics.median(getattr(each, name) for each in found) * 1e3, 2) for name in Round.__annotations__
    }
    ratios = sorted(each.memcpy / each.handover for each in found)
    return {
        "state_mib": mib,
        "rounds": len(found),
        "load": round(os.getloadavg()[0], 2),
        "memcpy_ms": ms["memcpy"],
        "pickle_ms": ms["pickle"],
        "handover_ms": ms["handover"],
        "pause_ms": ms["pause"],
        "of_memcpy": round(statistics.median(ratios), 3),
        "of_memcpy_worst": round(ratios[0], 3),
        "of_memcpy_best": round(ratios[-1], 3),
        "bar": BAR,
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="a small state, few rounds: does it work?")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--mib", type=int, default=0)
    parser.add_argument("--write", default="", help="also write the JSON into this file")
    parser.add_argument("--bar", action="store_true", help="exit 1 below the bar")
    parser.add_argument("--green", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.green:
        green(given.green)
        return 0
    mib = given.mib or (QUICK_MIB if given.quick else MIB)
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="halftrack-bench-") as folder:
        result = summary(rounds(folder, mib, given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)), mib)
    if given.write:
        Path(given.write).write_text(json.dumps(result, indent=1) + "\n")
    if given.json:
        print(json.dumps(result))
    else:
        print(
            f"{mib} MiB, median of {result['rounds']} rounds, load {result['load']}: hand-over {result['handover_ms']} ms (the stream waits "
            f"{result['pause_ms']} ms of them), memcpy {result['memcpy_ms']} ms, pickle {result['pickle_ms']} ms: "
            f"{result['of_memcpy']} of memcpy ({result['of_memcpy_worst']} to {result['of_memcpy_best']}), bar {BAR}"
        )
    return 1 if given.bar and result["of_memcpy"] < BAR else 0


if __name__ == "__main__":
    sys.exit(main())
