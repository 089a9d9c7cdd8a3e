"""A link that swallows everything, or one direction of it, between a real controller and the agent's real link: who notices, and when."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from halftrack_agent.identity import Identity, Membership
from halftrack_agent.link import Ends, Link
from halftrack_agent.outbox import Outbox
from halftrack_controller import galaxy
from halftrack_model import pulse
from halftrack_model.observed import Observed
from halftrack_proto.messages import Hello
from tests.agent_shell.waiting import until
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, enrol, host
from tests.dataplane.bad_link import BadLink

HEARTBEAT_MS = 400
BUSY_MS = 380  # what a loaded machine may cost; a third heartbeat would be beyond it


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveController]:
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    controller = LiveController(tmp_path / "galaxy", HEARTBEAT_MS)
    try:
        yield controller
    finally:
        controller.stop()


def silences(caplog: pytest.LogCaptureFixture) -> tuple[list[int], list[int]]:
    """For how long the agent's side, and the controller's, had heard nothing when they gave up."""
    agent, controller = (
        r"nothing heard from the controller for (\d+) ms",
        r"host=tank-a has said nothing for (\d+) ms",
    )
    return [int(n) for n in re.findall(agent, caplog.text)], [int(n) for n in re.findall(controller, caplog.text)]


# invariant: R1
@pytest.mark.parametrize("swallows", [("to", "from"), ("to",), ("from",)])
def test_a_half_open_link_is_given_up_after_two_heartbeats_and_made_anew(
    live: LiveController, tmp_path: Path, caplog: pytest.LogCaptureFixture, swallows: tuple[str, ...]
) -> None:
    caplog.set_level("INFO")
    with live.operator() as client:
        client.apply([ENVIRONMENT, host("tank-a")])
        who = enrol(live, client.create_token("tank-a", 600).token, "tank-a", ec.generate_private_key(ec.SECP256R1()))
    way = BadLink(live.session)
    member = Membership("milkyway", "tank-a", way.address, "", {}, {}, 1)
    outbox, observed = Outbox(tmp_path, "tank-a"), Observed("tank-a", 0, (), (), ())
    plans: list[object] = []

    def hello() -> Hello:
        return Hello("tank-a", "boot", "0.1.0", 0, observed.digest(), outbox.first, outbox.next)

    def connected() -> bool:
        return bool(live.running.sessions.connected("tank-a"))

    async def work() -> None:
        ends = Ends(hello, lambda: observed, lambda: (), plans.append, outbox)
        link = Link(lambda: Identity(tmp_path, member, who.key_pem, who.certificate_pem, who.ca_pem), ends)
        running = asyncio.get_running_loop().create_task(link.run())
        try:
            await until(lambda: link.up and connected(), "a session")
            await asyncio.sleep(2 * HEARTBEAT_MS / 1000)  # what both sides say is enough to keep it
            assert link.up
            assert silences(caplog) == ([], [])
            way.swallows = frozenset(swallows)
            await until(lambda: not link.up and not connected(), "both sides have noticed")
            way.swallows = frozenset()
            await until(lambda: link.up and connected(), "and it is made anew")
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    try:
        asyncio.run(work())
    finally:
        way.close()
        outbox.close()
    here, there = silences(caplog)
    assert bool(here) >= ("from" in swallows and "to" not in swallows), "who hears nothing notices by itself"
    assert bool(there) >= ("to" in swallows and "from" not in swallows)
    assert here or there
    for silent_ms in here + there:
        assert pulse.BEATS * HEARTBEAT_MS <= silent_ms < pulse.BEATS * HEARTBEAT_MS + BUSY_MS
