"""Frames in SQLite: rows of the user's own, databases that are locked, full, restored from a backup."""

import shutil
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest

from halftrack_dataplane.engines import sqlite
from halftrack_dataplane.engines.sqlite import SqliteSink
from halftrack_dataplane.engines.transactional import Statement
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.runtime import Unable
from halftrack_dataplane.sdk import Away


def _fed(sink: SqliteSink, end: int) -> None:
    for seq in range(sink.next_seq(), end):
        sink.consume(Frame(seq, 1, seq, b"%d" % seq))


def test_rows_are_what_the_user_says(tmp_path: Path) -> None:
    class Sums(SqliteSink):
        tables = ("CREATE TABLE IF NOT EXISTS sums (second INTEGER PRIMARY KEY, sum INTEGER)",)

        def rows(self, frame: Frame) -> Iterable[Statement]:
            add = "INSERT INTO sums VALUES (?, ?) ON CONFLICT (second) DO UPDATE SET sum = sum + excluded.sum"
            yield add, (frame.seq // 10, int(frame.payload))

    for end in (13, 13, 40):
        sink = Sums({}, str(tmp_path))
        _fed(sink, end)
        sink.flush()
        sink.close()
    with sqlite3.connect(tmp_path / "stream.db") as database:
        found = database.execute("SELECT * FROM sums ORDER BY 1").fetchall()
    assert found == [(at, sum(range(10 * at, 10 * at + 10))) for at in range(4)]


def test_a_locked_database_makes_it_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.05)
    sink = SqliteSink({}, str(tmp_path))
    _fed(sink, 5)
    sink.flush()
    other = sqlite3.connect(tmp_path / "stream.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    sink.consume(Frame(5, 1, 5, b"5"))
    with pytest.raises(Away, match="database is locked"):
        sink.flush()
    other.execute("ROLLBACK")
    other.close()
    sink._retry = type(sink._retry)()
    sink.flush()
    sink.close()
    assert SqliteSink({}, str(tmp_path)).next_seq() == 6


def test_a_full_database_makes_it_wait(tmp_path: Path) -> None:
    sink = SqliteSink({"window_frames": 4}, str(tmp_path))
    _fed(sink, 4)
    sink.flush()
    assert sink._database is not None
    sink._database.execute("PRAGMA max_page_count=8")
    sink.consume(Frame(4, 1, 0, bytes(100_000)))
    with pytest.raises(Away, match="database or disk is full"):
        sink.flush()
    sink._retry = type(sink._retry)()  # the limit is of the connection: the next one has room
    sink.flush()
    sink.close()
    assert SqliteSink({}, str(tmp_path)).next_seq() == 5


def test_what_a_restored_backup_lacks_is_declared(tmp_path: Path) -> None:
    # invariant: S2
    sink = SqliteSink({}, str(tmp_path))
    _fed(sink, 5)
    sink.flush()
    sink.close()
    shutil.copy(tmp_path / "stream.db", tmp_path / "backup")
    sink = SqliteSink({}, str(tmp_path))
    _fed(sink, 9)
    sink.flush()
    sink._let_go()
    shutil.copy(tmp_path / "backup", tmp_path / "stream.db")
    sink.consume(Frame(9, 1, 9, b"9"))
    sink.flush()
    sink.close()
    with sqlite3.connect(tmp_path / "stream.db") as database:
        assert database.execute("SELECT * FROM gaps").fetchall() == [(5, 4)]
        assert database.execute("SELECT max(seq), count(*) FROM frames").fetchone() == (9, 6)
    assert sink.counters()["lost_by_engine"] == 4


def test_two_sinks_at_once_bring_every_frame_once(tmp_path: Path) -> None:
    # invariant: S1
    first, second = SqliteSink({}, str(tmp_path)), SqliteSink({}, str(tmp_path))
    assert first.next_seq() == second.next_seq() == 0
    for seq in range(50):
        first.consume(Frame(seq, 1, 0, b"x"))
        second.consume(Frame(seq, 1, 0, b"x"))
        (first, second)[seq % 2].flush()
    first.flush()
    second.flush()
    with sqlite3.connect(tmp_path / "stream.db") as database:
        assert database.execute("SELECT count(*), max(seq) FROM frames").fetchone() == (50, 49)
    first.close()
    second.close()


def test_a_wrong_configuration_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unable, match="there is no folder"):
        SqliteSink({"path": str(tmp_path / "nowhere/stream.db")}, str(tmp_path)).next_seq()
    (tmp_path / "not").write_bytes(b"a database" * 1000)
    with pytest.raises(sqlite3.DatabaseError, match="file is not a database"):
        SqliteSink({"path": str(tmp_path / "not")}, str(tmp_path)).next_seq()


def test_a_mistake_of_the_program_is_the_programs(tmp_path: Path) -> None:
    class Wrong(SqliteSink):
        def rows(self, frame: Frame) -> Iterable[Statement]:
            yield "INSERT INTO nowhere VALUES (?)", (frame.seq,)

    sink = Wrong({}, str(tmp_path))
    _fed(sink, 1)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        sink.flush()


def test_an_end_in_the_middle_of_a_transaction_stores_nothing_of_it(tmp_path: Path) -> None:
    # invariant: S1
    sink = SqliteSink({}, str(tmp_path))
    _fed(sink, 4)
    sink.flush()
    with sqlite3.connect(
        tmp_path / "stream.db"
    ) as database:  # what a death would be, between the rows and the sequence
        database.execute(
            "CREATE TRIGGER death BEFORE INSERT ON halftrack_progress BEGIN SELECT RAISE(ABORT, 'death'); END"
        )
    for seq in range(4, 10):
        sink.consume(Frame(seq, 1, seq, b"%d" % seq))
    with pytest.raises(sqlite3.IntegrityError, match="death"):
        sink.flush()
    with sqlite3.connect(tmp_path / "stream.db") as database:
        database.execute("DROP TRIGGER death")
    again = SqliteSink({}, str(tmp_path))
    assert again.next_seq() == 4
    _fed(again, 10)
    again.flush()
    with sqlite3.connect(tmp_path / "stream.db") as database:
        assert database.execute("SELECT count(*), max(seq) FROM frames").fetchone() == (10, 9)
    again.close()
