"""Clocks that are wrong, seen from the controller: its own, and those in hosts' reports. They are told, and confuse nothing."""

import asyncio
import dataclasses
import logging
from pathlib import Path

import pytest

from halftrack_controller import render
from halftrack_controller.service import wall_ms
from halftrack_controller.store_thread import StoreThread
from halftrack_controller.wallclock import RAISE_EVERY_MS, WallClock
from halftrack_model.canonical import MAX_INT
from halftrack_model.report import Happened, Report
from halftrack_proto import messages as said
from tests.controller_shell.shell_harness import Agent, LiveController, enrol, eventually, observed

HOUR_MS, YEAR_MS = 3_600_000, 31_557_600_000


def test_a_clock_that_was_set_back_is_told_once_and_its_floor_outlives_the_controller(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An hour at a time is written; a later run knows what an earlier one has seen; when the clock is right again, it may be told anew."""
    now_ms = 50 * YEAR_MS

    async def run() -> None:
        store = await StoreThread.open(folder / "controller", "milkyway")
        clock = WallClock(store)
        for step_ms in (0, 1_000, RAISE_EVERY_MS - 1, 5 * HOUR_MS):
            await clock.look(now_ms + step_ms)
        assert await store.do(lambda held: held.time_floor_ms()) == now_ms + 5 * HOUR_MS
        await store.close()
        assert caplog.records == []
        store = await StoreThread.open(folder / "controller", "milkyway")
        clock = WallClock(store)
        for step_ms in (-3 * YEAR_MS, -3 * YEAR_MS + 1_000, 5 * HOUR_MS, -HOUR_MS):
            await clock.look(now_ms + step_ms)
        assert await store.do(lambda held: held.time_floor_ms()) == now_ms + 5 * HOUR_MS
        await store.do(lambda held: held.close())
        await clock.look(now_ms + YEAR_MS)  # a store that fails is no reason to stop deciding

    with caplog.at_level(logging.WARNING, "halftrack.clock"):
        asyncio.run(run())
    first, second, third = (record.getMessage() for record in caplog.records)
    assert "this machine's clock is 1095 d behind what it has been before" in first
    assert "6 h behind" in second
    assert "cannot be kept" in third


def test_reports_with_absurd_times_are_consumed_in_the_order_of_their_numbers(live: LiveController) -> None:
    """Before 1970, at the end of all numbers, backwards: what counts is the number; and what is shown of them is shown."""
    # invariant: C1 P3
    times = (MAX_INT, -MAX_INT, 0, wall_ms() + 40 * YEAR_MS, -1, wall_ms())
    reports = tuple(
        Report("tank-a", number, at_ms, Happened.INSTANCE_EXITED, "line.source", f"told {number}")
        for number, at_ms in enumerate(times, 1)
    )
    with live.operator() as client:
        agent = Agent(live, enrol(live, client.create_token("tank-a", 600).token, "tank-a"))
        try:
            agent.hello("tank-a")
            for upto in (2, 4, 6):
                agent.say(said.ReportBatch(reports[:upto]))
                assert agent.expect(said.ReportsAcked).upto == upto
        finally:
            agent.close()
        detail = client.host("tank-a")
    assert [dataclasses.replace(report) for report in detail.reports] == list(reports)
    assert str(render.host_texts(detail)[-1]).startswith("#6 instance-exited")


def test_what_a_host_says_of_its_clock_is_logged_when_it_is_new(
    live: LiveController, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "this host's clock is 56 years behind the controller's"
    with live.operator() as client, caplog.at_level(logging.WARNING, "halftrack.session"):
        agent = Agent(live, enrol(live, client.create_token("tank-a", 600).token, "tank-a"))
        try:
            agent.hello("tank-a")
            for problems in ((wrong,), (wrong, "no cgroup")):
                agent.say(observed("tank-a", problems=problems))
                eventually(lambda problems=problems: client.host("tank-a").entry.problems == problems)
        finally:
            agent.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"host=tank-a says: {wrong}",
        "host=tank-a says: no cgroup",
    ]
