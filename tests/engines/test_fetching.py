"""Fetched frames on their way into a ring, from a source of the test's own."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from halftrack_dataplane.fetching import run
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import Stop
from halftrack_dataplane.sdk import Away
from halftrack_dataplane.status import load

Step = Callable[[int], Sequence[Frame]]


class Scripted:
    """Answers one step a fetch; after the last one the stream is to stop."""

    def __init__(self, stop: Stop, *steps: Step) -> None:
        self._stop, self._steps = stop, list(steps)
        self.asked: list[int] = []

    def fetch(self, next_seq: int, wait_s: float) -> Sequence[Frame]:
        self.asked.append(next_seq)
        if not self._steps:
            self._stop.ask()
            return ()
        return self._steps.pop(0)(next_seq)


@pytest.fixture
def ring(folder: Path) -> Ring:
    return Ring.create(str(folder / "s.ring"), capacity_bytes=1 << 16, slots=64)


def _run(ring: Ring, folder: Path, *steps: Step) -> Scripted:
    stop = Stop()
    source = Scripted(stop, *steps)
    spec = RunSpec(role="source", name="s", status_path=str(folder / "status"), output_ring=str(folder / "s.ring"))
    run(spec, source, ring, stop, lambda _now, _size: 0.0)
    return source


def _frames(first: int, count: int) -> list[Frame]:
    return [Frame(seq, 2, 1000 + seq, b"%d" % seq) for seq in range(first, first + count)]


def _read(ring: Ring, count: int) -> list[tuple[int, int, int, int, bytes]]:
    with ring.reader(policy="lossless", start="oldest") as reader:
        found = [reader.read(0.5) for _ in range(count)]
    return [(f.seq, f.epoch, f.timestamp_ns, f.gap, bytes(f.payload)) for f in found if f is not None]


def test_frames_keep_their_numbers_epochs_and_times(ring: Ring, folder: Path) -> None:
    # invariant: S1
    source = _run(ring, folder, lambda seq: _frames(seq, 3), lambda seq: [], lambda seq: _frames(seq, 2))
    assert source.asked == [0, 3, 3, 5]
    assert _read(ring, 5) == [(seq, 2, 1000 + seq, 0, b"%d" % seq) for seq in range(5)]


def test_a_ring_that_never_held_a_frame_begins_behind_what_was_gone_before(ring: Ring, folder: Path) -> None:
    source = _run(ring, folder, lambda seq: [Frame(0, 0, 0, b"", 40), *_frames(40, 1)])
    assert source.asked == [0, 41]
    assert ring.stats().gap_frames == 0
    assert load((folder / "status").read_bytes()).counters["gap_frames"] == 0


def test_what_is_lost_later_is_a_gap_that_counts(ring: Ring, folder: Path) -> None:
    # invariant: S2
    _run(ring, folder, lambda seq: _frames(0, 2))
    _run(ring, folder, lambda seq: [Frame(2, 0, 9, b"", 40), *_frames(42, 1)])
    assert ring.stats().gap_frames == 40
    assert load((folder / "status").read_bytes()).counters["gap_frames"] == 40
    assert [row[0] for row in _read(ring, 4)] == [0, 1, 2, 42]


def test_who_is_away_is_told_and_asked_again(ring: Ring, folder: Path) -> None:
    seen: list[str] = []

    def away(seq: int) -> Sequence[Frame]:
        raise Away("it sleeps")

    def look(seq: int) -> Sequence[Frame]:
        seen.append(load((folder / "status").read_bytes()).message)
        return _frames(seq, 1)

    source = _run(ring, folder, away, look)
    assert source.asked == [0, 0, 1]
    assert seen == ["it sleeps"]
    status = load((folder / "status").read_bytes())
    assert (status.message, status.counters["away"], status.seq_out) == ("", 1, 1)


def test_a_frame_that_is_not_the_next_is_the_sources_mistake(ring: Ring, folder: Path) -> None:
    # invariant: S1
    with pytest.raises(ValueError, match="has fetched frame 3 where 2 comes next"):
        _run(ring, folder, lambda seq: _frames(0, 2), lambda seq: _frames(3, 1))


def test_a_time_of_none_is_now(ring: Ring, folder: Path) -> None:
    _run(ring, folder, lambda seq: [Frame(0, 0, 0, b"x")])
    assert _read(ring, 1)[0][2] > 1_600_000_000_000_000_000
