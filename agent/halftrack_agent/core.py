"""The agent's core: `(state, event, now) -> (state, actions)`. Pure; the loop carries the actions out, in order.

What it decides: whether a plan is obeyed (through `inbox`), which workloads and rings shall be here (the plan, and in a swap the
swap's record), how a swap goes on, and what to tell the other host. What it never does: look at a clock, a file or a socket.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from halftrack_agent import health, swap
from halftrack_agent.events import (
    AckPlan,
    Action,
    AnswerPeer,
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
    ShadowSeen,
    TellPeer,
)
from halftrack_agent.health import Verdict
from halftrack_agent.inbox import Trust, TrustedPlan, judged, revision_of
from halftrack_agent.reconcile import Instance, Wanted, fell_by, reconciled
from halftrack_dataplane.frames import reader_name
from halftrack_model.errors import HalftrackError, InvalidInput, Refused, Untrusted
from halftrack_model.observed import InstanceObserved, Observed
from halftrack_model.report import Happened
from halftrack_model.swap import GreenStatus, Phase, Seat, SeatStatus, SwapRecord, SwapSpec
from halftrack_model.workload import Member, RingSpec, Runs, Workload

FRESH_MS = 750  # three tellings may be lost before a host counts as silent
TELL_EVERY_MS = 200  # a level is told again this often, however little changed: messages may be lost


@dataclass(frozen=True)
class Heard:
    """The other host's last word on a swap, and how long it was silent in this leg so far.

    `at_ms` is when a word came that shows it hears us: one that acknowledges our newest record, or more than its last one did.
    Words that go on without that are from a host that is deaf to us, and nothing can be agreed with it: it counts as silent.
    """

    status: SeatStatus | None
    at_ms: int
    silent_ms: int


NEVER_HEARD = Heard(None, -FRESH_MS, 0)


@dataclass(frozen=True)
class AgentState:
    """All that the core remembers. Journaled parts are `plan` and `swaps`; the rest is seen again after a restart."""

    trust: Trust
    seed: int
    plan: TrustedPlan | None
    swaps: Mapping[str, SwapRecord]
    instances: Mapping[str, Instance]
    verdicts: Mapping[str, Verdict]  # on each of `instances`
    heard: Mapping[str, Heard]
    told_ms: Mapping[str, int]
    looked_ms: int
    floor: int  # no plan below this revision is obeyed, should the journal know of none


JournalEntry = JournalPlan | JournalSwap | ForgetSwap


def recovered(trust: Trust, entries: Iterable[JournalEntry], seed: int, now_ms: int, floor: int = 0) -> AgentState:
    """The state that a journal tells of. Its plan is judged again: what rotted on the disk is not obeyed (P1, D1).

    Phases begin anew now, since the boot-time clock may have restarted. Raises what `inbox.judged` raises.
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
    return AgentState(trust, seed, held, records, {}, {}, {}, {}, now_ms, floor)


def advance(state: AgentState, event: Event, now_ms: int) -> tuple[AgentState, tuple[Action, ...]]:
    """The state after `event`, and what is to be done, in this order."""
    if isinstance(event, PlanArrived):
        return _plan_arrived(state, event)
    if isinstance(event, PeerTold):
        return _told(state, event, now_ms)
    if isinstance(event, PeerAnswered):
        return _answered(state, event, now_ms), ()
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
            _refuse_lost_swaps(state, trusted)
    except (Untrusted, InvalidInput, Refused) as error:
        refusal = NackPlan(revision_of(event.sealed, state.trust), error.reason, error.message)
        return state, (refusal, Emit(Happened.PLAN_REFUSED, error.reason, error.message))
    if trusted is None:
        assert held is not None  # noqa: S101 - only a held plan can be redelivered
        return state, (AckPlan(held.plan.revision),)  # said again: the first ack may have been lost (P3)
    revision, taken = trusted.plan.revision, JournalPlan(event.sealed)  # one entry: a plan is taken whole or not at all
    return replace(state, plan=trusted), (taken, AckPlan(revision), Emit(Happened.PLAN_ACCEPTED, str(revision), ""))


