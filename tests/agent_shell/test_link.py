"""The link against a controller that misbehaves: silent, sending away, vanishing. Nothing is lost by it, nothing is said twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from halftrack_agent import link as link_module
from halftrack_agent.backoff import Backoff, Rule
from halftrack_agent.identity import Identity, Membership
from halftrack_agent.link import Ends, Link
from halftrack_agent.outbox import Outbox
from halftrack_model.observed import Observed
from halftrack_model.report import Happened
from halftrack_model.seals import Sealed
from halftrack_proto import codec
from halftrack_proto.messages import (
    Accepted,
    AgentSays,
    Alive,
    ControllerSays,
    Declined,
    Heartbeat,
    Hello,
    PlanPush,
    ReconnectAfter,
    ReportBatch,
    ReportsAcked,
    WantObserved,
    Welcome,
)
from halftrack_proto.v1 import session_pb2_grpc
from tests.agent_shell.waiting import until

SEALED = Sealed("halftrack.v1.plan", b"{}", ())


class Controller(session_pb2_grpc.SessionServicer):
    """Hears everything; says what `script` says, a session at a time."""

    def __init__(self, *scripts: Callable[["Controller"], AsyncIterator[ControllerSays]]) -> None:
        self.scripts = list(scripts)
        self.sessions: list[list[AgentSays]] = []
        self.begun: list[float] = []

    async def Connect(self, requests: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        self.begun.append(asyncio.get_running_loop().time())
        heard: list[AgentSays] = []
        self.sessions.append(heard)

        async def hear() -> None:
            async for message in requests:
                heard.append(codec.agent_of(message))

        listening = asyncio.get_running_loop().create_task(hear())
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        try:
            async for said in script(self):
                yield codec.controller_message(said)
        finally:
            listening.cancel()

    def said(self, kind: type[Any], session: int = -1) -> list[Any]:
        return [message for message in self.sessions[session] if isinstance(message, kind)]


class Bench:
    def __init__(self, folder: Path) -> None:
        self.plans: list[Sealed] = []
        self.problems: tuple[str, ...] = ()
        self.asked = 0
        self.outbox = Outbox(folder, "h")

    def hello(self) -> Hello:
        return Hello("h", "boot", "0.1.0", 3, self.observed().digest(), self.outbox.first, self.outbox.next)

    def observed(self) -> Observed:
        self.asked += 1
        return Observed("h", 3, (), (), self.problems)


def together(
    folder: Path, controller: Controller, work: Callable[[Bench, Link], Awaitable[None]], patch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        server = grpc.aio.server()
        session_pb2_grpc.add_SessionServicer_to_server(controller, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()

        def insecure(target: str, _credentials: Any, options: Any) -> grpc.aio.Channel:
            return grpc.aio.insecure_channel(target, options)

        patch.setattr(grpc.aio, "secure_channel", insecure)
        member = Membership("g", "h", f"127.0.0.1:{port}", "", {}, {}, 1)
        bench = Bench(folder)
        ends = Ends(bench.hello, bench.observed, lambda: (), bench.plans.append, bench.outbox)
        link = Link(lambda: Identity(folder, member, b"", b"", b""), ends)
        running = asyncio.get_running_loop().create_task(link.run())
        try:
            async with asyncio.timeout(30):
                await work(bench, link)
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await server.stop(0)
            bench.outbox.close()

    asyncio.run(run())


async def polite(_controller: Controller) -> AsyncIterator[ControllerSays]:
    yield Welcome(100, 0)
    while True:
        yield Alive()
        await asyncio.sleep(0.05)


async def chatty(_controller: Controller) -> AsyncIterator[ControllerSays]:
    yield Welcome(400, 0)
    while True:
        yield Alive()
        await asyncio.sleep(0.01)


async def silent(_controller: Controller) -> AsyncIterator[ControllerSays]:
    yield Welcome(100, 0)
    await asyncio.sleep(30)


async def mute(_controller: Controller) -> AsyncIterator[ControllerSays]:
    await asyncio.sleep(30)
    yield Alive()


async def hangs_up(_controller: Controller) -> AsyncIterator[ControllerSays]:
    yield Welcome(100, 0)


async def sends_away(_controller: Controller) -> AsyncIterator[ControllerSays]:
    yield Welcome(100, 0)
    yield ReconnectAfter(700, "crowded")
    await asyncio.sleep(30)  # as the real one does: the host hangs up


def test_state_goes_out_once_and_heartbeats_have_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = Controller(polite)

    async def work(bench: Bench, link: Link) -> None:
        await until(lambda: controller.sessions and len(controller.said(Heartbeat)) > 3, "heartbeats")
        assert isinstance(controller.sessions[0][0], Hello)
        assert controller.said(Observed) == []  # its digest was in the hello, and nothing has changed
        bench.problems = ("new",)
        link.stir()
        await until(lambda: controller.said(Observed), "the new state")
        count = len(controller.said(Heartbeat))
        await until(lambda: len(controller.said(Heartbeat)) > count + 3, "more heartbeats")
        assert controller.said(Observed) == [bench.observed()]
        assert controller.said(Heartbeat)[-1].observed_digest == bench.observed().digest()

    together(tmp_path, controller, work, monkeypatch)


def test_that_a_controller_is_alive_is_nothing_to_look_for_news_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = Controller(chatty)

    async def work(bench: Bench, _link: Link) -> None:
        await until(lambda: controller.sessions and len(controller.said(Heartbeat)) > 1, "a heartbeat")
        asked, beats = bench.asked, len(controller.said(Heartbeat))
        await until(lambda: len(controller.said(Heartbeat)) > beats + 3, "more heartbeats")
        assert bench.asked - asked <= len(controller.said(Heartbeat)) - beats + 3  # some may be on their way

    together(tmp_path, controller, work, monkeypatch)


def test_what_is_asked_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def asks(controller: Controller) -> AsyncIterator[ControllerSays]:
        yield Welcome(100, 0)
        yield PlanPush(SEALED, 4)
        yield WantObserved()
        while not controller.said(ReportBatch):
            yield Alive()
            await asyncio.sleep(0.05)
        yield ReportsAcked(1)
        async for said in polite(controller):
            yield said

    controller = Controller(asks)

    async def work(bench: Bench, link: Link) -> None:
        bench.outbox.add(Happened.SWAP_DONE, "s", "", 1)
        await until(lambda: bench.plans == [SEALED], "the plan")
        link.answer(Accepted(4))
        await until(lambda: controller.said(Accepted) == [Accepted(4)], "the answer")
        await until(lambda: controller.said(Observed), "the state that was asked for")
        await until(lambda: bench.outbox.first == bench.outbox.next == 2, "the report is acknowledged")
        assert len(controller.said(ReportBatch)) == 1

    together(tmp_path, controller, work, monkeypatch)


# invariant: P2
def test_in_step_is_more_than_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the newest plan that the controller has for us, or its refusal; and only while the session stands."""
    pushes = asyncio.Event()

    async def newer(_controller: Controller) -> AsyncIterator[ControllerSays]:
        yield Welcome(60_000, 0, revision=5)
        await pushes.wait()
        yield PlanPush(SEALED, 6)
        await asyncio.Event().wait()

    async def work(bench: Bench, link: Link) -> None:
        assert not link.in_step(9), "nobody has been heard yet"
        await until(lambda: link.up, "the session stands")
        assert (link.in_step(4), link.in_step(5)) == (False, True)
        link.answer(Declined(0, "disk-full", "what it was could not even be read"))
        assert link.in_step(4)
        pushes.set()
        await until(lambda: bench.plans, "a newer plan comes")
        assert (link.in_step(5), link.in_step(6)) == (False, True)
        link.answer(Declined(6, "disk-full", "no room"))
        assert link.in_step(5), "it has been refused: that is an answer, too"

    together(tmp_path, Controller(newer), work, monkeypatch)


