"""A sink into SQLite: every frame's rows once, with the sequence that comes next in the same transaction.

Owns the connection and which of SQLite's errors are worth waiting for. Never shares a connection; other programs may read and write the
database meanwhile.

Params: `path` (`stream.db` in the sink's data folder), `stream`, `window_frames`.
"""

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from halftrack_dataplane.engines.settings import wrong
from halftrack_dataplane.engines.transactional import Elsewhere, Statement, TransactionalSink
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.sdk import Away, Param

_PROGRESS = "CREATE TABLE IF NOT EXISTS halftrack_progress (stream TEXT PRIMARY KEY, next_seq INTEGER NOT NULL)"
BUSY_S = 1.0  # another writer's transaction; the status goes on after it
# Of the primary error codes: what goes by when somebody makes room, lets go or mounts a disk.
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
}


class SqliteSink(TransactionalSink):
    """Subclass it and say what your tables are and what a frame is in them; as it is, frames and gaps are rows of their own tables."""

    tables = (
        "CREATE TABLE IF NOT EXISTS frames (seq INTEGER PRIMARY KEY, epoch INTEGER, timestamp_ns INTEGER, payload BLOB)",
        "CREATE TABLE IF NOT EXISTS gaps (seq INTEGER PRIMARY KEY, count INTEGER NOT NULL)",
    )

    def __init__(self, params: Mapping[str, Param], data_dir: str) -> None:
        super().__init__(params, data_dir)
        self._path = self.settings.text("path", os.path.join(data_dir, "stream.db"))
        self._database: sqlite3.Connection | None = None

    def rows(self, frame: Frame) -> Iterable[Statement]:
        """One row."""
        if frame.gap:
            yield "INSERT INTO gaps VALUES (?, ?)", (frame.seq, frame.gap)
        else:
            yield "INSERT INTO frames VALUES (?, ?, ?, ?)", (frame.seq, frame.epoch, frame.timestamp_ns, frame.payload)

    def open(self) -> int:
        """Open the file, or make it."""
        if not os.path.isdir(os.path.dirname(os.path.abspath(self._path))):
            raise wrong(f"there is no folder for the database {self._path}")
        try:
            database = self._database = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")  # a commit is on the disk, not on its way there
            database.execute("BEGIN IMMEDIATE")
            for table in (_PROGRESS, *self.tables):
                database.execute(table)
            stored = self._stored(database)
            database.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._judged(error) from None
        return stored

    def store(self, frames: Sequence[Frame], first: int, following: int) -> None:
        """All or nothing."""
        database = self._database
        if database is None:
            raise Away(f"the database {self._path} is not open")
        try:
            database.execute("BEGIN IMMEDIATE")
            if (stored := self._stored(database)) != first:
                database.execute("ROLLBACK")
                raise Elsewhere(stored)
            for frame in frames:
                for statement, parameters in self.rows(frame):
                    database.execute(statement, parameters)
            database.execute("INSERT OR REPLACE INTO halftrack_progress VALUES (?, ?)", (self.stream, following))
            database.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._judged(error) from None

    def close(self) -> None:
        """What was not committed is rolled back by it."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _stored(self, database: sqlite3.Connection) -> int:
        found = database.execute("SELECT next_seq FROM halftrack_progress WHERE stream = ?", (self.stream,)).fetchone()
        return 0 if found is None else int(found[0])

    def _judged(self, error: sqlite3.Error) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0)
        if code & 0xFF in _PASSING:  # the extended codes say more, above the primary one
            return Away(f"the database {self._path} takes nothing now: {error}")
        return error
