"""What a plan says of a judge, as the data plane's process is told it. Pure; where a ring's file is, its caller knows."""

from collections.abc import Callable
from dataclasses import replace

from halftrack_dataplane import judge_orders
from halftrack_dataplane.runspec import RunSpec
from halftrack_model import verdict
from halftrack_model.workload import Judge


def ordered(spec: RunSpec, judge: Judge | None, path_of: Callable[[str], str]) -> RunSpec:
    """`spec` with what the judge compares, and how. For anything else, `spec` as it is."""
    return spec if judge is None else replace(spec, judge=_orders(judge, path_of))


def refusal(judge: Judge) -> str:
    """What stands against it, or what the data plane would say to it when it starts; empty when it would begin."""
    faults = verdict.faults(judge.verdict)
    return faults[0] if faults else judge_orders.fault(_orders(judge, lambda ring: f"/{ring}"))


def _orders(judge: Judge, path_of: Callable[[str], str]) -> judge_orders.JudgeOrders:
    asked = judge.verdict
    return judge_orders.JudgeOrders(
        pairs=tuple(
            judge_orders.JudgedPair(pair.green_ring, path_of(pair.blue_ring), path_of(pair.green_ring))
            for pair in judge.pairs
        ),
        check=asked.check.value,
        entry=asked.entry,
        fields=tuple(
            judge_orders.FieldTolerance(each.name, each.dtype, each.count, each.absolute, each.relative)
            for each in asked.fields
        ),
        lag_frames=judge.lag_frames,
    )
