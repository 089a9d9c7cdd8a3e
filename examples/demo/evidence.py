"""What the hosts themselves put down about what happens on them: the files that their agents and rings leave for anybody to read.

Reads only, and only from a host's folders: instances (who runs, who ended how), the journal (plans, records of swaps), rings.
It does not ask any process anything, so it sees the same whether the links are up or cut.
"""

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halftrack_agent import journal, ledger
from halftrack_agent.events import JournalPlan, JournalSwap
from halftrack_dataplane.frames import RingError, RingStats
from halftrack_dataplane.ring import Ring
from halftrack_model import canonical
from halftrack_model.plan import Plan
from halftrack_model.swap import SwapRecord, SwapSpec

_KILLED = re.compile(r"instance-exited (\S+) signal 9\b")


@dataclass(frozen=True, slots=True)
class Life:
    """One process of a workload."""

    host: str
    workload: str
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class End:
    """How a life ended, by its own exit or by a signal."""

    code: int | None
    signal: int | None
    detail: str


@dataclass
class HostEvidence:
    """One host. `lives` has every process that was ever seen, in order; `ends` those whose exit was seen."""

    host: str
    run: Path
    state: Path
    log: Path  # the agent's
    lives: list[Life] = field(default_factory=list)
    ends: dict[Life, End] = field(default_factory=dict)
    swaps: dict[str, list[SwapRecord]] = field(default_factory=dict)  # every record that was seen, by swap
    orders: dict[str, SwapSpec] = field(default_factory=dict)  # the plan's order for each of them
    _rings: dict[Path, tuple[int, Ring]] = field(default_factory=dict)
    _journal_size: int = 0
    _known: set[Life] = field(default_factory=set)

    def look(self) -> Iterator[str]:
        """Take in what is new; yields it in words."""
        yield from self._instances()
        yield from self._journal()

    def running(self) -> dict[str, int]:
        """Workloads that run now, with their process ids."""
        latest = {life.workload: life for life in self.lives}
        return {
            name: life.pid
            for name, life in latest.items()
            if life not in self.ends and _ticks(life.pid) == life.start_ticks
        }

    def killed(self) -> Counter[str]:
        """How often SIGKILL has ended each workload, by the agent's log: whoever sent it."""
        try:
            return Counter(_KILLED.findall(self.log.read_text(errors="replace")))
        except OSError:
            return Counter()

    def rings(self) -> dict[str, RingStats]:
        """The rings on this host."""
        folder, found = self.run / "rings", {}
        for path in sorted(folder.rglob("*.ring")):
            with contextlib.suppress(OSError, RingError):
                found[str(path.relative_to(folder))[: -len(".ring")]] = self._ring(path).stats()
        return found

    def ring(self, name: str) -> Ring | None:
        """One ring, if it is there."""
        try:
            return self._ring(self.run / "rings" / f"{name}.ring")
        except (OSError, RingError):
            return None

    def status(self, workload: str) -> dict[str, Any]:
        """What a data-plane process says about itself; empty while it has said nothing."""
        return _json(self.run / "status" / f"{workload}.json")

    def _ring(self, path: Path) -> Ring:
        inode = path.stat().st_ino
        held = self._rings.get(path)
        if held is None or held[0] != inode:
            held = self._rings[path] = inode, Ring.open(path, readonly=True)
        return held[1]

    def _instances(self) -> Iterator[str]:
        for folder in sorted(
            (self.state / "instances").glob("*")
        ):  # also those on their way out, which begin with a dot
            who, exited = _json(folder / "instance.json"), _json(folder / "exit.json")
            if "pid" not in who or who.get("start_ticks") is None:
                continue
            life = Life(self.host, str(who["workload"]), who["pid"], who["start_ticks"])
            if life not in self._known:
                self._known.add(life)
                self.lives.append(life)
                yield f"{self.host}: {life.workload} runs (pid {life.pid})"
            if exited and life not in self.ends:
                end = self.ends[life] = End(exited["code"], exited["signal"], exited["detail"])
                how = f"signal {end.signal}" if end.signal is not None else f"exit status {end.code}"
                yield f"{self.host}: {life.workload} ended: {how} {end.detail}".rstrip()

    def _journal(self) -> Iterator[str]:
        path = self.state / "journal"
        try:
            size = path.stat().st_size
        except OSError:
            return
        if size == self._journal_size:
            return
        self._journal_size = size
        for payload in ledger.scan(path.read_bytes(), ledger.magic_of("journal")).payloads:
            entry = journal.decoded(payload)
            if isinstance(entry, JournalPlan):
                plan = canonical.decode(Plan, entry.sealed.payload)
                self.orders |= {order.swap_id: order for order in plan.swaps}
            if isinstance(entry, JournalSwap):
                yield from self._swap(entry.record)

    def _swap(self, record: SwapRecord) -> Iterator[str]:
        records = self.swaps.setdefault(record.swap_id, [])
        if records and record.number <= records[-1].number:
            return
        records.append(record)
        fence = f", fence {record.fence}" if record.phase.value == "armed" else ""
        reason = f": {record.reason}" if record.reason else ""
        yield f"{self.host}: swap {record.swap_id}, seat {record.leg + 1}: {record.phase.value.upper()}{fence}{reason}"


def _json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _ticks(pid: int) -> int | None:
    """When the process started; None when there is none, or only its remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def kill(pid: int, number: int) -> bool:
    """Send a signal; False when nobody is there any more."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
