"""A sink into PostgreSQL: every frame's rows once, with the sequence that comes next in the same transaction.

Owns the connection, what it demands of the server, and which of its errors are worth waiting for. Knows no password: it is in a file, which is
read again for each connection, or where libpq itself looks (pgpass, a service).

Params: `connect`, libpq's own words (`host=db.example dbname=spectra user=halftrack sslmode=verify-full sslrootcert=/etc/…`, or
`service=spectra`), `password_path`, `stream`, `window_frames`.
"""

import os
import socket
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from halftrack_dataplane.engines.settings import extra, wrong
from halftrack_dataplane.engines.transactional import Elsewhere, Statement, TransactionalSink
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.sdk import Away, Param

_PROGRESS = "CREATE TABLE IF NOT EXISTS halftrack_progress (stream text PRIMARY KEY, next_seq bigint NOT NULL)"
_FOLLOWING = (
    "INSERT INTO halftrack_progress VALUES (%s, %s) ON CONFLICT (stream) DO UPDATE SET next_seq = excluded.next_seq"
)
CONNECT_S = 2  # the least that libpq takes
BUSY_S = 1  # another's lock; the status goes on after it
ANSWER_S = 10  # for a whole transaction; a server that says nothing for so long hangs, or the way to it is gone
# A machine that vanishes in mid-transaction leaves it open at the server, with our row locked, and nobody else could go on.
_DEMANDS = (f"SET lock_timeout = '{BUSY_S}s'", f"SET idle_in_transaction_session_timeout = '{ANSWER_S}s'")
# SQLSTATE classes and codes of what goes by: the connection, resources, an operator's hand, another's lock, a standby that is being promoted.
_PASSING = ("08", "53", "57", "58", "40", "55P03", "25006", "25P03")
_LOCAL = ("localhost", "127.0.0.1", "::1")


