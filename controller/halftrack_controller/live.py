"""Graphs that people change while they run: who may, from which revision on, and what becomes of what was declared. Pure.

* An edit names the revision that its author saw. When the graph has moved on since, the edit is refused with what has happened,
  and nothing is changed: the second of two people is told, not overruled.
* The graph's `editors`, if it has any, are who may edit it, settle its drift, or declare it anew.
* What is live and was not declared is drift. It is shown, and stays until somebody adopts it (it is declared from then on) or
  reverts it. A manifest that says anything else is refused meanwhile, so that no edit is overwritten by somebody who never saw it.
* However a graph is changed (an edit, a manifest, drift that is reverted), who runs goes over to its new inputs by `rewiring`; or it is
  refused, and nothing is changed.
"""

from collections.abc import Iterator

from halftrack_controller import placement, standing
from halftrack_controller.snapshot import Snapshot
from halftrack_model import edit_rules, edits, rewiring, rewiring_rules
from halftrack_model.edits import Edit, GraphChange, GraphRecord
from halftrack_model.errors import InvalidInput, Refused
from halftrack_model.graph import StreamGraph, Vertex
from halftrack_proto.graph_messages import GraphQuery

TOLD = 5  # changes that a refusal repeats; more are for `halftrack stream drift`


def record_of(snapshot: Snapshot, query: GraphQuery) -> GraphRecord:
    """The graph that is meant; Refused when there is none, or more than one."""
    graph = standing.graph_meant(snapshot, query)
    return snapshot.records[graph.environment, graph.name]


def permitted(record: GraphRecord, operator: str) -> None:
    """Refused unless the operator is among those whom the declared graph names, or it names nobody."""
    editors = record.declared.editors
    if editors and operator not in editors:
        raise Refused(
            "not-an-editor",
            f"{record.environment}/{record.name} is changed by {', '.join(editors)}, and you are {operator}: ask one of them, or to be "
            "added to its editors",
        )


def current(record: GraphRecord, revision: int) -> None:
    """Refused unless `revision` is the one that the graph is at, with what has happened since."""
    if revision == record.revision:
        return
    if revision > record.revision:
        text = f"{record.name} is at revision {record.revision}, and has never been at {revision}"
    else:
        since = [change for change in record.changes if change.revision > revision]
        lines = [f"  {change.revision}: {change.operator} {change.what}" for change in since[-TOLD:]]
        text = "\n".join([f"{record.name} is at revision {record.revision}; you saw {revision}. Since then:", *lines])
    raise Refused("stale-revision", f"{text}\nnothing was changed: look at it, and say it again for this revision")


def edited(
    snapshot: Snapshot, record: GraphRecord, edit: Edit, operator: str, now_ms: int
) -> tuple[StreamGraph, GraphChange]:
    """The graph with the edit, and what its history shall say."""
    wanted = edit_rules.edited(rewiring.asked(record.live), edit)
    found = [*_without_release(snapshot, record.live, wanted), *rewiring_problems(snapshot, record, wanted)]
    if found:
        raise InvalidInput("bad-edit", "\n".join([*found, "nothing was changed"]))
    live = carried_out(snapshot, record, wanted)
    if moved := tuple(_moved(record.live, live)):
        raise Refused("would-move", "\n".join([*moved, "that would stop the stream; nothing was changed"]))
    return live, GraphChange(record.revision + 1, operator, now_ms, edit_rules.told(edit))


def carried_out(snapshot: Snapshot, record: GraphRecord, wanted: StreamGraph) -> StreamGraph:
    """What is live once `wanted` is asked for. The next revision is its generation: so no generation ever comes back."""
    return rewiring.rewired(record.live, wanted, record.revision + 1, standing.at_work(snapshot, record.live))


def reverted(snapshot: Snapshot, record: GraphRecord) -> StreamGraph:
    """What is live once the edits since the declaration are undone; Refused when who runs cannot go back to it."""
    if found := tuple(rewiring_problems(snapshot, record, record.declared)):
        text = "undo the edits one by one, in the order that these say"
        raise Refused("not-at-once", "\n".join([*found, f"nothing was changed: {text}"]))
    return carried_out(snapshot, record, record.declared)


def rewiring_problems(snapshot: Snapshot, record: GraphRecord, wanted: StreamGraph) -> Iterator[str]:
    """Why a live graph cannot become `wanted`; nothing for graphs that are not live, and do not change what anybody reads."""
    graph = record.live
    counting = standing.counting(snapshot, rewiring.carried(graph)) | standing.counting(snapshot, wanted)
    yield from rewiring_rules.refusals(graph, wanted, standing.at_work(snapshot, graph), counting)
    if not graph.live:
        return
    yield from _on_their_way(snapshot, graph, wanted)
    yield from _other_products(snapshot, wanted)
    yield from _inlet_sizes(snapshot, graph, wanted)


