"""The inbox: each rule refuses by its name, nothing changes, and only what it accepts becomes a TrustedPlan."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import core, inbox
from halftrack_agent import events as ev
from halftrack_agent.state import AgentState
from halftrack_model import canonical, seals
from halftrack_model.disconnect import Disconnect
from halftrack_model.errors import HalftrackError
from halftrack_model.limits import MAX_PLAN_BYTES
from halftrack_model.plan import Holding, Plan
from halftrack_model.probes import Checks, Probe, ProbeKind
from halftrack_model.release import AGENT
from halftrack_model.report import Happened
from halftrack_model.seals import Sealed
from halftrack_model.workload import Runs, SpoolLimits, Workload
from tests.agent_core.plans import (
    GALAXY,
    A,
    B,
    inlet,
    member,
    merge,
    plan,
    ring,
    sealed,
    sealed_release,
    service_plan,
    service_release,
    spool,
)
from tests.sim import keys

TRUST = keys.trust_of(A)
HELD = sealed(plan(revision=7))
AGENT_MADE = replace(service_release(), product=AGENT, version="9.0.0", unpack=True)


def holding(*accepted: Sealed) -> AgentState:
    """An agent that has accepted these."""
    return core.recovered(TRUST, [ev.JournalPlan(each) for each in accepted], 1, 0)


def changed(revision: int = 8, **values: object) -> Sealed:
    """A well sealed plan with something else in it."""
    return sealed(replace(plan(revision=revision), **values))  # type: ignore[arg-type]


def workloads_changed(**values: object) -> Sealed:
    """The same, in its first workload."""
    first, *rest = plan().workloads
    return changed(workloads=(replace(first, **values), *rest))  # type: ignore[arg-type]


def _of_stranger(wanted: Plan) -> Sealed:
    return keys.sealed(seals.PLAN, canonical.encode(wanted), keys.STRANGER)


SWAPPING = plan(revision=8, swap=True)
LEG_AWAY = replace(SWAPPING.swaps[0], seats=SWAPPING.swaps[0].seats[:1])


def peer_changed(**values: object) -> Sealed:
    """The same, in its peer."""
    return changed(peers=(replace(plan().peers[0], **values),))  # type: ignore[arg-type]


def inlet_added(wanted: Workload, *others: Workload) -> Sealed:
    """The plan with an inlet and all rings that it should need."""
    rings = tuple(ring(f"spectra/{name}") for name in ("left", "right", "spectrometer.in"))
    return changed(workloads=(*plan().workloads, *others, wanted), rings=(*plan().rings, *rings))


def ring_added(**values: object) -> Sealed:
    """The same, with another ring."""
    return changed(rings=(*plan().rings, replace(ring("spectra/other", member("a", "1.0.0")), **values)))  # type: ignore[arg-type]


def service_changed(**values: object) -> Sealed:
    """A page's plan, with its one workload otherwise."""
    wanted = service_plan()
    return sealed(replace(wanted, revision=8, workloads=(replace(wanted.workloads[0], **values),)))  # type: ignore[arg-type]


def held_by(*holdings: Holding) -> Sealed:
    """A page's plan that says how to hold what."""
    return sealed(replace(service_plan(), revision=8, holdings=holdings))


