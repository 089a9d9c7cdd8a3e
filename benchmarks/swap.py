"""A pair through cuts, deaths and swaps, against its own steady state and what people do today; options, lines and exit status are benchmarks/ring.py's.

    python benchmarks/swap.py [--json] [--quick] [--strict] [--only WORD] [--write FILE]

Owns the cases: their names, peers, bars and counts. All of a pair's processes share this machine's processors, which is what binds: with two,
a pair, its merge, its source and its sink are five processes, six while a green joins.
"""

import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: `benchmarks` is not installed

from benchmarks import ring, swap_peers
from benchmarks.cases import Case
from benchmarks.ours import memory
from benchmarks.race import Measure
from benchmarks.swap_scene import SEATS, SETTLE_S, SLOTS, scene
from halftrack_dataplane.merging import Merge
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import Stop

RATE, BURST_US = 20_000, 100
FLAT_OUT = 1_000_000_000
STEADY, BEFORE = "steady, p99.9", "before the swap"
ZMQ, JETSTREAM = "PyZMQ, stopped and started", "JetStream consumer, attached again"
ASKED, CHAIN = "what is asked for", "a chain of two, one reader"
DEATH_MS, DEDUP_M, DURING_BAR, SOURCE_BAR = 2.0, 20.0, 0.9, 1.15
FRAME = 64
DEDUP_ROUNDS = 5
LOOK_S = 20e-6
Figures = Mapping[str, float]


class Together:
    """Figures of one run that several contenders show: a run is made anew when one of them is asked a second time."""

    def __init__(self, run: Callable[[], Figures]) -> None:
        self._run = run
        self._last: Figures = {}
        self._shown: set[str] = set()

    def of(self, name: str) -> Measure:
        """One of the run's figures."""

        def measure() -> float:
            if not self._last or name in self._shown:
                self._last, self._shown = self._run(), set()
            self._shown.add(name)
            return self._last[name]

        return measure


def cuts(count: int, steady_s: float) -> Figures:
    """The output's pauses in µs, at cuts to and fro between two releases that both follow, and in the steady state before, with the same processes."""
    with scene(RATE, BURST_US) as stage:
        for seat in SEATS:
            stage.man(seat, 2)
        stage.until(lambda: all(stage.follows(seat, 2) for seat in SEATS), "the second pair follows")
        time.sleep(SETTLE_S + steady_s)
        for number in range(count):
            stage.cut_to(1 + (number + 1) % 2)
        verdict = stage.verdict()
        return {"cut": verdict.gap_us_p99, "steady": verdict.steady_gap_us_p999}


def deaths(count: int) -> Figures:
    """The output's longest pause in ms after a member's SIGKILL, in the median."""
    with scene(RATE, BURST_US) as stage:
        time.sleep(SETTLE_S)
        for number in range(count):
            seat = SEATS[number % 2]
            stage.kill(seat, 1)
            stage.until(lambda: all(stage.follows(each, 1) for each in SEATS), "both members follow")
            stage.flow(0.3)
        return {"death": stage.verdict().kill_gap_us_p50 / 1e3}


def throughput(seconds: float) -> Figures:
    """Outputs a second in millions, before and during a swap, the source as fast as it can: held back by whoever is last, by a ring's length at most."""
    with scene(FLAT_OUT, 1000, close=SLOTS) as stage:
        time.sleep(seconds / 2)
        before = stage.flow(seconds)
        began, first = time.monotonic(), stage.merged.head
        stage.swap(1, 2)
        during = (stage.merged.head - first) / (time.monotonic() - began)
        stage.verdict()
        return {"before": before / 1e6, "during": during / 1e6}


def upgrade() -> Figures:
    """A whole swap under load: the output's longest pause in ms, from the first green's start to the last blue's end, and what arrived in %."""
    with scene(RATE, BURST_US) as stage:
        time.sleep(SETTLE_S)
        stage.swap(1, 2)
        time.sleep(SETTLE_S)
        pause = stage.longest_pause_ms()
        verdict = stage.verdict()
        return {"pause": pause, "arrived": 100 * (verdict.frames - verdict.lost) / verdict.frames}


def source_cost(seconds: float) -> Figures:
    """The source's processor time for a frame in ns: read by a pair, and by one reader that hands on to another, which is the same work."""
    with scene(RATE, BURST_US) as stage:
        pair = stage.source_ns(seconds)
    with scene(RATE, BURST_US) as stage:
        stage.chain()
        return {"pair": pair, "chain": stage.source_ns(seconds)}


