"""The controller's memory: one SQLite file, one writer connection, every change whole and durable or not at all (D1).

WAL with synchronous=FULL: when a method returns, what it wrote survives power loss. Owns the file, its lock and the rules
that need the present state (a token used once, a release that never changes). Decides nothing else: what shall be is computed
from `Snapshot`s by pure code elsewhere. All methods belong to one thread; `store_thread` gives the rest of the program a way in.
"""

import fcntl
import json
import os
import sqlite3
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Self

from sqlite_utils import Database

from halftrack_controller import store_graphs, store_keys
from halftrack_controller.migrations import migrate
from halftrack_controller.snapshot import Environment, Host, Published, RolloutChange, Seen, Snapshot
from halftrack_controller.store_faults import DiskLost, faults, from_disk
from halftrack_controller.store_memory import Memory
from halftrack_controller.store_rows import Presence, read_kin, read_rows, read_told
from halftrack_controller.tokens import TokenRow
from halftrack_model import canonical
from halftrack_model.edits import GraphChange, GraphRecord
from halftrack_model.errors import HostFault, InvalidInput, Refused
from halftrack_model.graph import StreamGraph
from halftrack_model.observed import Observed
from halftrack_model.plan import Plan
from halftrack_model.report import Report
from halftrack_model.seals import Sealed

FILE = "store.db"
LOCK = "lock"
PLANS_KEPT = 16  # of each host: the newest is what counts, a few more explain how it came to be
REPORTS_KEPT = 1000  # of each host: some weeks of a busy host's events
MAX_AHEAD = 1_000_000  # a host that claims more revisions beyond ours than any galaxy makes is not believed

Declared = Environment | Host | StreamGraph