def _refuse_lost_swaps(state: AgentState, trusted: TrustedPlan) -> None:
    """A plan may ask for an abort of the swap that this host leads; it may not drop it or turn it into another."""
    orders = {spec.swap_id: spec for spec in trusted.plan.swaps}
    for spec in _orders(state.plan):
        record = state.swaps.get(spec.swap_id)
        if record is None or record.phase.terminal or spec.leader != state.trust.host:
            continue
        new = orders.get(spec.swap_id)
        if new is None or replace(new, abort=spec.abort) != spec:
            raise Refused(
                "swap-in-flight",
                f"revision {trusted.plan.revision} drops or changes swap {spec.swap_id}, which is {record.phase.value} here; "
                "abort it, or wait for its end",
            )


def _orders(trusted: TrustedPlan | None) -> tuple[SwapSpec, ...]:
    return () if trusted is None else trusted.plan.swaps


# ---------------------------------------------------------------------------------------------------------------- peers


def _order(state: AgentState, swap_id: str) -> SwapSpec | None:
    return next((spec for spec in _orders(state.plan) if spec.swap_id == swap_id), None)


def _told(state: AgentState, event: PeerTold, now_ms: int) -> tuple[AgentState, tuple[Action, ...]]:
    """The leader's record: taken when it is newer, from the leader only, for a swap that our own plan orders."""
    record = event.record
    spec = _order(state, record.swap_id)
    if spec is None or spec.leader == state.trust.host or event.from_host != spec.leader:
        return state, ()
    held = state.swaps.get(record.swap_id)
    if held is not None and held.number >= record.number:
        return state, ()
    mine = replace(record, since_ms=now_ms, leg_since_ms=now_ms)
    told_ms = {**state.told_ms, record.swap_id: -TELL_EVERY_MS}  # answer at the next look
    return replace(state, swaps={**state.swaps, record.swap_id: mine}, told_ms=told_ms), (JournalSwap(mine),)


def _answered(state: AgentState, event: PeerAnswered, now_ms: int) -> AgentState:
    spec = _order(state, event.status.swap_id)
    if spec is None or event.from_host != event.status.host or event.from_host not in spec.hosts:
        return state
    last, record = state.heard.get(spec.swap_id, NEVER_HEARD), state.swaps.get(spec.swap_id)
    acknowledged = record is not None and event.status.number == record.number
    hears_us = acknowledged or (last.status is not None and event.status.number > last.status.number)
    heard = Heard(event.status, now_ms if hears_us else last.at_ms, last.silent_ms)
    return replace(state, heard={**state.heard, spec.swap_id: heard})


# ---------------------------------------------------------------------------------------------------------------- looks


def _looked(state: AgentState, event: Looked, now_ms: int) -> tuple[AgentState, tuple[Action, ...]]:
    if state.plan is None:
        return replace(state, looked_ms=now_ms), ()  # R3: nothing is known to be wanted, so nothing is touched
    trusted, actions = state.plan, list[Action]()
    if not event.still:
        state, actions = _without_ended(state)
    for spec in trusted.plan.swaps:
        leads = spec.leader == state.trust.host
        state, steps = _lead(state, spec, event, now_ms) if leads else _follow(state, spec, event.view, now_ms)
        actions += steps
    actions += _owner_actions(trusted, event.view)
    wanted = wanted_now(trusted, state.swaps)
    instances, changes = reconciled(wanted, state.instances, event.view, now_ms, state.seed)
    verdicts = health.judged(instances, state.verdicts, event.view, now_ms)
    return replace(state, instances=instances, verdicts=verdicts, looked_ms=now_ms), (*actions, *changes)


def _without_ended(state: AgentState) -> tuple[AgentState, list[Action]]:
    """Forgets the swaps that the plan in force does not order any more."""
    orders = {spec.swap_id for spec in _orders(state.plan)}
    swaps = {swap_id: record for swap_id, record in state.swaps.items() if swap_id in orders}
    heard = {swap_id: word for swap_id, word in state.heard.items() if swap_id in orders}
    ended = sorted(state.swaps.keys() - orders)
    return replace(state, swaps=swaps, heard=heard), [ForgetSwap(swap_id) for swap_id in ended]


