"""What a plan says of an inlet, as the data plane's process is told it. Pure; where a ring's file is, its caller knows."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from halftrack_agent.events import CutSeen, RingSeen
from halftrack_dataplane import runspec
from halftrack_dataplane.runspec import RunSpec, SpecError
from halftrack_model.observed import Owner
from halftrack_model.workload import Inlet, InletInput, Runs, Workload


def ordered(
    spec: RunSpec, inlet: Inlet | None, path_of: Callable[[str], str], spool_of: Callable[[str], str]
) -> RunSpec:
    """`spec` with what the inlet reads, and how it becomes one stream. For anything else, `spec` as it is."""
    if inlet is None:
        return spec
    return replace(
        spec,
        inputs=tuple(_input(each, path_of(each.ring), spool_of(each.spool)) for each in inlet.inputs),
        join=inlet.join,
        join_width_ns=inlet.join_width_ns,
        join_partial=inlet.join_partial,
    )


def refusal(inlet: Inlet) -> str:
    """What the data plane would say to it when it starts; empty when it would begin."""
    try:
        spec = RunSpec("inlet", "name", output_ring="/ring")
        runspec.dump(ordered(spec, inlet, lambda ring: f"/{ring}", lambda spool: spool and f"/{spool}"))
    except SpecError as error:
        return str(error)
    return ""


def renewable(workload: Workload) -> bool:
    """Can a running instance of this name take these orders up, without ending?

    Only an inlet of a graph that is edited while it runs, which is what inputs of a later generation are for: it keeps numbers, and its
    process looks for new orders. One that was started before there were such edits does not.
    """
    inlet = workload.inlet
    return (
        inlet is not None
        and inlet.join in runspec.BY_NUMBER
        and not any(each.latest or each.rate_per_s for each in inlet.inputs)
        and any(each.generation for each in inlet.inputs)
    )


def in_force(inlet: Inlet, cuts: Iterable[CutSeen]) -> tuple[InletInput, ...]:
    """The inputs that it passes now, as its ring's owner table says; the others are gone from, or not gone over to yet."""
    written = max((cut.generation for cut in cuts if cut.applied_at is not None), default=0)
    left = [each.generation for each in inlet.inputs if each.generation >= written]
    return tuple(each for each in inlet.inputs if left and each.generation == min(left))


def owners(workloads: Iterable[Workload], rings: Mapping[str, RingSeen]) -> tuple[Owner, ...]:
    """Which generation each inlet here passes, and since which number, where edits have made more than one."""
    found = []
    for workload in workloads:
        ring = rings.get(workload.writes_ring)
        if workload.runs is Runs.INLET and ring is not None:
            applied = [cut for cut in ring.cuts if cut.applied_at is not None]
            last = max(applied, key=lambda cut: cut.epoch, default=None)
            if last is not None and last.applied_at is not None:
                found.append(Owner(ring.name, last.generation, last.applied_at))
    return tuple(sorted(found, key=lambda owner: owner.ring))


def _input(each: InletInput, ring: str, spool: str) -> runspec.InletInput:
    return runspec.InletInput(
        name=each.name,
        ring=ring,
        policy=each.policy,
        every=each.every,
        rate_per_s=each.rate_per_s,
        latest=each.latest,
        key_offset=each.key_offset,
        key_bytes=each.key_bytes,
        key_of=each.key_of,
        key_take=each.key_take,
        replay_ms=each.replay_ms,
        evict_after_ms=each.evict_after_ms,
        generation=each.generation,
        spool=spool,
    )
