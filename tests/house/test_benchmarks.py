"""The benchmarks run, nobody gets a wrong frame, and what they print is what their readers parse."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import bridge, brokers, cases, race, summary
from tests.house.source import ROOT


@pytest.mark.parametrize(("name", "all_cases"), [("ring", cases.all_cases), ("bridge", bridge.all_cases)])
def test_every_case_runs_and_nothing_is_lost(
    name: str, all_cases: Callable[[float], list[cases.Case]], tmp_path: Path
) -> None:
    written = tmp_path / f"bench-{name}.jsonl"
    seen = subprocess.run(
        [sys.executable, f"benchmarks/{name}.py", "--json", "--quick", "--write", str(written)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert seen.returncode == 0, seen.stderr
    assert written.read_text() == seen.stdout
    lines = [json.loads(line) for line in seen.stdout.splitlines()]
    assert [line["case"] for line in lines] == [case.name for case in all_cases(1.0)]
    for line in lines:
        assert set(line) == {"case", "unit", "ours", "peers", "ratio", "bar", "ok", "placement"}
        assert line["ours"] > 0
        assert 0 not in line["peers"].values()
        assert line["placement"] in ("near", "far")
    assert seen.stderr.splitlines()[-1] == summary.of_ring(lines, f"bench-{name}")


def _case(unit: str, bar: float) -> cases.Case:
    return cases.Case("a case", unit, lambda: 1.0, {"peer": lambda: 1.0}, {"peer": bar})


@pytest.mark.parametrize(
    ("unit", "bar", "ours", "peer", "ok"),
    [
        ("M/s", 2, 21.0, 10.0, True),
        ("M/s", 2, 19.0, 10.0, False),
        ("ns", 2, 19.0, 10.0, True),
        ("ns", 2, 21.0, 10.0, False),
        ("M/s", 2, 19.0, None, True),  # who is not here cannot be lost against
        ("M/s", 2, 0.0, 10.0, False),
    ],
)
def test_a_bar_is_reached_or_missed(unit: str, bar: float, ours: float, peer: float | None, ok: bool) -> None:
    line = _case(unit, bar).line({"ours": ours, "peer": peer}, "near")
    assert line["ok"] is ok
    assert summary.missed([line]) == ([] if ok else ["a case"])


def test_a_wrong_frame_is_no_figure() -> None:
    def wrong() -> float:
        raise race.Wrong("a frame is not what was sent")

    figures, reasons = race.medians({"ours": lambda: 1.0, "peer": wrong}, 3)
    assert (figures, len(reasons)) == ({"ours": 1.0, "peer": 0.0}, 1)
    assert summary.wrong([_case("M/s", 1).line(figures, "near")]) == ["a case: peer"]


@pytest.mark.parametrize(("measure", "named"), [(brokers.nats, "nats-server"), (brokers.redis, "redis-server")])
def test_a_broker_that_is_not_here_is_named(
    measure: Callable[[int], float], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(race.Missing, match=f"no {named}: apt-get install {named}"):
        measure(1)


def test_a_side_that_fails_ends_the_round_at_once() -> None:
    def waits() -> race.Iterator[None]:
        yield
        race.time.sleep(race.PATIENCE_S)
        yield

    def fails() -> race.Iterator[None]:
        yield
        raise race.Wrong("it is what the test wants")

    with pytest.raises(race.Wrong):
        race.timed([waits, fails])
