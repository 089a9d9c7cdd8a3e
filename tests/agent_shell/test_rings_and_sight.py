"""Rings made, refused, freed of the dead; counters that grow become few reports."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.drivers import meter
from halftrack_agent.events import CutSeen, DifferenceSeen, Emit, InstanceSeen, JudgedSeen, ShadowSeen
from halftrack_agent.rings import Rings
from halftrack_agent.sight import SAMPLE_EVERY_MS, Sight
from halftrack_agent.spools import Spools
from halftrack_dataplane import status
from halftrack_dataplane.frames import NAME_BYTES, reader_name
from halftrack_dataplane.judging import Difference, Judged
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.status import Compared, Diverged, Status
from halftrack_model.errors import HostFault, Refused
from halftrack_model.report import Happened
from halftrack_model.workload import Member, RingSpec

PLAIN = RingSpec("spectra/source", 1 << 16, 16, None)
MEMBER = RingSpec("spectra/s.a@1.0.0", 1 << 16, 16, Member("spectra", "s", "a", "1.0.0", 3))


def test_rings_are_made_once_seen_and_removed(tmp_path: Path) -> None:
    rings = Rings(tmp_path / "rings")
    for _ in range(2):
        rings.create(PLAIN)
        rings.create(MEMBER)
    with Ring.open(tmp_path / "rings/spectra/s.a@1.0.0.ring") as ring:
        assert (ring.label, ring.generation, ring.slots) == ("1.0.0", 3, 16)
        reader = ring.reader(name="somebody")
        with ring.writer() as writer:
            writer.write(b"frame")
        seen = rings.seen()["spectra/s.a@1.0.0"]
        assert (seen.head, seen.tail, seen.lags) == (1, 0, {"somebody": 1})
        reader.close()
    again = Rings(tmp_path / "rings")  # an agent that comes back finds them, with what is in them
    assert again.seen()["spectra/s.a@1.0.0"].head == 1
    again.create(MEMBER)
    assert again.seen()["spectra/s.a@1.0.0"].head == 1
    for spec in (PLAIN, MEMBER, PLAIN):
        again.remove(spec.name)
    assert again.seen() == {}
    assert not list((tmp_path / "rings").iterdir())
    rings.rescan()
    assert rings.seen() == {}
    for each in (rings, again):
        each.close()


def test_a_ring_keeps_as_much_as_its_plan_says(tmp_path: Path) -> None:
    rings = Rings(tmp_path / "rings")
    rings.create(PLAIN)
    rings.create(RingSpec("spectra/kept", 1 << 16, 16, None, 2500))
    for name, retain_s in (("source", None), ("kept", 2.5)):
        with Ring.open(tmp_path / f"rings/spectra/{name}.ring") as ring:
            assert ring.retain_s == retain_s
    rings.close()


@pytest.mark.parametrize("at", [0, 8, 40])
def test_what_is_not_understood_is_refused_and_kept(tmp_path: Path, at: int) -> None:
    rings = Rings(tmp_path)
    rings.create(PLAIN)
    rings.close()
    path = tmp_path / "spectra/source.ring"
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x55]))
    before = path.read_bytes()
    rings = Rings(tmp_path)
    assert rings.seen() == {}
    assert "refused" in rings.problems[0]
    with pytest.raises(HostFault, match="remove the file"):
        rings.create(PLAIN)
    assert path.read_bytes() == before
    path.unlink()
    rings.rescan()
    assert rings.problems == ()
    rings.create(PLAIN)
    assert "spectra/source" in rings.seen()
    rings.close()


def test_a_ring_that_was_replaced_is_looked_at_anew(tmp_path: Path) -> None:
    rings = Rings(tmp_path)
    rings.create(PLAIN)
    path = tmp_path / "spectra/source.ring"
    path.unlink()
    Ring.create(path, capacity_bytes=1 << 16, slots=32).close()
    rings.rescan()
    assert rings.seen()["spectra/source"].slots == 32
    rings.close()


def test_what_the_dead_hold_is_freed(tmp_path: Path) -> None:
    rings = Rings(tmp_path)
    rings.create(PLAIN)
    code = f"""
