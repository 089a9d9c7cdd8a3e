"""Agents to each other: only the plan's keys are heard, the newest word counts, silence is given up and made anew."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
import zmq

from halftrack_agent import peers
from halftrack_agent.events import PeerAnswered, PeerTold
from halftrack_agent.peers import Heard, Peers
from halftrack_model.plan import Peer
from halftrack_model.swap import GreenStatus, Phase, SeatStatus, SwapRecord
from tests.agent_shell.waiting import until


def record(number: int) -> SwapRecord:
    return SwapRecord("s", number, 0, Phase.JOINING, 1, -1, 0, 5, 5, 0, "")


STATUS = SeatStatus("b", "s", True, 3, GreenStatus(True, "", 0, 1, 2), True)


class Host:
    def __init__(self, name: str) -> None:
        self.name = name
        self.public, self.secret = zmq.curve_keypair()
        self.heard: list[Heard] = []
        self.peers = Peers(self.secret, self.public, self.heard.append)
        self.port = self.peers.open("127.0.0.1", 0)

    def as_peer(self, port: int = 0) -> Peer:
        return Peer(self.name, "", f"127.0.0.1:{port or self.port}", self.public.decode())


def with_hosts(work: Any, *names: str) -> None:
    async def run() -> None:
        hosts = [Host(name) for name in names]
        try:
            async with asyncio.timeout(30):
                await work(*hosts)
        finally:
            for host in hosts:
                await host.peers.close()

    asyncio.run(run())


async def said(speak: Any, heard: list[Heard], seconds: float = 10.0) -> None:
    """Say it again, as the core does, until something new was heard."""
    before = len(heard)

    def again() -> bool:
        speak()
        return len(heard) > before

    await until(again, "it is heard", seconds)


def test_records_go_one_way_and_statuses_the_other() -> None:
    async def work(a: Host, b: Host) -> None:
        a.peers.use({"b": b.as_peer()})
        b.peers.use({"a": a.as_peer()})
        await said(lambda: a.peers.tell("b", record(1)), b.heard)
        await said(lambda: b.peers.answer("a", STATUS), a.heard)
        assert b.heard[0] == PeerTold("a", record(1))
        assert a.heard[0] == PeerAnswered("b", STATUS)
        assert not a.peers.tell("nobody", record(1))

    with_hosts(work, "a", "b")


# invariant: P1
def test_a_key_that_the_plan_does_not_name_is_not_heard() -> None:
    async def work(a: Host, b: Host, stranger: Host) -> None:
        a.peers.use({"b": b.as_peer()})
        stranger.peers.use({"b": b.as_peer()})
        b.peers.use({"a": a.as_peer()})
        for _ in range(5):
            assert not stranger.peers.tell("b", record(9)), "it has no connection to speak on"
            await said(lambda: a.peers.tell("b", record(1)), b.heard)
        assert {heard.from_host for heard in b.heard} == {"a"}
        b.peers.use({})  # not in the plan any more: the connection stands, the host behind it is nobody

        def ignored() -> bool:
            a.peers.tell("b", record(2))
            return b.peers.refused > 0

        await until(ignored, "its word is refused")
        assert all(heard != PeerTold("a", record(2)) for heard in b.heard)

    with_hosts(work, "a", "b", "stranger")


def test_a_server_with_another_key_is_not_spoken_to() -> None:
    async def work(a: Host, b: Host) -> None:
        wrong = Peer("b", "", f"127.0.0.1:{b.port}", zmq.curve_keypair()[0].decode())
        b.peers.use({"a": a.as_peer()})
        a.peers.use({"b": wrong})
        for _ in range(20):
            assert not a.peers.tell("b", record(1))
            await asyncio.sleep(0.01)
        assert b.heard == []

    with_hosts(work, "a", "b")


class Wire:
    """A link that can be cut without either end being told."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.whole = asyncio.Event()
        self.whole.set()
        self.tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> int:
        self.server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        for work in (self._pump(reader, there_writer), self._pump(there_reader, writer)):
            self.tasks.add(asyncio.get_running_loop().create_task(work))

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                await self.whole.wait()  # held back, as TCP's segments are
                target.write(data)
        target.close()


