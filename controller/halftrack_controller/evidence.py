"""Evidence: what hosts show about a rollout, of three values, each with the sentence that says why. Pure, reads only.

Only what was seen *under the new release* counts: an instance is judged by the digest that the newest plan gives it. A host of
which nothing fresh is known is UNKNOWN, whatever it said last: it neither passes nor fails anything (O1). What a leader's
record says of an ended swap is journaled history, and counts however old it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from halftrack_controller import services, standing
from halftrack_controller.snapshot import Rollout, Snapshot
from halftrack_model.graph import Role, Vertex
from halftrack_model.observed import Health, InstanceObserved
from halftrack_model.plan import Plan
from halftrack_model.swap import Phase, SwapRecord, SwapSpec
from halftrack_model.workload import Workload


class Verdict(Enum):
    """What the evidence says of a rollout."""

    PASSED = "passed"
    FAILED = "failed"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict and its reason, in prose."""

    verdict: Verdict
    text: str


def of_rollout(snapshot: Snapshot, rollout: Rollout) -> Finding:
    """What is known of a rollout whose plans have been made."""
    found = standing.vertex_of(snapshot, rollout)
    swap = standing.held_swap(snapshot, rollout.rollout_id)
    if swap is not None:
        return _refused(snapshot, rollout, swap.hosts) or _of_swap(snapshot, swap)
    if found is None:
        return Finding(
            Verdict.OPEN, f"graph {rollout.graph} has no vertex {rollout.vertex} any more; abort the rollout"
        )
    graph, vertex = found
    hosts = services.hosts_of(snapshot, graph, vertex)
    return _refused(snapshot, rollout, hosts) or _of_instances(snapshot, rollout, vertex, hosts)


def _refused(snapshot: Snapshot, rollout: Rollout, hosts: Iterable[str]) -> Finding | None:
    """A host's refusal of the plan that brought this rollout to it. One that already acts on it refuses something else."""
    for host in hosts:
        refusal = standing.seen(snapshot, host).refusal
        if refusal is None or not standing.refuses_newest(snapshot, host) or _acts_on(snapshot, host, rollout):
            continue
        if standing.plan_carries(snapshot.held[host].plan, rollout):
            return Finding(Verdict.FAILED, f"{host} refused the plan: {refusal.reason}: {refusal.message}")
    return None


def _acts_on(snapshot: Snapshot, host: str, rollout: Rollout) -> bool:
    observed = standing.seen(snapshot, host).observed
    if observed is None:
        return False
    if any(record.swap_id == rollout.rollout_id for record in observed.swaps):
        return True
    digests = {w.digest() for w in _brought(snapshot.held[host].plan, rollout)}
    return any(instance.digest in digests for instance in observed.instances)


def _brought(plan: Plan, rollout: Rollout) -> tuple[Workload, ...]:
    """The workloads of the plan that run the rollout's release at its vertex."""
    prefix = f"{rollout.graph}.{rollout.vertex}"
    return tuple(
        w
        for w in plan.workloads
        if w.version == rollout.to_version and (w.name == prefix or w.name.startswith(f"{prefix}."))
    )


# ------------------------------------------------------------------------------------------------------------------- swaps


def _of_swap(snapshot: Snapshot, swap: SwapSpec) -> Finding:
    record = standing.record(snapshot, swap)
    if record is None:
        silence = standing.silences(snapshot, swap.hosts)
        return Finding(Verdict.OPEN, f"the swap is ordered; {silence or f'{swap.leader} has not begun yet'}")
    if record.phase is Phase.DONE:
        return Finding(Verdict.PASSED, f"both seats run {swap.green.version}")
    if record.phase is Phase.UNDONE:
        why = record.reason or f"{swap.leader} has undone the swap and gave no reason"
        return Finding(Verdict.FAILED, "\n".join([why, *record.diff]))
    return Finding(Verdict.OPEN, _progress(snapshot, swap, record))


def _progress(snapshot: Snapshot, swap: SwapSpec, record: SwapRecord) -> str:
    text = f"seat {record.leg + 1} of {len(swap.seats)} on {swap.seats[record.leg].host} is {record.phase.value}"
    if swap.strategy.surge == 2:
        text = f"both seats on {' and '.join(swap.hosts)} are {record.phase.value}"
    if why := record.reason or standing.waits(snapshot, swap):
        text += f" ({why})"
    silence = standing.silences(snapshot, swap.hosts)
    return f"{text}; {silence}, the hosts go on by themselves" if silence else text


# ------------------------------------------------------------------------------------------------- installs, single vertices


def _of_instances(snapshot: Snapshot, rollout: Rollout, vertex: Vertex, hosts: Sequence[str]) -> Finding:
    """Passed when every host of the vertex shows the new instances healthy; of a service, every one that is seen (O2)."""
    waits: list[str] = []
    unseen: list[str] = []
    for host in hosts:
        if silence := standing.silence(snapshot, host):
            unseen.append(silence)
            continue
        brought = _brought(snapshot.held[host].plan, rollout) if host in snapshot.held else ()
        if not brought:
            waits.append(f"{host} has no plan for it yet")
        for workload in brought:
            finding = _of_instance(snapshot, rollout, host, workload)
            if finding.verdict is Verdict.FAILED:
                return finding
            if finding.verdict is Verdict.OPEN:
                waits.append(finding.text)
    seen = [host for host in hosts if standing.visible(snapshot, host)]
    if waits or not seen or (unseen and vertex.role is not Role.SERVICE):
        return Finding(Verdict.OPEN, "; ".join([*waits, *unseen]) or "no host is to run it yet")
    rest = f"; not counted: {'; '.join(unseen)}" if unseen else ""
    return Finding(Verdict.PASSED, f"{rollout.to_version} runs on {' and '.join(seen)}{rest}")


def _of_instance(snapshot: Snapshot, rollout: Rollout, host: str, workload: Workload) -> Finding:
    instance = _instance(snapshot, host, workload)
    if instance is None:
        return Finding(Verdict.OPEN, f"{workload.name} has not started on {host} yet")
    if instance.health is Health.HEALTHY and instance.phase == "running":
        return Finding(Verdict.PASSED, "")
    text = f"{workload.name} on {host} is {instance.phase}" + (f": {instance.detail}" if instance.detail else "")
    release = snapshot.releases[(rollout.product, rollout.to_version)].release
    strategy = release.strategy
    if (
        rollout.from_version
        and release.health is not None
        and instance.health is Health.UNHEALTHY
        and instance.phase == "running"
    ):
        return Finding(
            Verdict.FAILED, f"{text}, and its release says that this must not be"
        )  # probes have a patience of their own
    # A first release has nothing to go back to: it is left to be retried until a person or a newer release decides.
    hopeless = rollout.from_version and instance.restarts > strategy.green_deaths
    if hopeless and instance.health is Health.UNHEALTHY:
        return Finding(Verdict.FAILED, f"{text} ({instance.restarts} restarts, {strategy.green_deaths} are tolerated)")
    return Finding(Verdict.OPEN, text)


def _instance(snapshot: Snapshot, host: str, workload: Workload) -> InstanceObserved | None:
    """The instance under the digest that the newest plan gives it; what an older digest did is no evidence."""
    observed = standing.seen(snapshot, host).observed
    rows = observed.instances if observed else ()
    return next((row for row in rows if row.workload == workload.name and row.digest == workload.digest()), None)