class PostgresSink(TransactionalSink):
    """Subclass it and say what your tables are and what a frame is in them; as it is, frames and gaps are rows of their own tables."""

    tables: Sequence[str] = (
        """CREATE TABLE IF NOT EXISTS frames (
            stream text, seq bigint, epoch bigint, timestamp_ns bigint, payload bytea NOT NULL, PRIMARY KEY (stream, seq))""",
        "CREATE TABLE IF NOT EXISTS gaps (stream text, seq bigint, count bigint NOT NULL, PRIMARY KEY (stream, seq))",
    )

    def __init__(self, params: Mapping[str, Param], data_dir: str) -> None:
        super().__init__(params, data_dir)
        self._pg: Any = extra("psycopg", "psycopg", "postgres")
        self._password_path = self.settings.text("password_path", "-")
        self._words = self._checked(self.settings.text("connect"))
        self._connection: Any = None
        self._line: socket.socket | None = None

    def rows(self, frame: Frame) -> Iterable[Statement]:
        """One row. Parameters stand where `%s` is, or `%b` for bytes as they are."""
        if frame.gap:
            yield "INSERT INTO gaps VALUES (%s, %s, %s)", (self.stream, frame.seq, frame.gap)
        else:
            own = (self.stream, frame.seq, frame.epoch, frame.timestamp_ns, frame.payload)
            yield "INSERT INTO frames VALUES (%s, %s, %s, %s, %b)", own

    def open(self) -> int:
        """Connect, and make the tables that are not there."""
        words = dict(self._words)
        if self._password_path != "-":  # noqa: S105 - a path
            words["password"] = _password(Path(self._password_path))
        try:
            connection = self._connection = self._pg.connect(**words)
            self._line = socket.socket(fileno=os.dup(connection.fileno()))
            with self._patiently(), connection.transaction():
                for demand in _DEMANDS:
                    connection.execute(demand)
                self._durable(connection)
                for table in (_PROGRESS, *self.tables):
                    connection.execute(table)
                connection.execute(
                    "INSERT INTO halftrack_progress VALUES (%s, 0) ON CONFLICT DO NOTHING", (self.stream,)
                )
                return self._stored(connection)
        except self._pg.Error as error:
            raise self._judged(error) from None

    def store(self, frames: Sequence[Frame], first: int, following: int) -> None:
        """All or nothing; whoever else writes this stream waits for the row of `halftrack_progress`."""
        connection = self._connection
        try:
            with self._patiently(), connection.transaction():
                if (stored := self._stored(connection)) != first:
                    raise Elsewhere(stored)
                with (
                    connection.pipeline(),
                    connection.cursor() as cursor,
                ):  # one way to the server and back for all of them
                    rows = (row for frame in frames for row in self.rows(frame))
                    for statement, group in groupby(rows, itemgetter(0)):
                        cursor.executemany(statement, [parameters for _, parameters in group])
                    cursor.execute(_FOLLOWING, (self.stream, following))
        except self._pg.Error as error:
            raise self._judged(error) from None

    def close(self) -> None:
        """What was not committed is rolled back by it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._line is not None:
            self._line.close()
            self._line = None

    # ------------------------------------------------------------------------------------------------------- what it relies on

    def _checked(self, text: str) -> dict[str, Any]:
        """The connection's words, ours added."""
        try:
            words: dict[str, Any] = self._pg.conninfo.conninfo_to_dict(text)
        except self._pg.Error as error:
            raise wrong(f"param 'connect' is not what libpq understands: {_line(error)}") from None
        if {"password", "sslpassword"} & words.keys():
            raise wrong(
                "param 'connect' has a password, and params are for all to see: put it into a file that only this workload's user "
                "reads, and name that by password_path, or use pgpass or a service"
            )
        hosts = [host for host in str(words.get("host", "")).split(",") if host and not host.startswith("/")]
        told = "sslmode" in words or "service" in words or "PGSSLMODE" in os.environ or "PGSERVICE" in os.environ
        if not told and any(host not in _LOCAL for host in hosts):
            raise wrong(
                "param 'connect' leads over a network and says nothing of TLS: add sslmode=verify-full and sslrootcert=FILE (or, where "
                "nobody else is on that network, sslmode=disable)"
            )
        defaults = {"connect_timeout": CONNECT_S, "application_name": f"halftrack {self.stream}"}
        return defaults | words | {"autocommit": True}

    def _durable(self, connection: Any) -> None:
        """A commit that a server's crash takes back would be a frame that was acknowledged and is lost."""
        if connection.execute("SHOW synchronous_commit").fetchone()[0] == "off":
            connection.execute("SET synchronous_commit = on")

    def _stored(self, connection: Any) -> int:
        asked = "SELECT next_seq FROM halftrack_progress WHERE stream = %s FOR UPDATE"
        found = connection.execute(asked, (self.stream,)).fetchone()
        return 0 if found is None else int(found[0])

    @contextmanager
    def _patiently(self) -> Iterator[None]:
        """Nothing in libpq ends a wait for a server that hangs, so its line is cut, which does."""
        line = self._line
        cut = threading.Timer(ANSWER_S, _cut, (line,))
        cut.daemon = True
        cut.start()
        try:
            yield
        finally:
            cut.cancel()

    def _judged(self, error: Exception) -> Exception:
        state = getattr(error, "sqlstate", None) or ""
        broken = self._connection is None or self._connection.broken
        if broken or state.startswith(_PASSING):
            return Away(f"the database takes nothing now: {_line(error)}")
        if state == "42501":
            return wrong(f"the database does not let this role do what the sink must: {_line(error)}")
        return error


def _password(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise wrong(f"the password in {path} can be read by others: chmod 600 {path}")
        return path.read_text().rstrip("\n")
    except OSError as error:
        raise Away(f"the password in {path} cannot be read: {error.strerror}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _cut(line: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        line.shutdown(socket.SHUT_RDWR)
