"""The agent's core: `(state, event, now) -> (state, actions)`. Pure; the loop carries the actions out, in order.

What it decides: whether a plan is obeyed (through `inbox`), which workloads and rings shall be here (the plan, and in a swap the
swap's record), how a swap goes on, and what to tell the other host. What it never does: look at a clock, a file or a socket.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from halftrack_agent import amnesia, cutoff, hanging, health, inlet_orders, seats, swap
from halftrack_agent.events import (
    AckPlan,
    Action,
    Emit,
    Event,
    ForgetSwap,
    HostView,
    JournalPlan,
    JournalSwap,
    Looked,
    NackPlan,
    PeerAnswered,
    PeerTold,
    PlanArrived,
)
from halftrack_agent.inbox import Trust, TrustedPlan, judged, revision_of
from halftrack_agent.reconcile import Wanted, missing, reconciled
from halftrack_agent.state import AgentState
from halftrack_model.errors import HalftrackError, InvalidInput, Refused, Untrusted
from halftrack_model.observed import AgentSeen, InstanceObserved, Observed, SwapWaits
from halftrack_model.plan import Plan
from halftrack_model.report import Happened
from halftrack_model.swap import Phase, SwapRecord
from halftrack_model.workload import Member, RingSpec, Runs, Workload

JournalEntry = JournalPlan | JournalSwap | ForgetSwap


def recovered(trust: Trust, entries: Iterable[JournalEntry], seed: int, now_ms: int, floor: int = 0) -> AgentState:
    """The state that a journal tells of. Its plan is judged again: what rotted on the disk is not obeyed (P1, D1).

    Phases begin anew now, since the boot-time clock may have restarted. Raises what `inbox.judged` raises, and Refused when the newest plan is gone: a disk
    has not kept what it said it had, and the one before may give this host what is another's by now (P2).
    """
    held: TrustedPlan | None = None
    records: dict[str, SwapRecord] = {}
    for entry in entries:
        if isinstance(entry, JournalPlan):
            held = judged(entry.sealed, trust, held) or held
        elif isinstance(entry, ForgetSwap):
            records.pop(entry.swap_id, None)
        else:
            records[entry.record.swap_id] = replace(entry.record, since_ms=now_ms, leg_since_ms=now_ms)
    if held is not None and held.plan.revision < floor:
        text = (
            f"the newest one in it is {held.plan.revision}, and this host had accepted {floor}: the disk has lost that"
        )
        raise Refused("older-revision", text)
    return AgentState(trust, seed, held, records, {}, {}, {}, {}, now_ms, floor)


def advance(state: AgentState, event: Event, now_ms: int) -> tuple[AgentState, tuple[Action, ...]]:
    """The state after `event`, and what is to be done, in this order."""
    if isinstance(event, PlanArrived):
        return _plan_arrived(state, event)
    if isinstance(event, PeerTold):
        return seats.told(state, event, now_ms)
    if isinstance(event, PeerAnswered):
        return seats.answered(state, event, now_ms), ()
    return _looked(state, event, now_ms)


def kept(state: AgentState, written: Iterable[Action]) -> AgentState:
    """`state`, from which a step was to begin, when only `written` of the step could be carried out.

    The step is forgotten, but not the records in it that are durable: the other host may know them by now.
    """
    swaps = {action.record.swap_id: action.record for action in written if isinstance(action, JournalSwap)}
    return replace(state, swaps={**state.swaps, **swaps})


# ---------------------------------------------------------------------------------------------------------------- plans


def _plan_arrived(state: AgentState, event: PlanArrived) -> tuple[AgentState, tuple[Action, ...]]:
    held = state.plan
    try:
        trusted = judged(event.sealed, state.trust, held, state.floor)
        if trusted is not None:
            seats.refuse_lost_swaps(state, trusted)
    except (Untrusted, InvalidInput, Refused) as error:
        refusal = NackPlan(revision_of(event.sealed, state.trust), error.reason, error.message)
        return state, (refusal, Emit(Happened.PLAN_REFUSED, error.reason, error.message))
    if trusted is None:
        assert held is not None  # noqa: S101 - only a held plan can be redelivered
        return state, (AckPlan(held.plan.revision),)  # said again: the first ack may have been lost (P3)
    revision, taken = trusted.plan.revision, JournalPlan(event.sealed)  # one entry: a plan is taken whole or not at all
    return replace(state, plan=trusted), (taken, AckPlan(revision), Emit(Happened.PLAN_ACCEPTED, str(revision), ""))


# ---------------------------------------------------------------------------------------------------------------- looks


def _looked(state: AgentState, event: Looked, now_ms: int) -> tuple[AgentState, tuple[Action, ...]]:
    if state.plan is None:
        return replace(state, looked_ms=now_ms), ()  # R3: nothing is known to be wanted, so nothing is touched
    trusted, actions = state.plan, list[Action]()
    if trusted.plan.bare:  # R3: likewise, but for the agent's own next version
        return replace(state, looked_ms=now_ms), missing(trusted.artifacts, event.view)
    if not event.still:
        state, actions = _without_ended(state)
    for spec in trusted.plan.swaps:
        leads = spec.leader == state.trust.host
        state, steps = (
            seats.lead(state, spec, event, now_ms) if leads else seats.follow(state, spec, event.view, now_ms)
        )
        actions += steps
    actions += _owner_actions(trusted, event.view)
    held, told = _held_back(state, trusted.plan, event.view)
    actions += told
    wanted = wanted_now(trusted, state.swaps, held, _found(state, trusted.plan, event.view))
    instances, changes = reconciled(wanted, state.instances, event.view, now_ms, state.seed)
    passed_ms = now_ms - state.looked_ms
    watches, instances, kills = hanging.judged(state.watches, instances, event.view, passed_ms, wanted.trial)
    verdicts = health.judged(instances, state.verdicts, event.view, now_ms)
    owners = inlet_orders.owners(trusted.plan.workloads, event.view.rings)
    state = replace(
        state,
        instances=instances,
        watches=watches,
        verdicts=verdicts,
        owners=owners,
        looked_ms=now_ms,
        held_back=held,
        began_ms=_began(trusted.plan, event.view),
    )
    return state, (*actions, *changes, *kills)


def _held_back(state: AgentState, plan: Plan, view: HostView) -> tuple[Mapping[str, str], list[Action]]:
    """What shall not run although the plan has it, and what is new about that."""
    held = cutoff.held_back(plan, view.contact)
    told: list[Action] = [
        Emit(Happened.INSTANCE_HELD, name, reason)
        for name, reason in sorted(held.items())
        if state.held_back.get(name) != reason
    ]
    freed = sorted(state.held_back.keys() - held.keys())
    return held, [*told, *(Emit(Happened.INSTANCE_FREED, name, "nothing holds it back any more") for name in freed)]


def _began(plan: Plan, view: HostView) -> Mapping[str, int]:
    """Of workloads that may be replaced: who has run longest may be asked."""
    names = (each.workload for each in plan.holdings if each.disconnect is not None and each.disconnect.replace)
    return {
        name: view.instances[name].started_ms
        for name in names
        if name in view.instances and view.instances[name].running
    }


def _without_ended(state: AgentState) -> tuple[AgentState, list[Action]]:
    """Forgets the swaps that the plan in force does not order any more."""
    orders = {spec.swap_id for spec in state.orders}
    swaps = {swap_id: record for swap_id, record in state.swaps.items() if swap_id in orders}
    heard = {swap_id: word for swap_id, word in state.heard.items() if swap_id in orders}
    ended = sorted(state.swaps.keys() - orders)
    windows = {swap_id: held for swap_id, held in state.windows.items() if swap_id in orders}
    waits = {swap_id: text for swap_id, text in state.waits.items() if swap_id in orders}
    told_ms = {swap_id: at_ms for swap_id, at_ms in state.told_ms.items() if swap_id in orders}
    told_words = {swap_id: word for swap_id, word in state.told_words.items() if swap_id in orders}
    told = replace(state, told_ms=told_ms, told_words=told_words)
    state = replace(told, swaps=swaps, heard=heard, windows=windows, waits=waits)
    return state, [ForgetSwap(swap_id) for swap_id in ended]


def _found(state: AgentState, plan: Plan, view: HostView) -> frozenset[Member]:
    """Greens that run here, of swaps of which this host has no record."""
    unknown = [spec for spec in plan.swaps if spec.swap_id not in state.swaps]
    return frozenset().union(*(amnesia.found(spec, plan.workloads, view) for spec in unknown))


def wanted_now(
    trusted: TrustedPlan,
    records: Mapping[str, SwapRecord],
    held_back: Mapping[str, str] = MappingProxyType({}),
    found: frozenset[Member] = frozenset(),
) -> Wanted:
    """What shall be here: all of the plan but what is held back, and of pairs in a swap only the members that the record wants, or `found`."""
    plan = trusted.plan
    named: set[Member] = set()
    members: set[Member] = set(found)
    trial: set[str] = set()
    judged: set[Member] = set()
    for spec in plan.swaps:
        record = records.get(spec.swap_id)
        named |= {member for seat in spec.seats for member in (seat.blue, seat.green)}
        members |= swap.wanted(spec, record)
        judged |= {spec.green} if swap.judged_now(spec, record) else set()
        if record is None or record.phase is not Phase.DONE:
            trial |= {seat.green_workload for seat in spec.seats}

    def is_wanted(member: Member | None) -> bool:
        return member is None or member not in named or member in members

    return Wanted(
        workloads={
            item.name: item
            for item in plan.workloads
            if item.name not in held_back
            and (item.member in judged if item.runs is Runs.JUDGE else is_wanted(item.member))
        },
        rings={ring.name: ring for ring in plan.rings if is_wanted(ring.member)},
        artifacts=trusted.artifacts,
        trial=frozenset(trial),
        named=plan.workloads,
        held_back=held_back,
    )


def _owner_actions(trusted: TrustedPlan, view: HostView) -> Iterable[Action]:
    """For each merge here whose pair is in no swap: its owner table must name the release that the plan runs."""
    plan = trusted.plan
    in_swap = {spec.merged_ring for spec in plan.swaps}
    for merge in plan.workloads:
        if merge.runs is Runs.MERGE and merge.writes_ring not in in_swap and merge.writes_ring in view.rings:
            owner = _plan_owner(merge, plan.rings)
            if owner is not None:
                yield from swap.corrected(merge.writes_ring, owner, 0, view.rings[merge.writes_ring].cuts)


def _plan_owner(merge: Workload, rings: Iterable[RingSpec]) -> Member | None:
    """The newest release among the member rings that the plan has for this merge."""
    members = [ring.member for ring in rings if ring.member is not None]
    mine = [member for member in members if f"{member.graph}/{member.vertex}" == merge.writes_ring]
    return max(mine, key=lambda member: member.generation, default=None)


# ------------------------------------------------------------------------------------------------------------- observed


def observed(state: AgentState, problems: tuple[str, ...] = (), agent: AgentSeen | None = None) -> Observed:
    """The host as the controller shall know it; equal while nothing happens."""
    rows = tuple(
        InstanceObserved(
            workload=name,
            digest=instance.workload.digest(),
            phase=instance.phase.value,
            health=state.verdicts[name].health,
            restarts=instance.restarts,
            detail=state.verdicts[name].detail,
            hangs=instance.hangs,
            started_ms=state.began_ms.get(name, 0),
        )
        for name, instance in sorted(state.instances.items())
    )
    revision = 0 if state.plan is None else state.plan.plan.revision
    swaps = tuple(record for _, record in sorted(state.swaps.items()))
    waits = tuple(SwapWaits(swap_id, text) for swap_id, text in sorted(state.waits.items()))
    held = tuple(
        f"{name} does not run: {reason}" for name, reason in sorted(state.held_back.items()) if name not in _idle(state)
    )
    return Observed(state.trust.host, revision, rows, swaps, (*problems, *held), state.owners, waits=waits, agent=agent)


def _idle(state: AgentState) -> frozenset[str]:
    """What does not run here because it runs elsewhere, which is no problem."""
    return frozenset() if state.plan is None else frozenset(h.workload for h in state.plan.plan.holdings if h.idle)


def refusal_of(error: HalftrackError) -> NackPlan:
    """The refusal to send when the host itself could not take a plan that was right (a full journal)."""
    return NackPlan(0, error.reason, error.message)
