"""Probes: what is thought of a running instance, as healthy, unhealthy or unknown. Pure.

* *process*: an instance that has just been started is unknown, one that has run for `SETTLED_MS` is healthy, one that rests after
  a death or ended without an order is unhealthy.
* *stream*: a running instance that reads a ring without loss must keep up with it. It is unhealthy when, for `BEHIND_PATIENCE_MS` on end, it
  had more than half of what the ring retains before it, or did not read at all; it is healthy again below a quarter. The two
  marks and the patience keep a burst, a join or a restart from flapping the verdict, and so the digest of heartbeats.
* *declared*: what its release says must be seen (`probes`). Each probe has its own counts in a row; all must be good. Until they were, for the first
  time, or the grace is over, the instance is unknown.

A running instance whose verdict keeps changing is unknown (`damping`). Nothing here restarts anything: a verdict is evidence for gates and for people.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from halftrack_agent import damping, inlet_orders
from halftrack_agent.damping import CALM, Damping
from halftrack_agent.events import HostView, ProbeSeen, RingSeen
from halftrack_agent.lifecycle import Phase
from halftrack_agent.reconcile import Instance
from halftrack_dataplane.frames import reader_name
from halftrack_model.observed import Health
from halftrack_model.probes import Checks, Probe
from halftrack_model.workload import Runs, Workload

SETTLED_MS = 1_000  # a start is called healthy when it has lasted this long
BEHIND_PATIENCE_MS = 2_000  # longer than a restart with replay takes, shorter than any ring worth having lasts
FEW_FRAMES = 64  # of a ring that has hardly begun, half is nothing
FLAPS = "it was found healthy and unhealthy in turn, too often to believe either"
assert SETTLED_MS < BEHIND_PATIENCE_MS  # noqa: S101

_SETTLED = {Phase.ENDED: Health.HEALTHY, Phase.FAILED: Health.UNHEALTHY, Phase.RESTING: Health.UNHEALTHY}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is thought of an instance now. `behind_since_ms` is -1 while its stream probe has nothing to say.

    `found` is what was last found before flaps were damped; `probes` are the declared ones that have come to a verdict, and which.
    """

    health: Health
    detail: str
    behind_since_ms: int
    found: Health = Health.UNKNOWN
    probes: Mapping[str, bool] = field(default_factory=dict)
    damping: Damping = CALM


@dataclass(frozen=True, slots=True)
class _Found:
    health: Health
    detail: str
    behind_since_ms: int = -1
    probes: Mapping[str, bool] = field(default_factory=dict)


def judged(
    instances: Mapping[str, Instance], before: Mapping[str, Verdict], view: HostView, now_ms: int
) -> Mapping[str, Verdict]:
    """The verdict on each instance after this look."""
    return {name: _verdict(instance, before.get(name), view, now_ms) for name, instance in instances.items()}


def _verdict(instance: Instance, before: Verdict | None, view: HostView, now_ms: int) -> Verdict:
    last = before or Verdict(Health.UNKNOWN, "", -1)
    if instance.phase is not Phase.RUNNING:
        # Deaths are counted, and are evidence by themselves: nothing damps them. The next life begins with what is left of the penalty.
        calmer = damping.after(last.damping, changed=False, now_ms=now_ms)
        return Verdict(_SETTLED.get(instance.phase, Health.UNKNOWN), instance.detail, -1, damping=calmer)
    found = _found(instance, before, view, now_ms)
    changed = {found.health, last.found} == {Health.HEALTHY, Health.UNHEALTHY}
    damped = damping.after(last.damping, changed=changed, now_ms=now_ms)
    kept = last.found if found.health is Health.UNKNOWN else found.health
    if damped.suppressed:
        return Verdict(Health.UNKNOWN, FLAPS, found.behind_since_ms, kept, found.probes, damped)
    return Verdict(found.health, found.detail, found.behind_since_ms, kept, found.probes, damped)


def _found(instance: Instance, before: Verdict | None, view: HostView, now_ms: int) -> _Found:
    """What is to be seen of a running instance, by itself."""
    lasted_ms = now_ms - instance.since_ms
    checks = instance.workload.checks
    if lasted_ms < SETTLED_MS:
        return _Found(Health.UNKNOWN, "")
    by_stream = _by_stream(instance, before, view, now_ms)
    if checks is None or by_stream.health is Health.UNHEALTHY:
        return by_stream
    by_probes = _by_probes(checks, before, view.probes.get(instance.workload.name, {}), lasted_ms)
    return _Found(by_probes.health, by_probes.detail, by_stream.behind_since_ms, by_probes.probes)


def _by_stream(instance: Instance, before: Verdict | None, view: HostView, now_ms: int) -> _Found:
    behind = _behind(instance, before, view)
    if not behind:
        return _Found(Health.HEALTHY, "")
    since_ms = now_ms if before is None or before.behind_since_ms < 0 else before.behind_since_ms
    if now_ms - since_ms < BEHIND_PATIENCE_MS:
        return _Found(Health.HEALTHY if before is None else before.health, "", since_ms)
    return _Found(Health.UNHEALTHY, behind, since_ms)


def _by_probes(checks: Checks, before: Verdict | None, seen: Mapping[str, ProbeSeen], lasted_ms: int) -> _Found:
    known: Mapping[str, bool] = before.probes if before else {}
    settled = {}
    for probe in checks.probes:
        verdict = _settled(probe, seen.get(probe.name), known.get(probe.name))
        if verdict is not None:
            settled[probe.name] = verdict
    began = lasted_ms >= checks.grace_ms or len(known) == len(checks.probes)
    bad = next((probe.name for probe in checks.probes if settled.get(probe.name) is False), None)
    if bad is not None:
        if began:
            return _Found(Health.UNHEALTHY, f"{bad}: {seen[bad].text}" if bad in seen else bad, probes=settled)
        settled = {
            name: good for name, good in settled.items() if good
        }  # what is not good yet, in the grace, is nothing
    if all(settled.get(probe.name) for probe in checks.probes):
        return _Found(Health.HEALTHY, "", probes=settled)
    waits = next(probe.name for probe in checks.probes if not settled.get(probe.name))
    text = seen[waits].text if waits in seen else ""
    return _Found(Health.UNKNOWN, f"{waits}: {text}" if text else "", probes=settled)


def _settled(probe: Probe, seen: ProbeSeen | None, before: bool | None) -> bool | None:
    """What the probe says: as before, until enough looks in a row say otherwise. Nobody has looked, or could: nothing is known (O1)."""
    if seen is None or seen.good is None:
        return None
    enough = seen.in_a_row >= (probe.successes if seen.good else probe.failures)
    if before is None and seen.good:
        return True
    return seen.good if enough else before


def _behind(instance: Instance, before: Verdict | None, view: HostView) -> str:
    """What the stream probe holds against a running instance, without numbers that change at each look; empty for nothing."""
    was_behind = before is not None and before.behind_since_ms >= 0
    rings = (view.rings[name] for name in followed(instance.workload, view) if name in view.rings)
    return next((text for ring in rings if (text := _behind_in(ring, instance.workload.name, was_behind))), "")


def followed(workload: Workload, view: HostView) -> tuple[str, ...]:
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
