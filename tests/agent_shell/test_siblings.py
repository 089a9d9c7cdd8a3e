"""Hosts of a site give each other artifacts, over real CurveZMQ: the link carries each once, and nobody's word is taken for the bytes."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from halftrack_agent import bringing, serving, sharing, siblings
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.bringing import Bringing, Site
from halftrack_agent.limiter import Limiter
from halftrack_agent.peers import Heard, Peers
from halftrack_agent.serving import MOST, Serving
from halftrack_agent.sharing import PIECE_BYTES, Answer, Stands, Wish
from halftrack_agent.siblings import WISH, OpenClock, Siblings
from halftrack_model import canonical
from halftrack_model.bandwidth import BandwidthWindow
from halftrack_model.errors import HostFault, InvalidInput
from halftrack_model.ids import digest_of
from halftrack_model.plan import Peer
from tests.agent_shell.test_bringing import Controller
from tests.agent_shell.test_peers import record
from tests.agent_shell.waiting import until

BLOB = random.Random(5).randbytes(5 * PIECE_BYTES + 17)
DIGEST = digest_of(BLOB)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions are asked more often than in earnest, so that tests wait less."""
    monkeypatch.setattr(siblings, "ASK_EVERY_S", 0.1)
    monkeypatch.setattr(bringing, "LOOK_S", 0.1)


class Host:
    """An agent's part in this: its ear, its store, and the way that artifacts come to it."""

    def __init__(self, folder: Path, name: str, controller: Controller) -> None:
        self.name, self.controller, self.linked = name, controller, True
        self.public, secret = zmq.curve_keypair()
        self.heard: list[Heard] = []
        self.peers = Peers(secret, self.public, self.heard.append)
        self.port = self.peers.open("127.0.0.1", 0)
        self.store, self.limiter = ArtifactStore(folder / name), Limiter()
        open_ms = OpenClock(lambda: self.linked and self.limiter.limit != 0)
        self.siblings = Siblings(self.peers.reach, open_ms)
        site = Site(name, self.siblings, lambda: self.linked, open_ms)
        self.bringing = Bringing(self.store, self.limiter, controller.offer, self._chunks, site)
        self.peers.answer_by(Serving(self.store, self.bringing.standing).answer)

    async def _chunks(self, digest: str, offset: int) -> AsyncIterator[tuple[int, bytes]]:
        if not self.linked:
            raise HostFault("unreachable", "there is no session")
        async for piece in self.controller.chunks(digest, offset):
            await asyncio.sleep(0.01)
            yield piece

    def as_peer(self) -> Peer:
        return Peer(self.name, "", f"127.0.0.1:{self.port}", self.public.decode())

    def use(self, *others: "Host") -> None:
        self.bringing.use({DIGEST})
        named = {other.name: other.as_peer() for other in others if other is not self}
        self.peers.use({}, named)
        self.siblings.use(named)

    async def hold(self) -> None:
        await self.store.fetch(DIGEST, len(BLOB), Controller(BLOB).chunks)

    async def bring(self) -> None:
        await self.bringing.bring(DIGEST, len(BLOB))
        assert self.store.path(DIGEST).read_bytes() == BLOB
        assert [path.name for path in self.store.path(DIGEST).parent.iterdir() if path.suffix] == []


class Answers:
    """A sibling that has it and gives what it likes."""

    def __init__(self, piece: Callable[[Wish], bytes | None]) -> None:
        self._piece = piece
        self.given = 0

    async def answer(self, _host: str, wish: Wish) -> tuple[Answer, bytes]:
        data = self._piece(wish) if wish.count else b""
        if data is None:
            await asyncio.Event().wait()
            raise AssertionError
        self.given += len(data)
        return Answer(wish.number, Stands.HAS, len(BLOB), 0), data


def at_site(folder: Path, controller: Controller, names: str, work: Any) -> None:
    async def run() -> None:
        hosts = [Host(folder, name, controller) for name in names]
        for host in hosts:
            host.use(*hosts)
        try:
            async with asyncio.timeout(30):
                await work(*hosts)
        finally:
            for host in hosts:
                await host.peers.close()

    asyncio.run(run())


