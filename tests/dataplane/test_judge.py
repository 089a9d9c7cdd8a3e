"""The judge: what it counts, over all that rings can show it, beside the one of the simulation and beside what was written; and its checks."""

import math
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_agent.events import JudgedSeen
from halftrack_dataplane import checks
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.judge import Judge
from halftrack_dataplane.judge_orders import FieldTolerance, JudgedPair, JudgeOrders
from halftrack_dataplane.judging import FIRST, MAX_TEXT, Judged, Spread, bucket, ceiling
from halftrack_dataplane.ring import Ring, Writer
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import Unable
from halftrack_dataplane.status import Difference, Status, dump, load
from halftrack_model.workload import Member, RingSpec
from tests.sim.judging import Docket, newest_input
from tests.sim.rings import SimRing

SLOTS = 64
LAG = 4
GREEN = "g/v.a@1.1.0"


class Real:
    """The judge itself, over rings of its own and by a clock that the test moves."""

    def __init__(self, folder: Path, slots: int) -> None:
        self.now_us = 1
        self.rings = {
            name: Ring.create(folder / name, slots=slots, capacity_bytes=1 << 16, generation=generation)
            for name, generation in (("source", 0), ("blue", 1), ("green", 2))
        }
        self.writers: dict[str, Writer] = {name: ring.writer(full="overwrite") for name, ring in self.rings.items()}
        orders = JudgeOrders((JudgedPair(GREEN, str(folder / "blue"), str(folder / "green")),), "equal", lag_frames=LAG)
        spec = RunSpec("judge", "g.v.judge", judge=orders)
        check = checks.of_orders(orders, "")
        self.judge = Judge(spec, self.rings["source"], check, lambda: self.now_us * 1000)

    def put(self, name: str, value: int) -> None:
        seq = self.rings[name].head
        time = seq if name == "source" else newest_input(seq)
        self.writers[name].write(value.to_bytes(8, "big"), timestamp_ns=time + 1)

    def gap(self, name: str, count: int) -> None:
        self.writers[name].gap(count)

    def look(self) -> None:
        self.judge.step()

    def evidence(self) -> Judged:
        return self.judge.evidence()[GREEN]

    def close(self) -> None:
        for name in self.rings:
            self.writers[name].close()
            self.rings[name].close()
        self.judge._leave(GREEN)


class Simulated:
    """The simulation's."""

    def __init__(self, folder: Path, slots: int) -> None:
        self.now_us = 1
        generations = {"source": 0, "blue": 1, "green": 2}
        self.rings = {
            name: SimRing(RingSpec(name, 1 << 16, slots, Member("g", "v", "a", "1.1.0", generation)))
            for name, generation in generations.items()
        }
        self.docket: Docket | None = None

    def put(self, name: str, value: int) -> None:
        self.rings[name].put(value)

    def gap(self, name: str, count: int) -> None:
        self.rings[name].gap(self.rings[name].head + count)

    def look(self) -> None:
        if self.docket is None:
            blue, green, source = (self.rings[name] for name in ("blue", "green", "source"))
            self.docket = Docket(blue, green, source, LAG, lambda seq, one, other: "" if one == other else "differs")
        self.docket.look(self.now_us)

    def evidence(self) -> JudgedSeen:
        assert self.docket is not None
        return self.docket.evidence()

    def close(self) -> None:
        return


JUDGES = [Real, Simulated]
acts = st.lists(
    st.tuples(
        st.sampled_from(["source", "source", "blue", "green", "gap blue", "gap green", "look"]), st.integers(1, 9)
    ),
    max_size=40,
)


