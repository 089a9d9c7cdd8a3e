"""When a controller says that it is there, and to whom it says no more."""

from pathlib import Path

import pytest

from halftrack_controller import session
from halftrack_controller.callers import Caller
from halftrack_controller.pushing import Pushing
from halftrack_controller.session import QUEUED, Session
from halftrack_model.observed import Observed
from halftrack_proto import messages as said
from tests.controller_shell.shell_harness import ENVIRONMENT, Agent, LiveController, enrol, eventually, host


def test_a_word_is_answered_at_once(folder: Path) -> None:
    """Not when the controller would say one anyway, which is in more than half a minute."""
    live = LiveController(folder, heartbeat_ms=60_000)
    try:
        with live.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a")])
            who = enrol(live, client.create_token("tank-a", 600).token, "tank-a")
        agent = Agent(live, who, beats=False)
        try:
            agent.hello("tank-a")
            agent.say(said.Alive())
            agent.expect(said.Alive)
        finally:
            agent.close()
    finally:
        live.stop()


def test_a_host_that_reads_nothing_is_sent_away_and_its_queue_does_not_grow() -> None:
    session = Session(Caller("host", "tank-a", ""), Pushing(0))
    for _ in range(QUEUED):
        session.say(said.WantObserved())
    assert session.queue.qsize() == QUEUED
    session.say(said.WantObserved())
    assert isinstance(session.queue.get_nowait(), said.ReconnectAfter), "nothing is said to it before that any more"
    for _ in range(10 * QUEUED):
        session.say(said.WantObserved())
        assert session.queue.qsize() <= QUEUED


# invariant: P1
def test_who_is_sent_away_hangs_up_itself_and_is_not_heard_any_more(
    live: LiveController, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a call that is over already, gRPC does not always give the last words, which say when to come back."""
    monkeypatch.setattr(session, "LAST_WORDS_S", 600.0)
    with live.operator() as client:
        client.apply([ENVIRONMENT, host("tank-a")])
        older = Agent(live, enrol(live, client.create_token("tank-a", 600).token, "tank-a"))
        older.hello("tank-a")
        newer = Agent(live, enrol(live, client.create_token("tank-a", 600).token, "tank-a"))
        try:
            older.expect(said.ReconnectAfter)
            older.say(Observed("tank-a", 0, (), (), ("said by who was sent away",)))
            newer.hello("tank-a")
            newer.say(Observed("tank-a", 0, (), (), ("said by who came",)))
            eventually(lambda: client.host("tank-a").entry.problems)
            older.say(Observed("tank-a", 0, (), (), ("said once more",)))
            newer.say(Observed("tank-a", 0, (), (), ("said by who came", "and again")))
            eventually(lambda: len(client.host("tank-a").entry.problems) == 2)
            assert older.open
        finally:
            older.close()
            newer.close()