# invariant: P1 D1
def test_the_link_carries_it_once_for_all_hosts_of_the_site(tmp_path: Path) -> None:
    controller = Controller(BLOB)

    async def work(*hosts: Host) -> None:
        shown: set[tuple[str, str]] = set()
        coming = asyncio.gather(*(host.bring() for host in hosts))
        while not coming.done():
            shown |= {(each.way, each.waits) for host in hosts for each in host.bringing.gauges()}
            await asyncio.sleep(0.002)
        await coming
        first = min((host.name for host in hosts), key=lambda name: sharing.rank(DIGEST, name))
        assert any(waits.startswith(f"{first} ") for _, waits in shown), "whom the others wait for is shown"
        assert {way for way, _ in shown} & set("abc"), "and who it comes from"
        assert [host.siblings.problems for host in hosts] == [(), (), ()]

    at_site(tmp_path, controller, "abc", work)
    assert controller.sent == {DIGEST: len(BLOB)}


# invariant: P1
def test_a_sibling_that_lies_is_told_of_and_left_alone_and_the_artifact_comes_all_the_same(tmp_path: Path) -> None:
    controller = Controller(BLOB)

    async def work(a: Host, b: Host) -> None:
        liar = Answers(lambda wish: bytes(min(wish.count, len(BLOB) - wish.offset)))
        b.peers.answer_by(liar.answer)
        await a.bring()
        assert liar.given == len(BLOB)
        (problem,) = a.siblings.problems
        assert f"b has given {DIGEST} as what it is not" in problem
        a.store._drop(DIGEST)
        await a.bring()
        assert liar.given == len(BLOB), "it is not asked for bytes again"

    at_site(tmp_path, controller, "ab", work)
    assert controller.sent == {DIGEST: 2 * len(BLOB)}


def test_with_no_controller_a_host_gets_what_a_sibling_has_or_will_have(tmp_path: Path) -> None:
    async def work(a: Host, b: Host) -> None:
        a.linked = b.linked = False
        coming = asyncio.create_task(a.bring())
        await until(lambda: "no host of its site has it" in "".join(g.waits for g in a.bringing.gauges()), "it asks")
        await b.hold()
        await coming

    controller = Controller()
    at_site(tmp_path, controller, "ab", work)
    assert controller.sent == {}


def test_neither_having_it_is_said_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bringing, "ROUND_MS", 10)

    async def work(a: Host, b: Host) -> None:
        a.linked = b.linked = False
        with pytest.raises(HostFault, match=r"no host of its site has it|nor a host of its site answers"):
            await a.bring()

    at_site(tmp_path, Controller(), "ab", work)


# invariant: D1
def test_a_transfer_goes_on_at_the_byte_with_another_sibling_when_one_stalls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siblings, "PIECE_S", 0.2)
    controller = Controller(BLOB)
    half = 3 * PIECE_BYTES

    async def work(a: Host, b: Host, c: Host) -> None:
        first, second = sorted((b, c), key=lambda host: sharing.rank(DIGEST, f"a {host.name}"))
        stalls = Answers(lambda wish: BLOB[wish.offset : wish.offset + wish.count] if wish.offset < half else None)
        whole = Answers(lambda wish: BLOB[wish.offset : wish.offset + wish.count])
        first.peers.answer_by(stalls.answer)
        second.peers.answer_by(whole.answer)
        a.linked = False
        await a.bring()
        assert (stalls.given, whole.given) == (half, len(BLOB) - half)
        assert a.siblings.problems == (), "who is slow is no liar"

    at_site(tmp_path, controller, "abc", work)


def test_what_a_sibling_brings_is_not_taken_from_the_links_bandwidth(tmp_path: Path) -> None:
    async def work(a: Host, b: Host) -> None:
        a.limiter.use((BandwidthWindow(0, 0, 0),))
        coming = asyncio.create_task(a.bring())
        await until(lambda: a.bringing.standing(DIGEST)[0] is Stands.BRINGS, "it would bring it when it may")
        await b.hold()
        await coming
        a.limiter.use((BandwidthWindow(1_000, 0, 0),))
        async with asyncio.timeout(1):
            await a.limiter.ready()

    controller = Controller(BLOB)
    at_site(tmp_path, controller, "ab", work)
    assert controller.sent == {}


