"""The store: what it has acknowledged is there after a kill, what it refuses has changed nothing."""

import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from halftrack_controller import keys
from halftrack_controller.snapshot import Published, Rollout, RolloutChange, RolloutPhase
from halftrack_controller.store import REPORTS_KEPT, Store
from halftrack_model import canonical, seals
from halftrack_model.edits import GraphChange
from halftrack_model.errors import HostFault, InvalidInput, Refused
from halftrack_model.plan import Plan
from halftrack_model.report import Happened, Report
from halftrack_model.seals import Sealed
from tests.controller_shell.shell_harness import ENVIRONMENT, graph, host, observed, release

KEY = keys.new_key()


def opened(folder: Path) -> Store:
    return Store.open(folder, "milkyway")


def plan(name: str, revision: int) -> tuple[Plan, Sealed]:
    made = Plan("milkyway", "home", name, revision, (), (), (), (), (), decommission=False)
    return made, KEY.sealed(seals.PLAN, canonical.encode(made))


def report(name: str, number: int) -> Report:
    return Report(name, number, 0, Happened.INSTANCE_EXITED, "w", "")


def rollout(number: int, phase: RolloutPhase = RolloutPhase.PENDING, identity: str = "") -> RolloutChange:
    return RolloutChange(
        Rollout(
            identity or f"r{number}", "home", "line", "source", "counter", "", "1.0.0", 0, number, phase, "", number
        )
    )


class StoreModel(RuleBasedStateMachine):
    """A store beside the simplest thing that could be one, closed and opened again at any point."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = opened(Path(self.folder.name))
        self.store.apply([ENVIRONMENT, host("a"), host("b")])
        self.revisions = {"a": 0, "b": 0}
        self.upto = {"a": 0, "b": 0}
        self.consumed: list[tuple[str, int]] = []

    @rule(name=st.sampled_from("ab"), revision=st.integers(1, 30))
    def make_plan(self, name: str, revision: int) -> None:
        """A revision that does not rise is refused, whoever asks. # invariant: P2"""
        if revision > self.revisions[name]:
            self.store.commit_plans([plan(name, revision)], 0)
            self.revisions[name] = revision
        else:
            with pytest.raises(Refused):
                self.store.commit_plans([plan(name, revision)], 0)

    @rule(revision=st.integers(1, 30))
    def make_plans_of_which_one_is_stale(self, revision: int) -> None:
        """All or none: a good plan beside a stale one is not made either."""
        if revision > self.revisions["a"] and self.revisions["b"]:
            with pytest.raises(Refused):
                self.store.commit_plans([plan("a", revision), plan("b", self.revisions["b"])], 0)

    @rule(name=st.sampled_from("ab"), first=st.integers(1, 12), count=st.integers(0, 6))
    def consume(self, name: str, first: int, count: int) -> None:
        """Each report counts once, whatever batches it comes in. # invariant: P3"""
        batch = [report(name, number) for number in range(first, first + count)]
        fresh = self.store.consume(name, batch, 0)
        self.consumed += [(name, each.number) for each in fresh]
        self.upto[name] = max([self.upto[name], *(each.number for each in batch)])

    @rule()
    def reopen(self) -> None:
        """What was there is there. # invariant: D1"""
        self.store.close()
        self.store = opened(Path(self.folder.name))

    @invariant()
    def the_store_agrees(self) -> None:
        """With the model beside it."""
        for name in "ab":
            newest = self.store.newest_plan(name)
            assert (newest[0] if newest else 0) == self.revisions[name]
            assert self.store.reports_upto(name) == self.upto[name]
        assert len(set(self.consumed)) == len(self.consumed)
        held = self.store.snapshot(0, {}).held
        assert {name: known.plan.revision for name, known in held.items()} == {
            name: revision for name, revision in self.revisions.items() if revision
        }

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


StoreModel.TestCase.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
TestStoreModel = StoreModel.TestCase


@pytest.fixture
def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = opened(tmp_path)
    made.apply([ENVIRONMENT, host("tank-a"), graph("tank-a")])
    yield made
    made.close()


