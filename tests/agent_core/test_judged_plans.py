"""Plans with a judge: it asks what its release is sealed with and nothing else, and runs exactly as long as its word counts."""

from dataclasses import replace

import pytest

from halftrack_agent import core, gates, inbox
from halftrack_model import canonical, seals
from halftrack_model.errors import HalftrackError
from halftrack_model.plan import Plan
from halftrack_model.swap import Phase, SwapRecord
from halftrack_model.verdict import Check, FieldTolerance, Verdict
from halftrack_model.workload import Judge, JudgedPair, Runs, Workload
from tests.agent_core.plans import SWAP, A, member_workload, plan, release, sealed, sealed_release
from tests.sim import keys

VERDICT = Verdict(Check.FUNCTION, entry="spectrometer:alike", latency_p99_percent=150)
STRATEGY = replace(SWAP.strategy, verdict=VERDICT)
PAIR = JudgedPair("spectra/spectrometer.a@1.0.0", "spectra/spectrometer.a@1.1.0")


def judge(**fields: object) -> Workload:
    made = replace(
        member_workload("a", "1.1.0"),
        name="spectra.spectrometer.judge@1.1.0",
        runs=Runs.JUDGE,
        writes_ring="",
        judge=Judge((PAIR,), VERDICT, 32),
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def judged_plan(wanted: Workload | None = None, verdict: Verdict | None = VERDICT) -> Plan:
    green = replace(release("1.1.0"), strategy=replace(STRATEGY, verdict=verdict))
    releases = (sealed_release("1.0.0"), keys.sealed(seals.RELEASE, canonical.encode(green), keys.RELEASE))
    whole = plan(A, 2, swap=True)
    workloads = (*whole.workloads, judge() if wanted is None else wanted)
    swaps = (replace(SWAP, strategy=replace(STRATEGY, verdict=verdict)),)
    return replace(whole, releases=releases, workloads=workloads, swaps=swaps)


def test_a_judge_of_what_the_release_declares_is_accepted() -> None:
    assert inbox.judged(sealed(judged_plan()), keys.trust_of(A), None) is not None


WEAKER = replace(VERDICT, latency_p99_percent=900)
TOO_MANY = Verdict(Check.TOLERANCE, (FieldTolerance("n", "float"),))


# invariant: P1
@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (judge(judge=Judge((PAIR,), WEAKER, 32)), "unreleased-verdict"),
        (judge(judge=Judge((PAIR,), replace(VERDICT, entry="os:system"), 32)), "unreleased-verdict"),
        (judge(entry="os:system"), "unreleased-artifact"),
        (judge(artifact=""), "unreleased-artifact"),
        (judge(judge=None), "plan-misfit"),
        (judge(judge=Judge((), VERDICT, 32)), "plan-misfit"),
        (judge(judge=Judge((PAIR,) * 3, VERDICT, 32)), "plan-misfit"),
        (judge(judge=Judge((replace(PAIR, green_ring="spectra/none"),), VERDICT, 32)), "plan-misfit"),
        (replace(judge(), runs=Runs.MEMBER), "plan-misfit"),
    ],
)
def test_a_judge_that_asks_anything_else_is_refused(wanted: Workload, reason: str) -> None:
    with pytest.raises(HalftrackError) as caught:
        inbox.judged(sealed(judged_plan(wanted)), keys.trust_of(A), None)
    assert caught.value.reason == reason


def test_a_verdict_that_contradicts_itself_is_refused_before_it_is_journaled() -> None:
    with pytest.raises(HalftrackError) as caught:
        inbox.judged(sealed(judged_plan(judge(judge=Judge((PAIR,), TOO_MANY, 32)), TOO_MANY)), keys.trust_of(A), None)
    assert caught.value.reason == "plan-misfit"
    assert "cannot be of dtype 'float'" in caught.value.message


@pytest.mark.parametrize("leg", [0, 1])
@pytest.mark.parametrize("phase", Phase)
def test_it_is_wanted_while_its_word_counts_and_touches_nobody_else(phase: Phase, leg: int) -> None:
    trusted = inbox.judged(sealed(judged_plan()), keys.trust_of(A), None)
    assert trusted is not None
    records = {SWAP.swap_id: SwapRecord(SWAP.swap_id, 5, leg, phase, 2, 116, 0, 0, 0, 0, "")}
    with_judge = core.wanted_now(trusted, records)
    assert (judge().name in with_judge.workloads) == (leg == 0 and phase in gates.GATED)
    without = inbox.judged(sealed(plan(A, 2, swap=True)), keys.trust_of(A), None)
    assert without is not None
    others = {name: w for name, w in with_judge.workloads.items() if name != judge().name}
    assert others == core.wanted_now(without, records).workloads
    assert judge().name not in with_judge.trial, "a judge that ends is no evidence against green"
