"""The bridge against its peers, over TCP on this machine's loopback; options, lines and exit status are those of benchmarks/ring.py.

    python benchmarks/bridge.py [--json] [--quick] [--strict] [--only WORD] [--write FILE]

Owns the bridge's cases: their names, peers, bars and counts. Ours has credits, resume and, except where it says so, no CURVE.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: `benchmarks` is not installed

from benchmarks import bridged, ring
from benchmarks.cases import KIB_64, MIB, Case
from benchmarks.compiled import answer
from benchmarks.race import Measure

ZMQ, TCP, PLAIN = "libzmq (C)", "TCP (C)", "our bridge without CURVE"
SMALL_BAR, ONE_BAR, TWO_BAR = 4, 0.85, 0.75
HOSTS = {1: "to one host", 2: "to two hosts"}


def _libzmq(size: int, count: int, hosts: int) -> float:
    """Frames a second that each reader gets: PUSH to one, or a PUB that drops nothing to several."""
    address = f"tcp://127.0.0.1:{bridged.free_port()}"
    return count / answer("zeromq", "push" if hosts == 1 else "pub", size, count, hosts, address)


def _tcp(size: int, count: int, hosts: int) -> float:
    return count / answer("tcp", size, count, hosts, bridged.free_port())


def _scaled(measure: Measure, by: float) -> Measure:
    return lambda: measure() * by


def _small(count: int, hosts: int) -> Case:
    peer = max(1000, count // 8)  # as long as ours takes
    return Case(
        f"bridge, 64 B, {HOSTS[hosts]}",
        "M/s",
        _scaled(lambda: bridged.frames(64, count, hosts), 1e-6),
        {ZMQ: _scaled(lambda: _libzmq(64, peer, hosts), 1e-6)},
        {ZMQ: SMALL_BAR},
    )


def _large(name: str, size: int, count: int, hosts: int) -> Case:
    giga = size / 1e9
    return Case(
        f"bridge, {name}, {HOSTS[hosts]}",
        "GB/s",
        _scaled(lambda: bridged.frames(size, count, hosts), giga),
        {
            ZMQ: _scaled(lambda: _libzmq(size, count, hosts), giga),
            TCP: _scaled(lambda: _tcp(size, count, hosts), giga),
        },
        {ZMQ: ONE_BAR if hosts == 1 else TWO_BAR},
    )


def _secured(name: str, size: int, count: int) -> Case:
    unit, by = ("M/s", 1e-6) if size == 64 else ("GB/s", size / 1e9)
    return Case(
        f"bridge with CURVE, {name}",
        unit,
        _scaled(lambda: bridged.frames(size, count, secured=True), by),
        {PLAIN: _scaled(lambda: bridged.frames(size, count), by)},
    )


def all_cases(share: float) -> list[Case]:
    """Every case, in the order of the table. `share` of the full counts: about a second a round at a share of 1."""

    def n(count: int) -> int:
        return max(2048 if count > 1_000_000 else 64, int(count * share))

    return [
        *[_small(n(8_000_000 // hosts), hosts) for hosts in HOSTS],
        *[_large("64 KiB", KIB_64, n(16_000 // hosts), hosts) for hosts in HOSTS],
        *[_large("1 MiB", MIB, n(2000 // hosts), hosts) for hosts in HOSTS],
        _secured("64 B", 64, n(4_000_000)),
        _secured("64 KiB", KIB_64, n(4000)),
        Case(
            "bridge, one frame of 64 B at a time, one way",
            "µs",
            _scaled(lambda: bridged.one_way(n(300)), 1e6),
            {"pyzmq": _scaled(lambda: bridged.one_way_pyzmq(n(300)), 1e6)},
        ),
    ]


if __name__ == "__main__":
    sys.exit(ring.main(all_cases, "bench-bridge"))
