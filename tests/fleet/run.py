"""`python -m tests.fleet.run`: machines with a systemd of their own, the agents and the controller as their units, through reboots, power cuts and whatever hangs;
fleet.json says what was seen, and the exit status is 1 when something else was.

    make fleet ONLY=watchdog,full_disk

ONLY names trials (`trials`); the first, `installed`, is always played. HOSTS=1 leaves out the second host, and with it the stream. All of it happens in a private world, from which nothing is left.
"""

import json
import os
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

from examples.demo.run import clear_cgroups
from tests.fleet import installing
from tests.soak.two_hosts import isolated

FOLDER = Path("/run/fleet")


@dataclass
class Outcome:
    """What came of a trial; `wrong` is empty when it held."""

    trial: str
    wrong: str = ""
    seconds: float = 0.0
    figures: dict[str, int] = field(default_factory=dict)


@dataclass
class Fleet:
    """fleet.json."""

    machines: int
    trials: int = 0
    held: int = 0
    seconds: float = 0.0
    outcomes: list[Outcome] = field(default_factory=list)


def played(group: str, out: Path, names: list[str], hosts: tuple[str, ...], stream: bool) -> int:
    """The part in the private world: switch on, try, write down."""
    from tests.fleet import trials
    from tests.fleet.machine import Failed
    from tests.fleet.site import Site

    began_s = time.monotonic()
    try:
        chosen = trials.chosen(names)
    except Failed as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 1
    site = Site(FOLDER, group, hosts, stream)
    fleet = Fleet(len(site.machines))
    try:
        site.begin()
        for trial in chosen:
            outcome = _tried(site, trial)
            fleet.outcomes.append(outcome)
            print(
                f"fleet: {outcome.trial}: {outcome.wrong or outcome.figures} ({outcome.seconds:g} s)", file=sys.stderr
            )
            if outcome.wrong:
                break  # the next would not find the site well
    finally:
        if not fleet.outcomes or fleet.outcomes[-1].wrong:
            print(site.told(), file=sys.stderr)
    fleet.trials = len(chosen)
    fleet.held = sum(not outcome.wrong for outcome in fleet.outcomes)
    fleet.seconds = round(time.monotonic() - began_s, 1)
    out.write_text(json.dumps(asdict(fleet), indent=1) + "\n")
    print(
        f"fleet: {fleet.held} of {fleet.trials} trials held on {fleet.machines} machines, {fleet.seconds:.0f} s",
        flush=True,
    )
    return int(fleet.held != fleet.trials)


def _tried(site, trial) -> Outcome:  # type: ignore[no-untyped-def]
    outcome, began_s = Outcome(trial.__name__), time.monotonic()
    try:
        outcome.figures = trial(site)
    except Exception as error:  # noqa: BLE001 - whatever it was, the trial has not held, and the rest is to be told
        traceback.print_exc()
        outcome.wrong = str(error) or type(error).__name__
    outcome.seconds = round(time.monotonic() - began_s, 1)
    return outcome


def main() -> int:
    """As the environment says."""
    only = [name for name in os.environ.get("ONLY", "").split(",") if name]
    names = ["installed", *only] if only else []
    hosts = ("tank-a", "tank-b")[: int(os.environ.get("HOSTS") or 2)]
    if os.geteuid():
        print("fleet: only root makes machines", file=sys.stderr)
        return 1
    if reason := installing.missing():
        print(f"fleet: {reason}", file=sys.stderr)
        return 1
    try:
        return isolated("fleet", lambda group, path: played(group, path, names, hosts, len(hosts) > 1))
    finally:
        clear_cgroups()  # once more: machines end a moment after their world


if __name__ == "__main__":
    sys.exit(main())
