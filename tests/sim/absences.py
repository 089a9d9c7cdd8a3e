"""Hosts that are away for months, in runs that are long enough: cut off or switched off in one piece, while releases, storms and quiet times pass without them.

Who is away is judged by nothing but what it does at once (`watch`); who is back must be where all others are by the end of the storm in which it came
back: with the current decision, and with a certificate, which has mostly ended meanwhile (O2, C2). Randomness is of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from halftrack_controller.snapshot import Rollout
from halftrack_model.disconnect import lost_after_ms

if TYPE_CHECKING:
    from halftrack_model.graph import StreamGraph
    from tests.sim.fleet import Fleet

DAY_MS = 86_400_000
DAYS = (30, 100)
SHORTEST_RUN_DAYS = 50.0  # in a shorter one nobody is away
ONE_OF = (
    20  # of so many hosts at most one is away, beside the first; and of those that may run the same services, only one
)
WAYS = ("away in", "away out")
LATE_MS = 5_000


@dataclass(frozen=True, slots=True)
class Absence:
    """Of one host."""

    since_ms: int
    until_ms: int


class Absences:
    """Who is away, and who has come back."""

    def __init__(self, world: Fleet) -> None:
        self.world, self.rng = world, world.rng("absences")
        self.away: dict[str, Absence] = {}
        self.over: list[int] = []  # how long each of those was that have ended

    def storm(self) -> None:
        """A storm begins: whose time has come is back, and others go."""
        for name, absence in sorted(self.away.items()):
            if absence.until_ms <= self.world.now_ms:
                self._back(name)
        if self.world.days >= SHORTEST_RUN_DAYS:
            self._go()

    def lost_ms(self) -> int:
        """When the last of them will have been replaced, where that is declared: a controller that was restarted has waited for less."""
        rules = {name: self.world.rule_of(name) for name in self.away}
        waits_ms = {name: lost_after_ms(rule, sighted=True) for name, rule in rules.items() if rule.replace}
        due = (self._silent_since_ms(name) + wait_ms for name, wait_ms in waits_ms.items())
        return max(due, default=-LATE_MS) + LATE_MS

    def _silent_since_ms(self, name: str) -> int:
        controller = self.world.controller
        return max(controller.known[name].heard_ms, controller.listens_ms, self.world.lines[name].cut_ms)

    def excuses(self, rollout: Rollout) -> bool:
        """Can it not end, since all that run it are away?"""
        graph = next(graph for graph in self.world.graphs if graph.name == rollout.graph)
        runners = self._runners(graph)
        return bool(runners) and runners <= self.away.keys()

    def missing(self, graph: StreamGraph) -> int:
        """How many of a service's instances are with hosts that are away, and that nobody stands in for."""
        replaced = {each.replaces for held in self.world.controller.held.values() for each in held.plan.holdings}
        return len((self._runners(graph) & self.away.keys()) - replaced)

    def _runners(self, graph: StreamGraph) -> set[str]:
        workload = f"{graph.name}.{graph.vertices[0].name}"
        plans = {
            name: self.world.controller.held[name].plan
            for name in graph.vertices[0].hosts
            if name in self.world.controller.held
        }
        return {
            name
            for name, plan in plans.items()
            if not plan.holding(workload).idle and any(each.name == workload for each in plan.workloads)
        }

    def _go(self) -> None:
        left_ms = int(self.world.days * DAY_MS) - self.world.now_ms
        for graph in self.world.graphs:
            hosts = graph.vertices[0].hosts
            lasts_ms, name = self.rng.randint(DAYS[0] * DAY_MS, DAYS[1] * DAY_MS), self.rng.choice(hosts)
            off, chance = self.rng.random() < 0.3, self.rng.random() < 0.25
            taken = len(self.away) > len(self.world.hosts) // ONE_OF or any(host in self.away for host in hosts)
            if taken or not chance or lasts_ms > left_ms:
                continue
            host = self.world.hosts[name]
            self.world.story.tell(name, f"is {'off' if off else 'away'} for {lasts_ms // DAY_MS} days")
            self.away[name] = Absence(self.world.now_ms, self.world.now_ms + lasts_ms)
            self.world.sever(name, WAYS)
            if off and host.on:
                self.world.faults.switch_off(host, int(lasts_ms * self.rng.uniform(0.2, 1)))

    def _back(self, name: str) -> None:
        absence = self.away.pop(name)
        lasted_ms = self.world.now_ms - absence.since_ms
        self.over.append(lasted_ms)
        self.world.struck["away for months"] += 1
        self.world.story.tell(name, f"is back after {lasted_ms // DAY_MS} days")
        self.world.mend(name, WAYS)