def duplicates(count: int) -> float:
    """Outputs a second in millions, when both members' rings are full: one passes, and the other's are compared and dropped.

    Of rounds over the same rings, as they are in the middle of a stream; the first round finds memory that nobody has touched yet, and is left out.
    """
    with memory() as folder, ExitStack() as exits:
        rings = [_ring(folder / f"v.{seat}@1.0.0.ring", count, 1) for seat in SEATS]
        out = _ring(folder / "v.ring", count, 0)
        out.propose_cut(1, 1, None, "1.0.0")
        spec = RunSpec("merge", "merge", output_ring=out.path, rings_dir=str(folder), merge_prefix="v")
        merged, *writers = [exits.enter_context(each.writer()) for each in (out, *rings)]
        took = []
        for end in range(count, (DEDUP_ROUNDS + 2) * count, count):
            for writer in writers:
                for number in range(end - count, end):
                    writer.write(number.to_bytes(8, "little") * (FRAME // 8))
            took.append(_merging_s(Merge(spec, out, merged), partial(_over, out, rings, end)))
        for each in (*rings, out):
            each.close()
        return count / statistics.median(took[1:]) / 1e6


def _merging_s(merge: Merge, over: Callable[[], bool]) -> float:
    """Seconds until it is `over`, as somebody else sees it: a merge that has nothing more to do waits for more, which is not to be counted."""
    stop = Stop()
    merging = threading.Thread(target=merge.run, args=(stop,))
    began = time.perf_counter()
    merging.start()
    while not over():
        time.sleep(LOOK_S)
    took = time.perf_counter() - began
    stop.asked = True
    merging.join()
    return took


def _over(out: Ring, rings: list[Ring], end: int) -> bool:
    """Has everything passed or been dropped?"""
    return out.head == end and all(reader.cursor == ring.head for ring in rings for reader in ring.stats().readers)


def _ring(path: Path, count: int, generation: int) -> Ring:
    return Ring.create(path, capacity_bytes=2 * count * FRAME, slots=count, frame_bytes=FRAME, generation=generation)


def all_cases(share: float) -> list[Case]:
    """Every case, in the order of the table. `share` of the full counts; 1,250 cuts and 100 deaths in five rounds at a share of 1."""

    def n(count: int, least: int) -> int:
        return max(least, int(count * share))

    at_cuts = Together(lambda: cuts(n(250, 10), max(1.0, 10.0 * share)))
    at_deaths = Together(lambda: deaths(n(20, 2)))
    flat_out = Together(lambda: throughput(max(0.5, 3.0 * share)))
    cost = Together(lambda: source_cost(max(1.0, 5.0 * share)))
    ours, zmq, stream = (
        Together(run) for run in (upgrade, lambda: swap_peers.pyzmq(share), lambda: swap_peers.jetstream(share))
    )
    return [
        Case(
            "the output's pause at a cut, p99", "µs", at_cuts.of("cut"), {STEADY: at_cuts.of("steady")}, {STEADY: 1.0}
        ),
        Case("the output's pause after a member's death, median", "ms", at_deaths.of("death"), most=DEATH_MS),
        Case(
            "outputs during a swap, source flat out",
            "M/s",
            flat_out.of("during"),
            {BEFORE: flat_out.of("before")},
            {BEFORE: DURING_BAR},
        ),
        Case(
            "duplicates of 64 B dropped, both members' rings full",
            "M/s",
            lambda: duplicates(1 << 16),
            {ASKED: lambda: DEDUP_M},
            {ASKED: 1.0},
        ),
        Case(
            "the source's processor time for a frame that a pair reads",
            "ns",
            cost.of("pair"),
            {CHAIN: cost.of("chain")},
            {CHAIN: SOURCE_BAR},
        ),
        Case(
            "an upgrade: the output's longest pause",
            "ms",
            ours.of("pause"),
            {ZMQ: zmq.of("pause_ms"), JETSTREAM: stream.of("pause_ms")},
            {ZMQ: 1.0, JETSTREAM: 1.0},
        ),
        Case(
            "an upgrade: frames that arrive",
            "%",
            ours.of("arrived"),
            {ZMQ: zmq.of("arrived"), JETSTREAM: stream.of("arrived")},
            {ZMQ: 1.0, JETSTREAM: 1.0},
        ),
    ]


if __name__ == "__main__":
    sys.exit(ring.main(all_cases, "bench-swap"))
