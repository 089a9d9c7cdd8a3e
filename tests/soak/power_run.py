"""`python -m tests.soak.power_run`: CUTS power cuts of one host of a pair or of both, by SEED, under a stream whose source cannot give a frame again; power-cuts.json says what came of it.

    make power-cuts CUTS=12 SEED=3

A power cut takes a host's processes and its memory (rings, snapshots), and leaves its disk. Exit status 1 when a number or a frame of the instrument came twice or out of order, when
a number is missing that nobody declared, when the state was lost although a member's host kept its power, or when the stream did not come back by itself.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from examples.demo import evidence
from examples.demo.world import FOLLOWER, LEADER, DemoFailed
from tests.soak import swap_run
from tests.soak.power_stream import ROW
from tests.soak.swap_run import Soak
from tests.soak.two_hosts import HOSTS, isolated

RATE = int(os.environ.get("RATE") or 400)  # frames a second
FLOWS = 300  # rows after which the stream is back
GONE_S = 20.0
GRAPH = (
    HOSTS
    + """apiVersion: halftrack/v1
kind: Stream
metadata: {name: soak}
spec:
  environment: soak
  steps:
    - {name: instrument, product: instrument, hosts: [tank-a], params: {rate: %d}, ring: {size: 1MiB, slots: 4096}}
    - {name: counts, product: counts, hosts: [tank-a, tank-b], ring: {size: 1MiB, slots: 4096}}
    - {name: rows, product: rows, hosts: [tank-a]}
