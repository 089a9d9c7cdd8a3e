"""Gates: what is unknown neither fails nor passes, what fails takes green back with the diff, and after the cut none of it counts."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import gates, seats, swap, usage
from halftrack_agent.events import DifferenceSeen, HostView, JudgedSeen, UsageSeen
from halftrack_agent.looks import Facts, JudgeSeen, Look
from halftrack_model.swap import Phase, SeatUsage, SwapRecord, SwapSpec
from halftrack_model.verdict import Check, Verdict
from tests.agent_core.plans import SWAP
from tests.agent_core.test_swap import FINE, STRATEGY, _blue_again, facts, records

ASKED = Verdict(
    check=Check.TOLERANCE, frames=20, mismatches=2, latency_p99_percent=150, memory_percent=200, cpu_percent=150
)
FIRST = (DifferenceSeen(17, "mean: 5.0 → 7.1"), DifferenceSeen(19, "mean: 5.0 → 7.2"))
GOOD = JudgedSeen(2, 50, 1, 50, 2_000, 2_500, 500, FIRST[:1])
USED = SeatUsage(2_000, 400, 500, 100 << 20, 150 << 20)
RUNS = JudgeSeen(True, 0, "")


def asking(verdict: Verdict | None, surge: int = 1) -> SwapSpec:
    return replace(SWAP, strategy=replace(STRATEGY, verdict=verdict, surge=surge))


def seen(judged: JudgedSeen | None = GOOD, used: SeatUsage | None = USED, judge: JudgeSeen | None = RUNS) -> Facts:
    return replace(FINE, judge=judge, judged=(judged, judged), usages=(used, used))


def record(phase: Phase, leg: int = 0) -> SwapRecord:
    return SwapRecord(SWAP.swap_id, 5, leg, phase, 2, 116, 0, 0, 0, 0, "")


def look(phase: Phase, found: Facts, verdict: Verdict | None = ASKED, surge: int = 1) -> Look:
    return Look(asking(verdict, surge), record(phase), found, 0)


counts = st.integers(0, 100)
judged = st.builds(JudgedSeen, st.just(2), counts, counts, counts, counts, counts, counts, st.just(FIRST))
used = st.builds(SeatUsage, st.integers(0, 3_000), counts, counts, counts, counts)
judges = st.builds(JudgeSeen, st.booleans(), st.integers(0, 6), st.just("signal 9"))
verdicts = st.builds(
    Verdict,
    check=st.sampled_from(Check),
    frames=st.integers(1, 60),
    mismatches=st.integers(0, 60),
    latency_p99_percent=st.sampled_from([0, 150]),
    memory_percent=st.sampled_from([0, 150]),
    memory_bytes=st.sampled_from([0, 50]),
    cpu_percent=st.sampled_from([0, 150]),
)


@given(facts, st.none() | judged, st.none() | used, st.none() | judges, verdicts, st.sampled_from([1, 2]))
def test_no_cut_is_armed_before_there_is_enough_evidence_and_none_against_it(
    base: Facts,
    found: JudgedSeen | None,
    of_seat: SeatUsage | None,
    judge: JudgeSeen | None,
    verdict: Verdict,
    surge: int,
) -> None:
    spec = asking(verdict, surge)
    evidence = replace(base, judge=judge, judged=(found, found), usages=(of_seat, of_seat))
    after = swap.moved(spec, record(Phase.CAUGHT_UP), evidence, STRATEGY.deadline_ms)
    if after.phase is not Phase.ARMED:
        return
    if verdict.needs_judge:
        assert judge is not None
        assert judge.running
        assert judge.ends <= gates.JUDGE_ENDS
        assert found is not None
        assert found.compared >= verdict.frames
        assert found.different <= verdict.mismatches
    if verdict.latency_p99_percent:
        assert found is not None
        assert found.timed >= verdict.frames
        assert found.green_us_p99 <= found.blue_us_p99 * 3 // 2 + found.look_us
    if verdict.measures_members:
        assert of_seat is not None
        assert not verdict.memory_bytes or of_seat.green_bytes <= verdict.memory_bytes
        assert not verdict.memory_percent or of_seat.green_bytes <= of_seat.blue_bytes * 1.5
        slack_ms = gates.CPU_SLACK_MS if verdict.cpu_percent else 1 << 60
        assert of_seat.green_cpu_ms <= of_seat.blue_cpu_ms * 1.5 + slack_ms
        assert not verdict.cpu_percent or of_seat.window_ms >= gates.CPU_WINDOW_MS


# invariant: O1
@given(facts, verdicts, st.sampled_from(gates.GATED), st.integers(0, STRATEGY.deadline_ms))
def test_what_is_unknown_fails_no_gate(base: Facts, verdict: Verdict, phase: Phase, now_ms: int) -> None:
    silent = replace(base, judge=None, judged=(None, None), usages=(None, None))
    assert gates.failing(Look(asking(verdict), record(phase), silent, now_ms)) is None
    without = swap.moved(asking(None), record(phase), silent, now_ms)
    after = swap.moved(asking(verdict), record(phase), silent, now_ms)
    assert (after.phase is Phase.ABORTING) == (without.phase is Phase.ABORTING)


@given(records(), facts, st.none() | judged, st.none() | used, verdicts, st.integers(0, STRATEGY.deadline_ms))
def test_after_the_cut_and_for_the_second_seat_a_verdict_changes_nothing(
    at: SwapRecord, base: Facts, found: JudgedSeen | None, of_seat: SeatUsage | None, verdict: Verdict, now_ms: int
) -> None:
    if at.leg == 0 and at.phase in gates.GATED:
        return
    evidence = replace(base, judged=(found, found), usages=(of_seat, of_seat), judge=JudgeSeen(False, 9, ""))
    assert swap.moved(asking(verdict), at, evidence, now_ms) == swap.moved(asking(None), at, evidence, now_ms)


# invariant: O1
@given(
    st.integers(1, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 3), st.integers(0, 3),
    st.sampled_from([0, 1]), st.integers(0, 5_000), st.sampled_from(gates.GATED),
)  # fmt: skip
def test_what_a_host_or_a_link_has_lost_is_no_evidence_and_what_nothing_accounts_for_is(
    lost: int, wrong: int, unbroken: int, falls: int, deaths: int, seat: int, silent_ms: int, phase: Phase
) -> None:
    """Only what differs counts then, and the cut waits until as many as are asked for came without another loss."""
    found = replace(GOOD, compared=200, timed=200, different=lost + wrong, lost=lost, unbroken=unbroken, first=FIRST)
    greens = [replace(green, deaths=0) for green in FINE.greens]
    greens[seat] = replace(greens[seat], deaths=deaths)
    evidence = replace(
        seen(), judged=tuple(found if n == seat else GOOD for n in (0, 1)), greens=tuple(greens), silent_ms=silent_ms
    )
    at = Look(asking(ASKED, 2), replace(record(phase), green_deaths=falls), evidence, 0)
    excused = falls > 0 or deaths > 0 or (seat == 1 and silent_ms > 0)
    failure = gates.failing(at)
    assert (failure is not None) == (wrong + (0 if excused else lost) > ASKED.mismatches)
    if failure is not None:
        assert failure.reason.startswith(f"{wrong + (0 if excused else lost)} of 200 outputs")
    assert bool(gates.waiting(at)) == (excused and unbroken < ASKED.frames)


FAILURES = {
    "more outputs differ than may": (seen(replace(GOOD, different=3, first=FIRST)), "3 of 50 outputs of spectrometer 1.1.0 on tank-a differ"),
    "late": (seen(replace(GOOD, green_us_p99=3_501)), "come within 3.5 ms, 1.0.0's within 2.0 ms; 1.5x of that is tolerated"),
    "fat": (seen(used=replace(USED, green_bytes=(200 << 20) + 1)), "uses 200.0 MiB of memory, 1.0.0 100.0 MiB; 2x of that"),
    "hungry": (seen(used=replace(USED, green_cpu_ms=631)), "takes 631 ms of processor time in 2000 ms, 1.0.0 400 ms; 1.5x of that"),
    "unjudged": (seen(judge=JudgeSeen(False, 4, "signal 9")), "could not be judged: its judge has ended 4 times, at last by signal 9"),
}  # fmt: skip


# invariant: S1
@pytest.mark.parametrize("phase", gates.GATED)
@pytest.mark.parametrize("name", FAILURES)
def test_each_gate_that_fails_takes_green_back_with_the_diff(name: str, phase: Phase) -> None:
    found, told = FAILURES[name]
    after = swap.moved(asking(ASKED), record(phase), found, 0)
    assert after.phase is Phase.ABORTING
    assert told in after.reason
    assert after.diff == (("frame 17: mean: 5.0 → 7.1", "frame 19: mean: 5.0 → 7.2") if "differ" in name else ())
    undone = _blue_again(asking(ASKED), after, found)
    assert (undone.phase, undone.reason, undone.diff) == (Phase.UNDONE, after.reason, after.diff)
    report = seats.tidings(SWAP, after, undone)
    assert report.detail.splitlines() == [after.reason, *after.diff]


@pytest.mark.parametrize("phase", gates.GATED)
def test_what_is_just_within_its_bounds_passes(phase: Phase) -> None:
    edge = seen(
        replace(GOOD, different=2, first=FIRST, green_us_p99=3_500),
        replace(USED, green_bytes=200 << 20, green_cpu_ms=630),
        JudgeSeen(True, 3, ""),
    )
    assert gates.failing(look(phase, edge)) is None
    assert gates.waiting(look(phase, edge)) == ""


WAITS = {
    "the judge does not run": seen(judge=replace(RUNS, running=False)),
    "7 of 20 outputs of tank-a's green are judged": seen(replace(GOOD, compared=7, timed=7)),
    "7 of 20 outputs of tank-a's green have a latency": seen(replace(GOOD, timed=7)),
    "nobody has told yet what the members on tank-a use": seen(used=None),
    "the processor time of the members on tank-a is known for 999 of 1000 ms": seen(used=replace(USED, window_ms=999)),
}


@pytest.mark.parametrize("told", WAITS)
def test_a_gate_says_what_it_waits_for_and_the_deadline_bounds_that(told: str) -> None:
    found = WAITS[told]
    assert gates.waiting(look(Phase.SHADOWING, found)) == told
    for phase in (Phase.SHADOWING, Phase.CAUGHT_UP):
        assert swap.moved(asking(ASKED), record(phase), found, STRATEGY.deadline_ms).phase is phase
        late = swap.moved(asking(ASKED), record(phase), found, STRATEGY.deadline_ms + 1)
        assert late.phase is Phase.ABORTING
        assert told in late.reason


def test_few_latencies_and_a_short_window_are_no_evidence_yet() -> None:
    slow = replace(GOOD, timed=19, green_us_p99=10**6)
    hungry = replace(USED, window_ms=999, green_cpu_ms=900, blue_cpu_ms=1)
    assert gates.failing(look(Phase.SHADOWING, seen(slow, hungry))) is None
    assert gates.failing(look(Phase.SHADOWING, seen(replace(slow, timed=20)))) is not None
    assert gates.failing(look(Phase.SHADOWING, seen(used=replace(hungry, window_ms=1_000)))) is not None


def test_under_surge_2_both_greens_are_gated() -> None:
    one = replace(seen(), judged=(GOOD, replace(GOOD, different=3)))
    assert gates.failing(look(Phase.SHADOWING, one)) is None
    failure = gates.failing(look(Phase.SHADOWING, one, surge=2))
    assert failure is not None
    assert "on tank-b" in failure.reason
    assert gates.waiting(look(Phase.SHADOWING, replace(seen(), judged=(GOOD, None)), surge=2)).startswith("0 of 20")


def test_a_release_that_says_nothing_is_asked_nothing() -> None:
    assert gates.failing(look(Phase.SHADOWING, FINE, None)) is None
    assert gates.waiting(look(Phase.SHADOWING, FINE, None)) == ""


# ------------------------------------------------------------------------------------------------------ who runs, and when


def test_the_judge_runs_from_shadowing_to_the_first_cut_and_no_longer() -> None:
    running = {(phase, leg) for phase in Phase for leg in (0, 1) if swap.judged_now(SWAP, record(phase, leg))}
    assert running == {(phase, 0) for phase in gates.GATED}
    assert not swap.judged_now(SWAP, None)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.booleans()), min_size=1, max_size=20))
def test_what_members_use_is_counted_from_when_green_kept_up_last(steps: list[tuple[int, int, bool]]) -> None:
    seat, windows, began, cpu = SWAP.seats[0], {}, None, [0, 0]  # type: ignore[var-annotated]
    for number, (blue, green, keeps_up) in enumerate(steps):
        cpu = [cpu[0] + blue, cpu[1] + green]
        now = {
            seat.blue_workload: UsageSeen(number * 100, cpu[0], 7),
            seat.green_workload: UsageSeen(number * 100, cpu[1], 9),
        }
        view = HostView({}, {}, {}, frozenset(), usages=now)
        windows = usage.noted(windows, seat, view, keeps_up)
        began = (number, *cpu) if keeps_up and began is None else began if keeps_up else None
        found = usage.of_seat(windows, seat, view)
        expected = (
            None if began is None else SeatUsage((number - began[0]) * 100, cpu[0] - began[1], cpu[1] - began[2], 7, 9)
        )
        assert found == expected


def test_a_green_that_began_anew_is_measured_anew() -> None:
    seat = SWAP.seats[0]

    def view(at_ms: int, blue: int, green: int) -> HostView:
        usages = {seat.blue_workload: UsageSeen(at_ms, blue, 1), seat.green_workload: UsageSeen(at_ms, green, 1)}
        return HostView({}, {}, {}, frozenset(), usages=usages)

    windows = usage.noted({}, seat, view(0, 500, 500), True)
    windows = usage.noted(windows, seat, view(100, 510, 20), True)
    assert usage.of_seat(windows, seat, view(300, 530, 60)) == SeatUsage(200, 20, 40, 1, 1)
    assert usage.noted(windows, seat, HostView({}, {}, {}, frozenset()), True) == {}
