"""`python -m tests.soak.run`: FRAMES frames through rings of all shapes, from SEED on, every byte checked; soak.json says what came of it.

Owns who is started, who is killed and when, and the sum of what was seen. In each round a lossless reader takes the whole stream, while others
of all policies come, leave and are killed, and so is the writer, whose place another takes. Exit status 1 when a frame was lost,
doubled, out of order or altered, when somebody failed or was stuck, or when memory grew.
"""

import contextlib
import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from halftrack_dataplane.ring import Ring
from tests.soak import sides
from tests.soak.rounds import Guest, Round

WRITER, WHOLE = "writer", "whole"  # the two that every round has; the rest are guests
GROWTH_KIB = (
    16 << 10
)  # of the conductor: what Python may take for itself over hours; a leak of a ring is that much at once
WRITER_SHARE = 0.3  # of kills


def memory_kib() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") // 1024


@dataclass(slots=True)
class Report:
    """What came of it: soak.json. `frames` were written; `read` and `read_bytes` were checked, by all readers together."""

    seed: int
    wanted: int
    frames: int = 0
    read: int = 0
    read_bytes: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupt: int = 0
    stuck: int = 0
    failed: int = 0
    left_by_design: int = 0  # what lossy readers say that they missed
    rounds: int = 0
    joins: int = 0
    leaves: int = 0
    writers_killed: int = 0
    readers_killed: int = 0
    seconds: float = 0.0
    memory_kib_before: int = 0
    memory_kib_after: int = 0
    wrong_rounds: list[int] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        """All that must be zero."""
        grown = max(0, self.memory_kib_after - self.memory_kib_before - GROWTH_KIB)
        return self.lost + self.duplicated + self.reordered + self.corrupt + self.stuck + self.failed + grown

    def add(self, counts: dict[str, int]) -> None:
        """What one reader saw."""
        self.read += counts["frames"]
        self.read_bytes += counts["bytes"]
        self.left_by_design += counts["skipped"]
        for name in ("lost", "duplicated", "reordered", "corrupt", "stuck"):
            setattr(self, name, getattr(self, name) + counts[name])

    def text(self) -> str:
        """In one line."""
        return (
            f"{self.frames / 1e6:.1f} of {self.wanted / 1e6:.1f} M frames, {self.read / 1e6:.1f} M read, {self.rounds} rounds, "
            f"{self.joins} joins, {self.writers_killed + self.readers_killed} kills; lost {self.lost}, duplicated {self.duplicated}, reordered "
            f"{self.reordered}, corrupt {self.corrupt}, stuck {self.stuck}, failed {self.failed}"
        )


@dataclass(slots=True)
class _Child:
    """A process of a round."""

    role: str
    pid: int
    pidfd: int
    tally: sides.Tally | None
    killed: bool = False