"""
)
Row = tuple[int, int, int, int]


@dataclass
class Verdict:
    """power-cuts.json. `made_anew`: states that were begun with nothing; `declared`: numbers that were, which is no count of frames."""

    seed: int
    cuts: int = 0
    of_leader: int = 0
    of_follower: int = 0
    of_both: int = 0
    rows: int = 0
    declared: int = 0
    made_anew: int = 0
    repeated: int = 0
    missing: int = 0
    states_lost: int = 0
    back_s_most: float = 0.0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)
    stuck: str = ""

    @property
    def wrong(self) -> bool:
        """Is anything there that must not be?"""
        return bool(self.repeated or self.missing or self.states_lost or self.stuck)

    def text(self) -> str:
        """In one line."""
        return (
            f"{self.cuts} power cuts ({self.of_leader} of the source's host, {self.of_follower} of the other, {self.of_both} of both), {self.rows} rows in {self.seconds:.0f} s; back within "
            f"{self.back_s_most:.1f} s; {self.declared} numbers declared, {self.made_anew} states made anew, {self.states_lost} lost, {self.repeated} repeated, {self.missing} missing"
        )


def judged(rows: Iterable[Row], both_at: set[int], found: Verdict) -> None:
    """Hold what the sink has against what must hold of any stream. `both_at`: rows before which both hosts were cut."""
    due, instant, count = 0, 0, 0
    for at, (seq, gap, taken, known) in enumerate(rows):
        found.rows += 1
        found.repeated += seq < due
        found.missing += max(0, seq - due)
        due = seq + max(1, gap)
        found.declared += gap
        if gap:
            continue
        if taken <= instant:
            found.repeated += 1
            found.examples.append(f"row {at}: the instrument's frame of {taken} comes after that of {instant}")
        if known <= count:
            found.made_anew += 1
            if not any(count_at <= at for count_at in both_at):
                found.states_lost += 1
                found.examples.append(f"row {at}: a state of {known} frames after one of {count}")
            both_at = {each for each in both_at if each > at}
        instant, count = taken, known


class PowerRun(Soak):
    """One run, inside its own world."""

    troubles = False
    program = Path(__file__).with_name("power_stream.py")

    def __init__(self, cuts: int, seed: int, cgroup: str) -> None:
        super().__init__(0, 0, seed, cgroup)
        self.found = Verdict(seed)
        self._cuts, self._luck = cuts, random.Random(seed)
        self._both_at: set[int] = set()

    def graph(self) -> str:
        """The manifest."""
        return GRAPH % RATE

    def judge(self) -> None:
        """All of it."""
        began = time.monotonic()
        self._open()
        self._publish("instrument", "1.0.0", "Instrument", {})
        self._publish("rows", "1.0.0", "Rows", {})
        self._publish("counts", "1.0.0", "Counts", {}, "counts/1", on_loss="resume")
        self._enrol()
        try:
            self._flows()
            for number in range(self._cuts):
                self._cut((LEADER, FOLLOWER, "both")[number % 3] if number < 3 else self._drawn())
        except DemoFailed as error:
            self.found.stuck = str(error)
        judged(self._rows(), self._both_at, self.found)
        self.found.seconds = round(time.monotonic() - began, 1)

    def _drawn(self) -> str:
        return self._luck.choice((LEADER, FOLLOWER, "both"))

    def _cut(self, which: str) -> None:
        time.sleep(self._luck.random() * 2)  # the moment is the seed's
        for host in (LEADER, FOLLOWER) if which == "both" else (which,):
            self._power_off(host)
        if which == "both":
            self._both_at.add(len(self._rows()))
        self.found.cuts += 1
        counter = {LEADER: "of_leader", FOLLOWER: "of_follower", "both": "of_both"}[which]
        setattr(self.found, counter, getattr(self.found, counter) + 1)
        began = time.monotonic()
        self._flows()
        self.found.back_s_most = max(self.found.back_s_most, round(time.monotonic() - began, 1))
        print(f"power-cuts: {which} back after {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)

    def _power_off(self, host: str) -> None:
        """Nobody of it is started again meanwhile, for nobody tends the daemons."""
        seen = self.world.evidence[host]
        self.world.daemons[f"agent {host}"].kill()
        end = time.monotonic() + GONE_S
        while time.monotonic() < end:
            list(seen.look())
            running = seen.running()
            if not running and not self.world.daemons[f"agent {host}"].up:
                break
            for pid in running.values():
                evidence.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        else:
            raise DemoFailed(f"{host} goes on without power: {seen.running()}")
        shutil.rmtree(seen.run)

    def _flows(self) -> None:
        """Both members at work again, and new rows behind what there is."""
        had = len(self._rows())
        self.until("the stream to come back", lambda: len(self._rows()) > had + FLOWS and self._paired(), 90.0)

    def _paired(self) -> bool:
        rings = self.world.evidence[LEADER].rings()
        merged = rings.get("soak/counts")
        members = [stats.head for name, stats in rings.items() if "@" in name]
        return (
            merged is not None
            and len(members) == 2
            and all(head > 0 and abs(head - merged.head) < RATE // 8 for head in members)
        )

    def _rows(self) -> list[Row]:
        data = b""
        with contextlib.suppress(OSError):
            data = (self.world.evidence[LEADER].state / "data" / "soak.rows" / "rows").read_bytes()
        return list(ROW.iter_unpack(data[: len(data) // ROW.size * ROW.size]))


def played(cuts: int, seed: int, cgroup: str, out: Path) -> int:
    """The part inside the private world."""
    try:
        run = PowerRun(cuts, seed, cgroup)
        run.judge()
    except DemoFailed as error:
        print(f"power-cuts: {error}", file=sys.stderr)
        swap_run.show_logs()
        return 1
    tree: dict[str, Any] = asdict(run.found)
    out.write_text(json.dumps(tree, indent=1) + "\n")
    print(f"power-cuts: {run.found.text()}", flush=True)
    for example in [run.found.stuck, *run.found.examples[:8]]:
        if example:
            print(f"power-cuts: {example}", file=sys.stderr)
    if run.found.wrong:
        swap_run.show_logs()
    return int(run.found.wrong)


def main() -> int:
    """As the environment says."""
    cuts, seed = int(os.environ.get("CUTS") or 12), int(os.environ.get("SEED") or 1)
    return isolated("power-cuts", lambda cgroup, out: played(cuts, seed, cgroup, out))


if __name__ == "__main__":
    sys.exit(main())
