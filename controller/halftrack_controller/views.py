"""Snapshots as operators are shown them: rows of hosts, rollouts and releases. Pure; adds nothing that is not known."""

from collections.abc import Iterable

from halftrack_controller import standing
from halftrack_controller.deciding import Outlook
from halftrack_controller.snapshot import Published, Reason, Rollout, Snapshot
from halftrack_model.errors import Refused
from halftrack_model.observed import Health
from halftrack_model.versions import Version
from halftrack_proto import messages as said


def host_entries(snapshot: Snapshot, environment: str) -> list[said.HostEntry]:
    """The hosts of one environment or of all."""
    standing.checked_environment(snapshot, environment)
    entries = [host_entry(snapshot, name) for name in snapshot.hosts]
    return [entry for entry in entries if environment in ("", entry.environment)]


def host_entry(snapshot: Snapshot, name: str) -> said.HostEntry:
    """A host in a list; Refused when there is none of that name."""
    host = snapshot.hosts.get(name)
    if host is None:
        raise Refused("unknown-host", f"no host {name!r}: `halftrack host list` shows those that there are")
    seen, held = standing.seen(snapshot, name), snapshot.held.get(name)
    refusal = seen.refusal if standing.refuses_newest(snapshot, name) else None
    agent = seen.observed.agent if seen.observed else None
    return said.HostEntry(
        name=name,
        environment=host.environment,
        labels=host.labels,
        enrolled=host.enrolled,
        connected=seen.connected,
        last_seen_age_ms=seen.last_seen_age_ms,
        revision=held.plan.revision if held else 0,
        accepted_revision=seen.accepted_revision,
        refusal_reason=refusal.reason if refusal else "",
        refusal_message=refusal.message if refusal else "",
        problems=seen.observed.problems if seen.observed else (),
        health=_health(snapshot, name),
        certificate_ends_ms=seen.certificate_ends_ms,
        certificate_left_ms=seen.certificate_left_ms,
        agent=agent.version if agent else "",
        agent_on_trial=agent is not None and agent.on_trial,
        sighted_by=seen.sighting.by,
        sighted_age_ms=seen.sighting.age_ms,
        watched=seen.sighting.watched,
    )


def _health(snapshot: Snapshot, name: str) -> Health:
    """Of a host as a whole: what we do not see is unknown, never bad (O1); otherwise its worst instance's."""
    observed = standing.seen(snapshot, name).observed
    if observed is None or not standing.visible(snapshot, name):
        return Health.UNKNOWN
    found = {instance.health for instance in observed.instances}
    return next((health for health in (Health.UNHEALTHY, Health.UNKNOWN) if health in found), Health.HEALTHY)


def rollout_entry(snapshot: Snapshot, rollout: Rollout) -> said.RolloutEntry:
    """A rollout with its swap's record, as far as its leader has shown it."""
    swap = standing.held_swap(snapshot, rollout.rollout_id)
    return said.RolloutEntry(
        rollout_id=rollout.rollout_id,
        environment=rollout.environment,
        graph=rollout.graph,
        vertex=rollout.vertex,
        product=rollout.product,
        from_version=rollout.from_version,
        to_version=rollout.to_version,
        from_generation=rollout.from_generation,
        to_generation=rollout.to_generation,
        phase=rollout.phase.value,
        reason=rollout.reason,
        created_ms=rollout.created_ms,
        swap=standing.record(snapshot, swap) if swap else None,
    )


def rollout_entries(snapshot: Snapshot, rollout_id: str, environment: str) -> tuple[said.RolloutEntry, ...]:
    """One rollout, or all of an environment, or all, oldest first; Refused when the one that is named is not there."""
    if rollout_id and snapshot.rollout(rollout_id) is None:
        raise Refused(
            "unknown-rollout", f"no rollout {rollout_id!r}: `halftrack rollout status` shows those that there are"
        )
    standing.checked_environment(snapshot, environment)
    return tuple(
        rollout_entry(snapshot, rollout)
        for rollout in snapshot.rollouts
        if (not rollout_id or rollout.rollout_id == rollout_id)
        and (not environment or rollout.environment == environment)
    )


def release_entries(snapshot: Snapshot, product: str) -> tuple[said.ReleaseEntry, ...]:
    """Releases by product, oldest version first."""

    def order(published: Published) -> tuple[str, Version]:
        return (published.release.product, Version.parse(published.release.version))

    return tuple(
        said.ReleaseEntry(p.release, tuple(seal.key_id for seal in p.sealed.seals), p.published_ms)
        for p in sorted(snapshot.releases.values(), key=order)
        if product in ("", p.release.product)
    )


def outlook_reply(before: Snapshot, changes: tuple[said.DocumentChange, ...], outlook: Outlook) -> said.PlanReply:
    """What applying would do, as the operator is told."""
    held = {plan.host: before.held.get(plan.host) for plan in outlook.plans}
    return said.PlanReply(
        changes=changes,
        hosts=tuple(
            said.HostChange(plan.host, known.plan.revision if known else 0, known.plan if known else None, plan)
            for plan in outlook.plans
            for known in (held[plan.host],)
        ),
        rollouts=tuple(rollout_entry(before, change.rollout) for change in outlook.rollouts),
        reasons=whys(outlook.planning.reasons),
    )


def whys(reasons: Iterable[Reason]) -> tuple[said.Why, ...]:
    """The core's reasons as they travel."""
    return tuple(said.Why(reason.host, reason.subject, reason.text, reason.under_way) for reason in reasons)
