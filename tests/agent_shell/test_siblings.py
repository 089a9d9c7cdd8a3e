"""Hosts of a site give each other artifacts, over real CurveZMQ: the link carries each once, and nobody's word is taken for the bytes."""

import asyncio
import os
import random
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from halftrack_agent import bringing, files, sharing, siblings
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.bringing import Bringing, Site
from halftrack_agent.limiter import Limiter
from halftrack_agent.peers import Heard, Peers
from halftrack_agent.serving import Serving
from halftrack_agent.sharing import PIECE_BYTES, Answer, Stands, Wish
from halftrack_agent.siblings import OpenClock, Siblings
from halftrack_model.bandwidth import BandwidthWindow
from halftrack_model.errors import HostFault, Untrusted
from halftrack_model.ids import digest_of
from halftrack_model.plan import Peer
from tests.agent_shell.test_bringing import Controller
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
        self.name, self.controller, self.linked, self.lost = name, controller, True, False
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
        try:
            async for piece in self.controller.chunks(digest, offset):
                await asyncio.sleep(0.002)
                yield piece
        except HostFault:
            self.linked = not self.lost
            raise

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
        self.given = self.asked = 0

    async def answer(self, _host: str, wish: Wish) -> tuple[Answer, bytes]:
        self.asked += 1
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
        with pytest.raises(HostFault):
            await a.store.fetch(DIGEST, len(BLOB), Controller(BLOB, patience=9_000).chunks)
        await a.bring()
        assert controller.sent == {DIGEST: len(BLOB) - 9_000}, "what had come over the link was not lost by the lie"
        assert liar.given == len(BLOB)
        (problem,) = a.siblings.problems
        assert f"b has given {DIGEST} as what it is not" in problem
        a.store._drop(DIGEST)
        await a.bring()
        assert liar.given == len(BLOB), "it is not asked for bytes again"

    at_site(tmp_path, controller, "ab", work)
    assert controller.sent == {DIGEST: 2 * len(BLOB) - 9_000}


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
    monkeypatch.setattr(siblings, "PIECE_S", 1.0)
    controller = Controller(BLOB)
    half = 3 * PIECE_BYTES

    async def work(a: Host, b: Host, c: Host) -> None:
        first, second = sorted((b, c), key=lambda host: sharing.rank(DIGEST, f"a {host.name}"))
        stalls = Answers(lambda wish: BLOB[wish.offset : wish.offset + wish.count] if wish.offset < half else None)
        whole = Answers(lambda wish: BLOB[wish.offset : wish.offset + wish.count])
        first.peers.answer_by(stalls.answer)
        second.peers.answer_by(whole.answer)
        a.linked = False
        a.use(first)
        coming = asyncio.create_task(a.bring())
        await until(lambda: stalls.given == half, "half of it has come")
        a.use(first, second)
        await coming
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
        sent: list[int] = []

        def piece(wish: Wish) -> bytes:
            sent.append(controller.sent[DIGEST])
            return BLOB[wish.offset : wish.offset + min(wish.count, 5_000)]

        b.peers.answer_by(Answers(piece).answer)
        await coming
        assert 0 < controller.sent[DIGEST] < len(BLOB)
        assert {*sent, controller.sent[DIGEST]} == {sent[0]}, "the link is free meanwhile"

    at_site(tmp_path, controller, "ab", work)


# invariant: D1
def test_when_the_link_goes_meanwhile_a_sibling_is_waited_for(tmp_path: Path) -> None:
    controller = Controller(BLOB, patience=5_000)

    async def work(a: Host, b: Host) -> None:
        a.lost = True
        coming = asyncio.create_task(a.bring())
        await until(lambda: not a.linked, "the link has gone while it came")
        await until(lambda: a.bringing.standing(DIGEST)[0] is Stands.CUT_OFF, "and it is known")
        assert not coming.done()
        await b.hold()
        await coming

    at_site(tmp_path, controller, "ab", work)
    assert controller.sent == {DIGEST: 5_000}


def test_the_clock_of_patience_stands_still_while_nothing_could_come() -> None:
    looks = [(100, True), (150, True), (900, False), (5_000, False), (5_010, True), (5_020, True)]
    now = [looks[0]]
    clock = OpenClock(lambda: now[-1][1], lambda: now[-1][0])
    gone = []
    for look in looks[1:]:
        now.append(look)
        gone.append(clock())
    assert gone == [50, 50, 50, 60, 70]


# invariant: D1
def test_what_has_all_come_is_not_broken_off_while_it_is_put_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncing, asked = threading.Event(), threading.Event()
    kept: list[bool] = []

    def sync(fd: int, path: Path) -> None:
        if path.suffix == ".part" and "a" in path.parts:
            syncing.set()
            asked.wait(10)
            os.fstat(fd)  # it would be closed, and the number another file's
            kept.append(True)
        os.fsync(fd)

    monkeypatch.setattr(files, "sync", sync)

    async def work(a: Host, b: Host) -> None:
        coming = asyncio.create_task(a.bring())
        await until(syncing.is_set, "all has come")
        await b.hold()
        gives = Answers(lambda wish: BLOB[wish.offset : wish.offset + wish.count])
        b.peers.answer_by(gives.answer)
        await until(lambda: gives.asked > 1, "it has been told that the other has it")
        asked.set()
        await coming
        assert gives.given == 0

    at_site(tmp_path, Controller(BLOB), "ab", work)
    assert kept == [True]


def test_one_that_is_always_busy_holds_up_nothing_that_comes_over_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sharing.PATIENCE_MS, Stands.BUSY, 300)
    controller = Controller(BLOB)

    async def busy(_host: str, wish: Wish) -> tuple[Answer, bytes]:
        return Answer(wish.number, Stands.BUSY if wish.count else Stands.HAS, 0, 0), b""

    async def work(a: Host, b: Host) -> None:
        b.peers.answer_by(busy)
        await a.bring()
        assert a.siblings.problems == ()

    at_site(tmp_path, controller, "ab", work)
    assert controller.sent == {DIGEST: len(BLOB)}


@pytest.mark.parametrize("linked", [True, False])
def test_one_that_gives_it_byte_by_byte_is_borne_for_hours_and_no_longer_while_there_is_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    monkeypatch.setattr(sharing, "MOST_MS", 300)
    controller = Controller(BLOB)

    async def work(a: Host, b: Host) -> None:
        drips = Answers(
            lambda wish: BLOB[wish.offset : wish.offset + (1 if a.linked or wish.offset < 600 else wish.count)]
        )
        b.peers.answer_by(drips.answer)
        a.linked = linked
        await a.bring()
        assert a.siblings.worth_asking(siblings.Asked({"b": None}), bringing=False) == ({} if linked else {"b": None})
        assert drips.given < len(BLOB) or not linked

    at_site(tmp_path, controller, "ab", work)
    assert controller.sent == ({DIGEST: len(BLOB)} if linked else {})


# invariant: P1
def test_of_several_who_gave_it_none_is_called_the_liar(tmp_path: Path) -> None:
    async def work(a: Host, _b: Host, _c: Host) -> None:
        asked = siblings.Asked(took={"b"})
        a.siblings.failed("c", asked, Untrusted("artifact-mismatch", "no"), DIGEST)
        assert [problem.partition(" has")[0] for problem in a.siblings.problems] == ["one of b, c"] * 2
        assert a.siblings.worth_asking(siblings.Asked({"b": None, "c": None}), bringing=False) == {}

    at_site(tmp_path, Controller(), "abc", work)
