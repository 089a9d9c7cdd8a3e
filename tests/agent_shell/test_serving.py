"""What a host gives to the others of its site: to those alone that its plan names, in pieces that make sense, to a few at once."""

import asyncio
from pathlib import Path

import pytest

from halftrack_agent import serving, siblings
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.serving import MOST, Serving
from halftrack_agent.sharing import PIECE_BYTES, Stands, Wish
from halftrack_agent.siblings import WISH
from halftrack_model import canonical
from halftrack_model.errors import HostFault, InvalidInput
from tests.agent_shell.test_bringing import Controller
from tests.agent_shell.test_peers import record
from tests.agent_shell.test_siblings import BLOB, DIGEST, Host, at_site, quick  # noqa: F401 - a fixture
from tests.agent_shell.waiting import until


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
