"""An inlet whose inputs are edited goes on with new orders; what it passes is read from its ring, and told."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import events as ev
from halftrack_agent import health, inlet_orders
from halftrack_agent.lifecycle import Phase
from halftrack_agent.reconcile import Instance, Wanted
from halftrack_model.observed import Health, Owner
from halftrack_model.workload import Inlet, InletInput, RingSpec, Workload
from tests.agent_core.plans import inlet, ring
from tests.agent_core.test_reconcile import Host, looked

OUT = "spectra/spectrometer.in"


def reading(*generations: int, **fields: object) -> Workload:
    """An inlet with one input of each generation."""
    inputs = tuple(
        replace(
            InletInput(f"in{each}", f"spectra/in{each}", "lossless", 1, 0, False, 0, 0, 0, (), 0, 0, each), **fields
        )  # type: ignore[arg-type]
        for each in generations
    )
    return replace(inlet(), inlet=Inlet(inputs, "", 0, False))


def wanted_of(workload: Workload) -> Wanted:
    rings: dict[str, RingSpec] = {name: ring(name) for name in (*workload.read_rings, OUT)}
    return Wanted({workload.name: workload}, rings, {}, frozenset(), (workload,))


def owned(
    generation: int, first: int, *, applied: bool = True, head: int = 5000, lags: Mapping[str, int] | None = None
) -> ev.RingSeen:
    """The inlet's ring, when so many have passed."""
    cut = ev.CutSeen(generation, generation, None, first if applied else None)
    return ev.RingSeen(OUT, head, 0, 256, lags or {}, (cut,))


edits = st.lists(
    st.tuples(st.sampled_from(["edit", "kill", "new agent"]), st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True)),
    max_size=12,
)  # fmt: skip


@given(edits)
def test_edits_never_end_an_inlet_that_runs(steps: list[tuple[str, list[int]]]) -> None:
    # invariant: R2
    host, known, now_ms = Host(), dict[str, Instance](), 0
    workload = reading(0)
    for what, generations in steps:
        if what == "edit":
            workload = reading(*sorted({*generations, 4}))
        elif what == "kill" and workload.name in host.instances:
            host.end(workload.name, None, 9)
        elif what == "new agent":
            known = {}
        for _ in range(30):
            now_ms += 1000
            known = dict(looked(host, wanted_of(workload), known, now_ms))
        assert known[workload.name].phase is Phase.RUNNING
        assert host.instances[workload.name].digest == workload.digest(), "it has the orders that are wanted"
    assert host.stopped == []
    before = list(host.reordered)
    looked(host, wanted_of(workload), known, now_ms + 1000)
    assert host.reordered == before, "said once is enough when it is seen"


@pytest.mark.parametrize(
    "change", [{"latest": True, "policy": "sample"}, {"rate_per_s": 5, "policy": "sample"}, {"generation": 0}]
)
def test_what_does_not_keep_numbers_or_was_never_to_be_edited_begins_anew(change: dict[str, object]) -> None:
    host, known = Host(), dict[str, Instance]()
    for now_ms, workload in ((0, reading(0)), (5000, reading(0, **{"replay_ms": 5} | change))):
        for look in range(20):
            known = dict(looked(host, wanted_of(workload), known, now_ms + look * 100))
    assert host.stopped == [reading(0).name]
    assert host.reordered == []


def test_an_inlet_begins_with_what_it_passes_whatever_else_is_missing() -> None:
    workload = reading(0, 7)
    wanted = replace(wanted_of(workload), rings={})
    host = Host(rings={OUT: owned(7, 10, applied=False), "spectra/in0": ev.RingSeen("spectra/in0", 0, 0, 256, {}, ())})
    assert looked(host, wanted, {}, 0)[workload.name].phase is Phase.STARTING
    host = Host(rings=host.rings | {OUT: owned(7, 10)})
    assert looked(host, wanted, {}, 0)[workload.name].phase is Phase.WAITING, "now it needs the other one"


def test_only_what_is_in_force_can_be_lagged_behind() -> None:
    workload = reading(0, 7)
    held = {workload.name: Instance(workload, Phase.RUNNING, 0, 0, 0, 0, 0, "")}

    def verdict(own: ev.RingSeen) -> health.Verdict:
        rings = {name: ev.RingSeen(name, 5000, 4000, 4096, {workload.name: lag}, ()) for name, lag in (("spectra/in0", 0), ("spectra/in7", 900))}  # fmt: skip
        verdicts: Mapping[str, health.Verdict] = {}
        for now_ms in (2000, 2000 + health.BEHIND_PATIENCE_MS):
            verdicts = health.judged(held, verdicts, ev.HostView({}, rings | {OUT: own}, {}, frozenset()), now_ms)
        return verdicts[workload.name]

    assert verdict(owned(7, 10, applied=False)).health is Health.HEALTHY
    assert verdict(owned(7, 10)).detail == "it does not keep up with spectra/in7"


@given(st.dictionaries(st.integers(1, 9), st.none() | st.integers(0, 99), max_size=5))
def test_what_is_told_is_what_the_table_has_applied_last(rows: dict[int, int | None]) -> None:
    cuts = tuple(ev.CutSeen(number, number, None, first) for number, first in rows.items())
    told = inlet_orders.owners([reading(0, 7)], {OUT: ev.RingSeen(OUT, 100, 0, 256, {}, cuts)})
    applied = {number: first for number, first in rows.items() if first is not None}
    assert told == ((Owner(OUT, max(applied), applied[max(applied)]),) if applied else ())
    assert inlet_orders.owners([], {}) == ()
