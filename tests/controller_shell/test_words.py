"""When a controller says that it is there."""

from pathlib import Path

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
