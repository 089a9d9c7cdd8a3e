"""Real data-plane processes for the tests: an agent's driver in miniature. Starts, kills, starts again, reaps, and tells why."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec, dump
from halftrack_dataplane.status import Status, load

PROGRAM = Path(__file__).with_name("stream_program.py")


def until(condition: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    """Poll until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)


class Host:
    """A folder with rings, and the processes on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rings = folder / "rings"
        self.rings.mkdir(parents=True)
        for name in ("status", "specs", "logs", "data"):
            (folder / name).mkdir()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._made: list[Ring] = []
        self._closing = threading.Event()
        self._reaper = threading.Thread(target=self._reap)
        self._reaper.start()

    def ring(self, name: str, *, slots: int = 1024, generation: int = 0, capacity_bytes: int = 1 << 20) -> Ring:
        """Make a ring."""
        path = self.path(name)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        ring = Ring.create(path, capacity_bytes=capacity_bytes, slots=slots, generation=generation)
        self._made.append(ring)
        return ring

    def path(self, name: str) -> str:
        """Where the ring of that name is."""
        return str(self.rings / f"{name}.ring")

    def start(self, spec: RunSpec) -> subprocess.Popen[bytes]:
        """Start the process that `spec` describes, again if it has run before."""
        path = self.folder / "specs" / f"{spec.name}.json"
        path.write_bytes(dump(spec))
        with (self.folder / "logs" / spec.name).open("ab") as log:
            argv = [sys.executable, "-m", "halftrack_dataplane.run", str(path)]
            self._running[spec.name] = subprocess.Popen(argv, stderr=log, stdout=log)
        return self._running[spec.name]

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self._running[name].kill()
        self._running[name].wait()

    def process(self, name: str) -> int:
        """Its process id."""
        return self._running[name].pid

    def log(self, name: str) -> str:
        """What it has said."""
        return (self.folder / "logs" / name).read_text()

    def status(self, name: str) -> Status | None:
        """Its status file."""
        path = self.folder / "status" / name
        text = path.read_bytes() if path.exists() else b""  # empty: it was ordered, and has said nothing yet
        return load(text) if text else None

    def check(self) -> None:
        """Nobody has ended who was not killed here."""
        ended = {name: process.poll() for name, process in self._running.items() if process.poll() is not None}
        assert not ended, {name: (code, self.log(name)[-2000:]) for name, code in ended.items()}

    def close(self) -> None:
        """End everything; orderly where that works."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._closing.set()
        self._reaper.join()
        for ring in self._made:
            ring.close()

    def _reap(self) -> None:
        """The agent does this: a dead reader must not hold a stream up."""
        while not self._closing.wait(0.005):
            for ring in list(self._made):
                ring.reap()


class PairHost(Host):
    """The whole stream on one host: source, members a and b, merge, sink."""

    def __init__(self, folder: Path, *, rate: int = 200_000, slots: int = 1024) -> None:
        super().__init__(folder)
        self.ring("s/source", slots=slots)
        self.merged = self.ring("s/chain", slots=slots)
        self.merged.propose_cut(1, 1, None, "1.0.0")
        self.specs = {spec.name: spec for spec in (self._source(rate), self._merge(), self._sink())}
        self.member("a", "1.0.0", 1)
        self.member("b", "1.0.0", 1)

    def _base(self, role: str, name: str, **values: object) -> RunSpec:
        status = str(self.folder / "status" / name)
        return RunSpec(role=role, name=name, status_path=status, rings_dir=str(self.rings), **values)  # type: ignore[arg-type]

    def _user(self, role: str, name: str, entry: str, **values: object) -> RunSpec:
        return self._base(role, name, program=str(PROGRAM), entry=f"stream_program:{entry}", **values)

    def _source(self, rate: int) -> RunSpec:
        params = {"rate_bytes_per_s": rate}
        return self._user("source", "s.source", "Counter", output_ring=self.path("s/source"), params=params)

    def _merge(self) -> RunSpec:
        return self._base("merge", "s.chain.merge", output_ring=self.path("s/chain"), merge_prefix="s/chain")

    def _sink(self) -> RunSpec:
        data = str(self.folder / "data")
        return self._user("sink", "s.sink", "Ledger", input_ring=self.path("s/chain"), data_dir=data)

    def member(self, member: str, release: str, generation: int, **params: str | int | bool) -> RunSpec:
        """A member's ring and spec."""
        name = f"s.chain.{member}@{release}"
        ring = f"s/chain.{member}@{release}"
        self.ring(ring, generation=generation)
        spec = self._user(
            "member",
            name,
            "Chain",
            input_ring=self.path("s/source"),
            output_ring=self.path(ring),
            release=release,
            generation=generation,
            state_writes="chain/1",
            state_reads=("chain/1",),
            snapshot_dir=str(self.folder / f"snapshots-{member}"),
            params={"flavour": release, "snapshot_every": 32} | params,
        )
        self.specs[name] = spec
        return spec

    @property
    def ledger(self) -> Path:
        """What the sink has written."""
        return self.folder / "data" / "ledger"
