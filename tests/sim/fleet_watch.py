"""What must hold in a fleet of services at every step, and where it must come to rest.

Never two deciding, where that is promised: what a host's plan would let another run in its place does not run there any more by then. Nothing is
stopped sooner than its rule says. No clock's floor goes down.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from halftrack_agent import events as ev
from halftrack_controller.snapshot import RolloutPhase
from halftrack_model.disconnect import ColdBoot, Disconnect
from tests.sim.invariants import Violation, Watch

if TYPE_CHECKING:
    from tests.sim.fleet import Fleet
    from tests.sim.service_host import ServiceHost

LATE_MS = 5_000  # within which a host has noticed, looked and stopped; a third of the margin that the rules leave
EARLY_MS = 2_000  # what a look and a beat are wide


class FleetWatch(Watch):
    """The watch of `invariants`, of hosts without streams."""

    world: Fleet  # type: ignore[assignment]

    def __init__(self, world: Fleet) -> None:
        super().__init__(world)  # type: ignore[arg-type]
        self.deeds = 0  # starts and stops, of those that are not away for months
        self.rot: set[str] = set()  # hosts that lost their journal and have no plan since: nothing is stopped there
        self.rebooted: set[str] = set()  # while out of step

    def acting(self, agent: ServiceHost, action: ev.Action) -> None:  # type: ignore[override]
        """Just before an action is carried out."""
        super().acting(agent, action)  # type: ignore[arg-type]
        if isinstance(action, ev.Start):
            self._starting(agent, action.workload.name)
        self.deeds += isinstance(action, ev.Start | ev.Stop) and agent.name not in self.world.absences.away

    def _starting(self, starter: ServiceHost, name: str) -> None:
        """Whoever runs in the place of a host that nobody can reach, and that host too."""
        rule = self.world.service_of(name).disconnect
        if rule is None or not (rule.replace and rule.stop_after_ms):
            return
        for host in self.world.hosts.values():
            plan = self.of(host.name).plan
            runs = host is starter or host.running(name)
            original = plan.holding(name).replaces if plan and runs else ""
            if original and (starter.name == original or self.world.hosts[original].running(name)):
                self._twice(self.world.hosts[original], host, name, rule)

    def _twice(self, original: ServiceHost, stand_in: ServiceHost, name: str, rule: Disconnect) -> None:
        away_ms = original.away_on_ms()
        late = away_ms > rule.stop_after_ms + LATE_MS
        promised = rule.cold_boot is ColdBoot.WAIT or original.name not in self.rebooted
        if late and promised and original.name not in self.rot and not self._goes(original, name):
            text = f"{name} runs on {original.name}, which has been out of step for {away_ms} ms, and on {stand_in.name} in its place"
            raise Violation("O2", text)

    @staticmethod
    def _goes(host: ServiceHost, name: str) -> bool:
        """Was it told to stop, or is there no agent that could tell it?"""
        return host.running(name) and (host.instances[name].leaves or not host.alive)

    def _stopping(self, agent: ServiceHost, name: str, reason: str) -> None:  # type: ignore[override]
        plan, program = self.of(agent.name).plan, agent.instances.get(name)
        if plan is None:
            raise Violation("R3", f"{name} is stopped although nothing is known to be wanted")
        workload = next((w for w in plan.workloads if w.name == name), None)
        if program is None or not program.running or workload is None or workload.digest() != program.digest:
            return
        holding = plan.holding(name)
        rule, away_ms = holding.disconnect, agent.away_on_ms()
        late = rule is not None and rule.stop_after_ms and away_ms >= rule.stop_after_ms - EARLY_MS
        waits = rule is not None and rule.cold_boot is ColdBoot.WAIT and agent.boots > 1
        if not (holding.idle or late or waits or agent.note is None):
            raise Violation(
                "R2", f"{name} on {agent.name} runs as wanted, is {away_ms} ms out of step, and is stopped: {reason}"
            )

    def floor(self, host: ServiceHost, before_ms: int, after_ms: int) -> None:
        """C1: the least that the time can be."""
        if after_ms < before_ms:
            raise Violation("C1", f"the clock's floor of {host.name} goes from {before_ms} down to {after_ms}")

    def rested(self) -> None:
        """All is where it should be: what was forgiven is so no longer."""
        self.world.controller.rested()
        self.rot &= self.world.absences.away.keys()
        self.rebooted &= self.world.absences.away.keys()


def unsettled(world: Fleet) -> str:
    """What is not yet as it should be; empty when all is."""
    return next(_faults(world), "")


def _faults(world: Fleet) -> Iterator[str]:
    controller = world.controller
    for each in (controller.rollouts[name] for name in controller.recent):
        if not each.phase.ended and not world.absences.excuses(each):
            yield f"rollout {each.rollout_id} is {each.phase.value}: {each.reason}"
        if each.phase is RolloutPhase.FAILED and not world.killed[each.graph]:
            yield f"rollout {each.rollout_id} has failed: {each.reason}"
    for name, host in world.hosts.items():
        if name in world.absences.away:
            continue
        held = controller.held.get(name)
        if not host.alive or not host.session or controller.sessions.get(name) != host.session:
            yield f"{name} is not connected"
            continue
        if held is None:
            continue
        plan = host.state.plan.plan if host.state.plan else None
        if plan is None or plan.revision != held.plan.revision:
            yield f"{name} runs revision {plan.revision if plan else 0}, the newest is {held.plan.revision}"
            continue
        wanted = {w.name: w for w in plan.workloads if not plan.holding(w.name).idle}
        running = {n: p for n, p in host.instances.items() if p.running and not p.leaves}
        if wanted.keys() != running.keys() or any(running[n].digest != w.digest() for n, w in wanted.items()):
            yield f"{name} runs {sorted(running)}, wanted is {sorted(wanted)}"
    for graph in world.graphs:
        vertex = graph.vertices[0]
        workload = f"{graph.name}.{vertex.name}"
        count = sum(host.running(workload) for name, host in world.hosts.items() if name not in world.absences.away)
        due = (vertex.instances or len(vertex.hosts)) - world.absences.missing(graph)
        due = 0 if graph.name in world.deletions.gone else due
        if count != due:
            yield f"{count} instances of {workload} run, {due} are wanted"
