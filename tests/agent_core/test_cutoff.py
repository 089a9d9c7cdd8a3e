"""Being cut off: the clock of it, over boots and restarts, and what a plan holds back meanwhile."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import core, cutoff
from halftrack_agent.cutoff import Contact, ContactSeen, Keeping
from halftrack_agent.events import Emit, HostView, InstanceSeen, JournalPlan, Looked, Start, Stop
from halftrack_agent.state import AgentState
from halftrack_model import canonical
from halftrack_model.disconnect import MAX_AFTER_MS, ColdBoot, Disconnect
from halftrack_model.plan import Holding, Plan
from halftrack_model.report import Happened
from tests.agent_core.plans import A, sealed, service_plan
from tests.sim import keys

MINUTE_MS = 60_000
RULE = Disconnect(stop_after_ms=5 * MINUTE_MS)


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[str, int]]:
    """What happens to a host: `step` (in step for so long), `away`, `restart` of the agent, `boot` (the machine was off, nobody knows how long)."""
    words = st.sampled_from(["step", "away", "restart", "boot"])
    return draw(st.lists(st.tuples(words, st.integers(1, 10**7)), min_size=1, max_size=30))


# invariant: C1
@given(lives())
def test_away_is_the_time_that_the_machine_was_on_since_it_was_last_in_step(story: list[tuple[str, int]]) -> None:
    """Held against a plain count. Notes are made at each restart here, so nothing is forgotten."""
    boots, now_ms, away_ms, since_boot = 1, 1_000, 0, False
    contact = cutoff.recovered(None, "boot-1", now_ms)
    keeping = Keeping(contact, False, now_ms, now_ms)
    for word, length_ms in story:
        match word:
            case "step":
                now_ms += length_ms
                keeping = cutoff.looked(replace(keeping, contact=contact), now_ms, in_step=True)[0]
                contact, away_ms, since_boot = keeping.contact, 0, True
            case "away":
                now_ms, away_ms = now_ms + length_ms, away_ms + length_ms
            case "restart":
                contact = cutoff.recovered(replace(contact, noted_ms=now_ms), f"boot-{boots}", now_ms)
            case "boot":
                noted = replace(contact, noted_ms=now_ms)
                boots, now_ms, since_boot = boots + 1, length_ms % 50_000, False
                contact, away_ms = cutoff.recovered(noted, f"boot-{boots}", now_ms), away_ms + now_ms
        assert cutoff.seen(contact, now_ms) == ContactSeen(away_ms, since_boot)
        assert canonical.decode(Contact, canonical.encode(contact)) == contact


# invariant: R2
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 90_000)), min_size=1, max_size=12))
def test_an_agent_that_is_started_again_goes_on_where_the_one_before_it_ended(looks: list[tuple[bool, int]]) -> None:
    """It is killed at any look; what the disk says of the last minute would pass for being cut off."""
    keeping, now_ms, beat = Keeping(cutoff.recovered(None, "boot-1", 0), False, 0, 0), 0, None
    for in_step, length_ms in looks:
        for _ in range(length_ms // 500 + 1):
            now_ms += 500
            keeping, note, beats = cutoff.looked(keeping, now_ms, in_step=in_step)
            assert beats or not note
            beat = keeping.contact if beats else beat
    noted = Contact("boot-1", max(0, now_ms - 59_000), 0, max(0, now_ms - 59_000))
    after = cutoff.recovered(noted, "boot-1", now_ms + 10, beat=beat, obeys=True)
    truth = cutoff.away_ms(keeping.contact, now_ms)
    assert truth <= cutoff.away_ms(after, now_ms + 10) <= truth + cutoff.BEAT_EVERY_MS + 10


# invariant: R2
@given(st.integers(0, 10**8), st.integers(0, 10**8), st.integers(0, 10**6))
def test_the_last_word_of_this_boot_counts_whichever_file_has_it(first_ms: int, second_ms: int, since_ms: int) -> None:
    """Memory may be full while the disk is not (rings are in memory), and the other way round: the older word would pass for being cut off."""
    words = [Contact("boot-1", at_ms, 0, at_ms) for at_ms in (first_ms, second_ms)]
    now_ms = max(first_ms, second_ms) + since_ms
    assert cutoff.away_ms(cutoff.recovered(words[0], "boot-1", now_ms, beat=words[1], obeys=True), now_ms) == since_ms


def test_a_host_that_has_a_plan_and_no_note_does_not_take_itself_for_one_that_was_never_cut_off() -> None:
    lost = cutoff.recovered(None, "boot-2", 5_000, obeys=True)
    longest = plan_with(Holding("page.page", Disconnect(stop_after_ms=MAX_AFTER_MS)))
    assert cutoff.held_back(longest, cutoff.seen(lost, 6_000))
    assert not cutoff.held_back(longest, cutoff.seen(cutoff.recovered(None, "boot-2", 5_000), 6_000))
    unkept = cutoff.recovered(Contact("boot-1", 100, 0, 200), "boot-2", 5_000, obeys=True, keeps=False)
    assert unkept == lost, "a note that cannot be written is an old one"
    mine = Contact("boot-2", 100, 0, 200)
    assert cutoff.recovered(None, "boot-2", 5_000, beat=mine, obeys=True, keeps=False) == mine
    other = Contact("boot-1", 100, 0, 200)
    assert cutoff.recovered(None, "boot-2", 5_000, beat=other, obeys=True) == lost, (
        "a beat of another boot says nothing"
    )


def installed(plan: Plan) -> AgentState:
    """An agent that has accepted it."""
    return core.recovered(keys.trust_of(A), (JournalPlan(sealed(plan)),), 1, 0)


def plan_with(holding: Holding) -> Plan:
    return replace(service_plan(), holdings=(holding,))


def test_what_holds_a_workload_back_and_in_which_words() -> None:
    name = service_plan().workloads[0].name
    cases = (
        (Holding(name), ContactSeen(10**12, False), ""),
        (Holding(name, idle=True), ContactSeen(0, True), "another host runs it"),
        (Holding(name, RULE), ContactSeen(5 * MINUTE_MS - 1, True), ""),
        (
            Holding(name, RULE),
            ContactSeen(5 * MINUTE_MS, True),
            "this host has been cut off for longer than 300 s (stopAfter)",
        ),
        (
            Holding(name, Disconnect(cold_boot=ColdBoot.WAIT)),
            ContactSeen(0, False),
            "it waits for the controller after a boot (coldBoot: wait)",
        ),
        (Holding(name, Disconnect(cold_boot=ColdBoot.WAIT)), ContactSeen(10**12, True), ""),
    )
    for holding, contact, reason in cases:
        assert cutoff.held_back(plan_with(holding), contact).get(name, "") == reason


def look(state: AgentState, contact: ContactSeen, now_ms: int, *, runs: bool) -> tuple[AgentState, list[object]]:
    assert state.plan is not None
    workload = state.plan.plan.workloads[0]
    seen = InstanceSeen(workload.name, workload.digest(), True, None, None, 100, "")
    instances = {workload.name: seen} if runs else {}
    view = HostView(instances, {}, {}, frozenset({workload.artifact}), contact=contact)
    state, actions = core.advance(state, Looked(view), now_ms)
    return state, list(actions)


# invariant: R1 R2 O1
def test_a_workload_stops_when_it_shall_and_comes_back_when_the_host_is_in_step() -> None:
    state = installed(plan_with(Holding(service_plan().workloads[0].name, RULE)))
    state, actions = look(state, ContactSeen(0, True), 1_000, runs=False)
    assert [type(a) for a in actions] == [Start]
    state, actions = look(state, ContactSeen(0, True), 2_000, runs=True)
    state, actions = look(state, ContactSeen(RULE.stop_after_ms - 1, True), 3_000, runs=True)
    assert actions == [], "a link that is away is no reason by itself"
    state, actions = look(state, ContactSeen(RULE.stop_after_ms, True), 4_000, runs=True)
    stop = next(a for a in actions if isinstance(a, Stop))
    assert "stopAfter" in stop.reason
    assert [a.happened for a in actions if isinstance(a, Emit)] == [Happened.INSTANCE_HELD]
    assert any("does not run" in problem for problem in core.observed(state).problems)
    state, actions = look(state, ContactSeen(RULE.stop_after_ms + 1, True), 5_000, runs=False)
    state, actions = look(state, ContactSeen(RULE.stop_after_ms + 2, True), 6_000, runs=False)
    assert actions == [], "said once"
    state, actions = look(state, ContactSeen(0, True), 7_000, runs=False)
    assert [type(a) for a in actions] == [Emit, Start]
    assert core.observed(state).problems == ()


# invariant: R1
def test_what_runs_elsewhere_is_stopped_and_is_no_problem() -> None:
    state = installed(plan_with(Holding(service_plan().workloads[0].name, idle=True)))
    state, actions = look(state, ContactSeen(0, True), 1_000, runs=True)
    assert any(isinstance(a, Stop) and a.reason == "another host runs it" for a in actions)
    assert core.observed(state).problems == ()


# invariant: R2 O1
def test_ten_thousand_flaps_of_the_link_start_and_stop_nothing() -> None:
    """Each ends just before the bound; the host is in step in between for one look."""
    state = installed(plan_with(Holding(service_plan().workloads[0].name, RULE)))
    state, _ = look(state, ContactSeen(0, True), 1_000, runs=False)
    state, _ = look(state, ContactSeen(0, True), 2_000, runs=True)
    now_ms, done = 2_000, list[object]()
    for _ in range(10_000):
        for away_ms in (RULE.stop_after_ms - 1, 0):
            now_ms += 1_000
            state, actions = look(state, ContactSeen(away_ms, True), now_ms, runs=True)
            done += actions
    assert done == []