class Store:
    """An open store. `Store.open` locks the folder: two controllers on one state would sign two truths."""

    def __init__(self, db: Database, lock: int, galaxy: str, memory: Memory) -> None:
        self._db = db
        self._lock = lock
        self._galaxy = galaxy
        self._memory = memory

    @classmethod
    def open(cls, state: Path, galaxy: str) -> Self:
        """The store in `state`, made or migrated as needed; Refused when another controller has it."""
        lock = _locked(state)
        try:
            with faults():
                from_disk(state / FILE)
                conn = sqlite3.connect(state / FILE, check_same_thread=False, isolation_level=None)
                os.chmod(state / FILE, 0o600)
                (mode,) = conn.execute("pragma journal_mode=wal").fetchone()
                if mode != "wal":  # all that SQLite says of a sync that fails here
                    raise DiskLost("SQLite keeps no write-ahead log on it")
                for pragma in ("synchronous=full", "foreign_keys=on", "trusted_schema=off"):
                    conn.execute(f"pragma {pragma}")
                db = Database(conn, execute_plugins=False)
                migrate(db)
                memory = Memory(conn)
        except BaseException:
            os.close(lock)
            raise
        return cls(db, lock, galaxy, memory)

    def close(self) -> None:
        """End the connection and let another controller have the folder."""
        self._db.close()
        os.close(self._lock)

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """Several changes as one. Nests: an inner block is undone alone when it fails inside an outer one."""
        with faults(), self._db.atomic():
            yield self._db.conn

    def limit_pages(self, pages: int) -> None:
        """Let the file grow to at most so many pages: a full disk is then met where we chose."""
        with faults():
            self._db.conn.execute(f"pragma max_page_count={int(pages)}")

    # ---------------------------------------------------------------------------------------------------------- reading

    def snapshot(self, now_ms: int, presence: Mapping[str, Presence], listening_ms: int = 0) -> Snapshot:
        """Everything as it stands, joined with what the sessions know of each host's presence, and for how long they have listened."""
        if self._db.conn.in_transaction:  # what is seen in the middle of one may be undone yet
            with faults():
                return read_rows(self._db.conn).snapshot(self._galaxy, now_ms, presence, listening_ms)
        try:
            with self.transaction() as conn:
                rows = self._memory.read(conn)
        except BaseException:
            self._memory.forget()
            raise
        return rows.snapshot(self._galaxy, now_ms, presence, listening_ms)

    def seen(self, host: str) -> Seen:
        """What is stored of one host's last state."""
        with faults():
            return read_told(self._db.conn, host).seen(0, None)

    def reports(self, host: str, limit: int) -> tuple[Report, ...]:
        """The newest reports of a host, oldest first."""
        query = "select canonical from reports where host = ? order by number desc limit ?"
        with faults():
            rows = self._db.conn.execute(query, (host, limit)).fetchall()
        return tuple(canonical.decode(Report, data) for (data,) in reversed(rows))

    def reports_upto(self, host: str) -> int:
        """The highest report number consumed from a host."""
        with faults():
            row = self._db.conn.execute("select upto from report_marks where host = ?", (host,)).fetchone()
        return int(row[0]) if row else 0

    def key_digest(self, host: str) -> str:
        """The key that may speak for a host; empty for one that has not enrolled or does not exist."""
        with faults():
            return store_keys.key_digest(self._db.conn, host)

    def check_key(self, host: str, shown: str) -> None:
        """Untrusted unless that key speaks for the host."""
        with faults():
            store_keys.checked_key(self._db.conn, host, shown)

    def newest_plan(self, host: str) -> tuple[int, Sealed] | None:
        """Revision and bytes of the newest plan made for a host."""
        query = "select revision, sealed from plans where host = ? order by revision desc limit 1"
        with faults():
            row = self._db.conn.execute(query, (host,)).fetchone()
        return (int(row[0]), canonical.decode(Sealed, row[1])) if row else None

    # ------------------------------------------------------------------------------------------------- what operators say

    def apply(
        self,
        documents: Iterable[Declared],
        operator: str = "",
        at_ms: int = 0,
        live: Mapping[tuple[str, str], StreamGraph] = MappingProxyType({}),
    ) -> None:
        """Register documents that `documents.problems` has found right: all or none. `live` are graphs as they run from now on, where
        that is more than what is declared."""
        with self.transaction() as conn:
            for document in sorted(documents, key=_rank):
                if isinstance(document, StreamGraph):
                    runs = live.get((document.environment, document.name), document)
                    store_graphs.put_declared(conn, document, runs, operator, at_ms)
                else:
                    _put_document(conn, document)

    def edit_graph(self, before: GraphRecord, live: StreamGraph, change: GraphChange) -> None:
        """A graph's next revision, with another thing live. Refused when somebody else has made that revision."""
        with self.transaction() as conn:
            store_graphs.put_live(conn, before, live, change)

    def adopt_graph(self, before: GraphRecord, change: GraphChange) -> None:
        """A graph's next revision, in which what is live is declared."""
        with self.transaction() as conn:
            store_graphs.put_adopted(conn, before, change)

    def delete_graph(self, environment: str, name: str, operator: str, at_ms: int) -> None:
        """A graph ends, or one does that only hosts know of any more."""
        with self.transaction() as conn:
            store_graphs.put_deleted(conn, environment, name, operator, at_ms)

    def settle_graphs(self, graphs: Iterable[StreamGraph]) -> None:
        """Graphs of which hosts need less now. That is nobody's edit, and no revision."""
        with self.transaction() as conn:
            for graph in graphs:
                store_graphs.put_settled(conn, graph)

    def publish(self, published: Published) -> None:
        """A verified release, for ever."""
        release, sealed = published.release, canonical.encode(published.sealed)
        row = (release.product, release.version, release.artifact.digest, sealed, published.published_ms)
        with self.transaction() as conn:
            conn.execute("insert into releases values (?, ?, ?, ?, ?)", row)

    def add_artifact(self, digest: str, size_bytes: int) -> None:
        """An artifact whose file is already durable."""
        with self.transaction() as conn:
            conn.execute("insert or ignore into artifacts values (?, ?)", (digest, size_bytes))

    def kin_of_artifact(self, digest: str) -> tuple[str, ...]:
        """Other artifacts of the products that have this one, the newest first."""
        with faults():
            return read_kin(self._db.conn, digest)

    def artifact_size(self, digest: str) -> int | None:
        """The size of an artifact that is held."""
        with faults():
            row = self._db.conn.execute("select size_bytes from artifacts where digest = ?", (digest,)).fetchone()
        return int(row[0]) if row else None

    # ---------------------------------------------------------------------------------------------- what the core decides

    def commit_rollouts(self, changes: Iterable[RolloutChange]) -> None:
        """Rollouts as they shall be, and with a new one its generation: both or neither."""
        with self.transaction() as conn:
            for change in changes:
                _put_rollout(conn, change)

    def commit_plans(self, plans: Sequence[tuple[Plan, Sealed]], now_ms: int) -> None:
        """Sealed plans, all or none. A revision that is not higher than the one held is refused by the schema (P2)."""
        with self.transaction() as conn:
            for plan, sealed in plans:
                row = (plan.host, plan.revision, canonical.encode(sealed), now_ms)
                conn.execute("insert into plans values (?, ?, ?, ?)", row)
                old = (plan.host, plan.revision - PLANS_KEPT)
                conn.execute("delete from plans where host = ? and revision <= ?", old)

    # --------------------------------------------------------------------------------------------------- what hosts say

    def host_holds(self, host: str, revision: int) -> None:
        """A host has said which revision is durable there, on arrival or in answer to a push."""
        newest = self.newest_plan(host)
        if revision > (newest[0] if newest else 0) + MAX_AHEAD:
            raise InvalidInput("bad-revision", f"{host} claims revision {revision}, which no controller has made")
        with self.transaction() as conn:
            conn.execute(
                "insert into answers (host, accepted_revision) values (?, ?) on conflict (host) do update set "
                "accepted_revision = excluded.accepted_revision where accepted_revision <> excluded.accepted_revision",
                (host, revision),
            )

    def host_declines(self, host: str, revision: int, reason: str, message: str) -> None:
        """A host has refused a plan."""
        with self.transaction() as conn:
            conn.execute(
                "insert into answers (host, refused_revision, reason, message) values (?, ?, ?, ?) on conflict (host) "
                "do update set refused_revision = excluded.refused_revision, reason = excluded.reason, "
                "message = excluded.message",
                (host, revision, reason, message),
            )

    def observe(self, observed: Observed, now_ms: int) -> None:
        """A host's state, whole."""
        row = (observed.host, observed.digest(), canonical.encode(observed), now_ms)
        with self.transaction() as conn:
            conn.execute("insert or replace into observed values (?, ?, ?, ?)", row)

    def consume(self, host: str, reports: Sequence[Report], now_ms: int) -> tuple[Report, ...]:
        """Take in a host's reports; those that are new, each exactly once however often it is sent."""
        numbers = [report.number for report in reports]
        if (
            any(report.host != host for report in reports)
            or numbers != sorted(set(numbers))
            or min(numbers, default=1) < 1
        ):
            raise InvalidInput("bad-reports", f"reports of {host} must be its own, their numbers rising from 1")
        with self.transaction() as conn:
            fresh = tuple(report for report in reports if report.number > self.reports_upto(host))
            for report in fresh:
                row = (host, report.number, canonical.encode(report), now_ms)
                conn.execute("insert into reports values (?, ?, ?, ?)", row)
            if fresh:
                upto = fresh[-1].number
                conn.execute(
                    "insert into report_marks values (?, ?) on conflict (host) do update set upto = excluded.upto",
                    (host, upto),
                )
                conn.execute("delete from reports where host = ? and number <= ?", (host, upto - REPORTS_KEPT))
        return fresh

    # -------------------------------------------------------------------------------------------------------- enrolment

    def add_token(self, token: TokenRow, now_ms: int) -> None:
        """A fresh token; those whose time is over go."""
        with self.transaction() as conn:
            store_keys.add_token(conn, token, now_ms)

    def enrol(
        self, secret_hash: str, host: str, key_digest: str, curve_public: str, now_ms: int, until_ms: int
    ) -> None:
        """Let the key speak for the host, if the token says so, with a certificate until then. The same key may come again."""
        with self.transaction() as conn:
            store_keys.checked_token(conn, secret_hash, host, key_digest, now_ms)
            store_keys.enrol(conn, secret_hash, host, key_digest, curve_public)
            store_keys.put_certificate(conn, host, until_ms)

    def renew(self, host: str, key_digest: str, until_ms: int) -> None:
        """A fresh certificate for the key that speaks for the host; Untrusted when that is another."""
        with self.transaction() as conn:
            store_keys.checked_key(conn, host, key_digest)
            store_keys.put_certificate(conn, host, until_ms)

    def time_floor_ms(self) -> int:
        """The highest that this controller's clock has been known to say; 0 when nothing is known."""
        with faults():
            row = self._db.conn.execute("select wall_ms from time_floor").fetchone()
        return int(row[0]) if row else 0

    def raise_time_floor(self, wall_ms: int) -> None:
        """The clock has said this. Tokens that ended before it have ended for good, wherever the clock goes."""
        with self.transaction() as conn:
            store_keys.end_tokens(conn, wall_ms)
            conn.execute(
                "insert into time_floor values (1, ?) on conflict (one) do update set wall_ms = excluded.wall_ms",
                (wall_ms,),
            )

    def shown(self, host: str, ends_ms: int) -> None:
        """A host has shown a certificate that ends then."""
        with faults():
            known = store_keys.certificate_ends_ms(self._db.conn, host)
        if not known:
            with self.transaction() as conn:
                store_keys.put_shown(conn, host, ends_ms)


