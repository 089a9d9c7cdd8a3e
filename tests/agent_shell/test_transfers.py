"""Transfers in the hands of an agent: for what is wanted now, told when they fail, and not begun again at once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from halftrack_agent import hands
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.backoff import Backoff
from halftrack_agent.events import Fetch
from halftrack_model.ids import digest_of
from tests.agent_shell.test_loop import Body, sealed
from tests.agent_shell.waiting import until


# invariant: D1 O2
def test_what_only_an_older_plan_wanted_takes_no_more_of_the_link_and_comes_when_it_is_wanted_again(
    tmp_path: Path,
) -> None:
    """Its file has gone with that plan: what went on to come would have come for nothing, and stood in the way of the next attempt."""
    data, begun = b"an artifact", list[int]()
    digest, gate = digest_of(data), asyncio.Event()
    store = ArtifactStore(tmp_path / "artifacts")

    async def source(_digest: str, offset: int) -> AsyncIterator[tuple[int, bytes]]:
        begun.append(offset)
        yield len(data), data[offset:5]
        await gate.wait()
        yield 0, data[5:]

    async def work() -> None:
        body = Body(tmp_path, bring=lambda digest, size: store.fetch(digest, size, source))
        body.hands.carry_out(Fetch(digest, len(data)))
        await until(lambda: begun, "half of it has come")
        body.loop.plan_came(sealed(1))
        body.loop.step()
        store.retain({}, None)
        await until(lambda: not body.hands.fetching, "no more comes")
        gate.set()
        body.hands.carry_out(Fetch(digest, len(data)))
        await until(lambda: not body.hands.fetching, "it has come")
        assert (body.hands.problems, store.digests, len(begun)) == ((), {digest}, 2)
        await body.hands.close()
        body.close()

    asyncio.run(work())


# invariant: R1
def test_a_transfer_that_meets_what_nobody_thought_of_rests_and_that_is_told_until_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host has no thread or descriptor left for a moment: what is begun again at once only makes that longer, and takes the link."""
    tries, gate = list[int](), asyncio.Event()

    async def bring(_digest: str, size_bytes: int) -> None:
        tries.append(size_bytes)
        if len(tries) == 1:
            raise RuntimeError("can't start new thread")
        await gate.wait()

    async def work() -> None:
        body = Body(tmp_path, bring=bring)

        def look() -> str:
            body.hands.carry_out(Fetch(digest_of(b""), 5))
            return "".join(body.hands.problems)

        monkeypatch.setattr(Backoff, "failed", lambda self, _lasted_ms, _uniform: (self, 10**9))
        look()
        await until(lambda: not body.hands.fetching, "it has ended")
        assert "can't start new thread" in look()
        assert len(tries) == 1
        body.hands._transfers[digest_of(b"")].not_before_ms = 0
        assert "can't start new thread" in look(), "that another attempt has begun says nothing"
        assert body.hands.fetching
        monkeypatch.setattr(hands, "GOES_ON_MS", 0)
        assert look() == ""
        await body.hands.close()
        body.close()

    asyncio.run(work())