class Played:
    """What was written, as a test remembers it: None is a declared gap."""

    def __init__(self, judge: Real | Simulated, deeds: list[tuple[str, int]], wrong: set[int]) -> None:
        self.rows: dict[str, list[int | None]] = {"source": [], "blue": [], "green": []}
        for name in ("source", "blue", "green"):
            self._put(judge, name, 2, wrong)
        for what, count in deeds:
            kind, _, name = what.rpartition(" ")
            if what == "look":
                judge.now_us += count * 1_000
                judge.look()
            elif kind:
                judge.gap(name, count)
                self.rows[name] += [None] * count
            else:
                self._put(judge, name, count * (2 if name == "source" else 1), wrong)
        judge.now_us += 1_000
        judge.look()

    def _put(self, judge: Real | Simulated, name: str, count: int, wrong: set[int]) -> None:
        for _ in range(count):
            seq = len(self.rows[name])
            value = seq * 3 + (name == "green" and seq in wrong)
            judge.put(name, value)
            self.rows[name].append(value)

    def numbers(self) -> list[int]:
        """What can be judged: numbers that both have reached, and blue has not lost."""
        pairs = zip(self.rows["blue"], self.rows["green"], strict=False)
        return [seq for seq, (blue, _) in enumerate(pairs) if blue is not None]

    def differing(self) -> list[int]:
        return [seq for seq in self.numbers() if self.rows["blue"][seq] != self.rows["green"][seq]]


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="halftrack-test-", dir="/dev/shm") as folder:
        yield Path(folder)


def made(kind: type[Real] | type[Simulated], slots: int) -> tuple[Real | Simulated, tempfile.TemporaryDirectory[str]]:
    folder = tempfile.TemporaryDirectory(prefix="halftrack-test-", dir="/dev/shm")
    return kind(Path(folder.name), slots), folder


# ------------------------------------------------------------------------------------------- conformance of both judges


@pytest.mark.parametrize("kind", JUDGES)
@settings(deadline=None, max_examples=60)
@given(deeds=acts, wrong=st.sets(st.integers(0, 40)))
def test_every_frame_that_both_have_is_held_against_its_twin_of_the_same_number(
    kind: type[Real] | type[Simulated], deeds: list[tuple[str, int]], wrong: set[int]
) -> None:
    judge, folder = made(kind, 1024)
    with folder:
        played = Played(judge, deeds, wrong)
        found = judge.evidence()
        judge.close()
    assert (found.generation, found.compared, found.different) == (2, len(played.numbers()), len(played.differing()))
    assert [each.seq for each in found.first] == played.differing()[:FIRST]
    assert all(each.text for each in found.first)
    lost = "".join("01"[played.rows["green"][seq] is None] for seq in played.numbers())
    assert (found.lost, found.unbroken) == (lost.count("1"), len(lost) - lost.rfind("1") - 1)


@pytest.mark.parametrize("kind", JUDGES)
@settings(deadline=None, max_examples=60)
@given(deeds=acts, wrong=st.sets(st.integers(0, 40)))
def test_a_judge_that_is_lapped_skips_and_says_nothing_wrong(
    kind: type[Real] | type[Simulated], deeds: list[tuple[str, int]], wrong: set[int]
) -> None:
    judge, folder = made(kind, 8)
    with folder:
        played = Played(judge, deeds, wrong)
        found = judge.evidence()
        judge.close()
    assert found.compared <= len(played.numbers())
    assert found.different <= min(found.compared, len(played.differing()))
    assert {each.seq for each in found.first} <= set(played.differing())
    assert found.timed <= found.compared


@settings(deadline=None, max_examples=80)
@given(deeds=acts)
def test_both_judges_know_the_same_latencies(deeds: list[tuple[str, int]]) -> None:
    found = []
    for kind in JUDGES:
        judge, folder = made(kind, 1024)
        with folder:
            Played(judge, deeds, set())
            found.append(judge.evidence())
            judge.close()
    real, simulated = found
    assert real.timed == simulated.timed
    for name in ("blue_us_p99", "green_us_p99"):
        exact = getattr(simulated, name)
        assert exact <= getattr(real, name) <= exact * 17 / 16, "the real one keeps buckets of a sixteenth"


