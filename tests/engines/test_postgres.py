"""Frames in a real PostgreSQL: rows of the user's own, locks, restored backups, passwords, TLS, and a server that hangs."""

import datetime
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from halftrack_dataplane.engines import postgres
from halftrack_dataplane.engines.postgres import PostgresSink
from halftrack_dataplane.engines.transactional import Statement
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.runtime import Unable
from halftrack_dataplane.sdk import Away
from tests.dataplane.stream_program import frame_of
from tests.engines.places import calmly
from tests.engines.servers import PostgresServer, absent, free_port
from tests.engines.streams import SIZE

try:
    import psycopg
except ImportError:
    absent("psycopg is not here (pip install 'halftrack[postgres]')")

Make = Callable[..., PostgresSink]
SECRET = "open sesame: 'quoted' \\ and long"  # noqa: S105 - of a server that lives for a test


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Running."""
    server = PostgresServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def sink_of(server: PostgresServer, tmp_path: Path) -> Iterator[Make]:
    """Makes sinks into the test's server; their connections end with it."""
    made: list[PostgresSink] = []

    def make(kind: type[PostgresSink] = PostgresSink, **params: str | int) -> PostgresSink:
        made.append(kind({"connect": server.connect} | params, str(tmp_path)))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def _fed(sink: PostgresSink, end: int) -> None:
    for seq in range(sink.next_seq(), end):
        sink.consume(Frame(seq, 1, seq, b"%d" % seq))


def _asked(server: PostgresServer, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.connect, autocommit=True) as connection:
        found = connection.execute(text)
        return found.fetchall() if found.description else []


