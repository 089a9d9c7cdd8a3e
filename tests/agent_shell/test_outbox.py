"""Backoff and outbox: capped for ever; numbers used once, kept until acknowledged, samples dropped first."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from halftrack_agent.backoff import Backoff, Rule
from halftrack_agent.outbox import Outbox
from halftrack_model.report import Happened, Report
from tests.agent_shell.test_ledger import files_no_longer_than


@given(st.integers(0, 10**18), st.integers(1, 10_000), st.integers(1, 10**7), st.integers())
def test_a_pause_is_capped_and_jittered_after_any_number_of_failures(
    failures: int, base_ms: int, more_ms: int, seed: int
) -> None:
    terms = Rule(base_ms, base_ms + more_ms)
    after, pause_ms = Backoff(terms, failures).failed(0, random.Random(seed).randint)
    assert after.failures == failures + 1
    assert terms.ceiling_ms(failures) // 8 <= pause_ms <= terms.cap_ms
    assert terms.ceiling_ms(failures) <= terms.ceiling_ms(failures + 1)
    assert terms.ceiling_ms(10**18) == terms.cap_ms


def test_only_a_success_that_lasts_begins_anew() -> None:
    worn = Backoff(Rule(), 20)
    assert worn.failed(Rule().steady_ms - 1, lambda low, high: high)[1] == Rule().cap_ms
    assert worn.failed(Rule().steady_ms, lambda low, high: high)[1] == Rule().base_ms


def test_a_hundred_hosts_do_not_come_back_at_once() -> None:
    pauses = {Backoff(Rule(), 9).failed(0, random.Random(seed).randint)[1] for seed in range(100)}
    assert len(pauses) > 90


# invariant: P3
class OutboxAgainstModel(RuleBasedStateMachine):
    """The outbox under restarts, acknowledgements that are forgotten, and a controller that outlives it."""

    folder: Path

    @initialize()
    def begin(self) -> None:
        (self.folder / "outbox").unlink(missing_ok=True)
        self.box = Outbox(self.folder, "h")
        self.box.welcomed(7)
        self.heard: dict[int, str] = {}
        self.consumed = 7
        self.added: list[str] = []

    @rule()
    def add(self) -> None:
        self.added.append(f"subject {len(self.added)}")
        self.box.add(Happened.SWAP_MOVED, self.added[-1], "", 5)

    @rule(limit=st.integers(1, 5))
    def send(self, limit: int) -> None:
        for report in self.box.pending(self.consumed, limit):
            assert self.heard.setdefault(report.number, report.subject) == report.subject, "a number was used twice"
            self.consumed = report.number

    @rule()
    def acknowledge(self) -> None:
        self.box.acknowledged(self.consumed)

    @rule(welcome=st.booleans())
    def restart(self, welcome: bool) -> None:
        self.box.close()
        self.box = Outbox(self.folder, "h")
        if welcome:
            self.box.welcomed(self.consumed)

    @rule()
    def send_all(self) -> None:
        self.send(10**6)
        assert [self.heard[number] for number in sorted(self.heard)] == self.added

    @invariant()
    def counts_only_rise(self) -> None:
        assert self.box.first <= self.box.next

    def teardown(self) -> None:
        self.box.close()


def test_outbox_against_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halftrack_agent.outbox.COMPACT_AT_BYTES", 400)
    OutboxAgainstModel.folder = tmp_path
    run_state_machine_as_test(
        OutboxAgainstModel, settings=settings(max_examples=40, stateful_step_count=30, deadline=None)
    )


def test_an_outbox_without_a_past_begins_where_the_controller_says(tmp_path: Path) -> None:
    box = Outbox(tmp_path, "h")
    box.add(Happened.PLAN_ACCEPTED, "1", "", 5)
    assert box.pending(0, 10) == ()
    box.welcomed(41)
    box.add(Happened.PLAN_ACCEPTED, "2", "", 6)
    wanted = tuple(Report("h", 41 + n, 4 + n, Happened.PLAN_ACCEPTED, str(n), "") for n in (1, 2))
    assert box.pending(0, 10) == wanted
    box.close()
    again = Outbox(tmp_path, "h")
    assert again.pending(0, 10) == wanted
    again.close()


@given(st.lists(st.sampled_from(list(Happened)), min_size=1, max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_when_full_samples_go_first_and_it_is_counted(tmp_path: Path, kinds: list[Happened]) -> None:
    samples = {Happened.FRAMES_LOST, Happened.FRAMES_REFUSED, Happened.OUTPUTS_DIVERGED}
    (tmp_path / "outbox").unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("halftrack_agent.outbox.MAX_REPORTS", 8)
        box = Outbox(tmp_path, "h")
        box.welcomed(0)
        for number, kind in enumerate(kinds):
            box.add(kind, str(number), "", 0)
    kept = box.pending(0, 100)
    assert len(kept) == min(len(kinds), 8)
    assert bool(box.problems) == (len(kinds) > 8)
    events = [str(n) for n, kind in enumerate(kinds) if kind not in samples]
    if len(events) < 8:
        assert [report.subject for report in kept if report.happened not in samples] == events
    box.close()


# invariant: P3
def test_an_outbox_whose_disk_was_full_too_late_takes_reports_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    box = Outbox(tmp_path, "h")
    box.welcomed(4)
    box.add(Happened.PLAN_ACCEPTED, "1", "", 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        box.add(Happened.PLAN_ACCEPTED, "2", "", 0)
        assert box.problems
    box.add(Happened.PLAN_ACCEPTED, "3", "", 0)
    assert box.problems == ()
    wanted = [(5, "1"), (6, "2"), (7, "3")]
    assert [(each.number, each.subject) for each in box.pending(0, 10)] == wanted
    box.close()
    again = Outbox(tmp_path, "h")
    assert [(each.number, each.subject) for each in again.pending(0, 10)] == wanted
    again.close()


def test_on_a_full_disk_reports_wait_in_memory_and_say_so(tmp_path: Path) -> None:
    box = Outbox(tmp_path, "h")
    box.welcomed(0)
    with files_no_longer_than((tmp_path / "outbox").stat().st_size + 20):
        box.add(Happened.SWAP_DONE, "s", "", 5)
        assert box.pending(0, 10) == ()
        assert "no room" in box.problems[0]
    box.flush()
    assert [report.number for report in box.pending(0, 10)] == [1]
    assert box.problems == ()
    box.close()
