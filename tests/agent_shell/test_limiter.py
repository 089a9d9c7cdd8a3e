"""The limiter: as fast as the window allows, paused where nothing may come, and the wall clock picks nothing but the window."""

import asyncio

import pytest

from halftrack_agent.limiter import Limiter
from halftrack_model.bandwidth import BandwidthWindow


class Clocks:
    """Both clocks of a host; sleeping moves them."""

    def __init__(self, minute: int = 0) -> None:
        self.boot, self.wall = 1_000, minute * 60_000
        self.waits: list[str] = []
        self.limiter = Limiter(lambda: self.boot, lambda: self.wall, self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(self.limiter.waits)
        self.boot += max(1, round(seconds * 1000))
        self.wall += max(1, round(seconds * 1000))

    def spent_ms(self, *sizes: int) -> int:
        began = self.boot

        async def take() -> None:
            for size in sizes:
                await self.limiter.ready()
                self.limiter.came(size)
            await self.limiter.ready()

        asyncio.run(take())
        return self.boot - began


def test_without_windows_nothing_waits() -> None:
    assert Clocks().spent_ms(10**9, 10**9) == 0


@pytest.mark.parametrize("sizes", [(10_000,) * 10, (100_000,)])
def test_bytes_take_the_time_that_the_limit_says(sizes: tuple[int, ...]) -> None:
    clocks = Clocks()
    clocks.limiter.use((BandwidthWindow(10_000, 0, 0),))
    assert 9_700 <= clocks.spent_ms(*sizes) <= 10_300


def test_a_window_that_lets_nothing_in_pauses_until_it_ends_and_says_until_when() -> None:
    clocks = Clocks(minute=17 * 60 + 58)
    clocks.limiter.use((BandwidthWindow(0, 8 * 60, 18 * 60), BandwidthWindow(1_000, 18 * 60, 8 * 60)))
    assert 119_000 <= clocks.spent_ms() <= 121_500
    assert set(clocks.waits) == {"paused until 18:00 UTC"}
    assert clocks.limiter.waits == ""
    assert clocks.limiter.limit == 1_000


def test_a_plan_that_lifts_the_limit_ends_the_pause() -> None:
    clocks = Clocks()
    clocks.limiter.use((BandwidthWindow(0, 0, 720),))
    sleep = clocks.sleep

    async def lifted(seconds: float) -> None:
        clocks.limiter.use(())
        await sleep(seconds)

    clocks.limiter._sleep = lifted
    assert clocks.spent_ms() <= 2_000