import sys
from halftrack_dataplane.judging import Difference, Judged
from halftrack_dataplane.ring import Ring
ring = Ring.open({str(tmp_path / "spectra/source.ring")!r})
reader, writer = ring.reader(name="victim"), ring.writer()
print("holds", flush=True)
sys.stdin.read()
"""
    victim = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"holds\n"
    assert "victim" in rings.seen()["spectra/source"].lags
    assert rings.reap() == 0
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert rings.reap() == 1
    assert rings.seen()["spectra/source"].lags == {}
    with Ring.open(tmp_path / "spectra/source.ring") as ring:
        ring.writer().close()
    rings.close()


def test_cuts_are_proposed_withdrawn_and_stale_ones_refused(tmp_path: Path) -> None:
    rings = Rings(tmp_path)
    rings.create(PLAIN)
    rings.propose_cut("spectra/source", 2, 7, 100, "1.1.0")
    assert rings.seen()["spectra/source"].cuts == (CutSeen(2, 7, 100, None),)
    with pytest.raises(Refused):
        rings.propose_cut("spectra/source", 1, 7, None, "1.1.0")
    rings.withdraw_cut("spectra/source", 2)
    assert rings.seen()["spectra/source"].cuts == ()
    with pytest.raises(HostFault, match="no ring"):
        rings.propose_cut("spectra/sink", 3, 7, None, "")
    rings.close()


def test_a_workload_is_found_among_the_readers_whatever_its_name(tmp_path: Path) -> None:
    """Names that only differ behind what a ring keeps: the two releases of one member in a swap."""
    rings, stem = Rings(tmp_path), "northern-telescope-array.polarisation-spectrometer.a"
    names = [f"{stem}@1.10.{patch}-rc.1" for patch in range(3)]
    assert all(len(name) > NAME_BYTES for name in names)
    rings.create(PLAIN)
    ring = Ring.open(tmp_path / f"{PLAIN.name}.ring")
    with ring.writer() as writer:
        readers = []
        for name in names:
            readers.append(ring.reader(name=reader_name(name)))
            writer.write(b"x")
    lags = rings.seen()[PLAIN.name].lags
    assert [lags[reader_name(name)] for name in names] == [3, 2, 1]
    assert reader_name("spectra.sink") == "spectra.sink"
    for reader in readers:
        reader.close()
    rings.close()


class Runs:
    """A driver's `seen`, and nothing else of it."""

    def __init__(self, *names: str) -> None:
        self.started_ms = dict.fromkeys(names, 1)

    def seen(self) -> dict[str, InstanceSeen]:
        return {name: InstanceSeen(name, "d", True, None, None, at, "") for name, at in self.started_ms.items()}