@pytest.mark.parametrize("kind", JUDGES)
def test_what_was_there_before_and_what_comes_while_green_catches_up_has_no_latency(
    kind: type[Real] | type[Simulated], place: Path
) -> None:
    judge = kind(place, 256)
    for number in range(40):
        judge.put("source", number)
    for number in range(20):
        judge.put("blue", number)
    judge.put("green", 0)
    judge.look()
    for number in range(20, 30):  # seen as they come, but green is further behind than it may be
        for source in range(2):
            judge.put("source", source)
        judge.put("blue", number)
        judge.now_us += 1_000
        judge.look()
    for number in range(1, 30):  # green catches up: its outputs are late against the input by all that it has missed
        judge.put("green", number)
    judge.now_us += 50_000
    judge.look()
    assert (judge.evidence().compared, judge.evidence().timed) == (30, 0)
    for number in range(30, 40):
        for source in range(2):
            judge.put("source", source)
        judge.put("blue", number)
        judge.now_us += 1_000
        judge.look()
        judge.now_us += 2_000
        judge.put("green", number)
        judge.look()
    found = judge.evidence()
    judge.close()
    assert found.timed == 10
    assert found.blue_us_p99 <= 1_000
    assert 2_000 <= found.green_us_p99 <= 2_200


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=300))
def test_a_spread_is_exact_to_a_sixteenth(values: list[int]) -> None:
    spread = Spread()
    for value in values:
        spread.add(value)
    exact = sorted(values)[-(-len(values) * 99 // 100) - 1]
    assert exact <= spread.p99() <= exact * 17 / 16
    assert all(bucket(ceiling(bucket(value))) == bucket(value) for value in values)


def test_a_green_whose_ring_is_made_anew_keeps_what_was_learnt(place: Path) -> None:
    judge = Real(place, 64)
    for name in ("source", "source", "blue", "green"):
        judge.put(name, 7)
    judge.look()
    judge.writers["green"].close()
    judge.rings["green"].close()
    (place / "green").unlink()
    judge.rings["green"] = Ring.create(place / "green", slots=64, capacity_bytes=1 << 16, generation=2)
    judge.writers["green"] = judge.rings["green"].writer(full="overwrite")
    judge.put("green", 7)
    judge.put("blue", 8)
    judge.put("green", 9)
    judge.now_us += 100_000
    judge.look()
    found = judge.evidence()
    judge.close()
    assert (found.compared, found.different) == (3, 1)


@given(st.integers(1, 30), st.integers(1, 30), st.booleans(), st.sampled_from(["blue", "green"]))
def test_what_comes_before_a_member_s_first_number_is_not_lost(begin: int, more: int, seen: bool, who: str) -> None:
    """A green that goes on from a snapshot begins there, whatever blue's ring still holds from before."""
    with tempfile.TemporaryDirectory() as folder:
        judge, other = Real(Path(folder), 64), {"blue": "green", "green": "blue"}[who]
        for seq in range(begin + more):
            judge.put("source", 0)
            judge.put(other, seq)
        if seen:
            judge.look()
        judge.writers[who].start_at(begin)
        for seq in range(begin, begin + more):
            judge.look()
            judge.put(who, seq)
        judge.gap("green", 1)  # which green does declare
        judge.put("blue", 7)
        judge.look()
        found = judge.evidence()
        judge.close()
    assert (found.compared, [each.seq for each in found.first]) == (more + 1, [begin + more])


# ---------------------------------------------------------------------------------------------------------------- checks


def frame(payload: bytes, gap: int = 0) -> Frame:
    return Frame(5, 1, 1, payload, gap)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_equal_is_equal_and_shows_where_it_is_not(blue: bytes, green: bytes) -> None:
    text = checks.equal(frame(blue), frame(green))
    assert (text == "") == (blue == green)
    if len(blue) == len(green) and blue != green:
        at = next(n for n in range(len(blue)) if blue[n] != green[n])
        assert f"byte {at}: {blue[at]:02x}" in text
        assert f"→ {green[at]:02x}" in text


floats = st.floats(width=32)


@given(
    st.lists(st.tuples(floats, floats), min_size=1, max_size=12),
    st.sampled_from(["0", "0.5", "1e3"]),
    st.sampled_from(["0", "0.1"]),
)
def test_a_tolerance_is_absolute_plus_relative_of_blue_s(
    pairs: list[tuple[float, float]], absolute: str, relative: str
) -> None:
    orders = JudgeOrders((), "tolerance", fields=(FieldTolerance("power", "<f4", 0, absolute, relative),))
    blue, green = (struct.pack(f"<{len(pairs)}f", *(pair[place] for pair in pairs)) for place in (0, 1))

    def near(one: float, other: float) -> bool:
        if one == other or (math.isnan(one) and math.isnan(other)):
            return True
        return abs(other - one) <= float(absolute) + float(relative) * abs(one) and (absolute, relative) != ("0", "0")

    wrong = [number for number, pair in enumerate(pairs) if not near(*pair)]
    text = checks.of_orders(orders, "")(frame(blue), frame(green))
    assert (text == "") == (not wrong)
    if wrong:
        assert text.startswith("power: " if len(pairs) == 1 else f"power[{wrong[0]}]: ")


RECORD = (FieldTolerance("count", "<u8"), FieldTolerance("mean", "<f8", absolute="0.01"))


@pytest.mark.parametrize(
    ("blue", "green", "told"),
    [
        ([(1, 2.0), (3, 4.0)], [(1, 2.001), (3, 3.999)], ""),
        ([(1, 2.0), (3, 4.0)], [(1, 2.1), (3, 4.0)], "mean: 2.0 → 2.1"),
        ([(1, 2.0), (3, 4.0)], [(1, 2.0), (4, 4.0)], "count of record 1: 3 → 4"),
        ([(1, 2.0), (3, 4.0)], [(1, 2.0)], "blue has 32 bytes, green 16"),
        ([(2**64 - 1, 0.0)], [(0, 0.0)], "count: 18446744073709551615 → 0"),
    ],
)
def test_fields_are_held_against_each_other_one_by_one(
    blue: list[tuple[int, float]], green: list[tuple[int, float]], told: str
) -> None:
    check = checks.of_orders(JudgeOrders((), "tolerance", fields=RECORD), "")
    packed = (b"".join(struct.pack("<Qd", *row) for row in rows) for rows in (blue, green))
    assert check(*map(frame, packed)) == told


def test_a_frame_that_is_not_made_of_the_declared_fields_cannot_be_judged() -> None:
    check = checks.of_orders(JudgeOrders((), "tolerance", fields=RECORD), "")
    with pytest.raises(Unable, match="not made of the fields"):
        check(frame(bytes(12)), frame(bytes(12)))


PROGRAM = """
def alike(blue, green): return abs(len(blue.payload) - len(green.payload)) < 3
def sane(green): return None if green.payload != b"mad" else "mad,\\n  and long " * 99
def odd(green): return 7
"""


def test_own_functions_say_what_is_wrong_and_lost_frames_are_never_alike(tmp_path: Path) -> None:
    (tmp_path / "artifact").write_text(PROGRAM)
    program = str(tmp_path / "artifact")
    alike = checks.of_orders(JudgeOrders((), "function", "main:alike"), program)
    assert alike(frame(b"12"), frame(b"1234")) == ""
    assert alike(frame(b"12"), frame(b"12345")) == "main:alike says that it may not pass"
    sane = checks.of_orders(JudgeOrders((), "invariant", "main:sane"), program)
    assert sane(frame(b"mad"), frame(b"fine")) == sane(frame(b"", gap=1), frame(b"fine")) == ""
    assert sane(frame(b"fine"), frame(b"mad")).startswith("mad, and long mad")
    with pytest.raises(TypeError, match="returned 7"):
        checks.of_orders(JudgeOrders((), "invariant", "main:odd"), program)(frame(b""), frame(b""))
    for check in (alike, sane, checks.equal, checks.of_orders(JudgeOrders((), "tolerance", fields=RECORD), "")):
        assert check(frame(bytes(16)), frame(b"", gap=1)) == "green declares it lost, blue has it"


def test_a_status_takes_no_more_of_a_release_s_own_words_than_a_screen_can_show() -> None:
    row = Judged(2, 9, 9, 0, 0, 0, 0, 500, tuple(Difference(n, "\x1b[2J" + "x" * 9999) for n in range(99)))
    found = load(dump(Status("g.v.judge", "judge", judged={GREEN: row}, began_ms=77)))
    assert found.began_ms == 77
    assert found.judged[GREEN] == replace(row, first=found.judged[GREEN].first)
    assert len(found.judged[GREEN].first) == FIRST
    assert all(len(each.text) == MAX_TEXT and each.text.startswith("?[2J") for each in found.judged[GREEN].first)
