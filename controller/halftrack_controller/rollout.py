"""Rollouts: when one begins, when it has succeeded or failed, and what an operator may do to it. Pure.

A rollout takes one release to one vertex. Its phase changes only by a row of `ROWS`; an event without a row raises.

    PENDING           waits for its turn: its gates are `_gate`'s
    WAITING_APPROVAL  waits for `halftrack rollout promote`
    RUNNING           plans order it; hosts act, gate and undo by themselves, and evidence is awaited
    PAUSED            the controller takes no further step. Hosts finish a swap that they already hold
    SUCCEEDED         its release is in force
    FAILED, ABORTED   the release before it is in force (or none); a swap in flight is being taken back

* At most one release moves at a time in a graph (first releases excepted: a graph begins whole).
* A swap begins only while both of its hosts are seen: what we do not see we do not change (O1). Once begun it needs nobody. A service's
  release begins while any of its hosts is seen, and the others get it when they are back (O2).
* Silence never fails a rollout and never passes it. A dead host stops only what needs that host (O2).
* A newer release of the same product replaces a rollout that has not begun. One that has begun is finished first.
* What hosts report of a swap's end is obeyed whatever the controller has recorded meanwhile: an abort can come too late.
"""

from collections.abc import Iterable
from dataclasses import replace
from enum import Enum

from halftrack_controller import evidence, standing
from halftrack_controller.evidence import Verdict
from halftrack_controller.snapshot import Published, Rollout, RolloutChange, RolloutPhase, Snapshot
from halftrack_model.errors import Refused
from halftrack_model.graph import Role, StreamGraph, Vertex
from halftrack_model.graph_rules import state_misfit
from halftrack_model.release import Approval, Release, no_way_back, replay_refusal, state_refusal
from halftrack_model.swap import Phase
from halftrack_model.versions import Version

UNDOING = "; the hosts undo the swap as soon as they hear of it"
UNDONE = "; the hosts have undone the swap"


class Event(Enum):
    """What can happen to a rollout."""

    BEGIN = "begin"
    APPROVE = "promote"
    PAUSE = "pause"
    RESUME = "resume"  # what was paused in flight
    REQUEUE = "resume before it began"
    SUCCEED = "succeed"
    FAIL = "fail"
    ABORT = "abort"
    REPLACE = "replace"


P, E = RolloutPhase, Event
ROWS: dict[tuple[RolloutPhase, Event], RolloutPhase] = {
    (P.PENDING, E.BEGIN): P.RUNNING,
    (P.PENDING, E.PAUSE): P.PAUSED,
    (P.PENDING, E.FAIL): P.FAILED,
    (P.PENDING, E.ABORT): P.ABORTED,
    (P.PENDING, E.REPLACE): P.ABORTED,
    (P.WAITING_APPROVAL, E.APPROVE): P.PENDING,
    (P.WAITING_APPROVAL, E.ABORT): P.ABORTED,
    (P.WAITING_APPROVAL, E.REPLACE): P.ABORTED,
    (P.RUNNING, E.SUCCEED): P.SUCCEEDED,
    (P.RUNNING, E.FAIL): P.FAILED,
    (P.RUNNING, E.PAUSE): P.PAUSED,
    (P.RUNNING, E.ABORT): P.ABORTED,
    (P.RUNNING, E.REPLACE): P.ABORTED,  # a first release that was never healthy; never a swap
    (P.PAUSED, E.RESUME): P.RUNNING,
    (P.PAUSED, E.REQUEUE): P.PENDING,
    (P.PAUSED, E.ABORT): P.ABORTED,
    (P.PAUSED, E.REPLACE): P.ABORTED,
    (P.ABORTED, E.SUCCEED): P.SUCCEEDED,  # the abort came too late
    (P.FAILED, E.SUCCEED): P.SUCCEEDED,  # as above, after a refusal
}


def after(phase: RolloutPhase, event: Event) -> RolloutPhase:
    """The phase that follows; Refused when the table has no such row."""
    if (phase, event) not in ROWS:
        raise Refused("wrong-phase", f"a rollout that is {phase.value} cannot {event.value}")
    return ROWS[(phase, event)]


def _moved(rollout: Rollout, event: Event, reason: str) -> RolloutChange:
    return RolloutChange(replace(rollout, phase=after(rollout.phase, event), reason=reason))


# --------------------------------------------------------------------------------------------------------------- beginning


def started(snapshot: Snapshot, release: Release, now_ms: int, allow_older: bool = False) -> tuple[RolloutChange, ...]:
    """The rollouts that a release begins, one for each vertex that runs its product, and those that they replace.

    A version that is not newer than the one in force begins none, unless `allow_older` (an operator takes an older one back).
    """
    changes: list[RolloutChange] = []
    for graph, vertex in _vertices_of(snapshot, release.product):
        mine = snapshot.rollouts_of(graph.environment, graph.name, vertex.name)
        if _already(snapshot, graph, vertex, release, allow_older):
            continue
        changes += _replaced(snapshot, mine, release)
        changes.append(RolloutChange(_new(snapshot, graph, vertex, release, now_ms)))
    return tuple(changes)