REFUSED: dict[str, tuple[str, Callable[[], Sealed]]] = {
    "a stranger's seal": ("unknown-key", lambda: _of_stranger(plan(revision=8))),
    "no seal at all": ("unknown-key", lambda: replace(sealed(plan(revision=8)), seals=())),
    "a seal of other bytes": ("bad-signature", lambda: replace(sealed(plan(revision=8)), seals=HELD.seals)),
    "sealed as a release": (
        "wrong-kind",
        lambda: keys.sealed(seals.RELEASE, canonical.encode(plan(revision=8)), keys.PLAN),
    ),
    "truncated after it was sealed": (
        "bad-signature",
        lambda: replace(sealed(plan(revision=8)), payload=sealed(plan(revision=8)).payload[:-1]),
    ),
    "truncated before": (
        "bad-encoding",
        lambda: keys.sealed(seals.PLAN, canonical.encode(plan(revision=8))[:-9], keys.PLAN),
    ),
    "a field too many": (
        "bad-field",
        lambda: keys.sealed(seals.PLAN, canonical.encode(plan(revision=8))[:-1] + b',"x":1}', keys.PLAN),
    ),
    "oversized": ("plan-too-long", lambda: Sealed(seals.PLAN, b" " * (MAX_PLAN_BYTES + 1), ())),
    "another galaxy's": ("wrong-galaxy", lambda: changed(galaxy="andromeda")),
    "another host's": ("wrong-host", lambda: sealed(plan(B, revision=8))),
    "an older revision": ("older-revision", lambda: sealed(plan(revision=6))),
    "a revision used again": ("revision-reused", lambda: changed(revision=7, environment="other")),
    "empty": ("empty-plan", lambda: changed(workloads=(), rings=())),
    "an artifact that no release names": (
        "unreleased-artifact",
        lambda: workloads_changed(artifact="sha256:" + "0" * 64),
    ),
    "a released artifact by another entry": ("unreleased-artifact", lambda: workloads_changed(entry="os:system")),
    "a released artifact as another version": ("unreleased-artifact", lambda: workloads_changed(version="9.9.9")),
    "a command that no release is sealed with": (
        "unreleased-command",
        lambda: service_changed(argv=("rm", "-rf", "/")),
    ),
    "an archive's folder where the file was meant": ("unreleased-command", lambda: service_changed(unpacked=True)),
    "a probe that no release is sealed with": (
        "unreleased-probe",
        lambda: service_changed(checks=Checks((Probe("exec", ProbeKind.EXEC, command=("reboot",)),))),
    ),
    "an entry that runs a command": ("unreleased-command", lambda: workloads_changed(argv=("rm",))),
    "a command without its settings": ("plan-misfit", lambda: service_changed(params={})),
    "a stream's process in its host's network": ("plan-misfit", lambda: workloads_changed(host_network=True)),
    "a word on what is not there": ("plan-misfit", lambda: held_by(Holding("page.other", idle=True))),
    "two words on one": ("plan-misfit", lambda: held_by(Holding("page.page"), Holding("page.page", idle=True))),
    "a bound that there is not": ("plan-misfit", lambda: held_by(Holding("page.page", Disconnect(stop_after_ms=1)))),
    "a release sealed by the plan key": (
        "unknown-key",
        lambda: changed(releases=(sealed_release("1.0.0", keys.PLAN),)),
    ),
    "a workload twice": ("plan-misfit", lambda: changed(workloads=plan().workloads * 2)),
    "a ring twice": ("plan-misfit", lambda: changed(rings=plan().rings * 2)),
    "a path that leads away": ("plan-misfit", lambda: workloads_changed(name="../../etc/passwd")),
    "an absolute path": ("plan-misfit", lambda: workloads_changed(name="/etc/passwd")),
    "a name that is none": ("plan-misfit", lambda: workloads_changed(name="")),
    "a name of two parts": ("plan-misfit", lambda: workloads_changed(name="a/b")),
    "a ring that hides": ("plan-misfit", lambda: ring_added(name="spectra/.other")),
    "a ring with half a descriptor": ("plan-misfit", lambda: ring_added(slots=3)),
    "a ring that takes more than there is of it": ("plan-misfit", lambda: ring_added(capacity_bytes=-1)),
    "a ring that keeps for ever": ("plan-misfit", lambda: ring_added(retain_ms=1 << 62)),
    "a ring that keeps less than nothing": ("plan-misfit", lambda: ring_added(retain_ms=-1)),
    "an inlet without orders": ("plan-misfit", lambda: inlet_added(replace(inlet(), inlet=None))),
    "a merge with an inlet's orders": ("plan-misfit", lambda: inlet_added(replace(inlet(), runs=Runs.MERGE))),
    "an inlet of a ring that nobody makes": ("plan-misfit", lambda: inlet_added(inlet(ring="spectra/nothing"))),
    "an inlet of a policy that there is not": ("plan-misfit", lambda: inlet_added(inlet(policy="greedy"))),
    "an inlet that asks a spool which there is not": ("plan-misfit", lambda: inlet_added(inlet(spool=spool().name))),
    "an inlet that asks a spool of another ring": (
        "plan-misfit",
        lambda: inlet_added(inlet(spool=spool().name), replace(spool(), reads_ring="spectra/right")),
    ),
    "a spool without limits": ("plan-misfit", lambda: inlet_added(inlet(), replace(spool(), spool=None))),
    "a spool without a ring": ("plan-misfit", lambda: inlet_added(inlet(), replace(spool(), reads_ring=""))),
    "a spool of no size": (
        "plan-misfit",
        lambda: inlet_added(inlet(), replace(spool(), spool=SpoolLimits(0, 0, "block"))),
    ),
    "a merge with a spool's limits": ("plan-misfit", lambda: inlet_added(inlet(), replace(spool(), runs=Runs.MERGE))),
    "an inlet of a part beyond all": ("plan-misfit", lambda: inlet_added(inlet(key_take=(3,)))),
    "a generation below all": ("plan-misfit", lambda: ring_added(member=replace(member("a", "1.0.0"), generation=-1))),
    "a generation without epochs": (
        "plan-misfit",
        lambda: ring_added(member=replace(member("a", "1.0.0"), generation=1 << 62)),
    ),
    "a version that no cut can bear": ("plan-misfit", lambda: ring_added(member=member("a", "1.0." + "0" * 90))),
    "a member whose snapshots lie elsewhere": (
        "plan-misfit",
        lambda: workloads_changed(member=replace(member("a", "1.0.0"), graph="../../../etc")),
    ),
    "an artifact by a name": (
        "plan-misfit",
        lambda: changed(workloads=(*plan().workloads[:-1], replace(merge(), artifact="latest"))),
    ),
    "a peer without a key": ("plan-misfit", lambda: peer_changed(curve_public="short")),
    "a peer with a key in no alphabet": ("plan-misfit", lambda: peer_changed(curve_public="é" * 40)),
    "a peer at no address": ("plan-misfit", lambda: peer_changed(agent="nonsense")),
    "a peer at a port beyond all": ("plan-misfit", lambda: peer_changed(bridge="10.0.0.2:70000")),
    "a sibling twice": ("plan-misfit", lambda: changed(siblings=plan().peers * 2)),
    "a sibling at no address": (
        "plan-misfit",
        lambda: changed(siblings=(replace(plan().peers[0], agent="nonsense"),)),
    ),
    "itself as a sibling": ("plan-misfit", lambda: changed(siblings=(replace(plan().peers[0], host=plan().host),))),
    "more siblings than can be asked": (
        "plan-misfit",
        lambda: changed(siblings=tuple(replace(plan().peers[0], host=f"h{number}") for number in range(65))),
    ),
    "a peer twice": ("plan-misfit", lambda: changed(peers=plan().peers * 2)),
    "a ring that nobody makes": ("plan-misfit", lambda: workloads_changed(reads_ring="spectra/nothing")),
    "a swap with one seat": ("plan-misfit", lambda: sealed(replace(SWAPPING, swaps=(LEG_AWAY,)))),
    "a swap without its peer": ("plan-misfit", lambda: sealed(replace(SWAPPING, peers=()))),
    "a swap without its green": ("plan-misfit", lambda: sealed(replace(SWAPPING, workloads=plan().workloads))),
}