@pytest.mark.parametrize("script", [silent, mute, hangs_up])
def test_a_dead_session_is_given_up_and_reports_are_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Any
) -> None:
    monkeypatch.setattr(link_module, "WELCOME_S", 0.3)
    controller = Controller(script, polite)

    async def work(bench: Bench, link: Link) -> None:
        bench.outbox.add(Happened.SWAP_DONE, "s", "", 1)
        await until(lambda: len(controller.sessions) > 1 and controller.said(ReportBatch), "a second session", 5)
        assert [report.number for report in controller.said(ReportBatch)[0].reports] == [1]
        assert link.up

    together(tmp_path, controller, work, monkeypatch)


def test_who_is_sent_away_stays_away_that_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = Controller(sends_away, polite)

    async def work(_bench: Bench, _link: Link) -> None:
        await until(lambda: len(controller.sessions) > 1, "a second session")
        assert controller.begun[1] - controller.begun[0] >= 0.7

    together(tmp_path, controller, work, monkeypatch)


@pytest.mark.parametrize("asked_ms", [-(2**63), -1, 2**63 - 1])
def test_who_is_sent_away_for_years_or_before_now_comes_back_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_ms: int
) -> None:
    monkeypatch.setattr(link_module, "RECONNECT_MAX_MS", 300)

    async def absurd(_controller: Controller) -> AsyncIterator[ControllerSays]:
        yield Welcome(100, 0)
        yield ReconnectAfter(asked_ms, "crowded")

    controller = Controller(absurd, polite)

    async def work(_bench: Bench, link: Link) -> None:
        await until(lambda: len(controller.sessions) > 1 and link.up, "a second session")
        least_ms = Rule().base_ms // 8
        assert controller.begun[1] - controller.begun[0] >= least_ms / 1000, "never sooner than by its own pause"

    together(tmp_path, controller, work, monkeypatch)


