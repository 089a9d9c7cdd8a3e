"""`python -m tests.sim.run`: HOURS of simulated time over HOSTS hosts, from SEED on; sim.json says what came of it.

Of HOSTS hosts, two at a time carry a stream that is swapped while faults strike (`world`), and all of them, five to a galaxy, run services for days
(`fleet`); of more than `GROUP` some runs are of one galaxy of them all, under one controller. HOURS are those of each host. The seeds are shared out between two processes; what comes of them depends on neither.

Exit status 1 when any run broke an invariant; its seed and the story of its last events are printed.
"""

import itertools
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.sim.fleet import GROUP, Fleet, Outcome
from tests.sim.world import Result, World

STREAMS_EVERY = 6  # galaxies of services for one pair that carries a stream, which costs about as much
FLEET_DAYS = 4.0
GALAXY_EVERY = 20  # galaxies of five for one of all hosts: about a third of the time, since a fault there costs several times as much
GALAXY_DAYS = 1.0
BATCH = 10  # runs between two looks at the hours: which seeds run does not depend on how fast they are


@dataclass(frozen=True, slots=True)
class Ran:
    """One run, of either kind. `host_ms`: simulated time, of all its hosts together."""

    seed: str
    host_ms: int
    faults: Counter[str]
    swaps: tuple[str, ...]
    replaced: int
    lost: int
    violation: str
    story: str


def ran(seed: str, hosts: int, days: float) -> Ran:
    """The run of that seed: `N` is of streams, `services N` and `galaxy N` of services."""
    if seed.startswith(("services ", "galaxy ")):
        outcome = Fleet(seed, hosts, days).run()
        host_ms = outcome.simulated_ms * hosts
        return Ran(seed, host_ms, outcome.faults, (), outcome.replaced, 0, outcome.violation, outcome.story)
    result = World(seed, hosts=hosts, rounds=2).run()
    lost, ends = result.declared_lost, result.ends
    return Ran(seed, result.simulated_ms * hosts, result.faults, ends, 0, lost, result.violation, result.story)


def seeds(first: int, hosts: int, days: float) -> Iterator[tuple[str, int, float]]:
    """For ever."""
    sizes = [min(GROUP, hosts - n) for n in range(0, hosts, GROUP)]
    for number in range(1 << 62):
        if number % STREAMS_EVERY == 0:
            yield str(first + number // STREAMS_EVERY), min(hosts, 2), days
        yield f"services {first + number}", sizes[number % len(sizes)], days
        if hosts > GROUP and number % GALAXY_EVERY == GALAXY_EVERY - 1:
            yield f"galaxy {first + number // GALAXY_EVERY}", hosts, min(days, GALAXY_DAYS)


def _one(what: tuple[str, int, float]) -> Ran:
    return ran(*what)


def main() -> int:
    """Run seeds until the hours are full."""
    hours, hosts = float(os.environ.get("HOURS", "1")), int(os.environ.get("HOSTS", "2"))
    first, limit_s = int(os.environ.get("SEED", "0")), float(os.environ.get("SECONDS_AT_MOST", "inf"))
    if hosts < 2 or hosts % 2 or hours <= 0:
        print("HOSTS must be an even number from 2 on, and HOURS more than 0", file=sys.stderr)
        return 2
    faults: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    violations: list[Ran] = []
    host_ms, runs, lost, replaced, began_s = 0, 0, 0, 0, time.monotonic()
    days, due_ms = min(FLEET_DAYS, hours / 24), hours * 3_600_000 * hosts
    to_come = seeds(first, hosts, days)
    with multiprocessing.get_context("fork").Pool(min(2, os.cpu_count() or 1)) as pool:
        while host_ms < due_ms and time.monotonic() - began_s < limit_s:
            for each in pool.imap(_one, itertools.islice(to_come, BATCH)):
                runs, host_ms = runs + 1, host_ms + each.host_ms
                lost, replaced = lost + each.lost, replaced + each.replaced
                faults.update(each.faults)
                ends.update(end.split()[0] for end in each.swaps)
                if each.violation:
                    violations.append(each)
                    print(told(each), flush=True)
    report = {
        "simulated_hours": round(host_ms / hosts / 3_600_000, 3),
        "hosts": hosts,
        "faults": faults.total(),
        "faults_by_class": dict(sorted(faults.items())),
        "swaps": dict(sorted(ends.items())),
        "replaced": replaced,
        "declared_lost": lost,
        "violations": [{"seed": each.seed, "text": each.violation} for each in violations],
        "seed": first,
        "runs": runs,
        "seconds": round(time.monotonic() - began_s, 1),
    }
    Path("sim.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(
        f"{report['simulated_hours']} h of {hosts} hosts in {report['seconds']:.0f} s: {runs} runs from seed {first} on, "
        f"{faults.total()} faults, {ends.total()} swaps ({', '.join(f'{n} {end}' for end, n in sorted(ends.items()))}), "
        f"{replaced} hosts replaced, {len(violations)} violations"
    )
    return 1 if violations else 0


def told(run: Ran | Result | Outcome) -> str:
    """A failure, for whoever has to understand it."""
    return f"seed {run.seed}: {run.violation}\nthe last events:\n{run.story}\n"


if __name__ == "__main__":
    sys.exit(main())