def _vertices_of(snapshot: Snapshot, product: str) -> Iterable[tuple[StreamGraph, Vertex]]:
    return (
        (graph, vertex)
        for graph in sorted(snapshot.graphs, key=lambda graph: (graph.environment, graph.name))
        for vertex in graph.vertices
        if vertex.product == product
    )


def _already(snapshot: Snapshot, graph: StreamGraph, vertex: Vertex, release: Release, allow_older: bool) -> bool:
    """Is this release in force, on its way, or older than what is?"""
    force = standing.in_force(snapshot, graph.environment, graph.name, vertex.name)
    open_versions = [
        r.to_version for r in snapshot.rollouts_of(graph.environment, graph.name, vertex.name) if not r.phase.ended
    ]
    if release.version in open_versions or (force is not None and force.version == release.version):
        return True
    known = [*open_versions, *([force.version] if force else [])]
    return not allow_older and any(Version.parse(release.version) < Version.parse(version) for version in known)


def _replaced(snapshot: Snapshot, rollouts: Iterable[Rollout], release: Release) -> Iterable[RolloutChange]:
    """Rollouts that have not begun give way; so does a first release that is not in force yet."""
    for rollout in rollouts:
        if rollout.phase.ended:
            continue
        if not rollout.from_version or not (rollout.phase is P.RUNNING or standing.in_flight(snapshot, rollout)):
            yield _moved(rollout, E.REPLACE, f"replaced by {release.version} before it was in force")


def _new(snapshot: Snapshot, graph: StreamGraph, vertex: Vertex, release: Release, now_ms: int) -> Rollout:
    key = (graph.environment, graph.name, vertex.name)
    force = standing.in_force(snapshot, *key)
    generation = max(
        snapshot.last_generation(*key), max((r.to_generation for r in snapshot.rollouts_of(*key)), default=0)
    )
    manual = release.strategy.approval is Approval.MANUAL
    return Rollout(
        rollout_id=f"{graph.environment}.{graph.name}.{vertex.name}.{generation + 1}",
        environment=graph.environment,
        graph=graph.name,
        vertex=vertex.name,
        product=vertex.product,
        from_version=force.version if force else "",
        to_version=release.version,
        from_generation=force.generation if force else 0,
        to_generation=generation + 1,
        phase=P.WAITING_APPROVAL if manual else P.PENDING,
        reason="waits for an operator: `halftrack rollout promote`" if manual else "",
        created_ms=now_ms,
    )


def _due(snapshot: Snapshot, now_ms: int) -> Iterable[RolloutChange]:
    """First rollouts for vertices that came after the releases of their product: the newest of them."""
    for graph in sorted(snapshot.graphs, key=lambda graph: (graph.environment, graph.name)):
        for vertex in graph.vertices:
            if snapshot.rollouts_of(graph.environment, graph.name, vertex.name):
                continue
            newest = _newest(snapshot, vertex.product)
            if newest is not None:
                yield RolloutChange(_new(snapshot, graph, vertex, newest.release, now_ms))


def begun_again(snapshot: Snapshot, graph: StreamGraph, now_ms: int) -> tuple[RolloutChange, ...]:
    """The rollouts of a graph that was deleted and is declared again: the newest release of each vertex whose last one is older, or never came to be in force."""
    found: list[RolloutChange] = []
    for vertex in graph.vertices:
        newest = _newest(snapshot, vertex.product)
        before = snapshot.rollouts_of(graph.environment, graph.name, vertex.name)
        if newest is not None and before and not _already(snapshot, graph, vertex, newest.release, False):
            found.append(RolloutChange(_new(snapshot, graph, vertex, newest.release, now_ms)))
    return tuple(found)


def _newest(snapshot: Snapshot, product: str) -> Published | None:
    mine = [published for (name, _), published in snapshot.releases.items() if name == product]
    return max(mine, key=lambda published: Version.parse(published.release.version), default=None)


# --------------------------------------------------------------------------------------------------------------- advancing


def advance(snapshot: Snapshot, now_ms: int) -> tuple[RolloutChange, ...]:
    """Every rollout that moves, or whose reason has changed, as it shall be; and first rollouts that are due."""
    changes: list[RolloutChange] = []
    begun: set[tuple[str, str]] = set()
    for rollout in snapshot.history.unsettled:
        change = _advanced(snapshot, rollout, begun)
        if change is None:
            continue
        if change.rollout.phase is P.RUNNING and rollout.phase is P.PENDING and rollout.from_version:
            begun.add((rollout.environment, rollout.graph))
        if change.rollout != rollout:
            changes.append(change)
    return (*changes, *_due(snapshot, now_ms))


