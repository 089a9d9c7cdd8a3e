"""A real controller and the agent's real link over one that swallows everything, or one direction of it, or is thin: who gives it up, and when."""

import asyncio
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from halftrack_agent import clock, nearing
from halftrack_agent import link as link_module
from halftrack_agent.identity import Identity, Membership
from halftrack_agent.link import Ends, Link
from halftrack_agent.outbox import Outbox
from halftrack_controller import galaxy
from halftrack_model.observed import Observed
from halftrack_model.seals import Sealed
from halftrack_proto.messages import Hello
from tests.agent_shell.waiting import until
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, enrol, host
from tests.dataplane.bad_link import BadLink

HEARTBEAT_MS = 400
JIFFIES_MS = 20  # what the kernel counts in is coarser than its clock
BUSY_MS = 300  # what a machine may cost that is not loaded; a third heartbeat would be beyond it
BYTES_PER_S = 12_000
LONG = 3 * BYTES_PER_S * HEARTBEAT_MS // 1000  # takes longer than silence is borne


class Bench:
    """A host's link through `way`, and what it has heard."""

    def __init__(self, folder: Path) -> None:
        galaxy.init(folder / "galaxy", "milkyway", ["127.0.0.1"])
        self.live = LiveController(folder / "galaxy", HEARTBEAT_MS)
        self.way = BadLink(self.live.session)
        self.outbox = Outbox(folder, "tank-a")
        self.plans: list[Sealed] = []
        self.late_ms = 0
        self.observed = Observed("tank-a", 0, (), (), ())
        with self.live.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a")])
            who = enrol(self.live, client.create_token("tank-a", 600).token, "tank-a")
        member = Membership("milkyway", "tank-a", self.way.address, "", {}, {}, 1)
        ends = Ends(self._hello, lambda: self.observed, lambda: (), self.plans.append, self.outbox)
        self._made = lambda: Link(lambda: Identity(folder, member, who.key_pem, who.certificate_pem, who.ca_pem), ends)

    def _hello(self) -> Hello:
        boxed = self.outbox
        return Hello("tank-a", "boot", "0.1.0", 0, self.observed.digest(), boxed.first, boxed.next, takes_parts=True)

    def connected(self) -> bool:
        return bool(self.live.running.sessions.connected("tank-a"))

    def run(self, work: Callable[[Link], Awaitable[None]], seconds: float = 10.0) -> None:
        """While the link runs."""

        async def both() -> None:
            link = self._made()
            running = asyncio.get_running_loop().create_task(link.run())
            watching = asyncio.get_running_loop().create_task(self._watch())
            try:
                await until(lambda: link.up and self.connected(), "a session", seconds)
                await work(link)
            finally:
                running.cancel()
                watching.cancel()
                await asyncio.gather(running, watching, return_exceptions=True)

        asyncio.run(both())

    async def _watch(self) -> None:
        """How late this process is at worst: what a loaded machine takes is no silence that was listened to."""
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(0.01)
            self.late_ms = max(self.late_ms, int((time.monotonic() - began_s) * 1000))

    def close(self) -> None:
        self.way.close()
        self.outbox.close()
        self.live.stop()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    try:
        yield made
    finally:
        made.close()


def silences(caplog: pytest.LogCaptureFixture) -> tuple[list[int], list[int]]:
    """For how long the agent's side, and the controller's, had heard nothing when they gave up."""
    agent, controller = (
        r"nothing heard from the controller for (\d+) ms",
        r"host=tank-a has said nothing for (\d+) ms",
    )
    return [int(n) for n in re.findall(agent, caplog.text)], [int(n) for n in re.findall(controller, caplog.text)]