def _on_their_way(snapshot: Snapshot, graph: StreamGraph, wanted: StreamGraph) -> Iterator[str]:
    """A vertex that leaves in the middle of a swap would have nobody who ends it."""
    for name in sorted({vertex.name for vertex in graph.vertices} - {vertex.name for vertex in wanted.vertices}):
        if (rollout := standing.moving(snapshot, graph.environment, graph.name, name)) and rollout.from_version:
            yield (
                f"{name} is going from {rollout.from_version} to {rollout.to_version} ({rollout.rollout_id}, {rollout.phase.value}): let that "
                "end, or abort it, before it leaves"
            )


def _other_products(snapshot: Snapshot, wanted: StreamGraph) -> Iterator[str]:
    """A vertex is known by its name: its releases, its state and its place in what it reads."""
    for vertex in wanted.vertices:
        before = snapshot.rollouts_of(wanted.environment, wanted.name, vertex.name)
        if before and before[-1].product != vertex.product:
            yield f"{vertex.name} has run {before[-1].product}: give the vertex that runs {vertex.product} a name of its own"


def _without_release(snapshot: Snapshot, graph: StreamGraph, wanted: StreamGraph) -> Iterator[str]:
    """Who stands between others must have something to run: else what it feeds would wait for ever."""
    known = {vertex.name for vertex in graph.vertices}
    for vertex in wanted.vertices:
        if vertex.name not in known and vertex.role.transforms and standing.release_of(snapshot, graph, vertex) is None:
            yield f"{vertex.product} has no release that {vertex.name} could run: publish one first (`halftrack release publish`)"


def _inlet_sizes(snapshot: Snapshot, graph: StreamGraph, wanted: StreamGraph) -> Iterator[str]:
    """An inlet's ring was made once, and stays: a larger credit would be a word that nobody keeps."""
    made = {ring.name: ring for plan in standing.plans_of(snapshot, graph.environment) for ring in plan.rings}
    for vertex in wanted.vertices:
        ring = made.get(placement.inlet_ring_name(graph.name, vertex.name))
        credit = sum(edge.credit_bytes for edge in wanted.into(vertex.name))
        if ring is not None and credit > ring.capacity_bytes:
            yield (
                f"the credit into {vertex.name} comes to {credit} bytes, and its inlet's ring has {ring.capacity_bytes}, which it keeps "
                "while it runs: ask for less, or give the vertex another name"
            )


def _moved(before: StreamGraph, after: StreamGraph) -> Iterator[str]:
    """What an edit would take from one host to another: never somebody else's part while it runs."""
    known = {vertex.name: vertex for vertex in before.vertices}
    for vertex in after.vertices:
        old = known.get(vertex.name)
        if old is None:
            continue
        for what, place in (("what it produces", placement.home), ("what it reads", _input_home)):
            if (was := place(before, old)) != (now := place(after, vertex)):
                yield f"{vertex.name}: {what} would move from {was} to {now}"


def _input_home(graph: StreamGraph, vertex: Vertex) -> str:
    return placement.input_home(graph, vertex) if graph.inputs(vertex.name) else ""


def settled(record: GraphRecord, adopt: bool, operator: str, now_ms: int) -> GraphChange:
    """What history shall say of drift that is adopted or reverted; Refused when there is none."""
    if not record.drifted:
        raise Refused(
            "no-drift", f"{record.name} is as it was declared: there is nothing to {'adopt' if adopt else 'revert'}"
        )
    what = "adopted what was live" if adopt else "reverted to what was declared"
    return GraphChange(record.revision + 1, operator, now_ms, what)


def drift_problem(record: GraphRecord | None, document: StreamGraph) -> str | None:
    """Why the document may not be applied now, or None: over drift only what is declared or what is live may be said."""
    if (
        record is None
        or not record.drifted
        or edits.same(document, record.declared)
        or edits.same(document, record.live)
    ):
        return None
    last = record.changes[-1] if record.changes else None
    who = f" (the last by {last.operator}, who {last.what})" if last else ""
    return (
        f"it has been edited while it runs{who}, and a manifest must not overwrite that unseen: look with `halftrack stream drift "
        f"{record.name}`, then adopt the edits into your manifest or revert them"
    )


def kept(snapshot: Snapshot, record: GraphRecord | None, document: StreamGraph) -> StreamGraph:
    """What is live once the document is applied: to say again what is declared changes nothing, edits stay."""
    if record is None:
        return document
    return record.live if edits.same(document, record.declared) else carried_out(snapshot, record, document)


def changes_nothing(record: GraphRecord | None, document: StreamGraph) -> bool:
    """Is the document what is declared already?"""
    return record is not None and edits.same(document, record.declared)
