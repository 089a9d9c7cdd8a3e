"""Graphs that people change while they run: who may, from which revision on, and what becomes of what was declared. Pure.

* An edit names the revision that its author saw. When the graph has moved on since, the edit is refused with what has happened,
  and nothing is changed: the second of two people is told, not overruled.
* The graph's `editors`, if it has any, are who may edit it, settle its drift, or declare it anew.
* What is live and was not declared is drift. It is shown, and stays until somebody adopts it (it is declared from then on) or
  reverts it. A manifest that says anything else is refused meanwhile, so that no edit is overwritten by somebody who never saw it.
"""

from collections.abc import Iterator

from halftrack_controller import placement, standing
from halftrack_controller.snapshot import Snapshot
from halftrack_model import edits
from halftrack_model.edits import Edit, GraphChange, GraphRecord
from halftrack_model.errors import Refused
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


def edited(record: GraphRecord, edit: Edit, operator: str, now_ms: int) -> tuple[StreamGraph, GraphChange]:
    """The graph with the edit, and what its history shall say."""
    live = edits.edited(record.live, edit)
    if moved := tuple(_moved(record.live, live)):
        raise Refused("would-move", "\n".join([*moved, "that would stop the stream; nothing was changed"]))
    return live, GraphChange(record.revision + 1, operator, now_ms, edits.told(edit))


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


def kept(record: GraphRecord | None, document: StreamGraph) -> StreamGraph:
    """What is live once the document is applied: to say again what is declared changes nothing, edits stay."""
    if record is not None and edits.same(document, record.declared):
        return record.live
    return document


def changes_nothing(record: GraphRecord | None, document: StreamGraph) -> bool:
    """Is the document what is declared already?"""
    return record is not None and edits.same(document, record.declared)
