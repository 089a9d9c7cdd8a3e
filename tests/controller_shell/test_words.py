"""When a controller says that it is there, and to whom it says no more."""

from pathlib import Path

from halftrack_controller.callers import Caller
from halftrack_controller.pushing import Pushing
from halftrack_controller.session import QUEUED, Session
from halftrack_proto import messages as said
from tests.controller_shell.shell_harness import ENVIRONMENT, Agent, LiveController, enrol, host


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
