"""The judge over model rings: remembers every arrival and every latency, where the real one keeps spans and buckets.

It passes the same conformance suite (tests/dataplane/test_judge.py). What a release's own function would say is known here: each output has one
right value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from halftrack_agent.events import DifferenceSeen, JudgedSeen
from halftrack_dataplane.judging import FIRST
from halftrack_model.verdict import Check
from halftrack_model.workload import JudgedPair
from tests.sim.processes import BLOCK, Process, right_output
from tests.sim.rings import SimRing

SLICE_US = 20_000


def newest_input(seq: int) -> int:
    """The last of the inputs that output `seq` is made of: in real rings its time is the output's."""
    return seq * BLOCK + BLOCK - 1


@dataclass(slots=True)
class Docket:
    """One green's case: what was found, and when each number of each ring was first seen (None: before we looked)."""

    blue: SimRing
    green: SimRing
    source: SimRing
    lag_frames: int
    check: Callable[[int, int | None, int | None], str]
    seq: int = 0
    compared: int = 0
    skipped: int = 0
    differences: list[DifferenceSeen] = field(default_factory=list)
    latencies: list[tuple[int, int]] = field(default_factory=list)
    arrived: dict[tuple[str, int], int] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    kept_up_from: int | None = None
    lost: int = 0
    unbroken: int = 0

    def __post_init__(self) -> None:
        self.seq = max(self.blue.floor, self.green.floor)
        self.heads = {name: ring.head for name, ring in self._rings()}

    def _rings(self) -> tuple[tuple[str, SimRing], ...]:
        return ("blue", self.blue), ("green", self.green), ("source", self.source)

    def look(self, now_us: int) -> None:
        """Note what has come, then judge all that both have."""
        for name, ring in self._rings():
            for seq in range(self.heads[name], ring.head):
                self.arrived[name, seq] = now_us
            self.heads[name] = ring.head
        if self.kept_up_from is None and self.green.head and self.blue.head - self.green.head <= self.lag_frames:
            self.kept_up_from = max(self.blue.head, self.green.head)
        end = min(self.blue.head, self.green.head)
        while self.seq < end:
            floor = max(self.blue.floor, self.green.floor)
            if self.seq < floor:
                to = (floor + end) // 2 if floor < end else end
                self.skipped, self.seq = self.skipped + to - self.seq, to
                continue
            self._judge(self.seq)
            self.seq += 1

    def _judge(self, seq: int) -> None:
        blue, green = self.blue.values.get(seq), self.green.values.get(seq)
        if blue is None:
            return
        self.compared += 1
        self.lost += green is None
        self.unbroken = 0 if green is None else self.unbroken + 1
        text = "lost by one" if green is None else self.check(seq, blue, green)
        if text:
            self.differences.append(DifferenceSeen(seq, text))
        times = [self.arrived.get(key) for key in (("blue", seq), ("green", seq), ("source", newest_input(seq)))]
        asked = newest_input(seq) >= self.source.floor  # else its time leads to another
        if asked and self.kept_up_from is not None and seq >= self.kept_up_from and None not in (*times, blue, green):
            at_blue, at_green, begun = (time or 0 for time in times)
            self.latencies.append((max(at_blue - begun, 0), max(at_green - begun, 0)))

    def evidence(self) -> JudgedSeen:
        """As the agent sees it."""
        return JudgedSeen(
            generation=self.green.generation,
            compared=self.compared,
            different=len(self.differences),
            timed=len(self.latencies),
            blue_us_p99=_p99([blue for blue, _ in self.latencies]),
            green_us_p99=_p99([green for _, green in self.latencies]),
            look_us=SLICE_US,
            first=tuple(self.differences[:FIRST]),
            lost=self.lost,
            unbroken=self.unbroken,
        )


def _p99(times: list[int]) -> int:
    return sorted(times)[-(-len(times) * 99 // 100) - 1] if times else 0


class Judging(Process):
    """One life of a judge."""

    def __init__(self, host: object, workload: object) -> None:
        super().__init__(host, workload)  # type: ignore[arg-type]
        self.dockets: dict[str, Docket] = {}

    def step(self, now_ms: int) -> None:
        assert self.workload.judge is not None
        for pair in self.workload.judge.pairs:
            self._open(pair)
        for docket in self.dockets.values():
            docket.look(now_ms * 1000)

    def _open(self, pair: JudgedPair) -> None:
        rings = self.host.rings
        names = (pair.blue_ring, pair.green_ring, self.workload.reads_ring)
        if any(name not in rings for name in names):
            return
        blue, green, source = (rings[name] for name in names)
        held = self.dockets.get(pair.green_ring)
        if held is None or (held.blue, held.green) != (blue, green):
            assert self.workload.judge is not None
            lag_frames = self.workload.judge.lag_frames
            self.dockets[pair.green_ring] = Docket(blue, green, source, lag_frames, self._check())

    def _check(self) -> Callable[[int, int | None, int | None], str]:
        assert self.workload.judge is not None
        version = self.workload.version
        if self.workload.judge.verdict.check is Check.EQUAL:
            return lambda seq, blue, green: "" if blue == green else f"{blue} → {green}"
        return lambda seq, blue, green: "" if green == right_output(version, seq) else f"{green} is wrong"
