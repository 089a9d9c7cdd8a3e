"""What a reconnect costs on the wire when nothing has changed, counted at a real controller from a real agent."""

from collections import Counter
from typing import Any

import pytest

from halftrack_model.observed import Health
from halftrack_model.report import Happened
from halftrack_proto import codec
from tests.agent_shell.test_agent import AgentProcess, agent, live, until
from tests.controller_shell.shell_harness import LiveController, returned

__all__ = ["agent", "live"]  # fixtures
MOST_BYTES = 200


# invariant: R1 R2
def test_a_reconnect_that_changes_nothing_moves_next_to_nothing(
    live: LiveController, agent: AgentProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Application bytes of both directions, without the heartbeats that a session costs by the second; and no plan."""
    agent.start()
    until(lambda: agent.recorded() > 100, "frames arrive in the sink")

    def settled() -> bool:
        with live.operator() as client:
            seen = client.host("tank-a")
            told = Happened.FRAMES_REFUSED in [report.happened for report in seen.reports]  # the source's, once
            return told and seen.entry.health is Health.HEALTHY and seen.entry.accepted_revision == seen.entry.revision

    until(settled, "the controller sees a healthy host, and has heard all that there is to report")
    pids = {name: agent.pid(name) for name in ("line.source", "line.sink")}
    folder, session = live.folder, live.session
    live.stop()
    said: Counter[str] = Counter()
    counts: Counter[str] = Counter()

    def counted(kind: str, message: Any) -> Any:
        word = f"{kind} {message.WhichOneof('message')}"
        said[word] += message.ByteSize()
        counts[word] += 1
        return message

    real_in, real_out = codec.agent_of, codec.controller_message
    with monkeypatch.context() as patch:
        patch.setattr(codec, "agent_of", lambda message: real_in(counted("agent", message)))
        patch.setattr(codec, "controller_message", lambda value: counted("controller", real_out(value)))
        back = returned(folder, session)
        try:
            until(lambda: counts["agent heartbeat"] >= 5, "the session stands")
        finally:
            back.stop()
    moved = {
        word: size for word, size in said.items() if word not in ("agent heartbeat", "agent alive", "controller alive")
    }
    assert counts["agent hello"] == 1
    assert set(moved) <= {"agent hello", "controller welcome", "controller reports_acked", "controller reconnect_after"}
    assert sum(size for word, size in moved.items() if word != "controller reconnect_after") <= MOST_BYTES, moved
    assert pids == {name: agent.pid(name) for name in pids}