# invariants: P1, P2, R3
@pytest.mark.parametrize(("reason", "made"), REFUSED.values(), ids=REFUSED)
def test_each_rule_refuses_by_its_name_and_changes_nothing(reason: str, made: Callable[[], Sealed]) -> None:
    state = holding(HELD)
    after, actions = core.advance(state, ev.PlanArrived(made()), 5)
    assert after == state
    assert len(actions) == 2
    nack, emit = actions
    assert isinstance(nack, ev.NackPlan)
    assert isinstance(emit, ev.Emit)
    assert (nack.reason, emit.happened, emit.subject) == (reason, Happened.PLAN_REFUSED, reason)
    assert nack.message, "a refusal says why in words"


@pytest.mark.parametrize(
    ("name", "revision"),
    [("an older revision", 6), ("empty", 8), ("a ring twice", 8), ("a stranger's seal", 0), ("another host's", 0)],
)
def test_a_refusal_names_the_plan_it_is_about_if_it_can_be_known(name: str, revision: int) -> None:
    _, actions = core.advance(holding(HELD), ev.PlanArrived(REFUSED[name][1]()), 5)
    assert isinstance(actions[0], ev.NackPlan)
    assert actions[0].revision == revision


# invariant: P1
def test_more_release_keys_may_be_needed_than_one() -> None:
    two = replace(TRUST, release_threshold=2)
    with pytest.raises(HalftrackError, match="1 genuine seals"):
        inbox.judged(HELD, two, None)


# invariant: P1
def test_only_the_inbox_makes_a_trusted_plan() -> None:
    with pytest.raises(AssertionError):
        inbox.TrustedPlan(plan(), HELD, {}, object())


