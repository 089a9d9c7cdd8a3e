"""`python -m tests.soak.table_run`: a swap for every fault in every phase of either leg, on real agents; swap-table.json says what came of each.

    make swap-table SEED=1 PLACES=0

PLACES says how many places of a swap each fault strikes; 0: all ten. The stream, the hosts and the judge are the swap soak's
(`swap_run`). Exit status 1 when a frame was lost, doubled, out of order or wrong, or a swap did not end as it should.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from examples.demo import evidence
from examples.demo.world import FOLLOWER, LEADER, DemoFailed
from examples.lab.wire import Fault as Link
from halftrack_model.swap import SwapRecord
from tests.soak import swap_run, table_faults
from tests.soak.swap_run import Report, Soak
from tests.soak.table_faults import FAULTS, LASTS_S, Row
from tests.soak.two_hosts import isolated

RATE = int(os.environ.get("RATE") or 8000)
BUFFER_SLOTS = 32768  # of the source's ring: four seconds, less than the longest cut
OUTPUT_SLOTS = 16384  # of the merged ring: two seconds, so that a sink that stands fills it
LOOK_S = 0.002
PLACE_S = 60.0
# Which workloads a fault is about. Of both releases, on both hosts: what outlives all members is rings and snapshots.
MEANT: dict[str, Callable[[str], bool]] = {
    "merge": lambda name: name.endswith(".merge"),
    "bridges": lambda name: ".from-" in name or "bridge" in name,
    "all members": lambda name: "@" in name and ".from-" not in name,
}


@dataclass
class Table:
    """swap-table.json. `rows` has, for each fault, the place that was meant, where the swap was when it was struck, and how it ended."""

    seed: int
    swaps: int = 0
    undone: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    mismatched: int = 0
    frames: int = 0
    seconds: float = 0.0
    rows: dict[str, list[list[str]]] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    missing: str = ""

    @property
    def wrong(self) -> bool:
        """Is anything there that must not be?"""
        return bool(self.lost or self.duplicated or self.reordered or self.mismatched or self.undone or self.missing)

    def text(self) -> str:
        """In one line."""
        places = {
            place for row in self.rows.values() for place in table_faults.places_hit([found for _, found, _ in row])
        }
        return (
            f"{len(self.rows)} faults in {len(places)} places, {self.swaps} swaps done and {self.undone} not, {self.frames / 1e6:.2f} M frames in "
            f"{self.seconds:.0f} s; lost {self.lost}, duplicated {self.duplicated}, reordered {self.reordered}, mismatched {self.mismatched}"
        )


class TableRun(Soak):
    """One run, inside its own world."""

    troubles = False  # but those of the table

    def __init__(self, seed: int, places: int, cgroup: str) -> None:
        rows = list(table_faults.rows(seed, places))
        super().__init__(0, len(rows), seed, cgroup)
        self.table = Table(seed)
        self._rows = rows
        self._mends: list[tuple[float, Callable[[], None]]] = []

    def graph(self) -> str:
        """Rings that are soon full."""
        return swap_run.GRAPH.replace("524288", str(BUFFER_SLOTS)).replace("131072", str(OUTPUT_SLOTS)) % (RATE, 2000)

    def _swap(self, number: int) -> None:
        row, version = self._rows[number - 1], f"1.0.{number}"
        self._release(number)
        self._await(lambda: table_faults.reached(row, self._record(version)), f"{row} of {version}")
        before = self._record(version)
        self._strike(row, f"1.0.{number - 1}", version)
        after = self._record(version)
        self.until(f"the rollout of {version}", lambda: self._over(version))
        self._mend_all()
        self.until(
            f"the rollout of {version} to be told", lambda: self._phase(version) in ("succeeded", "failed", "aborted")
        )
        outcome, done = self._phase(version), self._phase(version) == "succeeded"
        self.report.swaps += done
        self.report.undone += not done
        meant = f"{row.phase.value} {row.leg + 1}"
        self.table.rows.setdefault(row.fault, []).append([meant, table_faults.hit(row, before, after), outcome])
        print(f"swap-table: {version} {row.fault} at {meant}: {outcome}", file=sys.stderr, flush=True)

    # ---- where a swap is --------------------------------------------------------------------------------------------

    def _record(self, version: str) -> SwapRecord | None:
        leader = self.world.evidence[LEADER]
        for swap_id, order in leader.orders.items():
            if order.green.version == version and swap_id in leader.swaps:
                return leader.swaps[swap_id][-1]
        return None

    def _over(self, version: str) -> bool:
        record = self._record(version)
        return record is not None and record.phase.terminal

    def _await(self, holds: Callable[[], bool], what: str) -> None:
        """As `until`, but quick: phases may last milliseconds."""
        end = time.monotonic() + PLACE_S
        leader = self.world.evidence[LEADER]
        while not holds():
            if time.monotonic() > end:
                raise DemoFailed(f"waited {PLACE_S:.0f} s for {what}")
            for _ in leader.look():
                pass
            time.sleep(LOOK_S)

    def until(self, what: str, condition: Callable[[], object], seconds: float = swap_run.PATIENCE_S) -> None:
        """As the soak's; what is due is mended meanwhile."""

        def watched() -> object:
            now = time.monotonic()
            for due, mend in [each for each in self._mends if each[0] <= now]:
                self._mends.remove((due, mend))
                mend()
            return condition()

        super().until(what, watched, seconds)

    # ---- breaking ---------------------------------------------------------------------------------------------------

    def _strike(self, row: Row, blue: str, green: str) -> None:
        with self._breaker.faults.open("a") as file:
            file.write(json.dumps({"at_ns": time.monotonic_ns(), "kind": row.fault}) + "\n")
        running = {name: pid for host in self.world.evidence.values() for name, pid in host.running().items()}
        match row.fault:
            case "blue" | "green" | "other":
                member = table_faults.seats(row.leg, blue, green)[row.fault]
                self._kill(running, lambda name: name.endswith(f".{member}"))
            case "merge" | "bridges" | "all members":
                self._kill(running, MEANT[row.fault])
            case "leader's agent" | "follower's agent":
                self.world.daemons[f"agent {self._host(row)}"].kill()
            case "leader's agent hangs" | "follower's agent hangs":
                self._stop(self.world.daemons[f"agent {self._host(row)}"].pid, LASTS_S[row.fault])
            case "follower":
                self._power_cut()
            case "cut" | "cut beyond the buffer":
                self.world.set_faults({"a-b": Link(cut=True)})
                self._later(LASTS_S[row.fault], lambda: self.world.set_faults({"a-b": Link()}))
            case "slow sink" | "ring full":
                self._stop(running["soak.marks"], LASTS_S[row.fault])
            case "damaged snapshots":
                self._damage()
            case "controller gone":
                self._stop(self.world.daemons["controller"].pid, swap_run.PATIENCE_S)

    def _host(self, row: Row) -> str:
        return LEADER if row.fault.startswith("leader") else FOLLOWER

    def _kill(self, running: dict[str, int], meant: Callable[[str], bool]) -> None:
        for name, pid in running.items():
            if meant(name):
                evidence.kill(pid, signal.SIGKILL)

    def _stop(self, pid: int, seconds: float) -> None:
        """SIGSTOP: it hangs for so long, or until the swap is over."""
        evidence.kill(pid, signal.SIGSTOP)
        self._later(seconds, lambda: evidence.kill(pid, signal.SIGCONT) and None)

    def _power_cut(self) -> None:
        """Everything on the follower dies at once, and what was in its memory is gone; it is switched on again at once, too."""
        run, state = self.world.evidence[FOLLOWER].run, self.world.evidence[FOLLOWER].state
        for process in psutil.process_iter(["pid", "cmdline"]):
            if any(part.startswith((str(run), str(state))) for part in process.info["cmdline"] or ()):
                evidence.kill(process.info["pid"], signal.SIGKILL)
        for name in ("rings", "snapshots", "status"):
            shutil.rmtree(run / name, ignore_errors=True)

    def _damage(self) -> None:
        for host in self.world.evidence.values():
            for path in (host.run / "snapshots").rglob("*.snap"):
                with contextlib.suppress(OSError), path.open("r+b") as file:
                    file.seek(-1, os.SEEK_END)
                    last = file.read(1)
                    file.seek(-1, os.SEEK_END)
                    file.write(bytes([last[0] ^ 1]))

    def _later(self, seconds: float, mend: Callable[[], None]) -> None:
        self._mends.append((time.monotonic() + seconds, mend))

    def _mend_all(self) -> None:
        for _, mend in self._mends:
            mend()
        self._mends.clear()


