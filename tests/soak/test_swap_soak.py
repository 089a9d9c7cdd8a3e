"""The swap soak's judge, sink and plan of faults: what the judge must count it does, whatever came in whatever pieces."""

import itertools
import json
import struct
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.frames import Cut, Frame
from tests.soak import swap_stream
from tests.soak.swap_check import Follower, Judge
from tests.soak.swap_faults import CALM_S, CUT_S, WEIGHTS, troubles, victims
from tests.soak.swap_run import Report
from tests.soak.swap_stream import INPUT, MASK, OUTPUT, SPREAD, Marks, Numbers, Sums, files_of

Row = tuple[int, ...]
CUT_AT = 20
TABLE = [
    json.dumps(asdict(Cut(epoch, generation, None, at, f"1.0.{generation}")))
    for epoch, generation, at in ((1, 0, 0), (7, 3, CUT_AT))
]


def row(seq: int, gap: int = 0) -> Row:
    """As a right sink has it."""
    epoch, release = (7, 3) if seq >= CUT_AT else (1, 0)
    if gap:
        return seq, epoch, seq * 1000, gap, 0, 0, 0
    return seq, epoch, seq * 1000, 0, seq, SPREAD * (seq * (seq + 1) // 2) & MASK, release


def judged(rows: list[Row], pieces: list[int], head: int) -> Judge:
    """Rows in pieces of these sizes."""
    judge = Judge()
    judge.table(TABLE)
    sizes = itertools.cycle(pieces)
    while rows:
        size = next(sizes)
        judge.take(np.array(rows[:size], np.uint64), [])
        rows = rows[size:]
    judge.end(head)
    return judge


def right(judge: Judge) -> bool:
    """Nothing that must be zero is anything else."""
    found = judge.verdict
    return not sum((found.lost, found.duplicated, found.reordered, found.mismatched, len(found.examples)))


pieces = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(st.integers(1, 60), pieces)
def test_a_right_stream_is_right(count: int, pieces: list[int]) -> None:
    # invariant: S1
    judge = judged([row(seq) for seq in range(count)], pieces, count)
    assert right(judge)
    assert (judge.verdict.frames, judge.verdict.output_cuts) == (count, 1)


@given(st.integers(30, 60), pieces, st.data())
def test_whatever_is_wrong_is_counted(count: int, pieces: list[int], data: st.DataObject) -> None:
    # invariants: S1, S2
    rows: list[Row] = []
    lost = duplicated = mismatched = 0
    for seq in range(count):
        what = data.draw(
            st.sampled_from(["right", "right", "right", "missing", "twice", "gap", "altered", "wrong epoch"])
        )
        lost += what in ("missing", "gap")
        duplicated += what == "twice"
        if what == "missing":
            continue
        rows.append(row(seq, gap=what == "gap"))
        if what == "twice":
            rows.append(row(seq))
        if what in ("altered", "wrong epoch"):
            at = 1 if what == "wrong epoch" else data.draw(st.integers(4, 6))
            bad = {1: 8 - rows[-1][1]}.get(at, rows[-1][at] ^ 1)
            rows[-1] = (*rows[-1][:at], bad, *rows[-1][at + 1 :])
            mismatched += 1
    judge = judged(rows, pieces, count)
    found = judge.verdict
    assert (found.lost, found.duplicated, found.mismatched) == (lost, duplicated, mismatched)


@given(st.permutations(range(12)), pieces)
def test_what_comes_late_is_out_of_order_and_not_lost(order: list[int], pieces: list[int]) -> None:
    # invariant: S1
    found = judged([row(seq) for seq in order], pieces, 12).verdict
    late = sum(seq < max(order[:at], default=-1) for at, seq in enumerate(order))
    assert (found.lost, found.duplicated, found.mismatched, found.reordered) == (0, 0, 0, late)


def test_pauses_are_told_apart() -> None:
    rows = [row(seq) for seq in range(40)]
    arrived = np.array([seq * 1_000_000 + (5_000_000 if seq >= CUT_AT else 0) for seq in range(40)], np.uint64)
    matrix = np.array(rows, np.uint64)
    matrix[:, 2] = arrived + np.uint64(3_000_000_000)
    verdicts = []
    for faults in ([], [(3_010_500_000, "member")]):
        judge = Judge()
        judge.table(TABLE)
        judge.take(matrix, faults)
        verdicts.append(judge.end(40))
    calm, struck = verdicts
    assert (calm.gap_us_p50, calm.kill_gap_us_p50) == (6000.0, 0.0)
    assert (struck.gap_us_p50, struck.kill_gap_us_p50) == (0.0, 6000.0)  # a cut just after a fault is a way back
    assert calm.steady_gap_us_p999 == struck.steady_gap_us_p999 == pytest.approx(1000, rel=0.02)


def test_the_vertex_goes_on_from_a_snapshot() -> None:
    whole, first = Sums({"release": 1}), Sums({"release": 1})
    source = Numbers({"rate": 1000, "burst_us": 1}).frames(0)
    frames = [Frame(seq, 0, 0, next(source)) for seq in range(20)]
    wanted = [whole.process(frame) for frame in frames]
    found = [first.process(frame) for frame in frames[:9]]
    second = Sums({"release": 1})
    assert second.restore(first.snapshot(), same_release=False) == 0
    assert found + [second.process(frame) for frame in frames[9:]] == wanted
    assert [OUTPUT.unpack(output) for output in wanted] == [(*row(seq)[4:6], 1) for seq in range(20)]
    with pytest.raises(ValueError, match="came where 20 was due"):
        second.process(frames[3])
    assert INPUT.unpack(frames[3].payload) == (3, 3 * SPREAD & MASK)


def test_the_sink_goes_on_after_a_torn_end_and_the_judge_takes_away_what_it_has_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # invariants: S1, D1
    monkeypatch.setattr(swap_stream, "FILE_ROWS", 16)
    (tmp_path / "cuts.jsonl").write_text("\n".join(TABLE) + "\n")
    follower = Follower(tmp_path, tmp_path / "faults")
    seq = 0
    for life in range(6):
        sink = Marks({}, str(tmp_path))
        assert sink.next_seq() == seq
        for _ in range(7 + life):
            sink.consume(Frame(seq, row(seq)[1], 0, OUTPUT.pack(*row(seq)[4:])))
            seq += 1
        sink.flush()
        with files_of(tmp_path)[-1].open("ab") as file:
            file.write(struct.pack("<QQ", seq, 7))
        follower.look()
        assert len(files_of(tmp_path)) == 1
    verdict = follower.judge.end(seq)
    assert verdict.frames == seq > 3 * 16
    assert right(follower.judge)


@given(st.integers(0, 1 << 32))
def test_a_seed_is_a_row_of_troubles(seed: int) -> None:
    found = list(itertools.islice(troubles(seed), 40))
    assert found == list(itertools.islice(troubles(seed), 40))
    assert {trouble.kind for trouble in found} <= set(WEIGHTS)
    assert all(CALM_S[0] <= trouble.calm_s <= CALM_S[1] and 0 <= trouble.pick < 1 for trouble in found)
    assert all(
        CUT_S[0] <= trouble.for_s <= CUT_S[1] if trouble.kind == "cut" else not trouble.for_s for trouble in found
    )


def test_every_process_of_the_pair_is_somebody_s_victim() -> None:
    running = [
        "bridge",
        "soak.marks",
        "soak.numbers",
        "soak.sums.a@1.0.1",
        "soak.sums.b@1.0.1.from-tank-b",
        "soak.sums.merge",
    ]
    hit = {name for kind in WEIGHTS for name in victims(kind, running)}
    assert hit == set(running) - {"soak.marks", "soak.numbers"}
    assert victims("member", running) == ["soak.sums.a@1.0.1"]


@pytest.mark.parametrize("name", ["lost", "duplicated", "reordered", "mismatched", "undone", "missing"])
def test_anything_that_must_not_be_makes_it_fail(name: str) -> None:
    report = Report(1)
    assert not report.wrong
    setattr(report, name, "why" if name == "missing" else 1)
    assert report.wrong
    wanted = {"frames", "swaps", "kills", "cuts", "lost", "duplicated", "reordered", "gap_us_p50", "gap_us_p99"}
    assert {field.name for field in fields(Report)} >= wanted | {"steady_gap_us_p999", "seed"}
