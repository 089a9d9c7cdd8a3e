"""A pair as real processes: two members, a merge and a sink on rings, killed with SIGKILL and swapped, and S1 checked from the sink's file.

The same check as a rehearsal's, on what a rehearsal cannot show: half-written rings, dead readers and writers, restarts. Slower by
orders of magnitude: a life takes a fraction of a second. Agents are not here: kills are answered and cuts proposed by this class.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Self

from typing_extensions import Buffer

from halftrack_dataplane.frames import Cut, Frame
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.testkit import programs, reference
from halftrack_dataplane.testkit.checker import Expected, Record, Verdict, check
from halftrack_dataplane.testkit.feeding import Feeder, FrameAt
from halftrack_dataplane.testkit.host import Host
from halftrack_dataplane.testkit.rehearsal import StreamBroken, frames_of
from halftrack_dataplane.testkit.release import Release, program_of
from halftrack_dataplane.testkit.script import SEATS, Abort

RATE_FRAMES_PER_S = 2_000.0
SLOTS = 4_096
RING_BYTES = 32 << 20
SNAPSHOT_EVERY = 32
AHEAD = 8  # outputs, of a fence; doubled whenever the output was quicker
DRAIN = 8

Meanwhile = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RealRun:
    """What came out of a real stream."""

    frames: int
    records: tuple[Record, ...]
    cuts: tuple[Cut, ...]
    verdict: Verdict
    kills: int
    swaps: int


class RealStream:
    """A stream of real processes. Use it with `with`, or by the fixture `halftrack_stream`."""

    def __init__(
        self,
        first: Release,
        frames: Iterable[Buffer | Frame] | FrameAt,
        *,
        rate_frames_per_s: float = RATE_FRAMES_PER_S,
        snapshot_every: int = SNAPSHOT_EVERY,
        ring_bytes: int = RING_BYTES,
    ) -> None:
        self.kills = self.swaps = 0
        self._every, self._ring_bytes = snapshot_every, ring_bytes
        self._generation = self._epoch = 1
        self._specs: dict[str, RunSpec] = {}
        self._reigns: list[tuple[Release, int]] = [(first, 0)]  # and the output at which its greens were ordered
        self._host = Host()
        try:
            self._source, self._merged = self._ring("s/in"), self._ring("s/v")
            self._merged.propose_cut(1, 1, None, first.version)
            self._feeder = Feeder(
                self._source, frames if callable(frames) else frames_of(frames), rate_frames_per_s, SLOTS // 4
            )
            self._begin("merge", self._spec("merge", "merge", output_ring=self._merged.path, merge_prefix="s/v"))
            ledger = program_of(programs.Ledger)
            self._begin("sink", self._spec(
                "sink", "sink", input_ring=self._merged.path, data_dir=str(self._host.folder / "data"),
                program=ledger.file, entry=ledger.entry,
            ))  # fmt: skip
            self._in_force = {seat: self._man(seat, first) for seat in SEATS}
            self._feeder.begin()
        except BaseException:
            self._host.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process, and remove all that was written."""
        self._feeder.close()
        self._host.close()

    @property
    def output(self) -> int:
        """The next output of the merged stream."""
        return self._merged.head

    # ---- what a test does to it -------------------------------------------------------------------------------------

    def reach(self, output: int) -> None:
        """Wait until `output` outputs have passed."""
        self._host.until(lambda: self._merged.head >= output, f"output {output} to pass; it is at {self._merged.head}")

    def kill(self, who: str, output: int = 0, *, restart: bool = True) -> None:
        """SIGKILL `who` when `output` has passed, and start it again, as its agent does.

        "a" and "b" are the members in force, "a@1.1.0" is a certain one; "merge" and "sink" are what they say.
        """
        self.reach(output)
        name = self._name(who)
        self._host.kill(name)
        self.kills += 1
        if restart:
            self._host.start(self._specs[name])

    def restart(self, who: str) -> None:
        """Start what was killed and left so."""
        self._host.start(self._specs[self._name(who)])

    def pause(self, who: str) -> None:
        """SIGSTOP: it hangs until `resume`."""
        self._host.pause(self._name(who))

    def resume(self, who: str) -> None:
        """SIGCONT."""
        self._host.resume(self._name(who))

    def swap(
        self,
        to: Release,
        output: int = 0,
        *,
        surge: Literal[1, 2] = 1,
        abort: Abort = "",
        meanwhile: Meanwhile = lambda phase: None,
    ) -> None:
        """Swap the pair to `to` when `output` has passed; or try to, and take it back where `abort` says.

        `meanwhile` is called in each phase (shadowing, armed, cut, draining), so that a test can kill somebody there.
        """
        self.reach(output)
        self._generation += 1
        ordered, blue = self._merged.head, self._in_force["a"]
        greens = {seat: self._man(seat, to) for seat in SEATS[:surge]}
        meanwhile("shadowing")
        self._near(list(greens.values()))
        if abort != "shadowing":
            if to.version not in (release.version for release, _ in self._reigns):
                self._reigns.append((to, ordered))
            withdrawn = self._cut(self._generation, to.version, meanwhile, withdraw=abort == "armed")
            if not withdrawn and abort == "cut":
                self._cut(self._specs[blue].generation, self._specs[blue].release, lambda phase: None, at_once=True)
        if abort:
            for name in greens.values():
                self._dismiss(name)
            return
        self.reach(self._merged.head + DRAIN)
        meanwhile("draining")
        for seat in SEATS:
            if seat not in greens:
                greens[seat] = self._man(seat, to)
                self._near([greens[seat]])
            self._dismiss(self._in_force[seat])
            self._in_force[seat] = greens[seat]
        self.swaps += 1

    def finish(self) -> RealRun:
        """Let the stream run out, and check all of it; StreamBroken when S1 does not hold."""
        self._feeder.stop()
        frames = self._feeder.fed
        end = reference.expected([reference.Reign(self._reigns[0][0], 0)], frames).end
        ledger = self._host.folder / "data" / programs.NAME
        self._host.until(lambda: self._merged.head >= end, f"output {end} to pass")
        found: list[Record] = []

        def all_there() -> bool:
            found[:] = programs.records(ledger.read_bytes() if ledger.exists() else b"")[0]
            return bool(found) and found[-1].seq + max(found[-1].gap, 1) >= end

        if end:
            self._host.until(all_there, f"output {end - 1} to reach the sink")
        self._host.check()
        cuts = self._merged.cuts()
        verdict = check(found, cuts, self._known(frames, cuts), end)
        if not verdict.right:
            raise StreamBroken(f"{verdict}\ncuts: {[(cut.epoch, cut.label, cut.applied_at) for cut in cuts]}")
        return RealRun(len(frames), tuple(found), cuts, verdict, self.kills, self.swaps)

    # ---- how it is done ---------------------------------------------------------------------------------------------

    def _ring(self, name: str, generation: int = 0) -> Ring:
        return self._host.ring(name, capacity_bytes=self._ring_bytes, slots=SLOTS, generation=generation)

    def _spec(self, role: str, name: str, **values: object) -> RunSpec:
        folder = self._host.folder
        paths = {"status_path": str(folder / "status" / name), "rings_dir": str(folder / "rings")}
        return RunSpec(role, name, **paths, **values)  # type: ignore[arg-type]

    def _begin(self, name: str, spec: RunSpec) -> None:
        self._specs[name] = spec
        self._host.start(spec)

    def _man(self, seat: str, release: Release) -> str:
        name, program = f"{seat}@{release.version}", release.located()
        target = self._ring(f"s/v.{name}", self._generation)
        self._begin(name, self._spec(
            "member", name, input_ring=self._source.path, output_ring=target.path, program=program.file, entry=program.entry,
            params={"snapshot_every": self._every, **release.params}, release=release.version, generation=self._generation,
            state_writes=release.writes, state_reads=release.reads, snapshot_dir=str(self._host.folder / f"snapshots-{seat}"),
        ))  # fmt: skip
        return name

    def _dismiss(self, name: str) -> None:
        self._host.stop(name)
        self._host.drop_ring(f"s/v.{name}")
        self._feeder.forget(name)

    def _name(self, who: str) -> str:
        return self._in_force.get(who, who)

    def _near(self, names: Sequence[str]) -> None:
        """They have computed what has just passed, or what comes next."""
        rings = [Ring.open(self._specs[name].output_ring, readonly=True) for name in names]
        try:
            for name, ring in zip(names, rings, strict=True):
                self._host.until(lambda ring=ring: self._reaches(ring), f"{name} to catch up")  # type: ignore[misc]
        finally:
            for ring in rings:
                ring.close()

    def _reaches(self, ring: Ring) -> bool:
        following = self._merged.head
        frames = (ring.peek(number) for number in (following, max(following - 1, 0)))
        return any(frame is not None and not frame.gap for frame in frames)

    def _cut(
        self, generation: int, label: str, meanwhile: Meanwhile, *, withdraw: bool = False, at_once: bool = False
    ) -> bool:
        """Ask for a cut until it is applied; whether it was withdrawn in time, where that was wanted."""
        ahead = AHEAD
        while True:
            self._epoch += 1
            fence = None if at_once else self._merged.head + ahead
            self._merged.propose_cut(self._epoch, generation, fence, label)
            meanwhile("armed")
            if withdraw and self._merged.withdraw_cut(self._epoch):
                return True
            self._host.until(partial(self._decided, fence), "the cut to be applied")
            if self._applied():
                meanwhile("cut")
                return False
            if self._merged.withdraw_cut(self._epoch) is False and self._applied():
                return False
            ahead *= 2

    def _applied(self) -> bool:
        return any(cut.epoch == self._epoch and cut.applied_at is not None for cut in self._merged.cuts())

    def _decided(self, fence: int | None) -> bool:
        """The cut is applied, or its fence has gone by without it."""
        return (fence is not None and self._merged.head > fence) or self._applied()

    def _known(self, frames: list[Frame], cuts: Sequence[Cut]) -> dict[str, Expected]:
        """What each release's outputs are, handed over a little before its greens were ordered: where, must not matter."""
        first, _ = self._reigns[0]
        reigns, known = (
            [reference.Reign(first, 0)],
            {first.version: reference.expected([reference.Reign(first, 0)], frames)},
        )
        for release, ordered in self._reigns[1:]:
            begins = min(
                (cut.applied_at for cut in cuts if cut.label == release.version and cut.applied_at is not None),
                default=ordered,
            )
            place = min(ordered, begins)
            while True:
                at = reference.input_of(reigns, frames, place)
                found = reference.expected([*reigns, reference.Reign(release, at)], frames)
                if found.first <= begins or place == 0:
                    break
                place //= 2
            reigns.append(reference.Reign(release, at))
            known[release.version] = found
        return known
