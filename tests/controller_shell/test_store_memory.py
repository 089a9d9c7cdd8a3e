"""What the store remembers of its rows is what it would read anew, after whatever was written, undone, or written by others."""

import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from halftrack_controller import keys
from halftrack_controller.snapshot import Published, Rollout, RolloutChange, RolloutPhase, Snapshot
from halftrack_controller.store import FILE, Store
from halftrack_controller.store_rows import Presence, read_rows
from halftrack_controller.tokens import TokenRow
from halftrack_model import canonical, seals
from halftrack_model.edits import GraphChange
from halftrack_model.plan import Plan
from tests.controller_shell.shell_harness import ENVIRONMENT, graph, host, observed, release

KEY = keys.new_key()
NAMES = st.sampled_from("ab")
TABLES = ("environments", "hosts", "graphs", "releases", "artifacts", "rollouts", "generations", "held", "records")


class Undone(Exception):  # noqa: N818 - no error: it takes a transaction back
    """Whoever writes has thought better of it."""


class StoreMemory(RuleBasedStateMachine):
    """Writes of all kinds, with a look now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.store = Store.open(self.path, "milkyway")
        self.store.apply([ENVIRONMENT, host("a"), host("b"), graph("a")])
        self.number = 0

    def _next(self) -> int:
        self.number += 1
        return self.number

    def _looked(self) -> Snapshot:
        presence = {"a": Presence(True, 5, 5, 7)}
        found = self.store.snapshot(self.number, presence, 9)
        with self.store.transaction() as conn:
            assert found == read_rows(conn).snapshot("milkyway", self.number, presence, 9)
        return found

    @rule()
    def look(self) -> None:
        """All is as it would be read anew; where nothing was written it is the very same."""
        first, second = self._looked(), self._looked()
        assert all(getattr(first, name) is getattr(second, name) for name in TABLES)

    @rule(write=st.data())
    def look_write_and_look(self, write: st.DataObject) -> None:
        """One change is seen."""
        self._looked()
        write.draw(st.sampled_from(WRITES))(self, write.draw(NAMES))
        self._looked()

    @rule(write=st.data())
    def write(self, write: st.DataObject) -> None:
        """One among others."""
        write.draw(st.sampled_from(WRITES))(self, write.draw(NAMES))

    @rule(first=st.data(), looks=st.booleans())
    def write_and_take_back(self, first: st.DataObject, looks: bool) -> None:
        """What was seen in between was never so."""
        try:
            with self.store.transaction():
                first.draw(st.sampled_from(WRITES))(self, first.draw(NAMES))
                if looks:
                    self._looked()
                raise Undone
        except Undone:
            pass

    @rule(name=NAMES)
    def others_write(self, name: str) -> None:
        """With a program of their own."""
        conn = sqlite3.connect(self.path / FILE)
        with conn:
            conn.execute("update hosts set bridge = ? where name = ?", (f"10.0.0.1:{self._next()}", name))
        conn.close()

    @rule()
    def reopen(self) -> None:
        """A controller that starts remembers nothing."""
        self.store.close()
        self.store = Store.open(self.path, "milkyway")

    def teardown(self) -> None:
        self._looked()
        self.store.close()
        self.folder.cleanup()


def _environment(world: StoreMemory, _: str) -> None:
    world.store.apply([replace(ENVIRONMENT, track=f"track-{world._next()}")])


def _host(world: StoreMemory, name: str) -> None:
    world.store.apply([replace(host(name), site=f"site-{world._next()}")])


def _new_host(world: StoreMemory, name: str) -> None:
    world.store.apply([host(f"{name}{world._next()}")])


def _graph(world: StoreMemory, name: str) -> None:
    world.store.apply([replace(graph(name), name=f"line-{name}")], "ada", world._next())


def _edit(world: StoreMemory, _: str) -> None:
    with world.store.transaction() as conn:
        (record, *_rest) = read_rows(conn).records.values()
    change = GraphChange(record.revision + 1, "ada", world._next(), "tapped")
    world.store.edit_graph(record, replace(record.live, live=not record.live.live), change)


def _settle(world: StoreMemory, _: str) -> None:
    with world.store.transaction() as conn:
        (record, *_rest) = read_rows(conn).records.values()
    world.store.settle_graphs([replace(record.live, live=not record.live.live)])


def _publish(world: StoreMemory, _: str) -> None:
    number = world._next()
    made = release("counter", f"1.0.{number}", b"x" * number)
    world.store.add_artifact(made.artifact.digest, number)
    world.store.publish(Published(made, KEY.sealed(seals.RELEASE, canonical.encode(made)), number))


def _rollout(world: StoreMemory, name: str) -> None:
    number, phase = world._next(), RolloutPhase.PENDING
    key = (f"r{number}", "home", f"line-{name}", "source", "counter", "", "1.0.0", 0, number)
    world.store.commit_rollouts([RolloutChange(Rollout(*key, phase, "", number))])
    world.store.commit_rollouts([RolloutChange(Rollout(*key, RolloutPhase.RUNNING, "it moves", number))])


def _plan(world: StoreMemory, name: str) -> None:
    made = Plan("milkyway", "home", name, world._next(), (), (), (), (), (), decommission=False)
    world.store.commit_plans([(made, KEY.sealed(seals.PLAN, canonical.encode(made)))], 0)


def _observed(world: StoreMemory, name: str) -> None:
    world.store.observe(observed(name, world._next()), world.number)


def _holds(world: StoreMemory, name: str) -> None:
    world.store.host_holds(name, world._next())


def _declines(world: StoreMemory, name: str) -> None:
    held = world.store.newest_plan(name)
    world.store.host_declines(name, held[0] if held else 0, "odd", f"no. {world._next()}")


def _erased(world: StoreMemory, name: str) -> None:
    world.store.host_holds(name, world._next())
    world._looked()
    with world.store.transaction() as conn:
        conn.execute("delete from answers where host = ?", (name,))


def _enrol(world: StoreMemory, name: str) -> None:
    secret = f"secret-{world._next()}"
    world.store.add_token(TokenRow(secret, name, 10**9, ""), 0)
    world.store.enrol(secret, name, f"key-{secret}", f"curve-{secret}", 0, world.number)


def _shown(world: StoreMemory, name: str) -> None:
    world.store.shown(name, world._next())


Write = Callable[[StoreMemory, str], None]
WRITES: tuple[Write, ...] = (
    _environment,
    _host,
    _new_host,
    _graph,
    _edit,
    _settle,
    _publish,
    _rollout,
    _plan,
    _observed,
    _holds,
    _declines,
    _erased,
    _enrol,
    _shown,
)

StoreMemory.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestStoreMemory = StoreMemory.TestCase


@pytest.mark.parametrize("write", WRITES)
def test_each_kind_of_write_is_seen(write: Write) -> None:
    world = StoreMemory()
    for _ in range(2):
        world.look()
        write(world, "a")
    world.teardown()
