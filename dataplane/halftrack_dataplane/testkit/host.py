"""Real data-plane processes in a folder of their own: an agent's driver in miniature. Starts, kills, starts again, reaps, and tells why.

Owns processes and rings; knows nothing of what flows through them.
"""

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec, dump
from halftrack_dataplane.status import Status, load
from halftrack_dataplane.testkit.started import KILLED, Started
from halftrack_dataplane.zygote import BENCH, Zygote

PATIENCE_S = 30.0  # for what takes a fraction of a second on an idle machine
LOOK_S = 0.002
REAP_S = 0.005  # a dead reader must not hold a stream up
TERM_S = 5.0
LAST_WORDS = 2_000


class ProcessEnded(AssertionError):  # noqa: N818 - it says what happened
    """A process has ended that nobody had killed; the message has its last words."""


class NotWithin(AssertionError):  # noqa: N818 - it says what happened
    """Something that had to come to pass did not."""


class Host:
    """A folder below /dev/shm with rings, and the processes on them; all of it goes with `close`."""

    def __init__(self) -> None:
        shm = Path("/dev/shm")  # noqa: S108 - where rings live; the folder in it is private
        self.folder = Path(tempfile.mkdtemp(prefix="halftrack-testkit-", dir=shm if shm.is_dir() else None))
        for name in ("rings", "status", "specs", "logs", "data"):
            (self.folder / name).mkdir()
        environment = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        self._zygote = Zygote(BENCH, environment, isolated=False)
        self._running: dict[str, Started] = {}
        self._rings: dict[str, Ring] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._reaper = threading.Thread(target=self._reap, name="halftrack-reaper")
        self._reaper.start()

    def ring(self, name: str, *, capacity_bytes: int, slots: int, generation: int = 0) -> Ring:
        """Make a ring, in the place of a former one of that name."""
        path = self.folder / "rings" / f"{name}.ring"
        path.parent.mkdir(exist_ok=True)
        self.drop_ring(name)
        ring = Ring.create(path, capacity_bytes=capacity_bytes, slots=slots, generation=generation)
        with self._lock:
            self._rings[name] = ring
        return ring

    def drop_ring(self, name: str) -> None:
        """Remove a ring, if it is there."""
        with self._lock:
            ring = self._rings.pop(name, None)
            if ring is not None:
                ring.close()
                Path(ring.path).unlink()

    def start(self, spec: RunSpec) -> None:
        """Start the process that `spec` describes, again if it has run before."""
        path = self.folder / "specs" / f"{spec.name}.json"
        path.write_bytes(dump(spec))
        self._running[spec.name] = Started(self._zygote, path, self.folder / "logs" / spec.name)

    def pid(self, name: str) -> int:
        """Of a process that runs."""
        return self._running[name].pid

    def kill(self, name: str) -> None:
        """SIGKILL."""
        process = self._running.pop(name)
        process.signal(signal.SIGKILL)
        process.wait()

    def pause(self, name: str) -> None:
        """SIGSTOP: it hangs, and lives."""
        self._running[name].signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._running[name].signal(signal.SIGCONT)

    def stop(self, name: str) -> None:
        """SIGTERM, and wait for its end."""
        process = self._running.pop(name)
        process.signal(signal.SIGTERM)
        if not process.wait(TERM_S):
            process.signal(signal.SIGKILL)
            process.wait()

    def status(self, name: str) -> Status | None:
        """Its status file, if it has written one."""
        path = self.folder / "status" / name
        return load(path.read_bytes()) if path.exists() else None

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until `holds`; NotWithin when it takes too long, ProcessEnded when a process has ended by itself."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            self.check()
            if time.monotonic() > deadline:
                raise NotWithin(f"not within {PATIENCE_S:.0f} s: {what}")
            time.sleep(LOOK_S)

    def check(self) -> None:
        """Nobody has ended by himself."""
        for name, process in self._running.items():
            if (status := process.poll()) is not None:
                how = "was killed" if status == KILLED else f"has ended with status {status}"
                words = (self.folder / "logs" / name).read_text(errors="replace")[-LAST_WORDS:]
                raise ProcessEnded(f"{name} {how}:\n{words}")

    def close(self) -> None:
        """End everything, and remove the folder."""
        for process in self._running.values():
            process.signal(signal.SIGKILL)
            process.wait()
        self._zygote.close()
        self._closing.set()
        self._reaper.join()
        for name in list(self._rings):
            self.drop_ring(name)
        shutil.rmtree(self.folder)

    def _reap(self) -> None:
        while not self._closing.wait(REAP_S):
            with self._lock:
                for ring in self._rings.values():
                    ring.reap()
