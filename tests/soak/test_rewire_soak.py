"""The rewire soak's judge, its wiring and its edits; and a short form of the whole: a real controller, two real hosts, two edits."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane.frames import Frame
from tests.soak import rewire_wiring as wirings
from tests.soak.rewire_breaker import WEIGHTS, victims
from tests.soak.rewire_check import Asked, Verdict, judged
from tests.soak.rewire_edits import LASTING, WIRING, Edits
from tests.soak.rewire_report import Report
from tests.soak.rewire_stream import MASK, Numbers, Rows, Step, Sums, folded, word_of
from tests.soak.rewire_wiring import Box, Input, Wiring
from tests.soak.short_form import short_form

ROOT = Path(__file__).resolve().parents[2]
FIRST, SECOND = 20, 40  # where a step is put in between, and where another one's release changes
COUNT = 60
SPLIT: Wiring = wirings.split(WIRING, "relay", 2, ())


def asked() -> Asked:
    """`relay` is split from FIRST on."""
    history = {name: [(0, box.inputs)] for name, box in {**WIRING, **SPLIT}.items()}
    history["twin"].append((FIRST, SPLIT["twin"].inputs))
    marks = {name: box.mark for name, box in {**WIRING, **SPLIT}.items()}
    return Asked(history, marks, "twin", "near", LASTING, COUNT, {"twin": [(0, 1), (SECOND, 2)]})


def stream(sink: str) -> list[Frame]:
    """What a sink gets when all is well, made by the vertices themselves."""
    source = Numbers({"rate": 1_000_000, "burst_us": 1}).frames(0)
    relay, twin = Step({"mark": 1, "release": 0}), [Sums({"mark": 2, "release": n}) for n in (1, 2)]
    found = []
    for seq in range(COUNT):
        payload = next(source)
        if sink != "direct":
            if seq == SECOND:
                twin[1].restore(twin[0].snapshot(), same_release=False)
            payload = relay.process(Frame(seq, 0, 0, payload))
            payload = twin[seq >= SECOND].process(Frame(seq, 0, 0, payload))
        found.append(Frame(seq, 0, 0, payload))
    return found


def verdict(folder: Path, change: Callable[[str, list[Frame]], list[Frame]] = lambda _, frames: frames) -> Verdict:
    sinks = {}
    for name in LASTING:
        (folder / name).mkdir(parents=True, exist_ok=True)
        sink = Rows({}, str(folder / name))
        for frame in change(name, stream(name)):
            sink.consume(frame)
        sink.flush()
        sinks[name] = folder / name / "rows.bin"
    return judged(asked(), sinks)


def test_a_right_stream_is_right(tmp_path: Path) -> None:
    # invariant: S1
    found = verdict(tmp_path)
    assert (found.wrong, found.examples, found.rows) == (0, [], 3 * COUNT)


@pytest.mark.parametrize("sink", LASTING)
@pytest.mark.parametrize(
    ("what", "counted"),
    [
        (lambda frames: frames[:30] + frames[31:], "lost"),
        (lambda frames: [*frames[:30], Frame(30, 0, 0, b"", 2), *frames[32:]], "lost"),
        (lambda frames: frames[:-1], "lost"),
        (lambda frames: frames[:31] + frames[30:], "duplicated"),
        (lambda frames: [*frames[:30], frames[31], frames[30], *frames[32:]], "reordered"),
        (lambda frames: [*frames[:30], Frame(30, 0, 0, frames[31].payload), *frames[31:]], "mismatched"),
        (lambda frames: [*frames[:30], Frame(30, 0, 0, frames[30].payload[:8] + bytes(8)), *frames[31:]], "mismatched"),
    ],
)
def test_whatever_is_wrong_is_counted(
    tmp_path: Path, sink: str, what: Callable[[list[Frame]], list[Frame]], counted: str
) -> None:
    # invariants: S1, S2
    found = verdict(tmp_path, lambda name, frames: what(frames) if name == sink else frames)
    assert getattr(found, counted) > 0
    assert found.wrong
    assert any(text.startswith(sink) for text in found.examples)


def test_a_composition_that_was_not_in_force_is_seen(tmp_path: Path) -> None:
    """A step more, one less, in another order, or of a release whose turn it is not."""
    one, two = Step({"mark": 5, "release": 0}), Step({"mark": 2, "release": 1})

    def more(frame: Frame) -> Frame:
        return Frame(frame.seq, 0, 0, one.process(frame))

    for change in (
        lambda _, frames: [more(frame) if frame.seq == 30 else frame for frame in frames],
        lambda name, frames: (
            frames if name != "far" else [*frames[:50], Frame(50, 0, 0, two.process(frames[50])), *frames[51:]]
        ),
        lambda name, frames: frames if name != "direct" else stream("near"),
    ):
        assert verdict(tmp_path / str(next(COUNTER)), change).mismatched  # type: ignore[arg-type]


COUNTER = count()


def test_releases_change_once_and_where_the_table_says(tmp_path: Path) -> None:
    history = {name: [(0, box.inputs)] for name, box in WIRING.items()}
    marks = {name: box.mark for name, box in WIRING.items()}
    (tmp_path / "near").mkdir()
    sink = Rows({}, str(tmp_path / "near"))
    for frame in stream("near"):
        sink.consume(frame)
    sink.flush()
    for table, wrong in (([(0, 1), (SECOND, 2)], 0), ([(0, 1), (SECOND + 1, 2)], 1), ([(0, 1)], 0)):
        told = Asked(history, marks, "twin", "near", ("near",), COUNT, {"twin": table})
        assert judged(told, {"near": tmp_path / "near" / "rows.bin"}).mismatched == wrong


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1 << 32))
def test_a_seed_is_a_row_of_edits_of_each_kind(seed: int) -> None:
    edits, again, wiring, kinds = Edits(seed), Edits(seed), WIRING, set()
    for _ in range(30):
        act = edits.next(wiring)
        assert act == again.next(wiring)
        kinds.add(act.kind)
        wiring = act.after or wiring
        assert set(LASTING) | {"twin", "numbers"} <= set(wiring)
        for name in LASTING:
            for number in (0, 1, 977):
                (way,) = wirings.ways(wiring, name, number)
                assert way[0] == "numbers"
                assert ("twin" in way) == (name != "direct")
    assert {"insert", "replace", "tap", "swap", "race", "revert", "upgrade"} <= kinds


@given(st.integers(0, MASK >> 8), st.integers(2, 5))
def test_a_split_is_one_way_for_each_frame(number: int, into: int) -> None:
    wiring = wirings.split(WIRING, "relay", into, ("tank-a", "tank-b"))
    (way,) = wirings.ways(wiring, "near", number)
    assert way == ["numbers", f"relay-{wirings.part_of(number, into)}", "twin", "near"]
    assert {wiring[f"relay-{n}"].hosts for n in range(into)} == {("tank-a",), ("tank-b",)}
    put = wirings.inserted(wiring, "relay-0", "twin", "late", Box("step", "step", ("tank-a",), 9))
    (other,) = wirings.ways(put, "near", number)
    assert ("late" in other) == (way[1] == "relay-0")
    back = wirings.removed(put, "late")
    assert wirings.ways(back, "near", number) == [way]
    assert back["twin"].inputs[0] == Input("relay-0")


def test_words_and_marks_have_to_agree() -> None:
    word = word_of(7)
    assert folded(folded(word, 1, 0), 2, 0) != folded(folded(word, 2, 0), 1, 0)
    assert folded(word, 1, 0) != folded(word, 1, 1)


def test_a_sink_goes_on_after_a_torn_end(tmp_path: Path) -> None:
    # invariant: D1
    seq = 0
    for life in range(4):
        sink = Rows({}, str(tmp_path))
        assert sink.next_seq() == seq
        for frame in stream("near")[seq : seq + 3 + life]:
            sink.consume(frame)
            seq += 1
        sink.flush()
        with (tmp_path / "rows.bin").open("ab") as file:
            file.write(b"torn")


def test_every_process_but_the_source_is_somebody_s_victim() -> None:
    running = {
        "bridge": "bridge",
        "rewire.near": "sink",
        "rewire.relay": "vertex",
        "rewire.relay.from-tank-b": "bridge",
        "rewire.twin.in": "inlet",
        "rewire.twin.a@1.0.0": "member",
        "rewire.twin.b@1.0.0.from-tank-b": "bridge",
        "rewire.twin.merge": "merge",
    }
    every = [*running, "rewire.numbers"]
    for kind in WEIGHTS:
        assert victims(kind, every, ["rewire.near"]) == sorted(name for name in running if running[name] == kind)


@pytest.mark.parametrize("name", ["lost", "duplicated", "reordered", "mismatched", "undone", "missing"])
def test_anything_that_must_not_be_makes_it_fail(name: str) -> None:
    report = Report(1)
    assert not report.wrong
    setattr(report, name, "why" if name == "missing" else 1)
    assert report.wrong


@pytest.mark.timeout(300)  # ten seconds on a machine of one's own
def test_the_short_form_loses_nothing(tmp_path: Path) -> None:
    # invariants: S1, R2
    found = short_form("tests.soak.rewire_run", "rewire-soak.json", tmp_path, EDITS=2, SEED=45, RATE=200)
    assert found["frames"] > 100
    assert found["rows"] >= 3 * found["frames"]
    assert sum(found["by_kind"].values()) == 2