class Breaking(Controller):
    """Ends one session after the other with a status, before it has said anything and after; then stays."""

    def __init__(self, *codes: grpc.StatusCode) -> None:
        super().__init__(polite)
        self.ends = [(code, welcomed) for code in codes for welcomed in (False, True)]

    async def Connect(self, requests: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        if self.ends:
            code, welcomed = self.ends.pop(0)
            if welcomed:
                yield codec.controller_message(Welcome(100, 0))
            await context.abort(code, "as the test wants it")
        async for said in super().Connect(requests, context):
            yield said


# invariant: R1
def test_whatever_status_ends_a_session_another_one_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CANCELLED among them, which is what a server that is busy, or a proxy in between, makes of a stream."""
    monkeypatch.setattr(link_module, "Backoff", lambda: Backoff(Rule(base_ms=1, cap_ms=4)))
    controller = Breaking(*(code for code in grpc.StatusCode if code is not grpc.StatusCode.OK))

    async def work(_bench: Bench, link: Link) -> None:
        await until(lambda: controller.sessions and link.up, "a session that stands")
        assert controller.ends == []

    together(tmp_path, controller, work, monkeypatch)


# invariant: R1
def test_a_session_is_a_success_for_as_long_as_it_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one that lasts begins the pauses anew: a controller that takes each host in and drops it again is not met by all of them at once."""
    lasted: list[int] = []

    def failed(self: Backoff, lasted_ms: int, _uniform: Any) -> tuple[Backoff, int]:
        lasted.append(lasted_ms)
        return self, 1

    monkeypatch.setattr(Backoff, "failed", failed)

    async def stands(_controller: Controller) -> AsyncIterator[ControllerSays]:
        yield Welcome(60_000, 0)
        await asyncio.sleep(0.3)

    async def never_welcomes(_controller: Controller) -> AsyncIterator[ControllerSays]:
        await asyncio.sleep(0.3)
        yield Alive()

    controller = Controller(never_welcomes, stands, never_welcomes, polite)

    async def work(_bench: Bench, link: Link) -> None:
        await until(lambda: len(controller.sessions) > 3 and link.up, "a session that stands")
        assert (lasted[0], lasted[2], lasted[1] < Rule().steady_ms) == (0, 0, True)

    together(tmp_path, controller, work, monkeypatch)
