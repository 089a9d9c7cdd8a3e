"""Other orders for an instance that runs: it is not ended, and whoever is agent next knows which it has."""

from dataclasses import replace

import pytest

from halftrack_agent.drivers.instances import Folder
from tests.agent_shell.driver_bench import FOREVER, Bench, go, python
from tests.agent_shell.waiting import until


def test_other_orders_reach_who_runs_and_are_known_to_the_next_agent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # invariant: R2
    first = python("a", FOREVER)
    second = replace(first, params={"n": 2})

    async def work() -> None:
        bench.orders = b"first"
        async with bench.running() as driver:
            driver.start(first)
            driver.reorder(second)
            assert driver.seen()["a"].digest == first.digest(), "it is too early: its folder is being made"
            await until(driver.pids, "it runs")
            pid, orders = driver.pids()["a"], bench.folder / "run" / "a" / "run.json"
            bench.orders = b"second"
            with monkeypatch.context() as patch:
                patch.setattr(Folder, "_write_ordered", lambda *_: 1 / 0)  # the agent dies between the two files
                with pytest.raises(ZeroDivisionError):
                    driver.reorder(second)
            assert (orders.read_bytes(), driver.seen()["a"].digest) == (b"second", first.digest())
            driver.reorder(second)
            assert (driver.pids()["a"], driver.seen()["a"].digest) == (pid, second.digest())
            kept = Folder(bench.folder / "run" / "a").ordered()
            assert kept is not None
            assert kept.digest == second.digest()
            driver.reorder(python("b", FOREVER))  # nobody of that name

    go(work())
