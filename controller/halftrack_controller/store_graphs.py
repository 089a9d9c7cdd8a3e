"""Graphs in the store: what is declared, what is live, and their history. Within the caller's transaction; decides nothing.

`graphs` holds what is live, because that is what everything else reads. A graph that nobody has ever edited or declared anew has no
row in `graph_records`: it is as it was declared, at revision 1, as in stores from before there were edits.

A graph that was deleted has a row without vertices, which no manifest can declare: that somebody has ended it is something else than that nobody knows of it (R3), and
its revisions and history go on should it be declared again.
"""

import sqlite3
from functools import lru_cache

from halftrack_model import canonical
from halftrack_model.edits import GraphChange, GraphRecord
from halftrack_model.graph import StreamGraph
from halftrack_model.rewiring import asked

CHANGES_KEPT = 1000  # of one graph: years of edits by people
CHANGES_READ = 50


def read_records(conn: sqlite3.Connection) -> dict[tuple[str, str], GraphRecord]:
    """Every graph as it stands, by environment and name; but for those that were deleted."""
    return {
        (environment, name): GraphRecord(
            environment,
            name,
            revision or 1,
            graph_of(declared or live),
            graph_of(live),
            _changes(conn, environment, name),
        )
        for environment, name, live, revision, declared in conn.execute(_RECORDS).fetchall()
        if graph_of(live).vertices
    }


def read_deleted(conn: sqlite3.Connection) -> frozenset[tuple[str, str]]:
    """The graphs that were, by environment and name."""
    rows = conn.execute("select environment, name, canonical from graphs").fetchall()
    return frozenset((environment, name) for environment, name, live in rows if not graph_of(live).vertices)


def put_declared(conn: sqlite3.Connection, graph: StreamGraph, live: StreamGraph, operator: str, at_ms: int) -> None:
    """What an applied document says is declared from now on, and live as far as hosts can be with it: the edits before it are over."""
    revision = _next_revision(conn, graph.environment, graph.name)
    _put(conn, graph, canonical.encode(live), revision, canonical.encode(graph))
    _tell(conn, graph, GraphChange(revision, operator, at_ms, "declared by a manifest"))


def put_deleted(conn: sqlite3.Connection, environment: str, name: str, operator: str, at_ms: int) -> None:
    """From now on hosts shall run nothing of it."""
    nothing = StreamGraph(name, environment, (), ())
    revision = _next_revision(conn, environment, name)
    _put(conn, nothing, canonical.encode(nothing), revision, canonical.encode(nothing))
    _tell(conn, nothing, GraphChange(revision, operator, at_ms, "deleted"))


def put_live(conn: sqlite3.Connection, before: GraphRecord, live: StreamGraph, change: GraphChange) -> None:
    """An edit, or the way back: what was declared stays declared."""
    _put(conn, live, canonical.encode(live), change.revision, canonical.encode(before.declared))
    _tell(conn, live, change)


def put_adopted(conn: sqlite3.Connection, before: GraphRecord, change: GraphChange) -> None:
    """What is live is declared as well."""
    _put(conn, before.live, canonical.encode(before.live), change.revision, canonical.encode(asked(before.live)))
    _tell(conn, before.live, change)


def put_settled(conn: sqlite3.Connection, live: StreamGraph) -> None:
    """The same graph, of which less is carried."""
    row = (canonical.encode(live), live.environment, live.name)
    conn.execute("update graphs set canonical = ? where environment = ? and name = ?", row)


@lru_cache(maxsize=256)
def graph_of(data: bytes) -> StreamGraph:
    """Parsed once: rows change rarely and a snapshot is taken at every step. The values are frozen, so sharing them is safe."""
    return canonical.decode(StreamGraph, data)


_RECORDS = """
select graphs.environment, graphs.name, canonical, revision, declared from graphs
left join graph_records as records on records.environment = graphs.environment and records.name = graphs.name
order by graphs.environment, graphs.name
"""
_CHANGES = """
select revision, operator, at_ms, what from graph_changes where environment = ? and name = ?
order by revision desc limit ?
"""


def _changes(conn: sqlite3.Connection, environment: str, name: str) -> tuple[GraphChange, ...]:
    rows = conn.execute(_CHANGES, (environment, name, CHANGES_READ)).fetchall()
    return tuple(GraphChange(*row) for row in reversed(rows))


def _next_revision(conn: sqlite3.Connection, environment: str, name: str) -> int:
    """1 for a graph that is new; a graph without a row is at 1 already."""
    known = conn.execute("select 1 from graphs where environment = ? and name = ?", (environment, name)).fetchone()
    query = "select revision from graph_records where environment = ? and name = ?"
    row = conn.execute(query, (environment, name)).fetchone()
    return (int(row[0]) if row else int(known is not None)) + 1


def _put(conn: sqlite3.Connection, graph: StreamGraph, live: bytes, revision: int, declared: bytes) -> None:
    key = (graph.environment, graph.name)
    conn.execute(
        "insert into graphs values (?, ?, ?) on conflict (environment, name) do update set canonical = excluded.canonical",
        (*key, live),
    )
    conn.execute(
        "insert into graph_records values (?, ?, ?, ?) on conflict (environment, name) do update set "
        "revision = excluded.revision, declared = excluded.declared",
        (*key, revision, declared),
    )


def _tell(conn: sqlite3.Connection, graph: StreamGraph, change: GraphChange) -> None:
    key = (graph.environment, graph.name)
    row = (*key, change.revision, change.operator, change.at_ms, change.what)
    conn.execute("insert into graph_changes values (?, ?, ?, ?, ?, ?)", row)
    old = "delete from graph_changes where environment = ? and name = ? and revision <= ?"
    conn.execute(old, (*key, change.revision - CHANGES_KEPT))