# invariant: R1
def test_a_half_open_link_is_given_up_after_two_heartbeats_and_made_anew(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def work(link: Link) -> None:
        for swallows in (("to", "from"), ("to",), ("from",)):
            await until(lambda: link.up and bench.connected(), "a session")
            caplog.clear()
            bench.way.swallows = frozenset(swallows)
            await until(lambda: not link.up and not bench.connected(), "both sides have noticed")
            bench.way.swallows = frozenset()
            here, there = silences(caplog)
            assert here or swallows == ("to",), "who hears nothing notices by itself"
            assert there or swallows == ("from",)
            for silent_ms in here + there:
                assert 0 <= silent_ms - 2 * HEARTBEAT_MS < BUSY_MS + 2 * bench.late_ms
        await until(lambda: link.up and bench.connected(), "it is made anew")

    bench.run(work)


# invariant: P3
def test_a_long_message_over_a_thin_link_is_no_silence(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Each way, in one session: a plan, and a state."""
    caplog.set_level("INFO")
    plan = Sealed("halftrack.v1.plan", bytes(range(256)) * (LONG // 256), ())

    async def offered() -> None:
        bench.live.running.sessions.offer("tank-a", 1, plan)

    async def work(link: Link) -> None:
        caplog.clear()
        bench.way.bytes_per_s = BYTES_PER_S
        await asyncio.to_thread(bench.live.wait, offered())
        await until(lambda: bench.plans == [plan], "the plan")
        bench.observed = Observed("tank-a", 0, (), (), ("x" * LONG,))
        link.stir()

        def told() -> bool:
            with bench.live.operator() as client:
                return client.host("tank-a").observed == bench.observed

        await until(lambda: "host=tank-a says: xxx" in caplog.text, "the state")
        assert await asyncio.to_thread(told)
        assert silences(caplog) == ([], [])
        assert "disconnected" not in caplog.text

    bench.run(work)


def test_a_line_on_which_the_keys_take_longer_than_silence_is_borne_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As 9,600 baud take twice what is borne. What brings anything is no silence; but not for ever."""
    caplog.set_level("INFO")
    monkeypatch.setattr(link_module, "WELCOME_S", 1.0)
    bench.way.bytes_per_s = 2_000  # three seconds for all of it, and 0.7 for the longest that is said at once

    async def work(_: Link) -> None:
        assert bench.way.carried > 2_000, "it took that line longer than a second"
        monkeypatch.setattr(link_module, "WELCOME_MAX_S", 0.5)
        caplog.clear()
        bench.way.swallows = frozenset(["to", "from"])
        await until(lambda: not bench.connected(), "the session is given up")
        bench.way.swallows = frozenset()
        await until(lambda: "the controller does not answer" in caplog.text, "so is one that takes for ever")
        monkeypatch.setattr(link_module, "WELCOME_MAX_S", 60.0)
        await until(bench.connected, "it is made anew", 60)

    bench.run(work, 60)


def test_what_the_kernel_has_heard_from_a_port_is_told_of_that_port_only() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as door,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as other,
    ):
        port = door.getsockname()[1]
        since_ms = clock.boot_ms() - 3_600_000
        assert nearing.heard_ms(port, since_ms, clock.boot_ms()) == since_ms, "nobody is connected"
        with socket.create_connection(door.getsockname()[:2]) as here, door.accept()[0] as there:
            before_ms = clock.boot_ms()
            there.sendall(b"x")
            assert here.recv(1) == b"x"
            heard_ms = nearing.heard_ms(port, since_ms, clock.boot_ms())
            assert before_ms - JIFFIES_MS <= heard_ms <= clock.boot_ms()
            here.sendall(b"x")
            assert there.recv(1) == b"x"
            last_ms = clock.boot_ms()
            while clock.boot_ms() < last_ms + 5 * JIFFIES_MS:  # time goes by, and nothing comes
                time.sleep(0.001)
            again_ms = nearing.heard_ms(port, since_ms, clock.boot_ms())
            assert heard_ms - JIFFIES_MS <= again_ms <= last_ms + JIFFIES_MS
            assert nearing.heard_ms(other.getsockname()[1], since_ms, clock.boot_ms()) == since_ms
            assert nearing.heard_ms(port, heard_ms + 10_000, clock.boot_ms()) == heard_ms + 10_000, (
                "never before it began"
            )
        with socket.create_connection(other.getsockname()[:2]):
            assert nearing.heard_ms(other.getsockname()[1], since_ms, clock.boot_ms()) > since_ms