def _advanced(snapshot: Snapshot, rollout: Rollout, begun: set[tuple[str, str]]) -> RolloutChange | None:
    if (rollout.environment, rollout.graph) in snapshot.deleted and not rollout.phase.ended:
        return _moved(rollout, E.REPLACE, "its graph was deleted")
    if rollout.phase in (P.PENDING, P.RUNNING) and standing.leaves(snapshot, rollout):
        if standing.vertex_of(snapshot, rollout) is None:
            return _moved(rollout, E.REPLACE, "its vertex has left the graph")
        if rollout.phase is P.PENDING:
            return RolloutChange(replace(rollout, reason="does not begin: its vertex is leaving the graph"))
    match rollout.phase:
        case P.PENDING:
            return _from_pending(snapshot, rollout, begun)
        case P.RUNNING:
            return _from_running(snapshot, rollout)
        case P.ABORTED | P.FAILED:
            return _from_undoing(snapshot, rollout)
        case _:
            return None


def _from_pending(snapshot: Snapshot, rollout: Rollout, begun: set[tuple[str, str]]) -> RolloutChange:
    force = standing.in_force(snapshot, rollout.environment, rollout.graph, rollout.vertex)
    rollout = replace(
        rollout, from_version=force.version if force else "", from_generation=force.generation if force else 0
    )
    published = snapshot.releases.get((rollout.product, rollout.to_version))
    blue = snapshot.releases.get((rollout.product, rollout.from_version))
    found = standing.vertex_of(snapshot, rollout)
    if published is not None and blue is not None and found is not None and standing.hands_over(rollout, found[1]):
        refusal = state_refusal(blue.release, published.release)
        if refusal:
            return _moved(rollout, E.FAIL, f"the state cannot be handed over: {refusal}")
    found = standing.vertex_of(snapshot, rollout)
    if published is not None and found is not None:
        refusal = replay_refusal(published.release, standing.input_slots(*found))
        if refusal:
            return _moved(rollout, E.FAIL, f"its window cannot be replayed: {refusal}")
    waits = _gate(snapshot, rollout, begun)
    if waits:
        return RolloutChange(replace(rollout, reason=waits))
    lost = no_way_back(blue.release, published.release) if blue and published else None
    return _moved(
        rollout, E.BEGIN, "plans order it" + (f"; once it counts, it cannot be aborted: {lost}" if lost else "")
    )


def _gate(snapshot: Snapshot, rollout: Rollout, begun: set[tuple[str, str]]) -> str:
    """Why the rollout may not begin yet, in prose; empty when it may."""
    found = standing.vertex_of(snapshot, rollout)
    published = snapshot.releases.get((rollout.product, rollout.to_version))
    if found is None:
        return f"graph {rollout.graph} has no vertex {rollout.vertex}; apply the graph again, or abort"
    if published is None:
        return f"{rollout.product} {rollout.to_version} is not among the releases; publish it again, or abort"
    digest = published.release.artifact.digest
    if digest not in snapshot.artifacts:
        return f"its artifact {digest[:19]}… is not here; run `halftrack release publish` again"
    if misfit := state_misfit(*found, published.release):
        return misfit
    if not rollout.from_version:
        return ""
    if other := _other_moving(snapshot, rollout):
        return f"waits for {other.product} {other.to_version} ({other.rollout_id}, {other.phase.value}) to end"
    if (rollout.environment, rollout.graph) in begun:
        return "waits for another release that begins now in the same graph"
    silence = standing.silences(snapshot, found[1].hosts)
    if silence and (found[1].role is not Role.SERVICE or not standing.any_visible(snapshot, found[1].hosts)):
        return f"waits to see the hosts that it changes: {silence}"
    return ""


def _other_moving(snapshot: Snapshot, rollout: Rollout) -> Rollout | None:
    return next(
        (
            other
            for other in snapshot.history.of_graph(rollout.environment, rollout.graph)
            if other.rollout_id != rollout.rollout_id
            and (other.phase is P.RUNNING or standing.in_flight(snapshot, other))
        ),
        None,
    )


def _from_running(snapshot: Snapshot, rollout: Rollout) -> RolloutChange:
    if not standing.in_flight(snapshot, rollout):
        return RolloutChange(replace(rollout, reason=_unplanned(snapshot, rollout)))
    finding = evidence.of_rollout(snapshot, rollout)
    match finding.verdict:
        case Verdict.PASSED:
            return _moved(rollout, E.SUCCEED, finding.text)
        case Verdict.FAILED:
            return _moved(rollout, E.FAIL, finding.text)
        case _:
            return RolloutChange(replace(rollout, reason=finding.text))