class Saying:
    """Status files with ever newer times."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.at_ns = folder, 0

    def __call__(self, name: str, role: str, **counters: int) -> None:
        path = self.folder / f"{name}.json"
        shadow = {"spectra/s.b@1.1.0": Compared(3, 1)} if role == "merge" else {}
        path.write_bytes(status.dump(Status(name, role, counters=counters, shadow=shadow)))
        self.at_ns += 1000
        os.utime(path, ns=(self.at_ns, self.at_ns))


def test_counters_become_few_reports_with_sums(tmp_path: Path) -> None:
    rings, runs, say = Rings(tmp_path / "rings"), Runs("src", "m"), Saying(tmp_path)

    def sight() -> Sight:
        return Sight(
            runs, rings, Spools(tmp_path / "spools"), ArtifactStore(tmp_path / "store"), tmp_path, tmp_path / "counted"
        )  # type: ignore[arg-type]

    eyes = sight()
    say("m", "merge", gap_frames=2, refused_rings=9)
    assert eyes.look().shadows == {"spectra/s.b@1.1.0": ShadowSeen(3, 1)}
    assert eyes.samples(0) == (Emit(Happened.FRAMES_LOST, "m", "2 frames, 2 in all"),)
    for number in range(10):
        say("src", "source", refused=5 + number)
        eyes.look()
    assert eyes.samples(1) == (Emit(Happened.FRAMES_REFUSED, "src", "14 frames, 14 in all"),)
    eyes = sight()  # an agent that comes back has nothing to add
    eyes.look()
    assert eyes.samples(10**6) == ()
    runs.started_ms["src"] = 2
    say("src", "source", refused=14)  # a new process counts from nothing
    eyes.look()
    assert eyes.samples(2) == ()
    assert eyes.samples(1 + SAMPLE_EVERY_MS) == (Emit(Happened.FRAMES_REFUSED, "src", "14 frames, 28 in all"),)
    assert eyes.samples(10**9) == ()
    rings.close()


def test_a_sink_that_takes_what_comes_for_what_it_has_is_a_problem_to_be_told(tmp_path: Path) -> None:
    rings, runs, say = Rings(tmp_path / "rings"), Runs("b", "a"), Saying(tmp_path)
    store = ArtifactStore(tmp_path / "store")
    eyes = Sight(runs, rings, Spools(tmp_path / "spools"), store, tmp_path, tmp_path / "counted")  # type: ignore[arg-type]
    say("a", "sink", place_beyond=100)
    say("b", "sink", place_beyond=0)
    eyes.look()
    text = "a has all frames below 100; its stream has begun anew, and nothing is written until that number comes"
    assert eyes.problems == (text,)
    say("a", "sink", place_beyond=0)
    eyes.look()
    assert eyes.problems == ()
    say("a", "sink", place_beyond=7)
    del runs.started_ms["a"]
    eyes.look()
    assert eyes.problems == ()
    rings.close()


def test_what_a_judge_says_counts_only_from_the_process_that_runs_now(tmp_path: Path) -> None:
    """A file that an earlier life has left may be about another green."""
    rings, runs, ring = Rings(tmp_path / "rings"), Runs("judge"), "spectra/s.a@1.1.0"
    eyes = Sight(
        runs, rings, Spools(tmp_path / "spools"), ArtifactStore(tmp_path / "store"), tmp_path, tmp_path / "counted"
    )  # type: ignore[arg-type]
    row = Judged(2, 9, 1, 0, 8, 300, 400, 500, (Difference(7, "05 → 06"),))

    def say(began_ms: int) -> None:
        (tmp_path / "judge.json").write_bytes(
            status.dump(Status("judge", "judge", judged={ring: row}, began_ms=began_ms))
        )
        os.utime(tmp_path / "judge.json", ns=(began_ms, began_ms))

    runs.started_ms["judge"] = 1_000
    say(999)
    assert eyes.look().judged == {}
    say(1_000)
    assert eyes.look().judged == {ring: JudgedSeen(2, 9, 1, 8, 300, 400, 500, (DifferenceSeen(7, "05 → 06"),))}
    runs.started_ms.clear()
    assert eyes.look().judged == {}
    rings.close()


def test_members_are_measured_by_what_they_hold_alone() -> None:
    hold = "import sys, time; own = bytearray(b'x') * (48 << 20); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = meter.used([process.pid, 1 << 30])
        process.communicate(b"")
    assert found is not None
    assert 48 << 20 <= found.memory_bytes < 96 << 20
    assert 0 < found.cpu_ms < 10_000
    assert meter.used([1 << 30]) is None


@pytest.mark.parametrize(
    ("role", "counters", "told"),
    [
        ("merge", {"gap_frames": 2, "lost": 1}, 3),
        ("member", {"gap_frames": 2, "lost": 1}, 1),
        ("inlet", {"gap_frames": 8, "missed": 4, "lost": 1}, 1),
        ("sink", {"gap_frames": 8}, 0),
        ("bridge-receiver", {"gap_frames": 8, "lost": 1}, 1),
        ("spool", {"lost": 1, "missed": 1, "corrupt": 1}, 3),
    ],
)
def test_a_loss_is_told_by_the_one_who_had_it(role: str, counters: dict[str, int], told: int, tmp_path: Path) -> None:
    # invariant: S2
    rings = Rings(tmp_path / "rings")
    folders = Spools(tmp_path / "spools"), ArtifactStore(tmp_path / "store"), tmp_path, tmp_path / "counted"
    eyes = Sight(Runs("x"), rings, *folders)  # type: ignore[arg-type]
    Saying(tmp_path)("x", role, **counters)
    eyes.look()
    text = f"{told} frames, {told} in all"
    assert eyes.samples(0) == ((Emit(Happened.FRAMES_LOST, "x", text),) if told else ())
    rings.close()


def test_a_lost_state_and_lost_frames_are_told_with_their_numbers_once(tmp_path: Path) -> None:
    # invariant: S2
    rings, runs = Rings(tmp_path / "rings"), Runs("s.m", "s.a")

    def sight() -> Sight:
        return Sight(
            runs, rings, Spools(tmp_path / "spools"), ArtifactStore(tmp_path / "store"), tmp_path, tmp_path / "counted"
        )  # type: ignore[arg-type]

    def say(name: str, role: str, at: int, lost: tuple[tuple[int, int], ...] = (), **counters: int) -> None:
        said = status.dump(Status(name, role, counters=counters, message="made anew from input 9 on", lost=lost))
        (tmp_path / f"{name}.json").write_bytes(said)
        os.utime(tmp_path / f"{name}.json", ns=(at, at))

    eyes = sight()
    say("s.m", "merge", 1000, ((7, 8), (20, 29)), gap_frames=10)
    say("s.a", "member", 1000, ((7, 8),), gap_frames=1, state_lost=1, young_from=8)
    eyes.look()
    assert set(eyes.samples(0)) == {
        Emit(Happened.FRAMES_LOST, "s.m", "10 frames, 10 in all; the newest: 7, 20 to 28"),
        Emit(Happened.STATE_LOST, "s.a", "1 losses, 1 in all: made anew from input 9 on"),
    }
    eyes = sight()
    runs.started_ms["s.a"] = 2  # later lives go on saying so, and it is no news
    say("s.a", "member", 2000, state_lost=1, young_from=8)
    eyes.look()
    assert eyes.samples(SAMPLE_EVERY_MS) == ()
    say("s.a", "member", 3000, state_lost=1, young_from=90)  # the mark of the first one went with its snapshots
    eyes.look()
    assert eyes.samples(2 * SAMPLE_EVERY_MS) == (
        Emit(Happened.STATE_LOST, "s.a", "1 losses, 2 in all: made anew from input 9 on"),
    )
    rings.close()


def test_members_that_differ_are_told_by_name_with_the_first_frames(tmp_path: Path) -> None:
    rings = Rings(tmp_path / "rings")
    sight = Sight(
        Runs("s.m"),
        rings,
        Spools(tmp_path / "spools"),
        ArtifactStore(tmp_path / "store"),
        tmp_path,
        tmp_path / "counted",
    )  # type: ignore[arg-type]

    def say(at: int, **rows: Diverged) -> None:
        diverged = {f"spectra/s.{member}@1.0.0": row for member, row in rows.items()}
        (tmp_path / "s.m.json").write_bytes(status.dump(Status("s.m", "merge", diverged=diverged)))
        os.utime(tmp_path / "s.m.json", ns=(at, at))
        sight.look()

    say(1000, b=Diverged(2, (7, 9), 0))
    found = sight.samples(0)
    text = "2 frames, 2 in all; it differs from what its twin gave, first at 7, 9"
    assert found == (Emit(Happened.OUTPUTS_DIVERGED, "spectra.s.b@1.0.0", text),)
    say(2000, b=Diverged(3, (7, 9, 11), 0), a=Diverged(0, (), 3))
    assert {(emit.subject, emit.detail) for emit in sight.samples(SAMPLE_EVERY_MS)} == {
        ("spectra.s.b@1.0.0", "1 frames, 3 in all; it differs from what its twin gave, first at 7, 9, 11"),
        ("spectra.s.a@1.0.0", "3 frames, 3 in all; a third copy names it as the odd one of 3"),
    }
    assert sight.samples(10**9) == ()
    rings.close()


def test_a_status_file_that_is_nonsense_costs_nothing(tmp_path: Path) -> None:
    rings = Rings(tmp_path / "rings")
    sight = Sight(
        Runs("a", "b", "c", "d"),
        rings,
        Spools(tmp_path / "spools"),
        ArtifactStore(tmp_path / "store"),
        tmp_path,
        tmp_path / "counted",
    )  # type: ignore[arg-type]
    (tmp_path / "a.json").write_bytes(b"\xff{")
    (tmp_path / "b.json").write_bytes(b'{"name": "b", "shadow": []}')
    (tmp_path / "d.json").write_bytes(
        status.dump(Status("d", "source", counters={"refused": 7})).replace(b"7", b"1e999")
    )
    Saying(tmp_path)("c", "merge", lost=1)
    view = sight.look()
    assert set(view.instances) == {"a", "b", "c", "d"}
    assert view.shadows
    rings.close()


def test_counters_of_many_lives_add_up_to_what_a_report_can_hold(tmp_path: Path) -> None:
    rings, runs, say = Rings(tmp_path / "rings"), Runs("src"), Saying(tmp_path)
    sight = Sight(
        runs, rings, Spools(tmp_path / "spools"), ArtifactStore(tmp_path / "store"), tmp_path, tmp_path / "counted"
    )  # type: ignore[arg-type]
    for life in (1, 2):
        runs.started_ms["src"] = life
        say("src", "source", refused=status.MAX_COUNT)
        sight.look()
    assert len(sight.samples(0)) == 1
    assert (
        Sight(
            runs, rings, Spools(tmp_path / "spools"), ArtifactStore(tmp_path / "store"), tmp_path, tmp_path / "counted"
        ).samples(10**6)
        == ()
    )  # type: ignore[arg-type]
    rings.close()