def played(seed: int, places: int, cgroup: str, out: Path) -> int:
    """The part inside the private world."""
    run = TableRun(seed, places, cgroup)
    try:
        report: Report = run.play()
    except DemoFailed as error:
        print(f"swap-table: {error}", file=sys.stderr)
        swap_run.show_logs()
        return 1
    for name in (
        "swaps",
        "undone",
        "lost",
        "duplicated",
        "reordered",
        "mismatched",
        "frames",
        "seconds",
        "examples",
        "missing",
    ):
        setattr(run.table, name, getattr(report, name))
    out.write_text(json.dumps(asdict(run.table), indent=1) + "\n")
    print(f"swap-table: {run.table.text()}", flush=True)
    for example in [report.missing, *report.examples]:
        if example:
            print(f"swap-table: {example}", file=sys.stderr)
    if run.table.wrong:
        swap_run.show_logs()
    return int(run.table.wrong)


def main() -> int:
    """As the environment says."""
    seed, places = int(os.environ.get("SEED") or 1), int(os.environ.get("PLACES") or 0)
    print(f"swap-table: {len(FAULTS)} faults, {places or len(table_faults.PLACES)} places each", file=sys.stderr)
    return isolated("swap-table", lambda cgroup, out: played(seed, places, cgroup, out))


if __name__ == "__main__":
    sys.exit(main())
