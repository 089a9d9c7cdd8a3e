"""A pair as its agents run it, less the agents: a source, members, a merge and a sink, as processes on rings of this machine.

Owns the processes, the cuts and the kills, and reads the judge's verdict on what the sink has written. Never decides what is compared with
what: that is swap.py's. The stream and the judge are the swap soak's, so that a frame that is lost here is found as it is there.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from benchmarks.race import Wrong
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.testkit.host import Host
from tests.soak import swap_stream
from tests.soak.swap_check import Follower, Verdict

SEATS = ("a", "b")
SLOTS = 1 << 16
RING_BYTES = 16 << 20
AHEAD = 64  # frames, of a fence; doubled whenever the stream was quicker
CLOSE = 1024  # what a member may lack of the output and be said to follow it: a twentieth of a second
SETTLE_S = 1.2  # the judge takes the second after each fault and cut out of the steady state
PROGRAM = Path(swap_stream.__file__)


class Scene:
    """A pair in its first release, flowing. A member follows when it lacks `close` frames of the output at most."""

    def __init__(self, host: Host, rate: int, burst_us: int, close: int) -> None:
        self.host = host
        self._close = close
        self._specs: dict[str, RunSpec] = {}
        self._rings: dict[str, Ring] = {}
        self._epoch = 0
        self._faults = host.folder / "faults.jsonl"
        self._source = host.ring("s/in", capacity_bytes=4 * RING_BYTES, slots=4 * SLOTS)  # some of its snapshots reach
        self.merged = self._ring("s/v", 0)
        self._cut(1)
        self._start("merge", "merge", output_ring=self.merged.path, merge_prefix="s/v")
        self._program(
            "sink", "sink", "Marks", input_ring=self.merged.path, data_dir=str(host.folder / "data"), params={}
        )
        for seat in SEATS:
            self.man(seat, 1)
        params = {"rate": rate, "burst_us": burst_us}
        self._program("source", "source", "Numbers", output_ring=self._source.path, params=params)
        self.until(lambda: self.merged.head > SLOTS // 16, "the stream flows")

    # ---- what is done to it -----------------------------------------------------------------------------------------

    def man(self, seat: str, release: int) -> None:
        """Start a member, and wait until its ring is there."""
        name = _member(seat, release)
        self._rings[name] = target = self._ring(f"s/v.{name}", release)
        self._program(
            name, "member", "Sums", input_ring=self._source.path, output_ring=target.path, release=f"1.0.{release}",
            generation=release, params={"release": release, "snapshot_every": 8192}, state_writes="sums/1",
            state_reads=("sums/1",), snapshot_dir=str(self.host.folder / "snapshots"),
        )  # fmt: skip

    def follows(self, seat: str, release: int) -> bool:
        """Does the member compute what comes next?"""
        ring, head = self._rings[_member(seat, release)], self.merged.head
        return ring.head + self._close > head and ring.head > ring.base_seq

    def dismiss(self, seat: str, release: int) -> None:
        """Stop a member, and drop its ring."""
        name = _member(seat, release)
        self.host.stop(name)
        self._rings.pop(name)
        self.host.drop_ring(f"s/v.{name}")
        self._source.reap()

    def kill(self, seat: str, release: int) -> None:
        """SIGKILL, written down first; started again at once, as its agent does."""
        name = _member(seat, release)
        with self._faults.open("a") as file:
            file.write(json.dumps({"at_ns": time.monotonic_ns(), "kind": "member"}) + "\n")
        self.host.kill(name)
        self.host.start(self._specs[name])

    def chain(self) -> None:
        """Instead of the second member, a vertex that does as much behind the first one: the source has one reader, the machine the same work."""
        self.dismiss("b", 1)
        target = self._ring("s/w", 1)
        self._start(
            "again", "member", program=str(Path(__file__).with_name("swap_vertices.py")), entry="swap_vertices:Again",
            input_ring=self.merged.path, output_ring=target.path, release="1.0.1", generation=1,
            params={"release": 1, "snapshot_every": 8192}, state_writes="sums/1", state_reads=("sums/1",),
            snapshot_dir=str(self.host.folder / "again"),
        )  # fmt: skip
        self.until(lambda: target.head + self._close > self.merged.head, "the second vertex follows")

    def cut_to(self, release: int) -> None:
        """Ask for a cut a little ahead until it is applied."""
        ahead = AHEAD
        while True:
            fence = self.merged.head + ahead
            epoch = self._cut(release, fence)
            self.until(lambda: self._applied(epoch) or self.merged.head > fence, "the cut to be applied")  # noqa: B023 - used at once
            if self._applied(epoch) or not self.merged.withdraw_cut(epoch):
                return
            ahead *= 2

    def swap(self, blue: int, green: int) -> None:
        """A whole swap under surge 1: one green joins, the cut, the blue beside it goes, the second follows."""
        self.man("a", green)
        self.until(lambda: self.follows("a", green), "the first green follows")
        self.cut_to(green)
        self.dismiss("a", blue)
        self.man("b", green)
        self.until(lambda: self.follows("b", green), "the second green follows")
        self.dismiss("b", blue)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """As the host's."""
        self.host.until(holds, what)

    def flow(self, seconds: float) -> float:
        """Let it, and give the output's frames a second."""
        began, first = time.monotonic(), self.merged.head
        time.sleep(seconds)
        return (self.merged.head - first) / (time.monotonic() - began)

    def source_ns(self, seconds: float) -> float:
        """Processor time of the source for each frame that it writes, in ns, over so long."""
        process = psutil.Process(self.host.pid("source"))
        before, first = process.cpu_times(), self._source.head
        time.sleep(seconds)
        after = process.cpu_times()
        return (after.user + after.system - before.user - before.system) / (self._source.head - first) * 1e9

    def longest_pause_ms(self) -> float:
        """Between two outputs, of all that the sink has written."""
        rows = np.concatenate([np.fromfile(path, "<u8") for path in swap_stream.files_of(self.host.folder / "data")])
        return float(np.diff(rows.reshape(-1, 7)[:, 2].astype(np.int64)).max()) / 1e6

    def verdict(self) -> Verdict:
        """Stop the source, let the sink have all of it, and judge; Wrong when a frame was lost, doubled, out of order or wrong."""
        self.host.stop("source")
        folder, head = self.host.folder / "data", self._source.head
        self.until(lambda: _written(folder) >= head, "the sink to have everything")
        follower = Follower(folder, self._faults)
        follower.look()
        verdict = follower.judge.end(head)
        if verdict.lost or verdict.duplicated or verdict.reordered or verdict.mismatched:
            raise Wrong(f"of {verdict.frames} frames: {'; '.join(verdict.examples)}")
        return verdict

    # ---- how it is done ---------------------------------------------------------------------------------------------

    def _ring(self, name: str, generation: int) -> Ring:
        return self.host.ring(name, capacity_bytes=RING_BYTES, slots=SLOTS, generation=generation)

    def _cut(self, release: int, fence: int | None = None) -> int:
        self._epoch += 1
        self.merged.propose_cut(self._epoch, release, fence, f"1.0.{release}")
        return self._epoch

    def _applied(self, epoch: int) -> bool:
        return any(cut.epoch == epoch and cut.applied_at is not None for cut in self.merged.cuts())

    def _program(self, name: str, role: str, kind: str, **values: object) -> None:
        self._start(name, role, program=str(PROGRAM), entry=f"swap_stream:{kind}", **values)

    def _start(self, name: str, role: str, **values: object) -> None:
        folder = self.host.folder
        paths = {"status_path": str(folder / "status" / name), "rings_dir": str(folder / "rings")}
        self._specs[name] = spec = RunSpec(role, name, **paths, **values)  # type: ignore[arg-type]
        self.host.start(spec)


@contextmanager
def scene(rate: int, burst_us: int, close: int = CLOSE) -> Iterator[Scene]:
    """Gone afterwards, with all its processes and memory."""
    host = Host()
    try:
        yield Scene(host, rate, burst_us, close)
    finally:
        host.close()


def _member(seat: str, release: int) -> str:
    return f"{seat}@1.0.{release}"


def _written(folder: Path) -> int:
    files = swap_stream.files_of(folder)
    return int(files[-1].stem.removeprefix("marks-")) + files[-1].stat().st_size // swap_stream.ROW.size if files else 0
