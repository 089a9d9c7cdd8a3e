"""Looking for siblings: who is asked and how often, and when one is seen or not any more."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent.watching import EVERY_S, JITTER, MISSES, MOST, Looked, Watching, looked


@given(st.lists(st.booleans(), max_size=20))
def test_seen_from_the_first_answer_until_two_have_failed_to_come(answers: list[bool]) -> None:
    state = Looked()
    for number, answered in enumerate(answers):
        state = looked(state, answered=answered)
        late = answers[max(0, number + 1 - MISSES) : number + 1]
        assert state.seen == (answered or (any(answers[: number + 1]) and (any(late) or len(late) < MISSES)))


def test_only_who_is_looked_for_is_asked_and_only_news_is_told() -> None:
    async def run() -> None:
        asked: list[str] = []
        told: list[tuple[str, ...]] = []
        alive = {"tank-a"}
        turns: asyncio.Queue[float] = asyncio.Queue()
        go = asyncio.Semaphore(0)

        async def answers(host: str) -> bool:
            asked.append(host)
            return host in alive

        async def sleep(seconds: float) -> None:
            turns.put_nowait(seconds)
            await go.acquire()

        watching = Watching(answers, lambda: told.append(watching.sees), sleep)
        task = asyncio.get_running_loop().create_task(watching.run())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not asked, "a site whose hosts are all connected costs nothing"

        async def turn() -> None:
            pause = await turns.get()
            assert EVERY_S * (1 - JITTER) <= pause <= EVERY_S * (1 + JITTER)
            go.release()

        watching.look_for(["tank-b", "tank-a", "tank-b"])
        await turn()
        await turn()
        assert set(asked) == {"tank-a", "tank-b"}
        assert told == [("tank-a",)]
        alive.clear()
        for _ in range(MISSES + 2):
            await turn()
        assert told == [("tank-a",), ()]
        alive.add("tank-b")
        await turn()
        await turn()
        assert watching.sees == ("tank-b",)
        watching.look_for([])
        assert watching.sees == ()
        count = len(asked)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(asked) == count
        watching.look_for(f"h{number:02}" for number in range(2 * MOST))
        await turn()
        assert len(asked) == count + MOST
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
