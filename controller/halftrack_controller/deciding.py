"""The loop's pure half: what one step would change, given one snapshot. The same code answers `halftrack plan`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from halftrack_controller import planner, rollout, standing
from halftrack_controller.documents import Declared
from halftrack_controller.snapshot import (
    NEVER_SEEN,
    Generation,
    Planning,
    Published,
    RolloutChange,
    Snapshot,
)
from halftrack_model import rewiring
from halftrack_model.errors import InvalidInput, Refused
from halftrack_model.graph import NOTHING, StreamGraph
from halftrack_model.ids import checked_digest, checked_name
from halftrack_model.plan import Plan
from halftrack_model.release import state_faults, strategy_faults
from halftrack_model.resources import faults
from halftrack_model.versions import Version

OUTLOOK_STEPS = 4  # a graph's first rollouts are made, begin, and are planned: three; one more to see that it is over


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is coming: rollouts that would begin or move, the planning that follows, the plans that hosts would get."""

    rollouts: tuple[RolloutChange, ...]
    planning: Planning
    plans: tuple[Plan, ...]


def due(snapshot: Snapshot, wanted: Mapping[str, Plan]) -> Iterator[Plan]:
    """The wanted plans that are news, each with the revision that it shall have, in the order wanted.

    A revision is above everything that was ever made for the host and everything that it says it holds: a controller that
    was restored from an old copy goes on counting where its hosts are, and sends its decision anew (P2).
    """
    for host, plan in wanted.items():
        held = snapshot.held.get(host)
        made = held.plan.revision if held else 0
        floor = max(made, snapshot.seen.get(host, NEVER_SEEN).accepted_revision)
        if held is None or floor > made or not planner.same_but_revision(held.plan, plan):
            yield replace(plan, revision=floor + 1)


def settled(snapshot: Snapshot) -> Iterator[tuple[StreamGraph, str]]:
    """The graphs of which something need not be carried any more, without it, and what has come about there."""
    for graph in snapshot.graphs:
        if graph.leaving == NOTHING:
            continue
        told = {v.name: each for v in rewiring.carried(graph).vertices if (each := standing.owner(snapshot, graph, v))}
        after = rewiring.settled(graph, {name: each.generation for name, each in told.items()})
        if after != graph:
            over = {each.vertex for each in rewiring.going(graph)} - {each.vertex for each in rewiring.going(after)}
            lines = [f"{name} reads its new inputs from number {told[name].first} on" for name in sorted(over)]
            yield after, "; ".join(lines) or "an edit that was taken back is gone"


def declared_again(snapshot: Snapshot, declared: Iterable[Declared], now_ms: int) -> tuple[RolloutChange, ...]:
    """The rollouts that begin because graphs which were deleted are declared once more."""
    found: list[RolloutChange] = []
    for document in declared:
        if isinstance(document, StreamGraph) and (document.environment, document.name) in snapshot.deleted:
            found += rollout.begun_again(snapshot, document, now_ms)
    return tuple(found)


def moves(snapshot: Snapshot, changes: Iterable[RolloutChange]) -> tuple[RolloutChange, ...]:
    """The changes by which a rollout is new or in another phase; the others only say the same in other words."""
    before = {known.rollout_id: known.phase for known in snapshot.rollouts}
    return tuple(change for change in changes if before.get(change.rollout.rollout_id) is not change.rollout.phase)


def with_rollouts(snapshot: Snapshot, changes: Iterable[RolloutChange]) -> Snapshot:
    """The snapshot as it is once the changes are committed."""
    rollouts = {known.rollout_id: known for known in snapshot.rollouts}
    generations = {(g.environment, g.graph, g.vertex, g.number): g for g in snapshot.generations}
    for change in changes:
        new = change.rollout
        rollouts[new.rollout_id] = new
        key = (new.environment, new.graph, new.vertex, new.to_generation)
        generations[key] = Generation(*key, new.product, new.to_version)
    return replace(
        snapshot,
        rollouts=tuple(sorted(rollouts.values(), key=lambda known: (known.created_ms, known.rollout_id))),
        generations=tuple(generations[key] for key in sorted(generations)),
    )


def outlook(snapshot: Snapshot, now_ms: int) -> Outlook:
    """What the loop would do with this snapshot if the hosts said nothing new; changes nothing."""
    coming: dict[str, RolloutChange] = {}
    current = snapshot
    for _ in range(OUTLOOK_STEPS):
        changes = rollout.advance(current, now_ms)
        moved = moves(current, changes)
        coming |= {change.rollout.rollout_id: change for change in moved}
        current = with_rollouts(current, changes)
        if not moved:
            break
    planning = planner.plan(current, now_ms)
    return Outlook(tuple(coming.values()), planning, tuple(due(snapshot, planning.plans)))


def publishable(snapshot: Snapshot, published: Published, artifact_size: int | None) -> bool:
    """May this release be published? False when it already is; an error, saying what to do, when it may not."""
    release = published.release
    checked_name(release.product, "product")
    Version.parse(release.version)
    checked_digest(release.artifact.digest)
    known = snapshot.releases.get((release.product, release.version))
    if known is not None and known.sealed.payload == published.sealed.payload:
        return False
    if known is not None:
        raise Refused(
            "release-exists",
            f"{release.product} {release.version} is published already, with other content, and a release never changes: "
            "give this one the next version",
        )
    if found := [*state_faults(release.state), *strategy_faults(release.strategy), *faults(release.resources)]:
        raise InvalidInput("bad-release", "\n".join(found))
    if artifact_size is None:
        raise Refused("unknown-artifact", f"{release.artifact.digest} is not held here: send the artifact first")
    if artifact_size != release.artifact.size_bytes:
        text = f"the release says that its artifact has {release.artifact.size_bytes} bytes; it has {artifact_size}"
        raise InvalidInput("bad-size", text)
    return True
