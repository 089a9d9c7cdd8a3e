"""Health: what a host's own evidence says of each instance (DESIGN.md section 5). Pure; one verdict a look.

Two probes, both without a process or a packet of their own:

* *process*: the lifecycle's phase. Just started is unknown, not healthy; ended without an order is unhealthy.
* *stream*: a running instance that reads a ring without loss must keep up with it. It is unhealthy when, for `BEHIND_PATIENCE_MS` on end, it
  had more than half of what the ring retains before it, or did not read at all; it is healthy again below a quarter. The two
  marks and the patience keep a burst, a join or a restart from flapping the verdict, and so the digest of heartbeats.

Nothing here restarts anything: a verdict is evidence for gates and for people.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from halftrack_agent import inlet_orders
from halftrack_agent.events import HostView, RingSeen
from halftrack_agent.lifecycle import Phase
from halftrack_agent.reconcile import Instance
from halftrack_dataplane.frames import reader_name
from halftrack_model.observed import Health
from halftrack_model.workload import Runs, Workload

SETTLED_MS = 1_000  # a start is called healthy when it has lasted this long
BEHIND_PATIENCE_MS = 2_000  # longer than a restart with replay takes, shorter than any ring worth having lasts
FEW_FRAMES = 64  # of a ring that has hardly begun, half is nothing
assert SETTLED_MS < BEHIND_PATIENCE_MS  # noqa: S101

_SETTLED = {Phase.ENDED: Health.HEALTHY, Phase.FAILED: Health.UNHEALTHY, Phase.RESTING: Health.UNHEALTHY}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is thought of an instance now. `behind_since_ms` is -1 while its stream probe has nothing to say."""

    health: Health
    detail: str
    behind_since_ms: int


def judged(
    instances: Mapping[str, Instance], before: Mapping[str, Verdict], view: HostView, now_ms: int
) -> Mapping[str, Verdict]:
    """The verdict on each instance after this look."""
    return {name: _verdict(instance, before.get(name), view, now_ms) for name, instance in instances.items()}


def _verdict(instance: Instance, before: Verdict | None, view: HostView, now_ms: int) -> Verdict:
    if instance.phase is not Phase.RUNNING:
        return Verdict(_SETTLED.get(instance.phase, Health.UNKNOWN), instance.detail, -1)
    if now_ms - instance.since_ms < SETTLED_MS:
        return Verdict(Health.UNKNOWN, "", -1)
    behind = _behind(instance, before, view)
    if not behind:
        return Verdict(Health.HEALTHY, "", -1)
    since_ms = now_ms if before is None or before.behind_since_ms < 0 else before.behind_since_ms
    if now_ms - since_ms < BEHIND_PATIENCE_MS:
        return Verdict(Health.HEALTHY if before is None else before.health, "", since_ms)
    return Verdict(Health.UNHEALTHY, behind, since_ms)


def _behind(instance: Instance, before: Verdict | None, view: HostView) -> str:
    """What the stream probe holds against a running instance, without numbers that change at each look; empty for nothing."""
    was_behind = before is not None and before.behind_since_ms >= 0
    rings = (view.rings[name] for name in _followed(instance.workload, view) if name in view.rings)
    return next((text for ring in rings if (text := _behind_in(ring, instance.workload.name, was_behind))), "")


def _followed(workload: Workload, view: HostView) -> tuple[str, ...]:
    """The rings that it must keep up with: not another host's, nor what a judge only looks at, nor one that the graph lets it fall behind in,
    nor one that is not in force."""
    if workload.runs in (Runs.BRIDGE_RECEIVER, Runs.JUDGE):
        return ()
    own = view.rings.get(workload.writes_ring)
    inputs = () if workload.inlet is None else inlet_orders.in_force(workload.inlet, () if own is None else own.cuts)
    return (
        workload.reads_ring,
        *(e.ring for e in inputs if e.policy == "lossless" and not e.evict_after_ms and not e.spool),
    )


def _behind_in(ring: RingSeen, reader: str, was_behind: bool) -> str:
    lag = ring.lags.get(reader_name(reader))
    if lag is None:
        return f"it does not read {ring.name}"
    bound = max(FEW_FRAMES, (ring.head - ring.tail) // (4 if was_behind else 2))
    return f"it does not keep up with {ring.name}" if lag > bound else ""
