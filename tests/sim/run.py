"""`python -m tests.sim.run`: HOURS of simulated time over HOSTS hosts, from SEED on; sim.json says what came of it.

Exit status 1 when any run broke an invariant; its seed and the story of its last events are printed.
"""

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

from tests.sim.world import Result, World


def main() -> int:
    """Run seeds until the hours are full."""
    hours = float(os.environ.get("HOURS", "1"))
    hosts = int(os.environ.get("HOSTS", "2"))
    first = int(os.environ.get("SEED", "0"))
    if hosts < 2 or hosts % 2 or hours <= 0:
        print("HOSTS must be an even number from 2 on, and HOURS more than 0", file=sys.stderr)
        return 2
    faults: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    violations: list[Result] = []
    simulated_ms, runs, lost, started = 0, 0, 0, time.monotonic()
    while simulated_ms < hours * 3_600_000:
        result = World(str(first + runs), hosts=hosts, rounds=2).run()
        runs += 1
        simulated_ms += result.simulated_ms
        lost += result.declared_lost
        faults.update(result.faults)
        ends.update(end.split()[0] for end in result.ends)
        if result.violation:
            violations.append(result)
            print(told(result), flush=True)
    report = {
        "simulated_hours": round(simulated_ms / 3_600_000, 3),
        "hosts": hosts,
        "faults": faults.total(),
        "faults_by_class": dict(sorted(faults.items())),
        "swaps": dict(sorted(ends.items())),
        "declared_lost": lost,
        "violations": [{"seed": result.seed, "text": result.violation} for result in violations],
        "seed": first,
        "runs": runs,
    }
    Path("sim.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(
        f"{report['simulated_hours']} h of {hosts} hosts in {time.monotonic() - started:.0f} s: {runs} runs, "
        f"{faults.total()} faults, {ends.total()} swaps ({', '.join(f'{n} {end}' for end, n in sorted(ends.items()))}), "
        f"{len(violations)} violations"
    )
    return 1 if violations else 0


def told(result: Result) -> str:
    """A failure, for whoever has to understand it."""
    return f"seed {result.seed}: {result.violation}\nthe last events:\n{result.story}\n"


if __name__ == "__main__":
    sys.exit(main())