def wanted_now(trusted: TrustedPlan, records: Mapping[str, SwapRecord]) -> Wanted:
    """What shall be here: all of the plan, but of pairs in a swap only the members that the record wants."""
    plan = trusted.plan
    named: set[Member] = set()
    members: set[Member] = set()
    trial: set[str] = set()
    for spec in plan.swaps:
        record = records.get(spec.swap_id)
        named |= {member for seat in spec.seats for member in (seat.blue, seat.green)}
        members |= swap.wanted(spec, record)
        if record is None or record.phase is not Phase.DONE:
            trial |= {seat.green_workload for seat in spec.seats}

    def is_wanted(member: Member | None) -> bool:
        return member is None or member not in named or member in members

    return Wanted(
        workloads={item.name: item for item in plan.workloads if is_wanted(item.member)},
        rings={ring.name: ring for ring in plan.rings if is_wanted(ring.member)},
        artifacts=trusted.artifacts,
        trial=frozenset(trial),
        named=plan.workloads,
    )


def _lead(state: AgentState, spec: SwapSpec, event: Looked, now_ms: int) -> tuple[AgentState, list[Action]]:
    actions: list[Action] = []
    record = state.swaps.get(spec.swap_id)
    if record is None:
        if event.still:
            return state, []
        record = swap.opening(spec, now_ms)
        actions.append(JournalSwap(record))
    state = _with_silence(state, spec, record, now_ms)
    facts = _facts(state, spec, event.view, now_ms)
    after = record if event.still else swap.moved(spec, record, facts, now_ms)
    if after is not record:
        actions += [JournalSwap(after), _tidings(spec, record, after)]
        if after.leg != record.leg:
            state = _with_silence(state, spec, after, now_ms, anew=True)
    actions += swap.table_actions(spec, after, facts)
    told_ms = state.told_ms.get(spec.swap_id, -TELL_EVERY_MS)
    acknowledged = swap.agreed(after, facts)
    if after is not record or (not (after.phase.terminal and acknowledged) and now_ms - told_ms >= TELL_EVERY_MS):
        actions += [TellPeer(seat.host, after) for seat in spec.seats if seat.host != state.trust.host]
        told_ms = now_ms
    swaps = {**state.swaps, spec.swap_id: after}
    return replace(state, swaps=swaps, told_ms={**state.told_ms, spec.swap_id: told_ms}), actions


def _tidings(spec: SwapSpec, before: SwapRecord, after: SwapRecord) -> Emit:
    if after.phase is Phase.DONE:
        return Emit(Happened.SWAP_DONE, spec.swap_id, f"{spec.vertex} {spec.blue.version} → {spec.green.version}")
    if after.phase is Phase.UNDONE:
        return Emit(Happened.SWAP_UNDONE, spec.swap_id, after.reason)
    text = f"seat {after.leg + 1}: {before.phase.value} → {after.phase.value}"
    return Emit(Happened.SWAP_MOVED, spec.swap_id, f"{text}: {after.reason}" if after.reason else text)


def _with_silence(state: AgentState, spec: SwapSpec, record: SwapRecord, now_ms: int, anew: bool = False) -> AgentState:
    """Adds the time since the last look to the other host's silence, when it is silent and the swap has begun."""
    heard = state.heard.get(spec.swap_id, NEVER_HEARD)
    silent = now_ms - heard.at_ms > FRESH_MS and record.phase is not Phase.PENDING
    silent_ms = 0 if anew else heard.silent_ms + (now_ms - state.looked_ms if silent else 0)
    return replace(state, heard={**state.heard, spec.swap_id: replace(heard, silent_ms=silent_ms)})


