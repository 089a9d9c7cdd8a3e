"""Real servers for the tests, each in a folder of its own, on loopback or a socket: started, killed, started again where they were."""

import atexit
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
STARTS_S = 20.0
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else "/tmp"  # a cluster is a thousand small files


def needed(program: str, package: str) -> str:
    """Where `program` is; without it the test is skipped, or fails where nothing may be missing."""
    found = shutil.which(program, path=PATH)
    if found is None:
        absent(f"{program} is not here (Debian's package {package})")
    assert found is not None
    return found


def absent(reason: str) -> None:
    """Skip, or fail where HALFTRACK_REQUIRE_HOST says that nothing may be missing."""
    if os.environ.get("HALFTRACK_REQUIRE_HOST"):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)


def free_port() -> int:
    """A port that nobody has; a server that is started again has to get the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """Debian's nats-server with JetStream, file storage."""

    def __init__(self, folder: Path, *, max_file_bytes: int = 1 << 30) -> None:
        self._program = needed("nats-server", "nats-server")
        self._folder = folder
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._config = folder / "nats.conf"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{folder / "jetstream"}", max_mem: 64M, max_file: {max_file_bytes} }}\n'
        )

    def start(self) -> None:
        """Until it takes connections."""
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen([self._program, "-c", str(self._config)], stdout=log, stderr=log)
        waiting(self._listens, self._folder / "nats.log")

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """For good."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


class KafkaBroker:
    """Where HALFTRACK_TEST_KAFKA names real brokers, these; they are not killed. Else librdkafka's own mock of one, in a process of its own.

    The mock keeps messages in memory and takes an aborted transaction for a committed one, so it is stopped and continued, not killed.
    """

    def __init__(self, folder: Path) -> None:
        self.servers = os.environ.get("HALFTRACK_TEST_KAFKA", "")
        self.real = bool(self.servers)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it takes connections; or let it go on."""
        if self.real:
            return
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            return
        with (self._folder / "kafka.log").open("wb") as log:
            self._process = subprocess.Popen([sys.executable, "-c", _MOCK, str(self._folder / "kafka")], stderr=log)
        waiting((self._folder / "kafka").exists, self._folder / "kafka.log")
        self.servers = (self._folder / "kafka").read_text()

    def kill(self) -> None:
        """It stands still, as a broker does whose disk hangs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        """For good."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


_MOCK = """
import os, signal, sys
from confluent_kafka import Producer
cluster = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 2})
brokers = cluster.list_topics(timeout=10).brokers.values()
with open(sys.argv[1] + ".draft", "w") as file:
    file.write(",".join(f"{broker.host}:{broker.port}" for broker in brokers))
os.rename(sys.argv[1] + ".draft", sys.argv[1])
signal.pause()
"""


def waiting(condition: Callable[[], bool], log: Path, seconds: float = STARTS_S) -> None:
    """Until it holds; the end of the log says why it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.02)


class PostgresServer:
    """Debian's PostgreSQL, a cluster of its own behind a socket. It refuses to be root's, so root lends it a user and a folder."""

    def __init__(self) -> None:
        self._program = Path(_postgres_programs()) / "postgres"
        self.folder = Path(tempfile.mkdtemp(prefix="halftrack-pg-", dir=MEMORY))
        self._data = self.folder / "data"
        subprocess.run(["cp", "-a", "--reflink=auto", str(_cluster()), str(self._data)], check=True)
        _give(self.folder)
        self.connect = f"host={self.folder} dbname=postgres user=halftrack"
        self._process: subprocess.Popen[bytes] | None = None
        self._kills = 0

    def start(self, port: int = 5432) -> None:
        """Until it takes sessions. What was killed a moment ago may still hold its memory: it is tried again then."""
        waiting(lambda: self._started(port), self.folder / "log")

    def configure(self, text: str) -> None:
        """More of its configuration, for the next start."""
        with (self._data / "postgresql.conf").open("a") as config:
            config.write(text)

    def trust(self, rules: str) -> None:
        """Who may connect, and how: pg_hba.conf, from the next start or reload on."""
        (self._data / "pg_hba.conf").write_text(rules)

    def give(self, name: str, data: bytes) -> None:
        """A file that nobody else reads, beside its data."""
        path = self._data / name
        path.write_bytes(data)
        path.chmod(0o600)
        _give(path)

    def _started(self, port: int) -> bool:
        if self._process is None or self._process.poll() is not None:
            words = ["-k", str(self.folder)]
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [str(self._program), "-D", str(self._data), *words], stdout=log, stderr=log, user=_server_user()
                )
        ready = [str(self._program.parent / "pg_isready"), "-q", "-h", str(self.folder), "-p", str(port)]
        return subprocess.run(ready, check=False).returncode == 0

    def kill(self) -> None:
        """SIGKILL, and every other time the immediate stop, in which each of its processes drops what it has in hand."""
        self._kills += 1
        self._end(signal.SIGKILL if self._kills % 2 else signal.SIGQUIT)

    def hang(self, *, on: bool) -> None:
        """All of its processes stand still, or go on."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            os.kill(pid, signal.SIGSTOP if on else signal.SIGCONT)

    def stop(self) -> None:
        """For good; even its memory, which a killed one leaves to the next."""
        self._end(signal.SIGINT)
        note = self._data / "postmaster.pid"
        if note.exists() and len(lines := note.read_text().splitlines()) > 6 and lines[6].split():
            subprocess.run(["ipcrm", "-m", lines[6].split()[-1]], check=False, capture_output=True)
        shutil.rmtree(self.folder)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def _postgres_programs() -> str:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(shutil.which("initdb", path=PATH) or "/-")
    ]
    if not found[-1].exists():
        absent("PostgreSQL is not here (Debian's package postgresql-15)")
    return str(found[-1].parent)


def _server_user() -> str | None:
    return "postgres" if os.geteuid() == 0 else None


def _give(folder: Path) -> None:
    if _server_user() is not None:
        shutil.chown(folder, "postgres", "postgres")


@functools.cache
def _cluster() -> Path:
    """A new cluster, which each test gets a copy of: making one takes a second. Nobody but its own user may be a superuser there."""
    folder = Path(tempfile.mkdtemp(prefix="halftrack-pg-new-", dir="/tmp"))
    atexit.register(shutil.rmtree, folder)
    _give(folder)
    made = [
        "-D",
        str(folder / "data"),
        "--no-sync",
        "--auth=trust",
        "--username=halftrack",
        "--wal-segsize=1",
        "-E",
        "UTF8",
    ]
    initdb = [f"{_postgres_programs()}/initdb", *made, "--no-instructions", "--locale=C"]
    subprocess.run(initdb, check=True, capture_output=True, user=_server_user(), cwd="/")
    with (folder / "data/postgresql.conf").open("a") as config:
        config.write(
            "listen_addresses = ''\ndynamic_shared_memory_type = mmap\n"
        )  # what is killed leaves nothing in /dev/shm
        config.write("fsync = off\n")  # processes are killed here, not machines
        config.write("shared_buffers = 4MB\nmax_connections = 20\nmin_wal_size = 4MB\nmax_wal_size = 16MB\n")
    return folder / "data"
