"""What an agent does every so often is done in one go, and at the pace that was asked for."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halftrack_agent.events import HostView, InstanceSeen
from halftrack_agent.probing import GIVE, Prober, StreamLook
from halftrack_model.probes import Checks, Probe, ProbeKind
from halftrack_model.workload import Workload
from tests.agent_shell.driver_bench import FOREVER, python
from tests.agent_shell.given_time import GivenTime
from tests.agent_shell.test_loop import Body

BEGAN_S = 1000.3


async def watching(prober: Prober, workloads: Sequence[Workload]) -> None:
    """Until it is ended."""
    prober.use(workloads)
    prober.follow({w.name: InstanceSeen(w.name, w.digest(), True, None, None, 1, "") for w in workloads})
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await prober.close()


def test_probes_draw_together_and_keep_their_periods(tmp_path: Path) -> None:
    """Of a kind that needs no host; the waits are the same for all but programs."""
    loop, looks = GivenTime(BEGAN_S), dict[str, list[float]]()
    probe = Probe("stream", ProbeKind.STREAM, lag_frames=10)
    periods_ms = {f"w{number}": (2_000, 5_000, 7_000)[number % 3] for number in range(12)}
    watched = [
        replace(python(name, FOREVER), checks=Checks((replace(probe, period_ms=ms),)))
        for name, ms in periods_ms.items()
    ]

    def look(workload: Workload) -> StreamLook:
        looks.setdefault(workload.name, []).append(loop.time())
        return StreamLook(0, 64, 0)

    async def work() -> None:
        prober = Prober(tmp_path, lambda *_: None, look, lambda: None)
        await watching(prober, watched)

    loop.live(work(), 600)
    assert looks.keys() == periods_ms.keys()
    for name, at in looks.items():
        period_s = periods_ms[name] / 1000
        for before, after in itertools.pairwise(at):
            assert period_s * (1 - GIVE) - 1e-3 < after - before < period_s * (1 + GIVE) + 1e-3
        late = [each for each in at if each > BEGAN_S + 60]
        assert late[-1] - late[0] == (len(late) - 1) * period_s, "no slower or faster in the long run"
        assert all(each == round(each) for each in late), "at whole seconds all of them"


def test_programs_of_probes_keep_apart(tmp_path: Path) -> None:
    """Not all interpreters of a host in one instant."""
    loop, looks = GivenTime(BEGAN_S), list[float]()
    probe = Probe("exec", ProbeKind.EXEC, command=("true",), period_ms=5_000)
    watched = [replace(python(f"w{number}", FOREVER), checks=Checks((probe,))) for number in range(40)]

    async def work() -> None:
        prober = Prober(tmp_path, lambda *_: looks.append(loop.time()), lambda _: None, lambda: None)  # type: ignore[func-returns-value]
        await watching(prober, watched)

    loop.live(work(), 120)
    assert len(looks) > 900
    assert max(Counter(looks).values()) <= 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(woken=st.lists(st.integers(1, 9_999), max_size=8, unique=True))
def test_a_host_that_is_still_is_looked_at_at_whole_seconds_and_when_something_happens(
    tmp_path: Path, woken: list[int]
) -> None:
    loop, body, looks = GivenTime(BEGAN_S), Body(tmp_path), list[float]()
    seen = body.look

    def look(*words: object) -> HostView:
        looks.append(loop.time())
        return seen()

    body.look = look  # type: ignore[method-assign, assignment]
    for ms in woken:
        loop.call_at(BEGAN_S + ms / 1000, body.loop.wake)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("halftrack_agent.loop.LIVELY_MS", 0)  # nothing has changed for long
        loop.live(body.loop.run(), 10)
    body.close()
    steps = {each for each in looks if each != round(each)}
    assert {round(each) for each in looks if each == round(each)} == set(range(1001, 1011))
    assert {round((each - BEGAN_S) * 1000) for each in steps} == {0, *woken} - {700 + 1000 * s for s in range(10)}