def test_a_store_from_before_edits_has_every_graph_as_it_was_declared(tmp_path: Path) -> None:
    """The second step of the schema is taken on a store that has only the first, with a graph in it."""
    made = opened(tmp_path)
    made.apply([ENVIRONMENT, host("tank-a"), graph("tank-a")])
    with made.transaction() as conn:  # back to what the first version had left behind
        conn.execute("drop table graph_changes")
        conn.execute("drop table graph_records")
        conn.execute("delete from _sqlite_migrations where name = '0002-live-graphs'")
    made.close()
    again = opened(tmp_path)
    (record,) = again.snapshot(0, {}).records.values()
    assert (record.revision, record.drifted, record.changes) == (1, False, ())
    change = GraphChange(2, "ada", 5, "tapped")
    again.edit_graph(record, dataclasses.replace(record.live, vertices=record.live.vertices[:1], edges=()), change)
    (record,) = again.snapshot(0, {}).records.values()
    assert (record.revision, record.drifted, record.changes) == (2, True, (change,))
    with pytest.raises(Refused):  # the same revision a second time: whoever was first has it
        again.edit_graph(record, record.declared, change)
    assert again.snapshot(0, {}).records["home", "line"] == record
    again.close()


WRITER = """
import sys
from pathlib import Path
from halftrack_controller.store import Store
from halftrack_model.plan import Plan
from halftrack_model.report import Happened, Report
from halftrack_model.seals import Sealed
store = Store.open(Path(sys.argv[1]), "milkyway")
for number in range(int(sys.argv[2]), 10**9):
    plan = Plan("milkyway", "home", "tank-a", number, (), (), (), (), (), False)
    with store.transaction():
        store.commit_plans([(plan, Sealed("k", b"p", ()))], 0)
        store.consume("tank-a", [Report("tank-a", number, 0, Happened.SWAP_MOVED, "", "")], 0)
    print(number, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    """A writer is killed in mid-commit, again and again: nothing it acknowledged is lost, and nothing is half there."""
    # invariant: D1
    first = opened(tmp_path)
    first.apply([ENVIRONMENT, host("tank-a")])
    first.close()
    acknowledged = 0
    for patience in (1, 4, 15):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(acknowledged + 1)],
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            for _ in range(patience):
                acknowledged = int(child.stdout.readline() or "-1")
                assert acknowledged > 0, "the writer has failed"
            os.kill(child.pid, signal.SIGKILL)
            for line in child.stdout:
                acknowledged = int(line)
        after = opened(tmp_path)
        newest = after.newest_plan("tank-a")
        assert newest is not None
        assert newest[0] in (acknowledged, acknowledged + 1)
        assert after.reports_upto("tank-a") == newest[0], "one transaction, one fate"
        acknowledged = newest[0]
        after.close()


def test_every_commit_waits_for_the_disk(store: Store) -> None:
    """A kill leaves the kernel's cache intact, so only power loss would tell a store that does not wait: look at its settings."""
    # invariant: D1
    with store.transaction() as conn:
        settings = [
            conn.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert settings == ["wal", 2, 1]


def test_a_second_controller_is_refused(tmp_path: Path) -> None:
    """Two on one state would sign two truths. The lock goes with its holder."""
    first = opened(tmp_path)
    with pytest.raises(Refused) as caught:
        opened(tmp_path)
    assert caught.value.reason == "in-use"
    first.close()
    opened(tmp_path).close()


def plan_and_reports(store: Store, reports: list[Report]) -> None:
    with store.transaction():
        store.commit_plans([plan("tank-a", 1)], 0)
        store.consume("tank-a", reports, 0)


def test_a_full_disk_refuses_and_changes_nothing(store: Store) -> None:
    """Loudly, whole transactions only; and when there is room again, it goes on."""
    # invariant: D1
    with store.transaction() as conn:
        pages = conn.execute("pragma page_count").fetchone()[0]
    store.limit_pages(pages + 2)
    big = [Report("tank-a", n, 0, Happened.FRAMES_LOST, "w", "x" * 4000) for n in range(1, 40)]
    before = store.snapshot(0, {})
    with pytest.raises(HostFault) as caught:
        plan_and_reports(store, big)
    assert caught.value.reason == "disk-full"
    assert store.snapshot(0, {}) == before
    assert store.reports_upto("tank-a") == 0
    store.limit_pages(1 << 30)
    assert store.consume("tank-a", big, 0) == tuple(big)


def test_a_damaged_store_is_recognised(tmp_path: Path) -> None:
    """Not repaired by guessing: the operator is told."""
    (tmp_path / "store.db").write_bytes(b"this was a database once" * 400)
    with pytest.raises(HostFault) as caught:
        opened(tmp_path)
    assert caught.value.reason == "store-damaged"


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """Steps that we do not know have changed it: we would read it wrongly."""
    opened(tmp_path).close()
    conn = sqlite3.connect(tmp_path / "store.db")
    conn.execute(
        "insert into _sqlite_migrations (migration_set, name, applied_at) values ('halftrack-controller', '0099-x', '')"
    )
    conn.commit()
    conn.close()
    with pytest.raises(Refused) as caught:
        opened(tmp_path)
    assert caught.value.reason == "store-too-new"


def test_the_schema_itself_refuses_what_must_never_be(store: Store) -> None:
    """Whatever code writes: releases and plans do not change, the newest plan stays, a generation is given once."""
    content = b"x"
    made = release("counter", "1.0.0", content)
    sealed = KEY.sealed(seals.RELEASE, canonical.encode(made))
    store.add_artifact(made.artifact.digest, len(content))
    store.publish(Published(made, sealed, 5))
    store.commit_plans([plan("tank-a", 3)], 0)
    store.commit_rollouts([rollout(1)])
    for statement in (
        "update releases set sealed = x'00'",
        "update plans set sealed = x'00'",
        "delete from plans",
        "update generations set version = '2.0.0'",
    ):
        with pytest.raises(Refused), store.transaction() as conn:
            conn.execute(statement)
    with pytest.raises(Refused):
        store.publish(Published(made, sealed, 6))
    with pytest.raises(Refused):
        store.commit_rollouts([rollout(1, identity="another")])
    snapshot = store.snapshot(0, {})
    assert snapshot.releases["counter", "1.0.0"] == Published(made, sealed, 5)
    assert snapshot.rollouts == (rollout(1).rollout,)
    assert snapshot.last_generation("home", "line", "source") == 1


def test_a_rollout_moves_and_keeps_its_identity(store: Store) -> None:
    """Committing a known rollout changes where it stands, and gives no second generation."""
    store.commit_rollouts([rollout(1), rollout(2)])
    store.commit_rollouts([rollout(1, RolloutPhase.SUCCEEDED)])
    snapshot = store.snapshot(0, {})
    assert [known.phase for known in snapshot.rollouts] == [RolloutPhase.SUCCEEDED, RolloutPhase.PENDING]
    assert [known.number for known in snapshot.generations] == [1, 2]


def test_applying_again_keeps_the_hosts_key(store: Store) -> None:
    """A manifest says where a host is, never who it is."""
    with store.transaction() as conn:
        conn.execute("update hosts set key_digest = 'k', curve_public = 'c'")
    store.apply([host("tank-a")])
    assert store.key_digest("tank-a") == "k"
    assert store.snapshot(0, {}).hosts["tank-a"].curve_public == "c"


@settings(max_examples=30)
@given(st.lists(st.integers(-2, 5), min_size=1, max_size=4))
def test_report_numbers_rise_from_one(numbers: list[int]) -> None:
    """A batch that is out of order, repeats, or counts from below one, is refused whole."""
    with tempfile.TemporaryDirectory() as folder:
        store = opened(Path(folder))
        try:
            store.apply([ENVIRONMENT, host("a")])
            right = numbers == sorted(set(numbers)) and numbers[0] >= 1
            batch = [report("a", number) for number in numbers]
            if right:
                assert store.consume("a", batch, 0) == tuple(batch)
            else:
                with pytest.raises(InvalidInput):
                    store.consume("a", batch, 0)
                assert store.reports_upto("a") == 0
        finally:
            store.close()


def test_old_reports_go_and_their_numbers_stay_taken(store: Store) -> None:
    """The table is bounded; what was consumed once is not news when it comes again."""
    store.consume("tank-a", [report("tank-a", n) for n in range(1, REPORTS_KEPT + 50)], 0)
    assert len(store.reports("tank-a", 10 * REPORTS_KEPT)) == REPORTS_KEPT
    assert store.consume("tank-a", [report("tank-a", 3)], 0) == ()


def test_ages_without_a_session_come_from_what_is_stored(store: Store) -> None:
    """After a restart nobody is connected, and what was seen is as old as it is; a clock set back makes no age negative."""
    state = observed("tank-a")
    store.observe(state, 1000)
    seen = store.snapshot(4000, {}).seen["tank-a"]
    assert (seen.connected, seen.last_seen_age_ms, seen.observed) == (False, 3000, state)
    assert store.snapshot(0, {}).seen["tank-a"].observed_age_ms == 0
