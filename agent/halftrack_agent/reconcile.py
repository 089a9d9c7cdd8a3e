"""Reconcile: from what is wanted and what is seen to the next actions for instances and rings. Pure and level-based.

The same input again yields nothing (R1); a running instance whose digest is the wanted one is never touched (R2); with no plan
there is nothing to reconcile, so nothing is stopped (R3). Nothing here knows about swaps: `core` decides which members are
wanted and passes the outcome in.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from halftrack_agent import inlet_orders
from halftrack_agent.events import (
    Action,
    CreateRing,
    Emit,
    Fetch,
    Forget,
    HostView,
    InstanceSeen,
    RemoveRing,
    RemoveSpool,
    Reorder,
    Start,
    Stop,
)
from halftrack_agent.lifecycle import Happening, Phase, after, ending
from halftrack_model.report import Happened
from halftrack_model.workload import Kind, RingSpec, Workload

# A first death is answered at once: the pair's other member is alone until then. Repeated deaths back off to a pause that a
# person watching would still wait for.
PAUSE_BASE_MS = 250
PAUSE_CAP_MS = 30_000
STEADY_MS = 10_000  # running this long clears earlier strikes; longer than any start takes
START_PATIENCE_MS = 10_000  # a started instance that the driver has not shown by then is taken as lost
STOP_PATIENCE_MS = 5_000  # ask again; the driver's own grace before SIGKILL is 2 s


@dataclass(frozen=True, slots=True)
class Instance:
    """What the agent remembers about an instance between looks. `strikes` count towards the pause, `restarts` for people."""

    workload: Workload
    phase: Phase
    since_ms: int
    strikes: int
    restarts: int
    killed: int  # times that a signal ended it
    retry_at_ms: int
    detail: str
    hangs: int = 0  # times that it was killed because it did not move
    hung: str = ""  # in the life that runs now, or has just ended: how it was found to hang


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall be on the host now. `trial` holds the workloads whose own exit is evidence against them.

    `artifacts` are the sizes of all that the plan may ever run, by digest; `named` are all workloads in it, wanted now or not.
    """

    workloads: Mapping[str, Workload]
    rings: Mapping[str, RingSpec]
    artifacts: Mapping[str, int]
    trial: frozenset[str]
    named: tuple[Workload, ...]
    held_back: Mapping[str, str] = field(
        default_factory=dict
    )  # of `named`, those that shall not run for another reason: which


def reconciled(
    wanted: Wanted, known: Mapping[str, Instance], view: HostView, now_ms: int, seed: int
) -> tuple[Mapping[str, Instance], tuple[Action, ...]]:
    """The instances as they stand now, and what to do: rings first, then stops, then starts."""
    instances: dict[str, Instance] = {}
    actions: list[Action] = [*_ring_actions(wanted, known, view), *_spool_actions(wanted, known, view)]
    for name in sorted({*wanted.workloads, *known, *view.instances}):
        instance, steps = _one(name, wanted, known.get(name), view, now_ms, seed)
        if instance is not None:
            instances[name] = instance
        actions += steps
    # Also what nothing here runs yet: a swap must not need the controller when its second leg begins.
    return instances, (*actions, *missing(wanted.artifacts, view))


def missing(artifacts: Mapping[str, int], view: HostView) -> tuple[Action, ...]:
    """What is named, by digest with its size, and not here."""
    return tuple(Fetch(digest, artifacts[digest]) for digest in sorted(set(artifacts) - view.artifacts))


def pause_ms(strikes: int, name: str, seed: int) -> int:
    """How long to rest before the next start: none for the first, then full jitter under a capped doubling.

    The exponent is capped before it is used (a month of strikes must not overflow); the jitter is a hash of seed, name and
    strikes, so that a simulation replays it (Brooker, "Exponential Backoff And Jitter", AWS 2015).
    """
    if strikes <= 1:
        return 0
    ceiling = min(PAUSE_CAP_MS, PAUSE_BASE_MS << min(strikes - 2, 16))
    return zlib.crc32(f"{seed}:{name}:{strikes}".encode()) % (ceiling + 1)


