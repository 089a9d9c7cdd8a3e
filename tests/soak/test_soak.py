"""The soak's short form, and that it would see what it looks for."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.ring import Ring
from tests.soak import cycles, run, sides
from tests.soak.rounds import BLOCK, Round, Seen

_SEEDS = st.integers(0, 1 << 40)


# invariants: S1, D1
def test_a_short_soak_loses_nothing() -> None:
    report = run.soak(1_000_000, 7, run.Progress(quiet=True))
    assert report.wrong == 0, report.text()
    assert report.frames == 1_000_000
    assert report.read >= report.frames
    assert report.joins >= 2 * report.rounds


@given(_SEEDS, st.integers(1, 1 << 40))
def test_rounds_are_rings_that_can_be(seed: int, left: int) -> None:
    of = Round.made(seed, left)
    assert of == Round.made(seed, left)
    assert 0 < of.frames <= left
    assert of.longest * of.batch <= of.capacity_bytes // 2
    seq = of.base_seq
    for _ in range(50):
        if seq == of.base_seq + of.frames:
            break
        count = of.run(seq)
        assert len({of.length(seq + at) for at in (0, count - 1)}) == 1
        assert of.content(seq, count).shape == (count, of.length(seq))
        seq += count
    assert seq <= of.base_seq + of.frames


@given(_SEEDS, st.integers(0, 1 << 40))
def test_no_two_frames_near_each_other_are_alike(seed: int, seq: int) -> None:
    of = Round.made(seed, 1 << 40)
    rows = of.content(seq - seq % BLOCK, BLOCK)
    if rows.shape[1] >= 8:
        assert len({row.tobytes() for row in rows}) == BLOCK


def judged(of: Round, batches: Sequence[tuple[int, int, bytes]], skipped: int = 0) -> Seen:
    """What a lossless reader makes of batches (sequence, count, bytes)."""
    seen = Seen(of, "lossless", of.base_seq)
    for seq, count, data in batches:
        seen.batch(seq, count, of.length(seq), data, skipped)
    return seen


# invariants: S1, D1
@given(_SEEDS, st.data())
def test_what_is_lost_doubled_or_altered_is_counted(seed: int, data: st.DataObject) -> None:
    of = Round.made(seed, 1 << 30)
    first = of.base_seq
    count = min(of.run(first), 20)
    good = of.content(first, count).tobytes()
    assert judged(of, [(first, count, good)]) == Seen(of, "lossless", first + count, count, len(good))
    assert judged(of, [(first, count, good), (first, count, good)]).duplicated == count
    assert judged(of, [(first + 3, count, of.content(first + 3, count).tobytes())]).lost == 3 or of.length(
        first + 3
    ) != of.length(first)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= 1 << data.draw(st.integers(0, 7))
    assert judged(of, [(first, count, bytes(bad))]).corrupt == 1
    assert judged(of, [(first, count, good[:-1])]).corrupt == count


def test_a_writer_that_skips_is_found(tmp_path: Path) -> None:
    of = Round(1, 5000, 0, 1 << 16, 64, 64, 64, False, False, 50, 0, 1.0)
    path = tmp_path / "ring"
    with Ring.create(path, capacity_bytes=1 << 16, slots=64, frame_bytes=64) as ring, ring.writer() as writer:
        tally = sides.Tally()
        out, into = os.pipe()
        reader = sides.started(
            lambda: sides.read(path, of, sides.Guest("lossless", "oldest", 4999, False, 1), tally, into)
        )
        os.close(into)
        assert os.read(out, 1) == b"j"
        os.close(out)
        for seq in range(0, 5000, 50):
            content = of.content(seq, 50)
            if seq == 1000:
                content[7] = of.content(2000, 1)[0]
            writer.write_array(content, timeout_s=20)
        assert os.waitpid(reader, 0)[1] == 0
        assert tally.get()["corrupt"] == 1
        tally.close()


# invariant: S2
def test_rings_leave_nothing(tmp_path: Path) -> None:
    report = cycles.cycles(2000, warm=500, quiet=True)
    assert not report.left


def test_what_is_left_is_told() -> None:
    before = cycles.Look(1000, 5, 0, 0)
    for after, left in (
        (cycles.Look(1000 + cycles.GROWTH_KIB, 5, 0, 0), []),
        (cycles.Look(1001 + cycles.GROWTH_KIB, 5, 0, 0), [f"{cycles.GROWTH_KIB + 1} memory_kib"]),
        (cycles.Look(1000, 6, 2, 1), ["1 descriptors", "2 mappings", "1 files"]),
    ):
        assert cycles.Report(1, 1.0, before, after).left == left


@pytest.mark.parametrize("name", ["lost", "duplicated", "reordered", "corrupt", "stuck", "failed"])
def test_anything_that_must_be_zero_makes_a_soak_fail(name: str) -> None:
    report = run.Report(1, 1)
    assert report.wrong == 0
    setattr(report, name, 1)
    assert report.wrong == 1


def test_content_is_of_the_sequence_alone() -> None:
    of = Round.made(5, 1000)
    seq = of.base_seq - of.base_seq % BLOCK
    assert np.array_equal(of.content(seq, 100)[40:50], of.content(seq + 40, 10))