def _unplanned(snapshot: Snapshot, rollout: Rollout) -> str:
    """Why no plan orders a running rollout yet."""
    found = standing.vertex_of(snapshot, rollout)
    if found is None:
        return f"graph {rollout.graph} has no vertex {rollout.vertex} any more; abort the rollout"
    if silence := standing.silences(snapshot, found[1].hosts):
        return f"no plan orders it yet; {silence}"
    return "no plan orders it yet; `halftrack plan` says what its graph waits for"


def _from_undoing(snapshot: Snapshot, rollout: Rollout) -> RolloutChange | None:
    swap = standing.held_swap(snapshot, rollout.rollout_id)
    record = standing.record(snapshot, swap) if swap is not None else None
    if swap is not None and record is not None and record.phase is Phase.DONE:
        return _moved(rollout, E.SUCCEED, "the hosts had finished the swap before they heard that they should undo it")
    if record is not None and record.phase is Phase.UNDONE and rollout.reason.endswith(UNDOING):
        return RolloutChange(replace(rollout, reason=rollout.reason.removesuffix(UNDOING) + UNDONE))
    return None


# ------------------------------------------------------------------------------------------------------ the operator's verbs


def paused(snapshot: Snapshot, rollout_id: str) -> tuple[RolloutChange, ...]:
    """Take no further step with it until `resumed`."""
    rollout = _known(snapshot, rollout_id)
    if rollout.phase is P.WAITING_APPROVAL:
        raise Refused("wrong-phase", f"{rollout_id} already waits: it begins only when you promote it")
    _refuse_ended(rollout, "paused")
    if rollout.phase is P.PAUSED:
        return ()
    flying = standing.in_flight(snapshot, rollout)
    told = "paused by the operator" + ("; the hosts finish what they already hold" if flying else "")
    return (_moved(rollout, E.PAUSE, told),)


def resumed(snapshot: Snapshot, rollout_id: str) -> tuple[RolloutChange, ...]:
    """Go on where it was paused."""
    rollout = _known(snapshot, rollout_id)
    _refuse_ended(rollout, "resumed")
    if rollout.phase is P.WAITING_APPROVAL:
        raise Refused("wrong-phase", f"{rollout_id} waits for approval: use `halftrack rollout promote {rollout_id}`")
    if rollout.phase is not P.PAUSED:
        return ()
    event = E.RESUME if standing.in_flight(snapshot, rollout) else E.REQUEUE
    return (_moved(rollout, event, "resumed by the operator"),)


def promoted(snapshot: Snapshot, rollout_id: str) -> tuple[RolloutChange, ...]:
    """Let one begin that waits for approval."""
    rollout = _known(snapshot, rollout_id)
    _refuse_ended(rollout, "promoted")
    if rollout.phase is P.PAUSED:
        raise Refused("wrong-phase", f"{rollout_id} is paused: use `halftrack rollout resume {rollout_id}`")
    if rollout.phase is not P.WAITING_APPROVAL:
        return ()
    return (_moved(rollout, E.APPROVE, "approved by the operator"),)


def aborted(snapshot: Snapshot, rollout_id: str) -> tuple[RolloutChange, ...]:
    """Go back to the release before it. A swap in flight is undone by the hosts, as soon as they hear of it."""
    rollout = _known(snapshot, rollout_id)
    if rollout.phase is P.ABORTED:
        return ()
    _refuse_ended(rollout, "aborted")
    swap = standing.held_swap(snapshot, rollout_id) if standing.in_flight(snapshot, rollout) else None
    record = standing.record(snapshot, swap) if swap is not None else None
    if record is not None and record.phase is Phase.DONE:
        raise Refused("too-late", f"{rollout_id} is done at the hosts; publish a release to go back, or a newer one")
    if swap is not None and swap.one_way and record is not None and record.green_in_force:
        raise Refused(
            "too-late",
            f"{rollout_id} is one-way, and {rollout.to_version} counts already: the release before it could not read its state. "
            "Let it end, or publish a release that reads that state; hosts still give the output back by themselves if it fails",
        )
    told = "aborted by the operator" + (UNDOING if swap is not None else "")
    return (_moved(rollout, E.ABORT, told),)


def _known(snapshot: Snapshot, rollout_id: str) -> Rollout:
    rollout = snapshot.rollout(rollout_id)
    if rollout is None:
        raise Refused("unknown-rollout", f"there is no rollout {rollout_id!r}: see `halftrack rollout status`")
    return rollout


def _refuse_ended(rollout: Rollout, verb: str) -> None:
    if rollout.phase.ended:
        why = f" ({rollout.reason})" if rollout.reason else ""
        raise Refused(
            "wrong-phase", f"{rollout.rollout_id} has ended: it {rollout.phase.value}{why}, so it cannot be {verb}"
        )
