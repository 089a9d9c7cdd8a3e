"""The cases: what is measured, against whom, and what ratio is asked for.

Owns the names, the bars and the counts, and turns figures into the line that a case prints. Never measures by itself.
A ratio is ours over the peer's. Rates (M/s: millions of frames a second, GB/s) are to reach a bar, times (ns, µs, ms) to stay below it.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks import brokers, deaths, ours, packets, peers, round_trips
from benchmarks.compiled import answer, checks, disruptor
from benchmarks.race import Measure

KIB_64, MIB = 1 << 16, 1 << 20
BATCH_C, ONE_C, VIEW_C = "C reference ring, batches of 32", "C reference ring, one by one", "C reference ring, in place"
ALONE = "our ring, one reader"
CACHED = "the same, cached stores"
NEAR_NS = 150  # a cache line there and back: 60 to 100 ns between cores that share a cache, 350 and more between others


@dataclass(frozen=True)
class Case:
    """One row: ours, the peers, and bars by peer; `most` is a bar of its own, in the unit, where nobody can be compared."""

    name: str
    unit: str
    ours: Measure
    peers: Mapping[str, Measure] = field(default_factory=dict)
    bars: Mapping[str, float] = field(default_factory=dict)
    most: float | None = None
    far: Mapping[str, float] = field(default_factory=dict)  # the bars instead, where processors share no near cache

    @property
    def falling(self) -> bool:
        """Is less better?"""
        return self.unit in ("ns", "µs", "ms")

    def line(self, figures: Mapping[str, float | None], placement: str) -> dict[str, object]:
        """What the case prints: a peer without a figure is missing, and 0 is what a wrong one has."""
        mine, others = figures["ours"], {name: figures[name] for name in self.peers}
        bars = self.far if self.far and placement == "far" else self.bars
        ratio = {name: _ratio(mine, others[name]) for name in bars}
        judged = {name: self._reached(ratio[name], bar) for name, bar in bars.items() if ratio[name] is not None}
        if self.most is not None:
            judged["own"] = bool(mine) and mine is not None and mine <= self.most
        return {
            "case": self.name,
            "unit": self.unit,
            "ours": _shown(mine),
            "peers": {name: _shown(figure) for name, figure in others.items()},
            "ratio": {name: _shown(value) for name, value in ratio.items()},
            "bar": dict(bars) if self.most is None else self.most,
            "ok": bool(mine) and all(judged.values()),
            "placement": placement,
        }

    def _reached(self, ratio: float | None, bar: float) -> bool:
        return bool(ratio) and ratio is not None and (ratio <= bar if self.falling else ratio >= bar)


def _ratio(mine: float | None, other: float | None) -> float | None:
    return mine / other if mine is not None and other else None


def _shown(figure: float | None) -> float | None:
    return None if figure is None else float(f"{figure:.4g}")


def placement() -> str:
    """Do the first two processors share a near cache? Machines move virtual ones about, so ask before each case."""
    return "near" if answer("floor", "line", 20_000, 0) < NEAR_NS else "far"


def _million(measure: Measure) -> Measure:
    return lambda: measure() / 1e6


def _giga(measure: Measure) -> Measure:
    return lambda: measure() / 1e9


def _native(name: str, mode: str, size: int, count: int, readers: int = 1) -> Measure:
    """Frames, or bytes in place, a second of reference.c or ours.c."""
    unit = size if mode == "view" else 1
    return lambda: count * unit / answer(name, mode, size, count, readers)


def _empty_calls(count: int) -> float:
    """Calls a second of a compiled method that does nothing, from a loop like those that write frames."""
    call, periods = checks().Empty().call, max(1, count // ours.PERIOD)
    began = time.perf_counter()
    for _ in range(periods):
        for data in ours.PAYLOADS:
            call(data)
    return periods * ours.PERIOD / (time.perf_counter() - began)


def _publisher(size: int, count: int) -> float:
    with ours.memory() as folder:
        return count * size / answer("zeromq", "pub", size, count, 2, f"ipc://{folder}/bench.ipc")


def small(share: float) -> list[Case]:
    """64 B, one to one. `share` of the full counts: about a third of a second a round at a share of 1."""

    def n(count: int) -> int:
        return max(2048, int(count * share))

    batch_c = _million(_native("reference", "batch", 64, n(48_000_000)))
    return [
        Case(
            "64 B, one by one, Python both ends",
            "M/s",
            _million(lambda: ours.one_by_one(n(3_000_000))),
            {
                "iceoryx2-py": _million(lambda: peers.small_frames(n(150_000))),
                "pyzmq ipc": _million(lambda: peers.pyzmq(n(400_000))),
                "pipe": _million(lambda: peers.pipe(n(400_000))),
                "NATS": _million(lambda: brokers.nats(n(15_000))),
                "Redis streams": _million(lambda: brokers.redis(n(15_000))),
                "gRPC stream": _million(lambda: brokers.grpc(n(8_000))),
                "empty Cython call": _million(lambda: _empty_calls(n(5_000_000))),
            },
            {"iceoryx2-py": 20, "pyzmq ipc": 6, "empty Cython call": 0.3},
        ),
        Case(
            "64 B, lists of bytes",
            "M/s",
            _million(lambda: ours.lists(n(12_000_000))),
            {BATCH_C: batch_c},
            {BATCH_C: 0.2},
        ),
        Case(
            "64 B, NumPy batches, copied",
            "M/s",
            _million(lambda: ours.arrays(n(48_000_000))),
            {BATCH_C: batch_c, "Disruptor, batches of 16": _million(lambda: n(32_000_000) / disruptor(n(32_000_000)))},
            {BATCH_C: 0.8, "Disruptor, batches of 16": 0.9},
        ),
        Case(
            "64 B, NumPy batches as views, every byte read",
            "M/s",
            _million(lambda: ours.arrays(n(48_000_000), viewed=True)),
            {BATCH_C: batch_c},
            {BATCH_C: 0.5},
        ),
        Case(
            "64 B, one by one, C",
            "M/s",
            _million(_native("ours", "one", 64, n(16_000_000))),
            {ONE_C: _million(_native("reference", "one", 64, n(16_000_000)))},
            {ONE_C: 0.8},
        ),
    ]


def large(share: float) -> list[Case]:
    """64 KiB and 1 MiB, one to one, filled and read in place."""

    def n(count: int) -> int:
        return max(64, int(count * share))

    return [
        Case(
            "64 KiB, view",
            "GB/s",
            _giga(lambda: ours.blocks(KIB_64, n(120_000))),
            {
                VIEW_C: _giga(_native("reference", "view", KIB_64, n(120_000))),
                "iceoryx2-py": _giga(lambda: peers.blocks(KIB_64, n(80_000))),
            },
            {VIEW_C: 0.9, "iceoryx2-py": 1.5},
        ),
        Case(
            "1 MiB, view",
            "GB/s",
            _giga(lambda: ours.blocks(MIB, n(8000))),
            {
                VIEW_C: _giga(_native("reference", "view", MIB, n(8000))),
                "iceoryx2-py": _giga(lambda: peers.blocks(MIB, n(8000))),
                "hot memcpy": _giga(lambda: answer("floor", "copy", MIB, 0)),
            },
            {"iceoryx2-py": 1.0, "hot memcpy": 0.8},
        ),
        Case(
            "64 KiB, copied, stores by placement",
            "GB/s",
            _giga(lambda: ours.copies(KIB_64, n(60_000), "chosen")),
            {
                CACHED: _giga(lambda: ours.copies(KIB_64, n(60_000), "cached")),
                "the same past the caches": _giga(lambda: ours.copies(KIB_64, n(60_000), "streamed")),
            },
            {CACHED: 0.8},
            far={CACHED: 3},
        ),
    ]


def one_to_two(share: float) -> list[Case]:
    """One writer, two lossless readers."""

    def n(count: int) -> int:
        return max(64, int(count * share))

    c_ring = "C reference ring, two readers"
    return [
        Case(
            "one writer, two lossless readers, 64 B batches",
            "M/s",
            _million(lambda: ours.arrays(n(24_000_000), readers=2)),
            {
                ALONE: _million(lambda: ours.arrays(n(48_000_000))),
                c_ring: _million(_native("reference", "batch", 64, n(24_000_000), 2)),
            },
            {ALONE: 0.7, c_ring: 0.9},
        ),
        Case(
            "one writer, two lossless readers, 64 KiB",
            "GB/s",
            _giga(lambda: ours.blocks(KIB_64, n(48_000), 2)),
            {
                "libzmq PUB (C)": _giga(lambda: _publisher(KIB_64, n(8000))),
                c_ring: _giga(_native("reference", "view", KIB_64, n(48_000), 2)),
            },
            {"libzmq PUB (C)": 8, c_ring: 0.9},
        ),
    ]


def waiting(share: float) -> list[Case]:
    """Round trips, and the death of a reader."""

    def n(count: int) -> int:
        return max(100, int(count * share))

    pause_us = int(round_trips.ASLEEP_S * 1e6)
    return [
        Case(
            "round trip, 64 B, spinning, from Python",
            "ns",
            lambda: round_trips.ours(n(300_000), sleeping=False),
            {
                "cache line": lambda: answer("floor", "line", n(2_000_000), 0),
                "iceoryx2-py": lambda: round_trips.iceoryx2(n(50_000)),
            },
            {"cache line": 6, "iceoryx2-py": 0.1},
        ),
        Case(
            "round trip, 64 B, blocking",
            "µs",
            lambda: round_trips.ours(n(300), sleeping=True) / 1e3,
            {"futex": lambda: answer("floor", "futex", n(300), pause_us) / 1e3},
            {"futex": 1.2},
        ),
        Case(
            "SIGKILL of a lossless reader, the other one's longest gap",
            "ms",
            lambda: deaths.longest_gap(share),
            most=2.0,
        ),
    ]


def network(share: float) -> list[Case]:
    """Packets from a socket into a ring; both receivers alone, over as much memory, and one that has none to keep them in."""

    def bare(size: int, count: int, area: int) -> Measure:
        return _million(lambda: answer("datagrams", size, count, packets.DEPTH, area))

    found = []
    for name, size, count in (("64 B", 72, int(150_000 * share)), ("8 KiB", 8200, int(30_000 * share))):
        area, hot = "recvmmsg (C), as much memory", "recvmmsg (C), the same buffers again"
        contenders = {area: bare(size, count, packets.RING_BYTES), hot: bare(size, count, 0)}
        own = _million(lambda size=size, count=count: packets.captured(size, count))  # type: ignore[misc]
        found.append(Case(f"UDP capture, {name}", "M/s", own, contenders, {area: 0.8}))
    return found


def all_cases(share: float) -> list[Case]:
    """Every case, in the order of the table."""
    return [*small(share), *large(share), *one_to_two(share), *waiting(share), *network(share)]