def _ring_actions(wanted: Wanted, known: Mapping[str, Instance], view: HostView) -> Iterable[Action]:
    """A ring goes after its writer, not before: an agent that dies in between would come back to a writer that runs as wanted
    and writes into what nobody can open any more. Readers need not be waited for: they keep it until they let go."""
    for name, ring in sorted(wanted.rings.items()):
        if name not in view.rings:
            yield CreateRing(ring)
    writers = (*wanted.named, *(instance.workload for instance in known.values()))
    written = {w.writes_ring for w in writers if w.name in view.instances and view.instances[w.name].running}
    for name in sorted(set(view.rings) - set(wanted.rings) - written):
        yield RemoveRing(name)


def _spool_actions(wanted: Wanted, known: Mapping[str, Instance], view: HostView) -> Iterable[Action]:
    """A spool's folder goes when the plan in force does not name it at all, and nobody is left who writes there: it may hold the only copy."""
    named = {workload.name for workload in wanted.named}
    for name in sorted(view.spools - named - known.keys() - view.instances.keys()):
        yield RemoveSpool(name)


def _one(
    name: str, wanted: Wanted, instance: Instance | None, view: HostView, now_ms: int, seed: int
) -> tuple[Instance | None, list[Action]]:
    """One instance, through as many rows of the table as this look settles: a first death is answered with a start at once."""
    workload, seen = wanted.workloads.get(name), view.instances.get(name)
    if workload is None:
        return _unwanted(name, instance, seen, now_ms, wanted.held_back.get(name, ""))
    if instance is None or (instance.phase is Phase.STOPPING and seen is None):
        if seen is not None and seen.digest != workload.digest() and not _renewable(None, workload, seen):
            return _unwanted(name, instance, seen, now_ms)
        instance = Instance(workload, Phase.WAITING, now_ms, 0, 0, 0, 0, "")
    elif instance.workload != workload and _renewable(instance, workload, seen):
        instance = replace(instance, workload=workload)
    elif instance.workload != workload or instance.phase is Phase.STOPPING:
        return _unwanted(name, instance, seen, now_ms)
    actions: list[Action] = []
    for _ in Phase:  # each row leads to another phase, so there cannot be more steps than phases
        happening = _happening(instance, seen, wanted, view, now_ms)
        if happening is None:
            break
        instance, steps = _moved(instance, happening, seen, now_ms, seed)
        actions += steps
        if any(isinstance(step, Forget) for step in steps):
            seen = None
        if any(isinstance(step, Start) for step in steps):
            break
    if (
        instance.phase is Phase.RUNNING
        and seen is not None
        and seen.digest != workload.digest()
        and _renewable(instance, workload, seen)
    ):
        actions.append(Reorder(workload))
    return instance, actions


def _renewable(instance: Instance | None, workload: Workload, seen: InstanceSeen | None) -> bool:
    """Can it go on with the new orders? What an agent that comes back finds running was an inlet of this name, and writes its ring."""
    if seen is None or not seen.running or not inlet_orders.renewable(workload):
        return False
    return instance is None or (
        instance.phase is not Phase.STOPPING and replace(instance.workload, inlet=workload.inlet) == workload
    )


def _unwanted(
    name: str, instance: Instance | None, seen: InstanceSeen | None, now_ms: int, reason: str = ""
) -> tuple[Instance | None, list[Action]]:
    if seen is None:
        return None, []
    if not seen.running:
        return None, [Forget(name)]
    if instance is None:  # ours from before a restart of the agent: the accepted plan does not want it
        return None, [Stop(name, reason or "the plan in force does not want it")]
    if instance.phase is not Phase.STOPPING:
        stopping = replace(instance, phase=after(instance.phase, Happening.UNWANTED), since_ms=now_ms)
        return stopping, [Stop(name, reason or "no longer wanted in this form")]
    if now_ms - instance.since_ms >= STOP_PATIENCE_MS:
        return replace(instance, since_ms=now_ms), [Stop(name, "it has not stopped yet")]
    return instance, []


