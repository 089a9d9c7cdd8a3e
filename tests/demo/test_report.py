"""The report: its keys, its zeros, and restarts that nothing explains."""

import pytest

from examples.demo import report
from examples.demo.director import Happened, Settings
from examples.demo.evidence import HostEvidence, Life
from halftrack_model.release import SwapStrategy
from halftrack_model.swap import Phase, Seat, SwapRecord, SwapSpec
from halftrack_model.workload import Member

KEYS = [
    "frames_in",
    "frames_out",
    "lost",
    "duplicated",
    "reordered",
    "mismatched",
    "corrupt_refused",
    "swaps",
    "undone",
    "link_cuts",
    "members_killed",
    "max_output_gap_ms",
    "cut_pause_ms",
    "restarts_unplanned",
    "input_mb_per_s",
    "seconds",
    "seed",
    "stream_digest",
]
VERDICT = {
    "frames_in": 4000,
    "frames_out": 1000,
    "lost": 0,
    "duplicated": 0,
    "reordered": 0,
    "mismatched": 0,
    "corrupt_refused": 10,
    "max_output_gap_ms": 20.0,
    "cut_pause_ms": 9.0,
    "stream_seconds": 8.0,
    "stream_digest": "00",
    "releases": {"1.0.0": 1000},
    "examples": [],
}


def record(phase):
    return SwapRecord("s", 1, 0, phase, 1, -1, 0, 0, 0, 0, "")


def member(name, version, generation):
    return Member("spectra", "spectrometer", name, version, generation)


@pytest.fixture
def host(tmp_path):
    return HostEvidence("tank-a", tmp_path, tmp_path, tmp_path / "agent.log")


def lives(host, workload, count):
    found = [Life("tank-a", workload, 100 + n, n) for n in range(count)]
    host.lives.extend(found)
    return found


def test_the_keys_are_the_interface(host):
    host.swaps = {"one": [record(Phase.DONE)], "two": [record(Phase.UNDONE)]}
    made = report.made(Settings(7, 60.0, 32_000_000), Happened(link_cuts=5), VERDICT, {"tank-a": host})
    assert list(made) == KEYS
    assert (made["swaps"], made["undone"], made["link_cuts"]) == (1, 1, 5)
    assert report.right(made)
    for name in ("lost", "duplicated", "reordered", "mismatched", "restarts_unplanned"):
        assert not report.right({**made, name: 1})
    assert "All counts that must be zero are zero." in report.in_words(made, Happened(), VERDICT)


def test_a_restart_that_nothing_explains_is_counted(host):
    lives(host, "spectra.source", 2)
    lives(host, "bridge", 4)
    assert report.unplanned(Happened(), {"tank-a": host}) == 4


def test_our_own_kills_explain_as_many_restarts(host):
    found = lives(host, "spectra.spectrometer.a@1.0.0", 3)
    assert report.unplanned(Happened(killed=found[:1]), {"tank-a": host}) == 1
    assert report.unplanned(Happened(killed=found[:2]), {"tank-a": host}) == 0
    other = Life("tank-b", "spectra.spectrometer.a@1.0.0", 1, 1)
    assert report.unplanned(Happened(killed=[other]), {"tank-a": host}) == 2


def test_a_kill_by_hand_explains_a_restart_and_is_counted(host):
    lives(host, "spectra.spectrometer.b@1.0.0", 2)
    host.log.write_text("2026 INFO halftrack.agent: instance-exited spectra.spectrometer.b@1.0.0 signal 9\n")
    assert report.unplanned(Happened(), {"tank-a": host}) == 0
    assert report.made(Settings(7, 60.0, 1), Happened(), VERDICT, {"tank-a": host})["members_killed"] == 1
    host.log.write_text("2026 INFO halftrack.agent: instance-exited spectra.spectrometer.b@1.0.0 signal 11\n")
    assert report.unplanned(Happened(), {"tank-a": host}) == 1


def test_a_return_that_a_swap_ordered_is_planned_and_a_second_one_is_not(host):
    a, b = "spectra.spectrometer.a", "spectra.spectrometer.b"
    seats = tuple(
        Seat(where, member(seat, "1.1.0", 2), member(seat, "1.2.0", 3), f"{name}@1.1.0", f"{name}@1.2.0")
        for where, seat, name in (("tank-a", "a", a), ("tank-b", "b", b))
    )
    host.orders = {"s": SwapSpec("s", "spectra", "spectrometer", "tank-a", seats, "", "", SwapStrategy(), False)}
    there = [record(phase) for phase in (Phase.PENDING, Phase.JOINING, Phase.DRAINING)]
    host.swaps = {"s": [*there, record(Phase.ABORTING), record(Phase.UNDONE)]}
    lives(host, f"{a}@1.1.0", 2)
    assert report.unplanned(Happened(), {"tank-a": host}) == 1  # it had never been let go
    host.swaps = {"s": [*there, record(Phase.GONE), record(Phase.ABORTING), record(Phase.UNDONE)]}
    assert report.unplanned(Happened(), {"tank-a": host}) == 0
    lives(host, f"{a}@1.1.0", 1)
    assert report.unplanned(Happened(), {"tank-a": host}) == 1