class Stage:
    """One round: its ring, its processes, and what happens to them."""

    def __init__(self, of: Round, path: Path, report: Report) -> None:
        self._of, self._path, self._report = of, path, report
        self._chance = random.Random(of.seed ^ 0xD1CE)
        self._children: dict[int, _Child] = {}
        self._whole = 0
        self._wrote = False

    def play(self, progress: "Progress") -> None:
        """From the ring's making to the last one's leaving."""
        of = self._of
        with Ring.create(
            self._path,
            capacity_bytes=of.capacity_bytes,
            slots=of.slots,
            base_seq=of.base_seq,
            frame_bytes=of.frame_bytes,
            checked=of.checked,
        ) as ring:
            try:
                self._read(WHOLE, Guest("lossless", "oldest", of.frames, views=of.seed % 2 == 0, every=1))
                self._start(WRITER, lambda: sides.write(self._path, of), None)
                for number in range(of.guests):
                    self._read(f"guest {number}", of.guest(self._chance))
                self._run(ring, progress)
            finally:
                self._end_all()
            self._report.frames += ring.head - of.base_seq
            self._report.lost += abs(of.frames - self._whole)
        self._path.unlink()

    def _run(self, ring: Ring, progress: "Progress") -> None:
        due = time.monotonic() + self._chance.expovariate(1 / self._of.kill_every_s)
        while self._children:
            wait_s = min(max(0.0, due - time.monotonic()), 0.5)
            for pidfd in select.select(list(self._children), [], [], wait_s)[0]:
                self._ended(self._children.pop(pidfd), ring)
            if time.monotonic() >= due and not self._wrote:
                due = time.monotonic() + self._chance.expovariate(1 / self._of.kill_every_s)
                self._kill()
            progress.show(self._report, ring.head - self._of.base_seq)

    def _kill(self) -> None:
        wanted = self._chance.random() < WRITER_SHARE
        victims = [one for one in self._children.values() if one.role != WHOLE and (one.role == WRITER) is wanted]
        if victims:
            victim = self._chance.choice(sorted(victims, key=lambda one: one.role))
            victim.killed = True
            os.kill(victim.pid, signal.SIGKILL)

    def _ended(self, child: _Child, ring: Ring) -> None:
        status = os.waitpid(child.pid, 0)[1]
        os.close(child.pidfd)
        died = child.killed and os.WIFSIGNALED(status)
        self._report.failed += status != 0 and not died
        if died:
            self._report.writers_killed += child.role == WRITER
            self._report.readers_killed += child.role != WRITER
            ring.reap()
        if child.tally is not None:
            counts = child.tally.get()
            child.tally.close()
            self._report.add(counts)
            self._report.leaves += not died
            if child.role == WHOLE:
                self._whole = counts["frames"]
                return
        elif not died:
            self._wrote = True
            return
        if child.role == WRITER:
            self._start(WRITER, lambda: sides.write(self._path, self._of), None)
        elif not self._wrote:
            self._read(child.role, self._of.guest(self._chance))

    def _read(self, role: str, guest: Guest) -> None:
        tally = sides.Tally()
        out, into = os.pipe()
        self._start(role, lambda: sides.read(self._path, self._of, guest, tally, into), tally)
        os.close(into)
        os.read(out, 1)  # it has joined, or it is gone
        os.close(out)
        self._report.joins += 1

    def _start(self, role: str, life: sides.Callable[[], None], tally: sides.Tally | None) -> None:
        pid = sides.started(life)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = _Child(role, pid, pidfd, tally)

    def _end_all(self) -> None:
        """Whatever ended the round: nobody outlives it."""
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            os.close(child.pidfd)
        self._children.clear()


class Progress:
    """A line now and then on standard error: each second for a person, each half a minute for a log."""

    def __init__(self, quiet: bool = False) -> None:
        self._every_s = 1.0 if sys.stderr.isatty() else 30.0
        self._quiet, self._shown, self._began = quiet, time.monotonic(), time.monotonic()

    def show(self, report: Report, more: int) -> None:
        """If it is time."""
        now = time.monotonic()
        if self._quiet or now - self._shown < self._every_s:
            return
        self._shown = now
        rate = (report.frames + more) / (now - self._began) / 1e6
        end = "\r" if sys.stderr.isatty() else "\n"
        print(f"soak: {rate:.2f} M/s; {report.text()}", file=sys.stderr, end=end, flush=True)


def soak(frames: int, seed: int, progress: Progress) -> Report:
    """Rounds until so many frames have been written."""
    report = Report(seed, frames, memory_kib_before=memory_kib())
    began = time.monotonic()
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="halftrack-soak-", dir=where))
    try:
        while report.frames < frames:
            wrong, number = report.wrong, seed * 1_000_003 + report.rounds
            Stage(Round.made(number, frames - report.frames), folder / "ring", report).play(progress)
            report.rounds += 1
            if report.rounds == 1:
                report.memory_kib_before = memory_kib()  # what is imported and warmed up by then is no leak
            report.memory_kib_after = memory_kib()
            report.seconds = round(time.monotonic() - began, 3)
            if report.wrong > wrong:
                report.wrong_rounds.append(number)
                break  # what follows would only bury it
    finally:
        shutil.rmtree(folder)
    return report


def main() -> int:
    """Run, write soak.json, say it in a line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what there is is taken away, as at Ctrl-C
    report = soak(int(os.environ.get("FRAMES", "10000000")), int(os.environ.get("SEED", "1")), Progress())
    Path("soak.json").write_text(json.dumps(asdict(report), indent=2) + "\n")
    print(f"soak: {report.text()}; {report.seconds:.0f} s")
    if report.wrong:
        print(
            f"soak: WRONG in the round of seed {report.wrong_rounds}: tests/soak/rounds.py makes it again",
            file=sys.stderr,
        )
    return int(bool(report.wrong))


if __name__ == "__main__":
    sys.exit(main())