def test_rows_are_what_the_user_says(sink_of: Make, server: PostgresServer) -> None:
    class Sums(PostgresSink):
        tables = ("CREATE TABLE IF NOT EXISTS sums (second bigint PRIMARY KEY, sum bigint)",)

        def rows(self, frame: Frame) -> Iterable[Statement]:
            add = "INSERT INTO sums AS s VALUES (%s, %s) ON CONFLICT (second) DO UPDATE SET sum = s.sum + excluded.sum"
            yield add, (frame.seq // 10, int(frame.payload))

    for end in (13, 13, 40):
        sink = sink_of(Sums)
        _fed(sink, end)
        sink.flush()
        sink.close()
    found = _asked(server, "SELECT * FROM sums ORDER BY 1")
    assert found == [(at, sum(range(10 * at, 10 * at + 10))) for at in range(4)]


def test_streams_of_one_database_do_not_meet(sink_of: Make, server: PostgresServer) -> None:
    for stream in ("a", "b"):
        sink = sink_of(stream=stream)
        _fed(sink, 3)
        sink.flush()
    assert _asked(server, "SELECT stream, count(*) FROM frames GROUP BY 1 ORDER BY 1") == [("a", 3), ("b", 3)]


def test_two_sinks_at_once_bring_every_frame_once(sink_of: Make, server: PostgresServer) -> None:
    # invariant: S1
    chance = random.Random(5)
    sinks = [sink_of(), sink_of()]
    following = [sink.next_seq() for sink in sinks]
    while min(following) < 300:
        who = chance.randrange(2)
        for _ in range(chance.randrange(1, 60)):
            sinks[who].consume(Frame(following[who], 1, 0, b"x"))
            following[who] += 1
        if chance.random() < 0.7:
            sinks[who].flush()
    for sink in sinks:
        sink.flush()
    end = max(following)
    assert _asked(server, "SELECT count(*), max(seq) FROM frames") == [(end, end - 1)]


def test_what_another_session_locks_makes_it_wait(sink_of: Make, server: PostgresServer) -> None:
    sink = sink_of()
    _fed(sink, 5)
    sink.flush()
    with psycopg.connect(server.connect) as other:
        other.execute("SELECT * FROM halftrack_progress FOR UPDATE")
        sink.consume(Frame(5, 1, 5, b"5"))
        with pytest.raises(Away, match="lock timeout"):
            sink.flush()
    calmly(sink.flush)
    assert sink_of().next_seq() == 6


def test_what_a_restored_backup_lacks_is_declared(sink_of: Make, server: PostgresServer) -> None:
    # invariant: S2
    sink = sink_of()
    _fed(sink, 9)
    sink.flush()
    _asked(server, "UPDATE halftrack_progress SET next_seq = 5")
    _asked(server, "DELETE FROM frames WHERE seq >= 5")
    sink.consume(Frame(9, 1, 9, b"9"))
    sink.flush()
    assert _asked(server, "SELECT seq, count FROM gaps") == [(5, 4)]
    assert _asked(server, "SELECT max(seq), count(*) FROM frames") == [(9, 6)]
    assert sink.counters()["lost_by_engine"] == 4


def test_an_end_in_the_middle_of_a_transaction_stores_nothing_of_it(sink_of: Make, server: PostgresServer) -> None:
    # invariant: S1
    sink = sink_of()
    _fed(sink, 4)
    sink.flush()
    _asked(
        server,
        "CREATE FUNCTION death() RETURNS trigger AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$"
        " LANGUAGE plpgsql; CREATE TRIGGER death BEFORE UPDATE ON halftrack_progress FOR EACH ROW EXECUTE FUNCTION death()",
    )
    for seq in range(4, 10):
        sink.consume(Frame(seq, 1, seq, b"%d" % seq))
    with pytest.raises(Away, match="takes nothing now"):
        sink.flush()
    assert _asked(server, "SELECT count(*) FROM frames") == [(4,)]
    _asked(server, "DROP TRIGGER death ON halftrack_progress")
    calmly(sink.flush)
    assert _asked(server, "SELECT count(*), max(seq) FROM frames") == [(10, 9)]


def test_a_commit_whose_answer_is_lost_is_not_done_twice(sink_of: Make, server: PostgresServer) -> None:
    # invariant: S1
    class Cut(PostgresSink):
        def store(self, frames: Sequence[Frame], first: int, following: int) -> None:
            super().store(frames, first, following)
            raise Away("the line was cut")

    sink = sink_of(Cut)
    for end in (5, 9):
        _fed(sink, end)
        with pytest.raises(Away, match="the line was cut"):
            sink.flush()
        calmly(sink.flush)
    assert _asked(server, "SELECT count(*), max(seq) FROM frames") == [(9, 8)]


def test_a_server_that_hangs_is_away_and_what_it_did_meanwhile_counts(
    sink_of: Make, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # invariant: S1
    monkeypatch.setattr(postgres, "ANSWER_S", 0.3)
    sink = sink_of()
    _fed(sink, 5)
    sink.flush()
    for seq in range(5, 20):
        sink.consume(Frame(seq, 1, seq, frame_of(seq, SIZE)))
    server.hang(on=True)
    try:
        with pytest.raises(Away):
            sink.flush()
    finally:
        server.hang(on=False)
    calmly(sink.flush)
    assert _asked(server, "SELECT count(*), max(seq) FROM frames") == [(20, 19)]


def test_a_commit_is_on_the_disk_whatever_the_role_prefers(sink_of: Make, server: PostgresServer) -> None:
    # invariant: D1
    _asked(server, "ALTER ROLE halftrack SET synchronous_commit = off")
    sink = sink_of()
    sink.next_seq()
    assert sink._connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_a_mistake_of_the_program_is_the_programs(sink_of: Make) -> None:
    class Wrong(PostgresSink):
        def rows(self, frame: Frame) -> Iterable[Statement]:
            yield "INSERT INTO nowhere VALUES (%s)", (frame.seq,)

    sink = sink_of(Wrong)
    _fed(sink, 1)
    with pytest.raises(psycopg.errors.UndefinedTable, match="nowhere"):
        sink.flush()


@pytest.mark.parametrize(
    ("connect", "told"),
    [
        ("host=/run password=12345", "param 'connect' has a password"),
        ("postgresql://me:12345@localhost/db", "param 'connect' has a password"),
        ("host=db.example dbname=spectra", "says nothing of TLS"),
        ("host=localhost,10.0.0.1", "says nothing of TLS"),
        ("hots=localhost", "not what libpq understands"),
    ],
)
def test_a_wrong_configuration_is_told(connect: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(Unable, match=told) as caught:
        PostgresSink({"connect": connect}, str(tmp_path))
    assert "12345" not in str(caught.value)


def test_a_role_that_may_not_is_told(sink_of: Make, server: PostgresServer) -> None:
    _asked(server, "CREATE ROLE reader LOGIN")
    sink = sink_of(connect=server.connect.replace("user=halftrack", "user=reader"))
    with pytest.raises(Unable, match="does not let this role"):
        sink.next_seq()


def test_passwords_come_from_a_file_and_go_nowhere_else(sink_of: Make, server: PostgresServer, tmp_path: Path) -> None:
    quoted = SECRET.replace("'", "''")
    _asked(server, f"CREATE ROLE writer LOGIN PASSWORD '{quoted}'; GRANT ALL ON SCHEMA public TO writer")
    server.trust("local all writer scram-sha-256\nlocal all halftrack trust\n")
    _asked(server, "SELECT pg_reload_conf()")
    path = tmp_path / "password"
    path.write_text(SECRET + "\n")
    connect = server.connect.replace("user=halftrack", "user=writer")
    with pytest.raises(Unable, match="chmod 600"):
        sink_of(connect=connect, password_path=str(path)).next_seq()
    path.chmod(0o600)
    sink = sink_of(connect=connect, password_path=str(path))
    assert calmly(sink.next_seq) == 0  # the new rules come into force a moment later
    assert SECRET not in repr(vars(sink))
    path.write_text("another")
    with pytest.raises(Away, match="password authentication failed") as caught:
        sink_of(connect=connect, password_path=str(path)).next_seq()
    assert "another" not in str(caught.value)
    path.unlink()
    with pytest.raises(Away, match="cannot be read"):
        sink_of(connect=connect, password_path=str(path)).next_seq()


def test_tls_is_checked_to_the_servers_name(sink_of: Make, tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        port = free_port()
        authority = _certified(server, "localhost", tmp_path)
        server.configure(f"listen_addresses = '127.0.0.1'\nport = {port}\nssl = on\n")
        server.trust("hostssl all all 127.0.0.1/32 trust\nlocal all all trust\n")
        server.start(port)
        base = f"port={port} dbname=postgres user=halftrack sslmode=verify-full sslrootcert={authority}"
        sink = sink_of(connect=f"host=localhost {base}")
        assert sink.next_seq() == 0
        assert sink._connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (
            True,
        )
        sink.close()
        with pytest.raises(Away, match="does not match host name"):
            sink_of(connect=f"host=127.0.0.1 {base}").next_seq()
    finally:
        server.stop()


def _certified(server: PostgresServer, name: str, folder: Path) -> Path:
    """A certificate for `name` and nobody else, given to the server; where the client finds it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    server.give("server.crt", certificate.public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    server.give("server.key", secret)
    authority = folder / "authority.crt"
    authority.write_bytes(certificate.public_bytes(pem))
    return authority