def test_what_has_begun_over_the_link_is_broken_off_when_a_sibling_has_it(tmp_path: Path) -> None:
    controller = Controller(BLOB)
    controller.piece = 200

    async def work(a: Host, b: Host) -> None:
        coming = asyncio.create_task(a.bring())
        await until(lambda: a.store.begun(DIGEST, ".part") > 0, "it has begun")
        await b.hold()
        await coming

    at_site(tmp_path, controller, "ab", work)
    assert 0 < controller.sent[DIGEST] < len(BLOB)


# invariant: P1
def test_only_siblings_are_answered_and_siblings_say_nothing_else(tmp_path: Path) -> None:
    async def work(a: Host, b: Host, c: Host) -> None:
        await b.hold()
        b.use(a)
        b.peers.use({"c": c.as_peer()}, {"a": a.as_peer()})
        await a.bring()
        c.linked = False
        line = siblings.Line(c.peers.reach(b.as_peer()))
        try:
            with pytest.raises(HostFault, match="no answer"):
                await line.ask(DIGEST, 0, 0, 0.5)
        finally:
            line.close()
        refused = b.peers.refused
        assert refused == 1, "it stands in the plan, as one that has no business with our artifacts"
        a.peers.use({"b": b.as_peer()}, {})

        def ignored() -> bool:
            a.peers.tell("b", record(1))
            return b.peers.refused > refused

        await until(ignored, "a sibling's word about a swap is not heard")
        assert b.heard == []

    at_site(tmp_path, Controller(BLOB), "abc", work)


def test_a_wish_that_makes_no_sense_gets_no_answer_and_harms_nobody(tmp_path: Path) -> None:
    async def work(a: Host, b: Host) -> None:
        await b.hold()
        socket = a.peers.reach(b.as_peer())
        for wish in (Wish(1, "../../identity/key", 0, 9), Wish(2, DIGEST, -1, 9), Wish(3, DIGEST, 0, PIECE_BYTES + 1)):
            await socket.send_multipart([WISH, canonical.encode(wish)])
        await socket.send_multipart([WISH, b"nothing canonical"])
        await until(lambda: b.peers.refused == 4, "they are refused")
        socket.close(0)
        await a.bring()

    at_site(tmp_path, Controller(), "ab", work)


def test_a_few_are_served_at_once_and_not_too_fast(tmp_path: Path) -> None:
    now_ms, slept = 0, 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now_ms, slept
        now_ms, slept = now_ms + round(seconds * 1000), slept + seconds

    async def run() -> None:
        nonlocal now_ms
        store = ArtifactStore(tmp_path / "store")
        await store.fetch(DIGEST, len(BLOB), Controller(BLOB).chunks)
        serve = Serving(store, lambda _digest: (Stands.HAS, 0), lambda: now_ms, sleep)

        async def wish(host: str, count: int = 10) -> Stands:
            return (await serve.answer(host, Wish(1, DIGEST, 0, count)))[0].stands

        for number in range(MOST):
            assert await wish(f"h{number}") is Stands.HAS
        assert await wish("one-more", 0) is Stands.BUSY
        assert await wish("one-more") is Stands.BUSY
        assert await wish("h0") is Stands.HAS
        now_ms += serving.LEFT_MS
        assert await wish("one-more") is Stands.HAS
        began_ms = now_ms
        for _ in range(400):
            await wish("one-more", PIECE_BYTES)
        assert 400 * PIECE_BYTES / (now_ms - began_ms) * 1000 <= serving.BYTES_PER_S * 1.3
        assert slept > 0
        store.path(DIGEST).chmod(0o700)
        store.path(DIGEST).write_bytes(b"spoiled")
        assert await wish("one-more") is Stands.NOTHING
        with pytest.raises(InvalidInput):
            await wish("one-more", -1)

    asyncio.run(run())
