"""Health: three values, held against hand-made looks."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import health
from halftrack_agent.events import HostView, RingSeen
from halftrack_agent.health import BEHIND_PATIENCE_MS, FEW_FRAMES, SETTLED_MS, Verdict
from halftrack_agent.lifecycle import Phase
from halftrack_agent.reconcile import Instance
from halftrack_dataplane.frames import reader_name
from halftrack_model.observed import Health
from halftrack_model.release import StateSchemas
from halftrack_model.workload import Kind, Runs, Workload
from tests.agent_core.plans import inlet

NAME, RING = "spectra.sink", "spectra/spectrometer"


def instance(phase: Phase = Phase.RUNNING, runs: Runs = Runs.SINK) -> Instance:
    workload = Workload(
        NAME, Kind.VERTEX, runs, "", "", (), {}, RING, "", "", "1.0.0", StateSchemas("", ()), member=None
    )
    return Instance(workload, phase, 0, 0, 0, 0, 0, "why")


def view(lag: int | None, retained: int = 1000) -> HostView:
    lags = {} if lag is None else {NAME: lag}
    return HostView({}, {RING: RingSeen(RING, 5000, 5000 - retained, 4096, lags, ())}, {}, frozenset())


def after(lags: list[tuple[int, int | None]], runs: Runs = Runs.SINK) -> Verdict:
    """The verdict after a look at each (time, lag)."""
    verdicts: dict[str, Verdict] = {}
    for now_ms, lag in lags:
        verdicts = dict(health.judged({NAME: instance(runs=runs)}, verdicts, view(lag), now_ms))
    return verdicts[NAME]


def plain(verdict: Verdict) -> tuple[Health, str, int]:
    """What is said of it, without what is only remembered."""
    return verdict.health, verdict.detail, verdict.behind_since_ms


# invariant: O1
@given(st.sampled_from([phase for phase in Phase if phase is not Phase.RUNNING]), st.integers(0, 10**6))
def test_what_does_not_run_is_never_healthy_unless_it_is_a_finished_job(phase: Phase, now_ms: int) -> None:
    verdict = health.judged({NAME: instance(phase)}, {}, view(0), now_ms)[NAME]
    assert (verdict.health is Health.HEALTHY) == (phase is Phase.ENDED)
    assert (verdict.health is Health.UNHEALTHY) == (phase in (Phase.FAILED, Phase.RESTING)), "only an end is evidence"
    assert verdict.detail == "why"


# invariant: O1
def test_a_start_is_unknown_before_it_is_healthy() -> None:
    assert after([(SETTLED_MS - 1, 0)]).health is Health.UNKNOWN
    assert after([(SETTLED_MS, 0)]).health is Health.HEALTHY


@given(st.integers(0, BEHIND_PATIENCE_MS - 1))
def test_a_burst_changes_no_verdict(length_ms: int) -> None:
    assert after([(2000, 0), (3000, 900), (3000 + length_ms, 900)]).health is Health.HEALTHY
    assert after([(2000, 0), (3000, 900), (3000 + length_ms, 0), (9000, 900)]).health is Health.HEALTHY


def test_lagging_on_end_is_unhealthy_until_well_below_the_mark() -> None:
    behind = [(2000, 0), (3000, 501), (3000 + BEHIND_PATIENCE_MS, 501)]
    assert after(behind).health is Health.UNHEALTHY
    assert RING in after(behind).detail
    assert after([*behind, (9000, 251)]).health is Health.UNHEALTHY
    assert plain(after([*behind, (9000, 250)])) == (Health.HEALTHY, "", -1)


def test_not_reading_at_all_is_unhealthy_except_for_who_reads_elsewhere() -> None:
    silent = [(2000, None), (2000 + BEHIND_PATIENCE_MS, None)]
    assert after(silent).health is Health.UNHEALTHY
    assert after(silent, Runs.BRIDGE_RECEIVER).health is Health.HEALTHY


def test_a_reader_is_found_by_the_name_that_its_ring_keeps() -> None:
    name = "northern-telescope-array.polarisation-spectrometer.a@1.10.0-rc.1"
    reading = instance()
    reading = replace(reading, workload=replace(reading.workload, name=name))
    seen = HostView({}, {RING: RingSeen(RING, 9, 0, 16, {reader_name(name): 0}, ())}, {}, frozenset())
    verdicts = health.judged({name: reading}, {}, seen, 2000)
    assert plain(verdicts[name]) == (Health.HEALTHY, "", -1)


def test_few_frames_are_no_lag() -> None:
    verdicts = health.judged({NAME: instance()}, {}, view(FEW_FRAMES, retained=FEW_FRAMES), 2000)
    assert plain(verdicts[NAME]) == (Health.HEALTHY, "", -1)


def test_an_inlet_follows_each_input_that_may_not_be_lost() -> None:
    """`left` may be evicted unless a test says otherwise; `right` is a sample, and lags as it likes."""

    def verdict(inlet_workload: Workload, lags: dict[str, int]) -> Verdict:
        rings = {ring: RingSeen(ring, 5000, 4000, 4096, {inlet_workload.name: lag}, ()) for ring, lag in lags.items()}
        held = {inlet_workload.name: replace(instance(), workload=inlet_workload)}
        verdicts: dict[str, Verdict] = {}
        for now_ms in (2000, 2000 + BEHIND_PATIENCE_MS):
            verdicts = dict(health.judged(held, verdicts, HostView({}, rings, {}, frozenset()), now_ms))
        return verdicts[inlet_workload.name]

    lossless = inlet(evict_after_ms=0)
    assert (
        verdict(lossless, {"spectra/left": 900, "spectra/right": 0}).detail == "it does not keep up with spectra/left"
    )
    assert verdict(lossless, {"spectra/left": 0, "spectra/right": 900}).health is Health.HEALTHY
    assert verdict(inlet(), {"spectra/left": 900, "spectra/right": 0}).health is Health.HEALTHY
    spooled = inlet(evict_after_ms=0, spool="spectra.spectrometer.spool-left")
    assert verdict(spooled, {"spectra/left": 900, "spectra/right": 0}).health is Health.HEALTHY, "it may be far behind"
