"""Explain: why a host, rollout, graph, vertex, product or environment is as it is, in sentences. Pure, reads a Snapshot.

It gathers what the planner and the rollouts say about a subject with what is known of the hosts it needs; it decides nothing.
"""

from collections.abc import Iterable

from halftrack_controller import planner, services, standing
from halftrack_controller.quantities import age_text
from halftrack_controller.snapshot import Reason, Rollout, Snapshot
from halftrack_model.errors import Refused
from halftrack_model.graph import StreamGraph, Vertex
from halftrack_model.observed import Health


def explained(snapshot: Snapshot, subject: str, now_ms: int) -> tuple[Reason, ...]:
    """All that there is to say about `subject`: a name, `graph/vertex`, or a rollout's id. Refused when nothing is called so."""
    reasons: list[Reason] = []
    if subject in snapshot.hosts:
        reasons += _host(snapshot, subject)
    if (rollout := snapshot.rollout(subject)) is not None:
        reasons += _rollout(snapshot, rollout)
    graphs = [graph for graph in snapshot.graphs if subject in (graph.name, graph.environment)]
    for graph in graphs:
        for vertex in graph.vertices:
            reasons += _vertex(snapshot, graph, vertex)
    for graph in snapshot.graphs:
        for vertex in graph.vertices:
            if subject in (f"{graph.name}/{vertex.name}", vertex.product) and graph not in graphs:
                reasons += _vertex(snapshot, graph, vertex)
    known = bool(reasons) or subject in snapshot.environments or any(name == subject for name, _ in snapshot.releases)
    if not known:
        raise Refused(
            "unknown-subject",
            f"nothing is called {subject!r}: name a host, graph, graph/vertex, product, environment or rollout",
        )
    return tuple(dict.fromkeys([*reasons, *_planning(snapshot, subject, reasons, now_ms)])) or (
        Reason("", subject, "it is known, and nothing is deployed or waits because of it"),
    )


def _planning(snapshot: Snapshot, subject: str, about: Iterable[Reason], now_ms: int) -> Iterable[Reason]:
    """What the planner says of the subject, or of the vertices that it turned out to be about."""
    subjects = {subject, *(reason.subject for reason in about)}
    return [
        reason
        for reason in planner.plan(snapshot, now_ms).reasons
        if reason.subject in subjects or reason.host == subject
    ]


def _host(snapshot: Snapshot, name: str) -> Iterable[Reason]:
    host, known = snapshot.hosts[name], standing.seen(snapshot, name)
    if not host.enrolled:
        yield Reason(name, name, f"it has not enrolled: run `halftrack host token {name}` and enrol its agent")
    elif silence := standing.silence(snapshot, name):
        by = standing.sighted_by(snapshot, name)
        seen = f"; {by} sees it, so it can be reached, and is cut off from here" if by else ""
        yield Reason(name, name, f"its state is unknown, which is not bad: {silence}{seen}")
    else:
        yield Reason(name, name, f"it is connected; it confirmed its state {age_text(known.observed_age_ms)} ago")
    held = snapshot.held.get(name)
    if held is not None:
        revision = held.plan.revision
        if known.accepted_revision >= revision:
            yield Reason(name, name, f"it has accepted its newest plan, revision {revision}")
        elif known.refusal is not None and known.refusal.revision == revision:
            text = f"it refused revision {revision}: {known.refusal.reason}: {known.refusal.message}"
            yield Reason(name, name, f"{text}; revision {known.accepted_revision} stays in force there")
        else:
            yield Reason(name, name, f"revision {revision} waits for it; it has {known.accepted_revision}")
    elif host.enrolled:
        yield Reason(name, name, "no graph gives it anything to run")
    if known.observed is not None:
        yield from (Reason(name, name, f"it reports a problem: {problem}") for problem in known.observed.problems)
        for instance in known.observed.instances:
            if instance.health is Health.UNHEALTHY:
                detail = f": {instance.detail}" if instance.detail else ""
                text = f"{instance.workload} is {instance.phase} after {instance.restarts} restarts{detail}"
                yield Reason(name, name, text)


def _vertex(snapshot: Snapshot, graph: StreamGraph, vertex: Vertex) -> Iterable[Reason]:
    subject = f"{graph.name}/{vertex.name}"
    force = standing.in_force(snapshot, graph.environment, graph.name, vertex.name)
    if force is None:
        yield Reason("", subject, f"no release of {vertex.product} has come into force here")
    else:
        text = f"{vertex.product} {force.version} is in force (generation {force.generation})"
        where = " and ".join(services.hosts_of(snapshot, graph, vertex))
        yield Reason("", subject, f"{text} on {where or 'no host yet'}")
    mine = snapshot.rollouts_of(graph.environment, graph.name, vertex.name)
    for rollout in (r for r in mine if not r.phase.ended or r is mine[-1]):
        yield Reason("", rollout.rollout_id, _story(rollout))
    if silence := standing.silences(snapshot, vertex.hosts):
        yield Reason("", subject, f"unknown, so neither good nor bad: {silence}")


def _rollout(snapshot: Snapshot, rollout: Rollout) -> Iterable[Reason]:
    yield Reason("", rollout.rollout_id, _story(rollout))
    found = standing.vertex_of(snapshot, rollout)
    if found is not None and not rollout.phase.ended and (text := standing.silences(snapshot, found[1].hosts)):
        yield Reason("", rollout.rollout_id, f"it can neither pass nor fail by what is not seen: {text}")


def _story(rollout: Rollout) -> str:
    way = f"{rollout.from_version} → {rollout.to_version}" if rollout.from_version else rollout.to_version
    text = f"{rollout.product} {way}: {rollout.phase.value}"
    return f"{text}: {rollout.reason}" if rollout.reason else text