def _rank(document: Declared) -> int:
    """Environments before what stands in them."""
    return (Environment, Host, StreamGraph).index(type(document))


def _put_document(conn: sqlite3.Connection, document: Environment | Host) -> None:
    match document:
        case Environment():
            row: tuple[object, ...] = (document.name, _text(document.labels), document.track, document.agent)
            conn.execute(
                "insert into environments (name, labels, track, agent) values (?, ?, ?, ?) "
                "on conflict (name) do update set labels = excluded.labels, track = excluded.track, agent = excluded.agent",
                row,
            )
        case Host():
            windows = canonical.encode(document.bandwidth).decode()
            row = (
                document.name,
                document.environment,
                _text(document.labels),
                document.bridge,
                document.agent,
                windows,
                document.site,
            )
            conn.execute(
                "insert into hosts (name, environment, labels, bridge, agent, bandwidth, site) values (?, ?, ?, ?, ?, ?, ?) "
                "on conflict (name) do update set environment = excluded.environment, labels = excluded.labels, "
                "bridge = excluded.bridge, agent = excluded.agent, bandwidth = excluded.bandwidth, site = excluded.site",
                row,
            )


def _put_rollout(conn: sqlite3.Connection, change: RolloutChange) -> None:
    rollout = change.rollout
    key = (rollout.environment, rollout.graph, rollout.vertex, rollout.to_generation)
    known = conn.execute("select 1 from rollouts where rollout_id = ?", (rollout.rollout_id,)).fetchone()
    if known:
        moved = (rollout.from_version, rollout.from_generation, rollout.phase.value, rollout.reason, rollout.rollout_id)
        conn.execute(
            "update rollouts set from_version = ?, from_generation = ?, phase = ?, reason = ? where rollout_id = ?",
            moved,
        )
        return
    conn.execute("insert into generations values (?, ?, ?, ?, ?, ?)", (*key, rollout.product, rollout.to_version))
    row: tuple[object, ...] = (
        rollout.rollout_id,
        *key[:3],
        rollout.product,
        rollout.from_version,
        rollout.to_version,
        rollout.from_generation,
        rollout.to_generation,
        rollout.phase.value,
        rollout.reason,
        rollout.created_ms,
    )
    conn.execute(f"insert into rollouts values ({', '.join('?' * len(row))})", row)  # noqa: S608 - question marks only


def _text(labels: Mapping[str, str]) -> str:
    return json.dumps(dict(labels), sort_keys=True)


def _locked(state: Path) -> int:
    """The descriptor that holds the folder's lock; the kernel drops it with the process, however that ends."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostFault("cannot-write", f"{state}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Refused(
            "in-use", f"another controller is running on {state}: stop it, or give this one its own --state"
        ) from None
    return descriptor
