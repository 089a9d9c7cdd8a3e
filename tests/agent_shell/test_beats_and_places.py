"""What an agent sees of a process that hangs, and what it keeps for its next life."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.events import BeatSeen
from halftrack_agent.rings import Rings
from halftrack_agent.sight import Sight
from halftrack_agent.spools import Spools
from halftrack_dataplane import status
from halftrack_dataplane.frames import RingFull
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.status import Status
from tests.agent_shell.test_agent import until
from tests.agent_shell.test_rings_and_sight import PLAIN, Runs

HANGS = """
import sys
from halftrack_dataplane.ring import Ring
ring = Ring.open(sys.argv[1])
reader = ring.reader(name="victim", start="oldest")
print("holds", flush=True)
sys.stdin.read()
"""


def test_what_a_reader_that_hung_had_not_read_is_there_for_its_next_life(tmp_path: Path) -> None:
    # invariant: S1
    rings = Rings(tmp_path)
    rings.create(PLAIN)
    path = tmp_path / "spectra/source.ring"
    victim = subprocess.Popen([sys.executable, "-c", HANGS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"holds\n"
    with Ring.open(path) as ring, ring.writer() as writer:
        for _ in range(16):
            writer.write(b"frame")
        with pytest.raises(RingFull):
            writer.write(b"one more", timeout_s=0.0)
        rings.hold("nobody")
        rings.hold("victim")
        os.kill(victim.pid, signal.SIGKILL)
        victim.communicate()
        assert rings.reap() == 1, "the dead one's own hold"
        with pytest.raises(RingFull):  # or the next life would find no frame 0
            writer.write(b"one more", timeout_s=0.0)
        rings.reap()
        with ring.reader(name="victim", start="oldest") as again:
            assert again.cursor == 0
            assert rings.reap() == 0
            assert set(rings.seen()["spectra/source"].lags) == {"victim"}, "it holds its place itself now"
            assert again.read(0) is not None
            writer.write(b"one more", timeout_s=0.0)
    rings.close()


def test_a_place_is_not_held_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halftrack_agent.rings.HOLD_MS", 50)
    rings = Rings(tmp_path)
    rings.create(PLAIN)
    with Ring.open(tmp_path / "spectra/source.ring") as ring, ring.writer() as writer:
        for _ in range(8):
            writer.write(b"frame")
        reader = ring.reader(name="victim", start=8)
        for _ in range(8):
            writer.write(b"frame")
        rings.hold("victim")
        assert rings.seen()["spectra/source"].lags["victim/held"] == 12, (
            "a quarter of the ring before its place as well"
        )
        reader.close()

        def written() -> bool:
            rings.reap()
            with contextlib.suppress(RingFull):
                writer.write(b"frame", timeout_s=0.0)
                return True
            return False

        until(lambda: sum(written() for _ in range(16)) == 16, "the writer goes on")
        assert rings.seen()["spectra/source"].lags == {}
    rings.close()


def test_a_beat_is_a_file_that_is_another_one(tmp_path: Path) -> None:
    rings, runs = Rings(tmp_path / "rings"), Runs("m")
    store = ArtifactStore(tmp_path / "store")
    eyes = Sight(runs, rings, Spools(tmp_path / "spools"), store, tmp_path, tmp_path / "counted")  # type: ignore[arg-type]
    path = tmp_path / "m.json"
    assert eyes.look().beats == {}, "nothing is known of who has no file"
    path.touch()
    begins = eyes.look().beats["m"]
    assert (begins.beats, begins.began_ms) == (status.STARTING, 0), "made by its agent, and not written yet"
    path.write_bytes(status.dump(Status("m", "merge", began_ms=7, beats=status.STEADY)))
    os.utime(path, ns=(5, 5))
    first = eyes.look().beats["m"]
    assert (first.beats, first.began_ms) == (status.STEADY, 7)
    assert eyes.look().beats["m"] == first
    os.utime(path, ns=(3, 3))  # a clock went back, or a disk is full: it is a beat all the same
    second = eyes.look().beats["m"]
    assert second == BeatSeen(second.mark, status.STEADY, 7)
    assert second.mark != first.mark
    last = tmp_path / "last"  # within the same tick of the clock that files get their times from
    last.write_bytes(status.dump(Status("m", "merge", began_ms=9, beats=status.STEADY)))
    os.utime(last, ns=(3, 3))
    last.replace(path)
    assert eyes.look().beats["m"].began_ms == 9, "its last word is read"
    path.write_bytes(b"half understood")
    assert eyes.look().beats["m"].mark not in (first.mark, second.mark)
    path.unlink()
    assert eyes.look().beats == {}
    rings.close()
