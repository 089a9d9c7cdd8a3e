"""What a plan says of an inlet, as the data plane's process is told it. Pure; where a ring's file is, its caller knows."""

from collections.abc import Callable
from dataclasses import replace

from halftrack_dataplane import runspec
from halftrack_dataplane.runspec import RunSpec, SpecError
from halftrack_model.workload import Inlet, InletInput


def ordered(spec: RunSpec, inlet: Inlet | None, path_of: Callable[[str], str]) -> RunSpec:
    """`spec` with what the inlet reads, and how it becomes one stream. For anything else, `spec` as it is."""
    if inlet is None:
        return spec
    return replace(
        spec,
        inputs=tuple(_input(each, path_of(each.ring)) for each in inlet.inputs),
        join=inlet.join,
        join_width_ns=inlet.join_width_ns,
        join_partial=inlet.join_partial,
    )


def refusal(inlet: Inlet) -> str:
    """What the data plane would say to it when it starts; empty when it would begin."""
    try:
        runspec.dump(ordered(RunSpec("inlet", "name", output_ring="/ring"), inlet, lambda ring: f"/{ring}"))
    except SpecError as error:
        return str(error)
    return ""


def _input(each: InletInput, ring: str) -> runspec.InletInput:
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
    )
