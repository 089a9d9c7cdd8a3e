"""After the faults: has everything come to rest where it should, and was what was undone undone for a reason?

R1 (converges in bounded time, and then nothing changes), O1 (silence alone undoes nothing), O2, and S1's other half: a stream
goes on once faults have stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from halftrack_agent import gates
from halftrack_controller.snapshot import RolloutPhase
from halftrack_model.swap import Phase, SwapRecord
from tests.sim.invariants import Violation

if TYPE_CHECKING:
    from tests.sim.world import Pair, World

CALM_MS = 1_200  # nothing changes for as long: longer than any pause between two looks, tellings or heartbeats
INNOCENT = {
    "link cut",
    "one-way cut",
    "link degraded",
    "partition",
    "link flaps",
    "plan replayed",
    "plan forged",
    "record forged",
    "controller killed",
}


def unsettled(world: World, pair: Pair) -> str:
    """What is not yet as it should be, in a sentence; empty when all is."""
    controller = world.controller
    open_rollouts = [r for r in controller.rollouts.values() if r.graph == pair.graph and not r.phase.ended]
    if open_rollouts:
        return f"rollout {open_rollouts[0].rollout_id} is {open_rollouts[0].phase.value}: {open_rollouts[0].reason}"
    for name in pair.hosts:
        if text := _host(world, name):
            return text
    return _output(world, pair)


def _host(world: World, name: str) -> str:
    agent, host, held = world.agents[name], world.hosts[name], world.controller.held.get(name)
    if held is None or not agent.alive or agent.state.plan is None:
        return f"{name} has no plan, or its agent is dead"
    plan = agent.state.plan.plan
    if plan.revision != held.plan.revision:
        return f"{name} runs revision {plan.revision}, the newest is {held.plan.revision}"  # O2
    if plan.swaps:
        return f"{name} still has swap {plan.swaps[0].swap_id}"
    for workload in plan.workloads:
        instance = host.instances.get(workload.name)
        if instance is None or instance.life is None or instance.digest != workload.digest():
            return f"{workload.name} does not run on {name}"
    if extra := set(host.instances) - {w.name for w in plan.workloads}:
        return f"{sorted(extra)} should not be on {name}"
    if set(host.rings) != {ring.name for ring in plan.rings}:
        return f"the rings on {name} are {sorted(host.rings)}"
    if world.now_ms - agent.restless_ms < CALM_MS:
        return f"{name} still changes things"
    return ""


def _output(world: World, pair: Pair) -> str:
    host = world.hosts[pair.hosts[0]]
    merged, source = host.rings[f"{pair.graph}/spectrometer"], host.rings[f"{pair.graph}/source"]
    cuts = merged.owners.cuts()
    top = max(cuts, key=lambda cut: cut.epoch, default=None)
    force = in_force(world, pair)
    if top is None or top.applied_at is None or top.generation != force[1]:
        return f"the owner table ends with {top}, in force is {force}"
    if source.head // 2 - merged.head > host.rate // 2:
        return f"the output is at {merged.head}, the input at {source.head}"
    heads = {name: ring.head for name, ring in host.rings.items() if "@" in name}
    if len(heads) != 2 or any(abs(head - merged.head) > host.rate for head in heads.values()):
        return f"the output is at {merged.head}, the members at {heads}"
    return ""


def in_force(world: World, pair: Pair) -> tuple[str, int]:
    """Version and generation that the pair's vertex runs, as the controller has it."""
    mine = [r for r in world.controller.rollouts.values() if r.graph == pair.graph and r.vertex == "spectrometer"]
    good = [r for r in mine if r.phase is RolloutPhase.SUCCEEDED]
    last = max(good, key=lambda r: r.to_generation, default=None)
    return (last.to_version, last.to_generation) if last else ("", 0)


def judge_end(world: World, pair: Pair, record: SwapRecord | None) -> None:
    """A swap that ended: was it ended for a reason, and does the controller say the same?"""
    if pair.swap is None or record is None:
        return
    rollout = world.controller.rollouts[pair.rollout_id]
    succeeded = rollout.phase is RolloutPhase.SUCCEEDED
    if succeeded != (record.phase is Phase.DONE):
        raise Violation("O2", f"the swap is {record.phase.value}, its rollout {rollout.phase.value}")
    if record.phase is not Phase.UNDONE:
        return
    struck, reason, green = set(pair.faults.struck), record.reason, pair.swap.green.version
    kills = sum(n for name, n in world.killed.items() if name.endswith(f"@{green}"))
    if struck <= INNOCENT and not world.wrong:
        raise Violation("O1", f"undone ({reason}) although nothing but {sorted(struck)} happened")
    reasons = {
        "failed on": bool(struck & {"release broken", "process frozen", "process hangs"}),
        "aborted by": "abort" in struck,
        "was killed": kills > pair.swap.strategy.green_deaths,
        " still ": bool(struck - INNOCENT),
        "could not be judged": kills > gates.JUDGE_ENDS,
        "come within": bool(struck - INNOCENT),
        "break its invariant": world.wrong,  # what a green lost with its process, its host or its link is never held against it
    }
    if not any(holds for word, holds in reasons.items() if word in reason):
        raise Violation("O1", f"undone for what did not happen: {reason}; {sorted(struck)} did")