def _facts(state: AgentState, spec: SwapSpec, view: HostView, now_ms: int) -> swap.Facts:
    heard = state.heard[spec.swap_id]
    merged = view.rings.get(spec.merged_ring)
    (first, second), shadows = spec.seats, view.shadows

    def head(member: Member) -> int:
        ring = view.rings.get(ring_of(member))
        return -1 if ring is None or ring.head == ring.tail == 0 else ring.head

    return swap.Facts(
        merged_head=0 if merged is None else merged.head,
        cuts=() if merged is None else merged.cuts,
        greens=(_green(state, first, spec, view), heard.status.green if heard.status else _UNSEEN),
        green_heads=(head(first.green), head(second.green)),
        blue_heads=(head(first.blue), head(second.blue)),
        blues_running=(_running(first.blue_workload, view), heard.status is not None and heard.status.blue_running),
        shadows=(shadows.get(ring_of(first.green), _NOTHING), shadows.get(ring_of(second.green), _NOTHING)),
        follower=heard.status,
        heard=heard.status is not None and now_ms - heard.at_ms <= FRESH_MS,
        silent_ms=heard.silent_ms,
        equipped=_equipped(state, spec, view),
    )


def _equipped(state: AgentState, spec: SwapSpec, view: HostView) -> bool:
    """Is every artifact here that this host's seat needs to go the whole way and back, with no controller in reach?"""
    assert state.plan is not None  # noqa: S101 - a swap is in a plan
    mine = [(seat.blue_workload, seat.green_workload) for seat in spec.seats if seat.host == state.trust.host]
    return all(w.artifact in view.artifacts for w in state.plan.plan.workloads if w.name in mine[0])


_NOTHING = ShadowSeen(0, 0)
_UNSEEN = GreenStatus(running=False, failed="", deaths=0, lag_frames=-1, outputs=-1)


def ring_of(member: Member) -> str:
    """The name of the ring that a member writes."""
    return f"{member.graph}/{member.vertex}.{member.member}@{member.version}"


def _running(workload: str, view: HostView) -> bool:
    seen = view.instances.get(workload)
    return seen is not None and seen.running


def _green(state: AgentState, seat: Seat, spec: SwapSpec, view: HostView) -> GreenStatus:
    """Green's health on this host. Its lag is the one of its reader in the input ring, which bears its workload's name."""
    name = seat.green_workload
    instance, ring = state.instances.get(name), view.rings.get(spec.input_ring)
    output = view.rings.get(ring_of(seat.green))
    seen = view.instances.get(name)
    return GreenStatus(
        running=seen is not None and seen.running,
        failed=fell_by(instance, seen),
        deaths=0 if instance is None else instance.killed,
        lag_frames=-1 if ring is None else ring.lags.get(reader_name(name), -1),
        outputs=-1 if output is None else output.head,
    )


def _follow(state: AgentState, spec: SwapSpec, view: HostView, now_ms: int) -> tuple[AgentState, list[Action]]:
    """Answers the leader about our seat, every so often and at once when there is a new record to acknowledge."""
    record = state.swaps.get(spec.swap_id)
    if now_ms - state.told_ms.get(spec.swap_id, -TELL_EVERY_MS) < TELL_EVERY_MS:
        return state, []
    seat = next(seat for seat in spec.seats if seat.host == state.trust.host)
    status = SeatStatus(
        host=state.trust.host,
        swap_id=spec.swap_id,
        knows_swap=_equipped(state, spec, view),
        number=0 if record is None else record.number,
        green=_green(state, seat, spec, view),
        blue_running=_running(seat.blue_workload, view),
    )
    return replace(state, told_ms={**state.told_ms, spec.swap_id: now_ms}), [AnswerPeer(spec.leader, status)]


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


def observed(state: AgentState, problems: tuple[str, ...] = ()) -> Observed:
    """The host as the controller shall know it; equal while nothing happens."""
    rows = tuple(
        InstanceObserved(
            workload=name,
            digest=instance.workload.digest(),
            phase=instance.phase.value,
            health=state.verdicts[name].health,
            restarts=instance.restarts,
            detail=state.verdicts[name].detail,
        )
        for name, instance in sorted(state.instances.items())
    )
    revision = 0 if state.plan is None else state.plan.plan.revision
    swaps = tuple(record for _, record in sorted(state.swaps.items()))
    return Observed(state.trust.host, revision, rows, swaps, problems)


def refusal_of(error: HalftrackError) -> NackPlan:
    """The refusal to send when the host itself could not take a plan that was right (a full journal)."""
    return NackPlan(0, error.reason, error.message)