def _happening(
    instance: Instance, seen: InstanceSeen | None, wanted: Wanted, view: HostView, now_ms: int
) -> Happening | None:
    phase, workload = instance.phase, instance.workload
    if phase is Phase.FAILED and workload.name not in wanted.trial:
        return Happening.DIED
    if phase in (Phase.FAILED, Phase.ENDED):
        return None
    if phase is Phase.RESTING:
        return Happening.RESTED if now_ms >= instance.retry_at_ms else None
    if seen is not None and seen.running:
        return Happening.APPEARED if phase in (Phase.WAITING, Phase.STARTING) else None
    if seen is not None:
        return ending(workload.kind, workload.name in wanted.trial, seen.exit_code, hung=bool(instance.hung))
    if phase is Phase.WAITING:
        return Happening.READY if _ready(workload, view) else None
    if phase is Phase.RUNNING or now_ms - instance.since_ms >= START_PATIENCE_MS:
        return Happening.VANISHED
    return None


def _ready(workload: Workload, view: HostView) -> bool:
    own = view.rings.get(workload.writes_ring)
    reads = workload.read_rings
    if workload.inlet is not None:  # it begins with what it passes now; the rest is taken up when it is there
        reads = tuple(each.ring for each in inlet_orders.in_force(workload.inlet, () if own is None else own.cuts))
    rings = all(ring in view.rings for ring in (*reads, workload.writes_ring) if ring)
    return rings and (not workload.artifact or workload.artifact in view.artifacts)


def _moved(
    instance: Instance, happening: Happening, seen: InstanceSeen | None, now_ms: int, seed: int
) -> tuple[Instance, list[Action]]:
    name = instance.workload.name
    phase = after(instance.phase, happening)
    moved = replace(instance, phase=phase, since_ms=now_ms)
    if happening is Happening.READY:
        return moved, [Start(instance.workload)]
    if happening in (Happening.DIED, Happening.VANISHED):
        steady = instance.phase is Phase.RUNNING and now_ms - instance.since_ms >= STEADY_MS
        strikes = 1 if steady else instance.strikes + 1
        killed = instance.killed + (seen is not None and seen.signal is not None)
        text = _how_it_ended(seen, instance.hung)
        retry_at_ms = now_ms + pause_ms(strikes, name, seed)
        moved = replace(
            moved,
            strikes=strikes,
            restarts=instance.restarts + 1,
            killed=killed,
            retry_at_ms=retry_at_ms,
            detail=text,
            hung="",
        )
        return moved, [Forget(name), Emit(Happened.INSTANCE_EXITED, name, text)]
    if happening in (Happening.FELL, Happening.FINISHED):
        text = _how_it_ended(seen, instance.hung)
        # Its exit record stays with the driver: an agent that comes back must not run a finished job, or a failed trial, again.
        return replace(moved, detail=text), [Emit(Happened.INSTANCE_EXITED, name, text)]
    if happening is Happening.APPEARED:
        return replace(moved, detail=""), []
    return moved, []


def fell_by(instance: Instance | None, seen: InstanceSeen | None) -> str:
    """How an instance on trial ended by its own fault; empty when it has not, or when it had been told to stop.

    Judged from what is seen, not only from what an earlier look made of it: whoever decides before instances are reconciled
    would take the very end that proves a release wrong for a death without a cause.
    """
    if instance is not None and instance.phase is Phase.FAILED:
        return instance.detail or "it ended by itself"
    told = instance is not None and instance.phase is Phase.STOPPING
    if instance is not None and instance.hung and not told:  # already, whether it dies of it or hangs in the kernel
        return instance.hung
    if seen is None or seen.running or told or ending(Kind.VERTEX, True, seen.exit_code) is not Happening.FELL:
        return ""
    return _how_it_ended(seen)


def _how_it_ended(seen: InstanceSeen | None, hung: str = "") -> str:
    if seen is None:
        return "it vanished and nobody saw how"
    how = f"signal {seen.signal}" if seen.signal is not None else f"exit status {seen.exit_code}"
    detail = hung or seen.detail  # the last line of its log says nothing about why it did not move
    return f"{how}: {detail}" if detail else how
