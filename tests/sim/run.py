"""`python -m tests.sim.run`: HOURS of simulated time over HOSTS hosts, from SEED on; sim.json says what came of it.

Of HOSTS hosts, two at a time carry a stream that is swapped while faults strike (`world`), and all of them, five to a galaxy, run services for days
(`fleet`), look for those of their site that are away (`sights`), and are taken for no more than reached (`sight_watch`). Where the hours allow it, one galaxy is of all of them, under one controller, for as long as two months; and one in `LONG_EVERY` of five
lasts four, so that hosts are away for up to a hundred days in one piece. HOURS are those of each host. The seeds are shared out between two processes, the longest first; what comes of them depends on neither.

Exit status 1 when any run broke an invariant (its seed and the story of its last events are printed), and when a run of many hours has exercised nothing
of some kind that it is there for: that it broke nothing would then mean nothing.
"""

import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sim.absences import DAY_MS
from tests.sim.fleet import GROUP, Fleet, Outcome
from tests.sim.world import Result, World

FLEET_DAYS = 4.0
LONG_DAYS, LONG_EVERY = 120.0, 30  # about half of the hours
GALAXY_DAYS, GALAXY_SHARE = 60.0, 6  # at most a sixth of the hours, since a fault there costs several times as much
MANY_HOST_HOURS = 20_000.0  # of which each of `EXERCISED` must have some
EXERCISED = (
    "swaps done",
    "swaps undone",
    "rollouts succeeded",
    "hosts replaced",
    "certificates renewed",
    "certificates renewed after their end",
    "sessions",
    "starts of agents",
    "boots of hosts",
    "services deleted",
)
MANY_GALAXIES = 100  # of which each of `SIGHTS` must have some: the last of them is to be seen in one of five
SIGHTS = (
    "hosts told to look for others",
    "siblings seen",
    "siblings seen no more",
    "losses put off by a sighting",
)
MONTHS = "absences of months"  # and of these, if any piece was long enough for them


