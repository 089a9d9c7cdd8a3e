"""The fleet in simulation: hundreds of seeds, each with its own faults, all invariants on every step; and that a seed replays."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from halftrack_model.swap import Phase
from tests.sim.faults import MOMENTS, Fault
from tests.sim.run import told
from tests.sim.world import VERDICT, World

SEEDS = 300
BUDGET_S = 7.0  # on a machine that is busy with other things, fewer seeds are tried, but never less than ENOUGH; CI tries fresh ones beside the tests
ENOUGH = 20
ROOT = Path(__file__).parents[2]


# invariants: P1, P2, P3, R1, R2, R3, O1, O2, S1
def test_no_seed_breaks_an_invariant() -> None:
    ends, began = set(), time.monotonic()
    for seed in range(SEEDS):
        result = World(f"test {seed}", rounds=1 + (seed % 4 == 0)).run()
        assert not result.violation, told(result)
        ends |= {end.split()[0] for end in result.ends}
        if seed >= ENOUGH and time.monotonic() - began > BUDGET_S:
            break
    assert {"done", "undone"} <= ends, "faults must be neither harmless nor hopeless"


def test_a_seed_replays_to_the_last_event() -> None:
    for seed in ("replay 1", "replay 2"):
        first, second = World(seed, rounds=2).run(), World(seed, rounds=2).run()
        assert first == second
        assert first.digest == second.digest
    assert World("replay 3").run().digest != first.digest


def test_another_process_tells_the_same_story(tmp_path: Path) -> None:
    """Nothing depends on the order of a set or on addresses."""
    line = (
        "import sys; sys.path.insert(0, '.'); from tests.sim.world import World; print(World('replay 4').run().digest)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    there = subprocess.run(
        [sys.executable, "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == World("replay 4").run().digest


# invariant: S1
@pytest.mark.parametrize("surge", [1, 2])
@pytest.mark.parametrize("alone", [False, True], ids=["two hosts", "one host"])
def test_an_undisturbed_swap_is_done_and_costs_no_pause(surge: int, alone: bool) -> None:
    result = World("calm", plan=[], rounds=2, surge=surge, alone=alone).run()
    assert not result.violation, told(result)
    assert result.ends == ("done", "done")
    assert result.longest_pause_ms <= 100, "the output goes on through both cuts"


# invariant: P2
def test_a_journal_that_is_lost_twice_in_one_swap_repeats_no_epoch() -> None:
    """What a year of a hundred hosts has found: the second life after a loss had the epochs of the first."""
    result = World("60", rounds=2).run()
    assert not result.violation, told(result)


# invariant: R1 S2
def test_a_pair_whose_input_has_outrun_every_snapshot_goes_on_once_nobody_can_have_its_state() -> None:
    """A disk that was full for ten seconds while a release failed: both members waited for each other, for ever."""
    world = World("278", rounds=2)
    result = world.run()
    assert not result.violation, told(result)
    assert world.watch.resumptions == 1
    assert result.declared_lost


# invariant: S2
def test_a_merge_that_hangs_for_longer_than_its_members_rings_last_tells_what_nobody_has() -> None:
    result = World("40151", rounds=2).run()
    assert not result.violation, told(result)
    assert result.declared_lost


# invariant: O1
def test_who_goes_on_without_asking_the_other_host_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halftrack_dataplane.restarting.refusal", lambda *_: "")
    assert World("278", rounds=2).run().violation.startswith("O1")


# invariant: O2
def test_a_pair_with_a_dead_controller_link_finishes_its_swap_and_the_other_pair_too() -> None:
    away = Fault("partition", Phase.JOINING, 0, 0, 15_000, 3)
    world = World("far", hosts=4, plan=[away], surge=1, alone=False)
    result = world.run()
    assert not result.violation, told(result)
    assert result.ends == ("done", "done")


# invariant: S1
@pytest.mark.parametrize(("phase", "leg"), MOMENTS, ids=lambda value: getattr(value, "value", value))
def test_an_abort_in_any_phase_ends_with_one_release_everywhere(phase: Phase, leg: int) -> None:
    for surge in (1, 2):
        result = World("abort", plan=[Fault("abort", phase, leg, 0, 0, 1)], surge=surge).run()
        assert not result.violation, told(result)


# invariant: S1
@pytest.mark.parametrize(("phase", "leg"), [(Phase.SHADOWING, 0), (Phase.DRAINING, 0), (Phase.SHADOWING, 1)])
def test_a_release_that_raises_is_undone_by_the_hosts_alone(phase: Phase, leg: int) -> None:
    plan = [Fault("release broken", phase, leg, 20, 0, 1), Fault("controller killed", Phase.JOINING, 0, 0, 9_000, 1)]
    result = World("broken", plan=plan, surge=1).run()
    assert not result.violation, told(result)
    (end,) = result.ends
    assert end.startswith("undone")
    assert "failed on" in end


# invariant: R1
def test_members_of_both_releases_may_be_killed_in_any_phase() -> None:
    for number, (phase, leg) in enumerate(MOMENTS):
        result = World("kills", plan=[Fault("member killed", phase, leg, 10, 0, number)]).run()
        assert not result.violation, told(result)
        assert result.ends == ("done",), f"one death in {phase.value} is not evidence against a release"


@pytest.mark.slow
def test_the_command_writes_its_report(tmp_path: Path) -> None:
    environment = {**os.environ, "HOURS": "0.003", "HOSTS": "2", "SEED": "5", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.sim.run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = json.loads((tmp_path / "sim.json").read_text())
    assert report["seed"] == 5
    assert report["violations"] == []
    assert set(report) >= {"simulated_hours", "hosts", "faults", "faults_by_class", "violations", "seed", "runs"}


# invariant: S1
@pytest.mark.parametrize("surge", [1, 2])
@pytest.mark.parametrize("alone", [False, True], ids=["two hosts", "one host"])
def test_a_release_whose_outputs_are_wrong_is_undone_before_any_of_them_counts(surge: int, alone: bool) -> None:
    """The watch knows what each output must be: one of green's that passed would end the run."""
    result = World("wrong", plan=[], surge=surge, alone=alone, verdict=VERDICT, wrong=True).run()
    assert not result.violation, told(result)
    (end,) = result.ends
    assert "break its invariant" in end


def test_a_judge_that_does_not_stay_up_lets_nothing_pass() -> None:
    kills = [Fault("judge killed", Phase.SHADOWING, 0, delay_ms, 0, 1) for delay_ms in range(0, 6_000, 15)]
    result = World("no judge", plan=kills, surge=1, alone=True, verdict=VERDICT).run()
    assert not result.violation, told(result)
    (end,) = result.ends
    assert "could not be judged" in end
