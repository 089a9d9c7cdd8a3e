"""Reconcile on a small host that does what it is told: converges, then rests; never touches what runs as wanted."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import events as ev
from halftrack_agent.lifecycle import Phase
from halftrack_agent.reconcile import PAUSE_CAP_MS, Instance, Wanted, fell_by, pause_ms, reconciled
from halftrack_model.workload import Kind, Workload
from tests.agent_core.plans import inlet, member_workload, merge, ring, spool

LOOK_MS = 100
ARTIFACTS = {member_workload("a", version).artifact: 1000 for version in ("1.0.0", "1.1.0")}


def workloads() -> dict[str, Workload]:
    """Four that may be wanted."""
    some = [member_workload("a", "1.0.0"), member_workload("a", "1.1.0"), member_workload("b", "1.0.0"), merge()]
    return {workload.name: workload for workload in some}


ALL = workloads()
RINGS = {name: ring(name) for w in ALL.values() for name in (w.reads_ring, w.writes_ring) if name}


def wanted_of(names: frozenset[str], param: int = 0, trial: frozenset[str] = frozenset()) -> Wanted:
    """Some of them, in one form or another."""
    chosen = {name: replace(ALL[name], params={"n": param} if param else {}) for name in names}
    return Wanted(chosen, RINGS, ARTIFACTS, trial, tuple(ALL.values()))


@dataclass
class Host:
    """Does at once whatever it is told; faults are put in by hand."""

    instances: dict[str, ev.InstanceSeen] = field(default_factory=dict)
    rings: dict[str, ev.RingSeen] = field(default_factory=dict)
    artifacts: set[str] = field(default_factory=set)
    stopped: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)

    def view(self) -> ev.HostView:
        """One look."""
        return ev.HostView(dict(self.instances), dict(self.rings), {}, frozenset(self.artifacts))

    def carry_out(self, actions: tuple[ev.Action, ...]) -> None:
        """In order."""
        for action in actions:
            match action:
                case ev.CreateRing(made):
                    self.rings[made.name] = ev.RingSeen(made.name, 0, 0, made.slots, {}, ())
                case ev.RemoveRing(name):
                    del self.rings[name]
                case ev.Fetch(digest):
                    self.artifacts.add(digest)
                case ev.Start(workload):
                    assert workload.name not in self.instances, "started while there is one of that name"
                    self.run(workload)
                case ev.Reorder(workload):
                    seen = self.instances[workload.name]
                    assert seen.running, "who does not run takes no orders"
                    self.instances[workload.name] = replace(seen, digest=workload.digest())
                    self.reordered.append(workload.name)
                case ev.Stop(name):
                    self.stopped.append(name)
                    self.end(name, 0, None)
                case ev.Forget(name):
                    assert name not in self.instances or not self.instances[name].running
                    self.instances.pop(name, None)

    def run(self, workload: Workload) -> None:
        """An instance of it runs."""
        self.instances[workload.name] = ev.InstanceSeen(workload.name, workload.digest(), True, None, None, 0, "")

    def end(self, name: str, exit_code: int | None, signal: int | None) -> None:
        """It ends."""
        seen = self.instances[name]
        self.instances[name] = replace(seen, running=False, exit_code=exit_code, signal=signal)


def looked(host: Host, wanted: Wanted, known: Mapping[str, Instance], now_ms: int) -> Mapping[str, Instance]:
    """One look and all that it leads to."""
    known, actions = reconciled(wanted, known, host.view(), now_ms, 1)
    host.carry_out(actions)
    return known


names = st.frozensets(st.sampled_from(sorted(ALL)))
faults = st.lists(
    st.tuples(st.sampled_from(sorted(ALL)), st.sampled_from(["kill", "exit", "vanish", "lose-ring"])), max_size=6
)


def harm(host: Host, name: str, how: str) -> None:
    """A fault."""
    if how == "lose-ring":
        host.rings.pop(ALL[name].writes_ring, None)
    elif name in host.instances and host.instances[name].running:
        if how == "vanish":
            del host.instances[name]
        else:
            host.end(name, 1 if how == "exit" else None, 9 if how == "kill" else None)


# invariant: R1
@given(first=names, then=names, param=st.integers(0, 1), harms=faults, forgetful=st.booleans())
def test_faults_stop_and_it_converges_then_rests(
    first: frozenset[str], then: frozenset[str], param: int, harms: list[tuple[str, str]], forgetful: bool
) -> None:
    host, known, now_ms = Host(), dict[str, Instance](), 0
    for name, how in [*harms, ("", "")]:
        known = dict(looked(host, wanted_of(first), known, now_ms))
        now_ms += LOOK_MS
        if name:
            harm(host, name, how)
    known = {} if forgetful else known  # the agent restarts
    wanted = wanted_of(then, param)
    for _ in range(2 * PAUSE_CAP_MS // LOOK_MS):  # six faults make a pause far below the cap
        known = dict(looked(host, wanted, known, now_ms))
        now_ms += LOOK_MS
        running = {n: seen.digest for n, seen in host.instances.items() if seen.running}
        if (
            running
            == {n: w.digest() for n, w in wanted.workloads.items()}
            == {n: s.digest for n, s in host.instances.items()}
        ):
            break
    assert running == {name: workload.digest() for name, workload in wanted.workloads.items()}
    assert set(host.rings) == set(wanted.rings)
    looked(host, wanted, known, now_ms)  # adopts what it has just started
    known, actions = reconciled(wanted, known, host.view(), now_ms + LOOK_MS, 1)
    again, more = reconciled(wanted, known, host.view(), now_ms + 2 * LOOK_MS, 1)
    assert (actions, more, again) == ((), (), known), "the same input again changes nothing"


# invariant: R2
@given(running=names, wanted=names, lives=st.integers(1, 4))
def test_what_runs_as_wanted_is_never_touched_even_by_a_fresh_agent(
    running: frozenset[str], wanted: frozenset[str], lives: int
) -> None:
    host = Host(artifacts=set(ARTIFACTS))
    for name in running:
        host.run(ALL[name])
    before = {name: host.instances[name] for name in running & wanted}
    for life in range(lives):
        known: Mapping[str, Instance] = {}  # an agent remembers nothing of its last life
        for look in range(3):
            known = looked(host, wanted_of(wanted), known, life * 1_000 + look * LOOK_MS)
    assert {name: host.instances[name] for name in running & wanted} == before
    assert not set(host.stopped) & wanted
    assert set(host.stopped) == running - wanted


def test_a_changed_workload_is_replaced_and_its_neighbour_left_alone() -> None:
    host, known = Host(), dict[str, Instance]()
    pair = frozenset({"spectra.spectrometer.a@1.0.0", "spectra.spectrometer.merge"})
    for look in range(4):
        known = dict(looked(host, wanted_of(pair), known, look * LOOK_MS))
    wanted = wanted_of(pair)
    changed = replace(wanted.workloads["spectra.spectrometer.a@1.0.0"], params={"n": 5})
    wanted = replace(wanted, workloads={**wanted.workloads, changed.name: changed})
    for look in range(4, 10):
        known = dict(looked(host, wanted, known, look * LOOK_MS))
    assert host.stopped == [changed.name]
    assert host.instances[changed.name].digest == changed.digest()


# invariant: S1
def test_a_ring_goes_after_its_writer_also_under_a_fresh_agent() -> None:
    member = ALL["spectra.spectrometer.a@1.0.0"]
    kept = {name: ring for name, ring in RINGS.items() if name != member.writes_ring}
    wanted = replace(wanted_of(frozenset()), rings=kept)
    rings = {name: ev.RingSeen(name, 0, 0, 256, {"merge": 0}, ()) for name in RINGS}
    host = Host(rings=rings, artifacts=set(ARTIFACTS))
    host.run(member)
    _, first = reconciled(wanted, {}, host.view(), 0, 1)
    assert ev.RemoveRing(member.writes_ring) not in first, "its writer may be wanted again before it has gone"
    host.end(member.name, 0, None)
    _, then = reconciled(wanted, {}, host.view(), 1, 1)
    assert ev.RemoveRing(member.writes_ring) in then, "readers keep what they have mapped"


def test_a_spool_goes_only_when_the_plan_in_force_does_not_name_it_and_nobody_writes_there() -> None:
    # invariant: R3
    kept = spool()
    host = Host(artifacts=set(ARTIFACTS))

    def removed(named: tuple[Workload, ...]) -> bool:
        wanted = replace(wanted_of(frozenset()), named=named)
        _, actions = reconciled(wanted, {}, replace(host.view(), spools=frozenset({kept.name})), 0, 1)
        return ev.RemoveSpool(kept.name) in actions

    assert not removed((kept,)), "named is enough, wanted now or not"
    host.run(kept)
    assert not removed(())
    host.end(kept.name, 0, None)
    assert not removed(()), "it has ended, and is forgotten first"
    del host.instances[kept.name]
    assert removed(())


def test_all_that_the_plan_may_ever_run_is_fetched_at_once() -> None:
    _, actions = reconciled(wanted_of(frozenset()), {}, Host().view(), 0, 1)
    assert {action.digest for action in actions if isinstance(action, ev.Fetch)} == set(ARTIFACTS)


@given(st.integers(0, 10**9), st.text(max_size=20), st.integers(0, 2**31))
def test_pauses_are_capped_and_never_negative_after_a_month_of_strikes(strikes: int, name: str, seed: int) -> None:
    assert 0 <= pause_ms(strikes, name, seed) <= PAUSE_CAP_MS


def test_pauses_spread_over_their_whole_range() -> None:
    pauses = [pause_ms(10**9, f"w{n}", 7) for n in range(200)]
    assert min(pauses) < PAUSE_CAP_MS // 10
    assert max(pauses) > PAUSE_CAP_MS * 9 // 10
    assert len(set(pauses)) > 190
    assert {pause_ms(strikes, "w", 7) for strikes in (0, 1)} == {0}, "a first death is answered at once"


def test_a_trial_that_fell_is_not_started_again_and_its_end_is_seen_at_once() -> None:
    name = "spectra.spectrometer.a@1.1.0"
    wanted = wanted_of(frozenset({name}), trial=frozenset({name}))
    host, known = Host(), dict[str, Instance]()
    for look in range(4):
        known = dict(looked(host, wanted, known, look * LOOK_MS))
    host.end(name, 1, None)
    assert fell_by(known[name], host.instances[name]) == "exit status 1", "before any look has made anything of it"
    assert fell_by(None, host.instances[name]) == "exit status 1", "and by an agent that has just come back"
    for look in range(4, 200):
        known = dict(looked(host, wanted, known, look * LOOK_MS))
    assert known[name].phase is Phase.FAILED
    assert not host.instances[name].running


# invariant: R1
def test_what_fell_on_trial_runs_again_once_its_release_is_in_force() -> None:
    """Found by the model: the word of its end came after the swap was done, and the pair stayed with one member."""
    name = "spectra.spectrometer.a@1.1.0"
    trial, over = (wanted_of(frozenset({name}), trial=frozenset(on)) for on in ({name}, ()))
    host, known = Host(), dict[str, Instance]()
    for look in range(4):
        known = dict(looked(host, trial, known, look * LOOK_MS))
    host.end(name, 1, None)
    for look in range(4, 20):
        known = dict(looked(host, trial, known, look * LOOK_MS))
    assert known[name].phase is Phase.FAILED
    for look in range(20, 40):
        known = dict(looked(host, over, known, look * LOOK_MS))
    assert known[name].phase is Phase.RUNNING


def test_an_end_that_was_asked_for_is_no_fault() -> None:
    workload = ALL["spectra.spectrometer.a@1.1.0"]
    seen = ev.InstanceSeen(workload.name, workload.digest(), False, 1, None, 0, "interrupted")
    stopping = Instance(workload, Phase.STOPPING, 0, 0, 0, 0, 0, "")
    assert fell_by(stopping, seen) == ""
    assert fell_by(None, replace(seen, exit_code=None, signal=9)) == ""


def test_a_job_ends_once() -> None:
    job = replace(ALL["spectra.spectrometer.a@1.0.0"], kind=Kind.JOB)
    wanted = replace(wanted_of(frozenset({job.name})), workloads={job.name: job})
    host, known = Host(), dict[str, Instance]()
    for look in range(4):
        known = dict(looked(host, wanted, known, look * LOOK_MS))
    host.end(job.name, 0, None)
    for look in range(4, 50):
        known = dict(looked(host, wanted, {} if look == 20 else known, look * LOOK_MS))
    assert known[job.name].phase is Phase.ENDED
    assert not host.instances[job.name].running


@given(st.permutations(["spectra/left", "spectra/right", "spectra/spectrometer.in"]))
def test_an_inlet_starts_when_all_its_rings_are_there(order: list[str]) -> None:
    joined = inlet()
    wanted = Wanted({joined.name: joined}, {}, {}, frozenset(), (joined,))
    view = ev.HostView({}, {}, {}, frozenset())
    known: Mapping[str, Instance] = {}
    for name in order:
        known, actions = reconciled(wanted, known, view, 0, 1)
        assert not any(isinstance(action, ev.Start) for action in actions)
        view = replace(view, rings={**view.rings, name: ev.RingSeen(name, 0, 0, 256, {}, ())})
        joined_now, _ = reconciled(wanted, known, view, 0, 1)
        assert joined_now[joined.name].phase is (Phase.STARTING if len(view.rings) == 3 else Phase.WAITING)