@dataclass(frozen=True, slots=True)
class Piece:
    """One run: of streams if its seed is a number, else of services."""

    seed: str
    hosts: int
    days: float

    @property
    def hours(self) -> float:
        """Of all its hosts; those of services last at least for so long, those of streams take seconds."""
        return 0.0 if self.seed.isdecimal() else self.hosts * self.days * 24


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one. `host_ms`: simulated time, of all its hosts together."""

    seed: str
    host_ms: int
    faults: Counter[str]
    proofs: Counter[str]
    longest_away_ms: int
    lost: int
    violation: str
    story: str


def ran(piece: Piece) -> Ran:
    """That run."""
    if not piece.seed.isdecimal():
        outcome = Fleet(piece.seed, piece.hosts, piece.days).run()
        host_ms, away_ms = outcome.simulated_ms * piece.hosts, outcome.longest_away_ms
        return Ran(piece.seed, host_ms, outcome.faults, outcome.proofs, away_ms, 0, outcome.violation, outcome.story)
    result = World(piece.seed, hosts=piece.hosts, rounds=2).run()
    ends = Counter(f"swaps {end.split()[0]}" for end in result.ends)
    host_ms = result.simulated_ms * piece.hosts
    return Ran(piece.seed, host_ms, result.faults, ends, 0, result.declared_lost, result.violation, result.story)


def pieces(first: int, hosts: int, hours: float) -> Iterator[Piece]:
    """For so many hours of each host, or a little more."""
    left, days = hours * hosts, min(FLEET_DAYS, hours / 24)
    if hosts > GROUP:
        whole = Piece(f"galaxy {first}", hosts, min(GALAXY_DAYS, hours / GALAXY_SHARE / 24))
        left -= whole.hours
        yield whole
    sizes = [min(GROUP, hosts - n) for n in range(0, hosts, GROUP)]
    number = 0
    while left > 0:
        yield Piece(str(first + number), min(hosts, 2), days)
        size = sizes[number % len(sizes)]
        long = number % LONG_EVERY == 0 and left > 2 * LONG_DAYS * 24 * size and days == FLEET_DAYS
        piece = Piece(f"services {first + number}", size, LONG_DAYS if long else days)
        yield piece
        left, number = left - piece.hours, number + 1


def _numbered(what: tuple[int, Piece]) -> tuple[int, Ran]:
    return what[0], ran(what[1])


def all_ran(due: list[Piece], host_ms: float, limit_s: float) -> list[Ran]:
    """What came of the first of them that fill the hours, or of those that came in time. Violations are told at once."""
    found: dict[int, Ran] = {}
    began_s, filled, full = time.monotonic(), 0, 0.0
    with multiprocessing.get_context("fork").Pool(min(2, os.cpu_count() or 1)) as pool:
        coming = pool.imap_unordered(_numbered, enumerate(due))
        try:
            while full < host_ms and len(found) < len(due):
                number, each = coming.next(max(0.0, limit_s - (time.monotonic() - began_s)))
                found[number] = each
                if each.violation:
                    print(told(each), flush=True)
                while filled in found:
                    filled, full = filled + 1, full + found[filled].host_ms
        except multiprocessing.TimeoutError:
            filled = len(due)
    return [each for number, each in sorted(found.items()) if number < filled or each.violation]


def idle(proofs: Counter[str], hours: float, galaxies: int, long: bool) -> list[str]:
    """What so many host-hours and galaxies should have exercised, and have not."""
    of_hours = (*EXERCISED, *((MONTHS,) if long else ())) if hours >= MANY_HOST_HOURS else ()
    wanted = (*of_hours, *(SIGHTS if galaxies >= MANY_GALAXIES else ()))
    return [name for name in wanted if not proofs[name]]


def main() -> int:
    """Run seeds until the hours are full."""
    hours, hosts = float(os.environ.get("HOURS", "1")), int(os.environ.get("HOSTS", "2"))
    first, limit_s = int(os.environ.get("SEED", "0")), float(os.environ.get("SECONDS_AT_MOST", "1e9"))
    if hosts < 2 or hosts % 2 or hours <= 0:
        print("HOSTS must be an even number from 2 on, and HOURS more than 0", file=sys.stderr)
        return 2
    began_s, due = time.monotonic(), list(pieces(first, hosts, hours))
    runs = all_ran(due, hours * hosts * 3_600_000, limit_s)
    report = reported(runs, hosts, first, time.monotonic() - began_s)
    played = {run.seed for run in runs}
    long = any(piece.days >= LONG_DAYS for piece in due if piece.seed in played)
    galaxies = sum(not each.seed.isdecimal() for each in runs)
    missing = idle(Counter(report["exercised"]), report["simulated_hours"] * hosts, galaxies, long)
    report["not_exercised"] = missing
    Path("sim.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(summary(report))
    return 1 if report["violations"] or missing else 0


def reported(runs: Iterable[Ran], hosts: int, first: int, seconds: float) -> dict[str, Any]:
    """sim.json."""
    runs = list(runs)
    faults, proofs = Counter[str](), Counter[str]()
    for each in runs:
        faults.update(each.faults)
        proofs.update(each.proofs)
    return {
        "simulated_hours": round(sum(each.host_ms for each in runs) / hosts / 3_600_000, 3),
        "hosts": hosts,
        "faults": faults.total(),
        "faults_by_class": dict(sorted(faults.items())),
        "exercised": {name: proofs[name] for name in sorted({*EXERCISED, *SIGHTS, MONTHS, *proofs})},
        "longest_absence_days": round(max((each.longest_away_ms for each in runs), default=0) / DAY_MS, 1),
        "declared_lost": sum(each.lost for each in runs),
        "violations": [{"seed": each.seed, "text": each.violation} for each in runs if each.violation],
        "seed": first,
        "runs": len(runs),
        "seconds": round(seconds, 1),
    }


def summary(report: Mapping[str, Any]) -> str:
    """In words."""
    proofs = report["exercised"]
    missing = f"; NOT EXERCISED: {', '.join(report['not_exercised'])}" if report["not_exercised"] else ""
    return (
        f"{report['simulated_hours']} h of {report['hosts']} hosts in {report['seconds']:.0f} s: {report['runs']} runs from seed "
        f"{report['seed']} on, {report['faults']} faults, {proofs['swaps done']} swaps done and {proofs['swaps undone']} undone, "
        f"{proofs['rollouts succeeded']} rollouts of services, {proofs['hosts replaced']} hosts replaced, {proofs['absences of months']} "
        f"absences of months, {proofs['certificates renewed']} certificates renewed, {len(report['violations'])} violations{missing}"
    )


def told(run: Ran | Result | Outcome) -> str:
    """A failure, for whoever has to understand it."""
    return f"seed {run.seed}: {run.violation}\nthe last events:\n{run.story}\n"


if __name__ == "__main__":
    sys.exit(main())
