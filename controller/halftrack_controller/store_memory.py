"""What the store was last read as, so that a look at everything reads again only what has changed since. Decides nothing.

Which rows have changed is noted by the database itself: triggers of this connection alone put each row that is written, by whatever statement, on a list,
within the very transaction that writes it, so that what is undone is not on it either. Who writes to the file past this connection (an operator with
another program) is noticed by SQLite's own counter, and everything is read anew. What has not changed is handed over as the very same tables:
what others have worked out from those (`tables`, `remembering`) stands as well.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import replace

from halftrack_controller import store_rows
from halftrack_controller.store_graphs import read_deleted, read_records
from halftrack_controller.store_rows import Rows
from halftrack_controller.tables import Plans

BY_HOST = ("plans", "observed", "answers", "certificates")  # tables of which each host's rows are read by themselves
WHOLE = (
    "environments",
    "hosts",
    "graphs",
    "graph_records",
    "graph_changes",
    "releases",
    "artifacts",
    "rollouts",
    "generations",
)

Written = Mapping[str, frozenset[str]]  # hosts by table; no host is named for a table that is read whole


class Memory:
    """Of one connection, on the thread that has it."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._rows: Rows | None = None
        self._others = -1  # commits of others that this connection has seen
        for statement in _noting():
            conn.execute(statement)

    def read(self, conn: sqlite3.Connection) -> Rows:
        """Everything, at the instant of the caller's transaction, which is to be its outermost: what an inner one sees may be undone yet."""
        (others,) = conn.execute("pragma data_version").fetchone()
        written = _written(conn)
        if self._rows is None or others != self._others:
            rows = store_rows.read_rows(conn)
        else:
            rows = _updated(conn, self._rows, written) if written else self._rows
        if written:
            conn.execute("delete from written")
        self._rows, self._others = rows, others
        return rows

    def forget(self) -> None:
        """Nothing is known: the transaction in which it was read has failed."""
        self._rows = None


def _noting() -> Iterator[str]:
    yield "pragma temp_store=memory"
    yield "create temp table written (name text, host text)"
    for name in (*WHOLE, *BY_HOST):
        for event, row in (("insert", "new"), ("update", "new"), ("delete", "old")):
            host = f"{row}.host" if name in BY_HOST else "''"
            trigger = f"create temp trigger written_{name}_{event} after {event} on main.{name}"
            # Not `insert or ignore`: the conflict clause of the statement that it fires for would take its place.
            note = f"insert into written select * from (select '{name}' as name, {host} as host) where (name, host) not in written"  # noqa: S608
            yield f"{trigger} begin {note}; end"


def _written(conn: sqlite3.Connection) -> Written:
    found: dict[str, set[str]] = {}
    for name, host in conn.execute("select name, host from written"):
        found.setdefault(name, set()).add(host)
    return {name: frozenset(hosts) for name, hosts in found.items()}


def _updated(conn: sqlite3.Connection, rows: Rows, written: Written) -> Rows:
    """With what was written read again."""
    if "environments" in written:
        rows = replace(rows, environments=store_rows.read_environments(conn))
    if not written.keys().isdisjoint(("graphs", "graph_records", "graph_changes")):
        records = read_records(conn)
        rows = replace(rows, records=records, graphs=store_rows.graphs_of(records), deleted=read_deleted(conn))
    if "releases" in written:
        rows = replace(rows, releases=store_rows.read_releases(conn, rows.releases))
    if "artifacts" in written:
        rows = replace(rows, artifacts=store_rows.read_artifacts(conn))
    if "rollouts" in written:
        rows = replace(rows, rollouts=store_rows.read_rollouts(conn))
    if "generations" in written:
        rows = replace(rows, generations=store_rows.read_generations(conn))
    return _hosts_updated(conn, rows, written)


def _hosts_updated(conn: sqlite3.Connection, rows: Rows, written: Written) -> Rows:
    if "hosts" in written:
        rows = replace(rows, hosts=store_rows.read_hosts(conn))
    if "plans" in written:
        news = {host: store_rows.read_held(conn, host) for host in written["plans"]}
        held = {**rows.held, **news}
        rows = replace(rows, held=Plans({host: plan for host, plan in sorted(held.items()) if plan is not None}))
    stale = frozenset[str]().union(*(written.get(name, ()) for name in BY_HOST))
    if stale or "hosts" in written:
        known = {host: told for host, told in rows.told.items() if host not in stale}
        told = {host: known.get(host) or store_rows.read_told(conn, host) for host in rows.hosts}
        rows = replace(rows, told=told)
    return rows
