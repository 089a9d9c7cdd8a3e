"""What is thought of an instance whose release declares probes, and of one that flaps."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import damping, health, probing
from halftrack_agent.events import HostView, ProbeSeen
from halftrack_agent.health import FLAPS, SETTLED_MS, Verdict
from halftrack_agent.lifecycle import Phase
from halftrack_agent.reconcile import Instance
from halftrack_model.observed import Health
from halftrack_model.probes import Checks, Probe, ProbeKind
from tests.agent_core.plans import service

GRACE_MS = 10_000
PROBE = Probe("http", ProbeKind.HTTP, port="80", path="/", failures=3, successes=2)
CHECKS = Checks((PROBE, replace(PROBE, name="tcp", kind=ProbeKind.TCP)), GRACE_MS)
NAME = service().name
GOOD = ProbeSeen(good=True, in_a_row=1, text="")
BLIND = ProbeSeen(good=None, in_a_row=1, text="")


def bad(in_a_row: int) -> ProbeSeen:
    return ProbeSeen(good=False, in_a_row=in_a_row, text="port 80: connection refused")


def look(before: Verdict | None, now_ms: int, phase: Phase = Phase.RUNNING, **seen: ProbeSeen) -> Verdict:
    """One look at an instance that has run since 0."""
    instance = Instance(replace(service(), checks=CHECKS), phase, 0, 0, 0, 0, 0, "")
    known = {} if before is None else {NAME: before}
    view = HostView({}, {}, {}, frozenset(), probes={NAME: seen})
    return health.judged({NAME: instance}, known, view, now_ms)[NAME]


# invariant: O1
def test_nothing_is_known_before_every_probe_was_good_once_or_the_grace_is_over() -> None:
    verdict = look(None, SETTLED_MS, http=GOOD)
    assert verdict.health is Health.UNKNOWN, "nobody has looked at the other yet"
    verdict = look(verdict, 2_000, http=GOOD, tcp=bad(9))
    assert (verdict.health, "refused" in verdict.detail) == (Health.UNKNOWN, True)
    verdict = look(verdict, GRACE_MS, http=GOOD, tcp=bad(10))
    assert (verdict.health, verdict.detail) == (Health.UNHEALTHY, "tcp: port 80: connection refused")
    assert look(None, 2_000, http=GOOD, tcp=GOOD).health is Health.HEALTHY


def test_thresholds_count_looks_in_a_row() -> None:
    verdict = look(None, 2_000, http=GOOD, tcp=GOOD)
    for failures in (1, 2):
        verdict = look(verdict, 3_000, http=bad(failures), tcp=GOOD)
        assert verdict.health is Health.HEALTHY, "one failure is none"
    verdict = look(verdict, 4_000, http=bad(3), tcp=GOOD)
    assert verdict.health is Health.UNHEALTHY, "good once, the grace is over"
    verdict = look(verdict, 5_000, http=GOOD, tcp=GOOD)
    assert verdict.health is Health.UNHEALTHY, "one success is none"
    assert look(verdict, 6_000, http=replace(GOOD, in_a_row=2), tcp=GOOD).health is Health.HEALTHY


# invariant: O1
def test_a_host_that_cannot_look_knows_nothing() -> None:
    verdict = look(None, 2_000, http=GOOD, tcp=GOOD)
    assert look(verdict, 50_000, http=GOOD, tcp=BLIND).health is Health.UNKNOWN


# invariant: O1
@given(st.integers(damping.SUPPRESS // damping.CHANGE + 2, 5_000), st.integers(1, 4_000))
def test_who_flaps_is_unknown_until_it_is_steady(changes: int, every_ms: int) -> None:
    now_ms, verdict = 2_000, look(None, 2_000, http=GOOD, tcp=GOOD)
    for number in range(changes):
        now_ms += every_ms
        seen = bad(3) if number % 2 == 0 else replace(GOOD, in_a_row=2)
        verdict = look(verdict, now_ms, http=seen, tcp=GOOD)
    assert (verdict.health, verdict.detail) == (Health.UNKNOWN, FLAPS)
    steady = replace(GOOD, in_a_row=2)
    bound_ms = 5 * damping.HALF_LIFE_MS  # the ceiling is sixteen times what is believed again
    verdict = look(verdict, now_ms + 1, http=steady, tcp=GOOD)
    assert look(verdict, now_ms + 1 + bound_ms, http=steady, tcp=GOOD).health is Health.HEALTHY


@given(st.integers(2 * damping.HALF_LIFE_MS, 10**9), st.integers(2, 60))
def test_rare_changes_are_believed_each(every_ms: int, changes: int) -> None:
    now_ms, verdict = 2_000, look(None, 2_000, http=GOOD, tcp=GOOD)
    for number in range(changes):
        now_ms += every_ms
        seen = bad(3) if number % 2 == 0 else replace(GOOD, in_a_row=2)
        verdict = look(verdict, now_ms, http=seen, tcp=GOOD)
        assert verdict.health is (Health.HEALTHY if number % 2 else Health.UNHEALTHY)


@given(st.lists(st.tuples(st.integers(0, 10**12), st.booleans()), max_size=40))
def test_a_penalty_stays_within_its_bounds(steps: list[tuple[int, bool]]) -> None:
    held, now_ms = damping.CALM, 0
    for passed_ms, changed in steps:
        now_ms += passed_ms
        held = damping.after(held, changed=changed, now_ms=now_ms)
        assert 0 <= held.penalty <= damping.CEILING


def test_deaths_are_not_damped() -> None:
    """A service that dies again and again is unhealthy while it rests: restarts are counted, and fail its rollout."""
    verdict = look(None, 2_000, http=GOOD, tcp=GOOD)
    for number in range(20):
        verdict = look(verdict, 3_000 + number, Phase.RESTING)
        assert verdict.health is Health.UNHEALTHY
        verdict = look(verdict, 3_000 + number, http=GOOD, tcp=GOOD)
        assert verdict.health is Health.HEALTHY


@given(
    st.lists(st.sampled_from(["", "refused", "no answer", None]), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_a_look_that_wakes_nobody_would_have_changed_nothing(
    looks: list[str | None], failures: int, successes: int
) -> None:
    probe = replace(PROBE, failures=failures, successes=successes)
    checks = Checks((probe,), GRACE_MS)
    instance = Instance(replace(service(), checks=checks), Phase.RUNNING, 0, 0, 0, 0, 0, "")
    seen: ProbeSeen | None = None
    verdict: Verdict | None = None
    for text in looks:
        before, seen = seen, probing.counted(seen, text)
        view = HostView({}, {}, {}, frozenset(), probes={NAME: {probe.name: seen}})
        known = {} if verdict is None else {NAME: verdict}
        judged = health.judged({NAME: instance}, known, view, GRACE_MS)[NAME]
        if not probing.tells(probe, before, seen):
            assert verdict is not None
            assert (judged.health, judged.detail) == (verdict.health, verdict.detail)
        verdict = judged
    steady = ProbeSeen(True, successes + 9, "")
    assert not probing.tells(probe, steady, probing.counted(steady, "")), "a host that is well is left alone"