def test_after_a_cut_the_newest_is_said_and_nothing_old_piles_up() -> None:
    async def work(a: Host, b: Host) -> None:
        wire = Wire(b.port)
        a.peers.use({"b": b.as_peer(await wire.open())})
        b.peers.use({"a": a.as_peer()})
        await said(lambda: a.peers.tell("b", record(1)), b.heard)
        wire.whole.clear()
        number = 1
        end = asyncio.get_running_loop().time() + 2.5
        while asyncio.get_running_loop().time() < end:
            number += 1
            a.peers.tell("b", record(number))
            await asyncio.sleep(0.02)
        before = len(b.heard)
        wire.whole.set()
        await said(lambda: a.peers.tell("b", record(number + 1)), b.heard, 3.0)
        await until(lambda: b.heard[-1] == PeerTold("a", record(number + 1)), "the newest word", 3.0)
        late = [heard for heard in b.heard[before:] if heard != PeerTold("a", record(number + 1))]
        assert len(late) < 60, "what was said in the second before the connection was given up, not in all of the cut"
        await wire.close()

    with_hosts(work, "a", "b")


def test_nonsense_is_counted_and_dropped() -> None:
    async def work(a: Host, b: Host) -> None:
        a.peers.use({"b": b.as_peer()})
        b.peers.use({"a": a.as_peer()})
        await said(lambda: a.peers.tell("b", record(1)), b.heard)
        for count, (kind, text) in enumerate(((b"record", b"{}"), (b"status", b"\xff"), (b"order", b"{}"))):
            await until(lambda kind=kind, text=text: a.peers._say("b", kind, text), "it goes out")  # type: ignore[misc]
            await until(lambda count=count: b.peers.refused == count + 1, "it is refused")  # type: ignore[misc]
        await said(lambda: a.peers.tell("b", record(2)), b.heard)

    with_hosts(work, "a", "b")


def test_an_ear_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_heard: Heard) -> None:
        raise KeyError("a mistake of ours")

    async def work(a: Host, b: Host) -> None:
        a.peers.use({"b": b.as_peer()})
        b.peers.use({"a": a.as_peer()})
        monkeypatch.setattr(b.peers, "_heard", failing)
        serving = asyncio.create_task(b.peers.serve())
        await until(lambda: a.peers.tell("b", record(1)) and serving.done(), "the agent would end")
        assert isinstance(serving.exception(), KeyError)

    with_hosts(work, "a", "b")


def test_an_address_that_is_not_to_be_had_yet_is_told_and_taken_as_soon_as_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host that boots without a link has no lease; workloads must not wait for that (nomad#24629)."""
    monkeypatch.setattr(peers, "LISTEN_AGAIN_S", 0.05)

    async def work(a: Host, b: Host) -> None:
        late = Peers(b.secret, b.public, b.heard.append)
        try:
            assert late.open("127.0.0.1", a.port) == a.port
            assert "cannot listen on 127.0.0.1" in late.problems[0]
            port = a.port
            await a.peers.close()
            await until(lambda: not late.problems, "it listens")
            other = Host("a")
            late.use({"a": other.as_peer()})
            other.peers.use({"b": b.as_peer(port)})
            await said(lambda: other.peers.tell("b", record(1)), b.heard)
            await other.peers.close()
        finally:
            await late.close()

    with_hosts(work, "a", "b")


def test_a_host_without_its_address_runs_all_the_same() -> None:
    """TEST-NET-1 (RFC 5737) is nobody's."""

    async def work(a: Host) -> None:
        other = Peers(a.secret, a.public, a.heard.append)
        other.open("192.0.2.1", 7451)
        assert "192.0.2.1:7451" in other.problems[0]
        await other.close()

    with_hosts(work, "a")