# invariant: P3
@given(times=st.integers(1, 5), later_ms=st.integers(0, 10**10))
def test_redelivery_says_the_ack_again_and_does_nothing_else(times: int, later_ms: int) -> None:
    state, actions = core.advance(holding(), ev.PlanArrived(HELD), 0)
    assert [type(action) for action in actions] == [ev.JournalPlan, ev.AckPlan, ev.Emit], "durable, then acknowledged"
    for _ in range(times):
        again, repeated = core.advance(state, ev.PlanArrived(HELD), later_ms)
        assert again == state
        assert repeated == (ev.AckPlan(7),)


# invariant: P2
@given(st.lists(st.integers(1, 12), min_size=1, max_size=12))
def test_the_revision_in_force_only_rises_in_whatever_order_plans_come(revisions: list[int]) -> None:
    state, highest = holding(), 0
    for revision in revisions:
        state, actions = core.advance(state, ev.PlanArrived(sealed(plan(revision=revision))), 0)
        journaled = [action for action in actions if isinstance(action, ev.JournalPlan)]
        assert bool(journaled) == (revision > highest)
        highest = max(highest, revision)
        assert state.plan is not None
        assert state.plan.plan.revision == highest


# invariant: P1
@given(st.data())
def test_one_changed_byte_is_never_accepted(data: st.DataObject) -> None:
    good = sealed(plan(revision=8))
    where = data.draw(st.integers(0, len(good.payload) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != good.payload[where]))
    bad = good.payload[:where] + bytes([value]) + good.payload[where + 1 :]
    state = holding(HELD)
    after, actions = core.advance(state, ev.PlanArrived(replace(good, payload=bad)), 0)
    assert after == state
    assert isinstance(actions[0], ev.NackPlan)


# invariant: R3
def test_a_decommissioned_host_may_be_emptied() -> None:
    emptied = changed(workloads=(), rings=(), decommission=True)
    state, _ = core.advance(holding(HELD), ev.PlanArrived(emptied), 0)
    assert state.plan is not None
    assert state.plan.plan.workloads == ()


# invariant: R3
@given(st.booleans(), st.booleans(), st.booleans())
def test_a_plan_about_the_agent_alone_is_for_a_host_that_has_no_other_and_touches_nothing(
    works: bool, names: bool, lost: bool
) -> None:
    """Whatever runs there, of which the agent may have lost its record, is left alone, and so are its rings."""
    told = Plan(
        GALAXY,
        "tank",
        A,
        8,
        (keys.sealed(seals.RELEASE, canonical.encode(AGENT_MADE), keys.RELEASE),),
        (),
        (),
        (),
        (),
        False,
        agent="9.0.0" if names else "",
    )
    state = holding(*([HELD] if works else []))
    state, actions = core.advance(replace(state, floor=7 if lost else 0), ev.PlanArrived(sealed(told)), 0)
    if works or not names:
        assert isinstance(actions[0], ev.NackPlan)
        assert actions[0].reason == "empty-plan"
        return
    assert [type(each) for each in actions] == [ev.JournalPlan, ev.AckPlan, ev.Emit]
    unknown = ev.InstanceSeen("page.page", "sha256:0", True, None, None, 0, "")
    ring_too = ev.RingSeen("spectra/source", 9, 0, 8, {}, ())
    view = ev.HostView({"page.page": unknown}, {"spectra/source": ring_too}, {}, frozenset())
    state, actions = core.advance(state, ev.Looked(view, False), 1)
    assert actions == (ev.Fetch(AGENT_MADE.artifact.digest, AGENT_MADE.artifact.size_bytes),)
    state, actions = core.advance(
        state, ev.Looked(replace(view, artifacts=frozenset({AGENT_MADE.artifact.digest})), False), 2
    )
    assert actions == ()
    state, actions = core.advance(state, ev.PlanArrived(sealed(replace(told, revision=9))), 3)
    assert isinstance(actions[0], ev.JournalPlan)
    state, actions = core.advance(state, ev.PlanArrived(sealed(plan(revision=10))), 4)
    assert isinstance(actions[0], ev.JournalPlan)


def test_an_inlet_that_lacks_nothing_is_accepted() -> None:
    state, actions = core.advance(holding(HELD), ev.PlanArrived(inlet_added(inlet())), 0)
    assert isinstance(actions[0], ev.JournalPlan)
    assert state.plan is not None
    assert state.plan.plan.workloads[-1] == inlet()
    asks = inlet(spool=spool().name)
    state, _ = core.advance(holding(HELD), ev.PlanArrived(inlet_added(asks, spool())), 0)
    assert state.plan is not None
    assert state.plan.plan.workloads[-2:] == (spool(), asks)
