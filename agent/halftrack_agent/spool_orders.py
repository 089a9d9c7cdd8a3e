"""What a plan says of a spool, as the data plane's process is told it. Pure; where its folder is, its caller knows."""

from collections.abc import Sequence
from dataclasses import replace

from halftrack_dataplane import spool_orders
from halftrack_dataplane.runspec import RunSpec
from halftrack_model.workload import Runs, SpoolLimits, Workload


def ordered(spec: RunSpec, limits: SpoolLimits | None, folder: str) -> RunSpec:
    """`spec` with what the spool may hold, and where. For anything else, `spec` as it is."""
    return spec if limits is None else replace(spec, spool=_orders(limits, folder))


def refusals(workload: Workload, others: Sequence[Workload]) -> tuple[str, ...]:
    """Why it could not be run, each in a sentence; empty when it could. An inlet asks a spool of the very ring that it reads."""
    found, limits = [], workload.spool
    if (limits is not None) != (workload.runs is Runs.SPOOL):
        found.append("a spool, and nothing else, has the limits of one")
    if limits is not None and (fault := spool_orders.fault(_orders(limits, "/folder"))):
        found.append(fault)
    if workload.runs is Runs.SPOOL and not workload.reads_ring:
        found.append("a spool without a ring has nothing to keep")
    kept = {(each.name, each.reads_ring) for each in others if each.runs is Runs.SPOOL}
    for each in () if workload.inlet is None else workload.inlet.inputs:
        if each.spool and (each.spool, each.ring) not in kept:
            found.append(f"it asks {each.spool!r} for what {each.ring} has let go, and no such spool is in the plan")
    return tuple(f"{workload.name} cannot be run: {text}" for text in found)


def _orders(limits: SpoolLimits, folder: str) -> spool_orders.SpoolOrders:
    return spool_orders.SpoolOrders(folder, limits.size_bytes, limits.retain_ms, limits.full)
