"""The two sides of a swap, as this host has part in them: leading it from the first seat, or following from the second. Pure.

What it decides: which record is believed and taken, what the leader's table is shown (`Facts`), when the other host counts as
heard, and what each tells the other. What it never does: move a record by itself; that is `swap.moved`.
"""

from dataclasses import replace

from halftrack_agent import amnesia, gates, swap, usage
from halftrack_agent.events import (
    Action,
    AnswerPeer,
    Emit,
    HostView,
    JournalSwap,
    JudgedSeen,
    Looked,
    PeerAnswered,
    PeerTold,
    ShadowSeen,
    TellPeer,
)
from halftrack_agent.inbox import TrustedPlan
from halftrack_agent.looks import Facts, JudgeSeen, Look, agreed, ring_of
from halftrack_agent.reconcile import fell_by
from halftrack_agent.state import FRESH_MS, NEVER_HEARD, NEWS_EVERY_MS, TELL_EVERY_MS, AgentState, Heard, SeatNews
from halftrack_dataplane.frames import reader_name
from halftrack_model.errors import Refused
from halftrack_model.report import Happened
from halftrack_model.swap import GreenStatus, Phase, Seat, SeatStatus, SeatUsage, SwapRecord, SwapSpec
from halftrack_model.workload import Member, Runs


def refuse_lost_swaps(state: AgentState, trusted: TrustedPlan) -> None:
    """A plan may ask for an abort of the swap that this host leads; it may not drop it or turn it into another."""
    orders = {spec.swap_id: spec for spec in trusted.plan.swaps}
    for spec in state.orders:
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


def told(state: AgentState, event: PeerTold, now_ms: int) -> tuple[AgentState, tuple[Action, ...]]:
    """The leader's record: taken when it is newer, from the leader only, for a swap that our own plan orders."""
    record = event.record
    spec = state.order(record.swap_id)
    if spec is None or spec.leader == state.trust.host or event.from_host != spec.leader:
        return state, ()
    held = state.swaps.get(record.swap_id)
    if held is not None and held.number >= record.number:
        return state, ()
    mine = replace(record, since_ms=now_ms, leg_since_ms=now_ms)
    told_ms = {**state.told_ms, record.swap_id: -TELL_EVERY_MS}  # answer at the next look
    return replace(state, swaps={**state.swaps, record.swap_id: mine}, told_ms=told_ms), (JournalSwap(mine),)


def answered(state: AgentState, event: PeerAnswered, now_ms: int) -> AgentState:
    spec = state.order(event.status.swap_id)
    if spec is None or event.from_host != event.status.host or event.from_host not in spec.hosts:
        return state
    last, record = state.heard.get(spec.swap_id, NEVER_HEARD), state.swaps.get(spec.swap_id)
    acknowledged = record is not None and event.status.number == record.number
    hears_us = acknowledged or (last.status is not None and event.status.number > last.status.number)
    heard = Heard(event.status, now_ms if hears_us else last.at_ms, last.silent_ms)
    return replace(state, heard={**state.heard, spec.swap_id: heard})


def lead(state: AgentState, spec: SwapSpec, event: Looked, now_ms: int) -> tuple[AgentState, list[Action]]:
    actions: list[Action] = []
    record, status = state.swaps.get(spec.swap_id), state.heard.get(spec.swap_id, NEVER_HEARD).status
    forgotten = amnesia.is_lost(spec, record, status, event.view)
    if record is None or forgotten:
        if event.still:
            return state, []
        record = amnesia.resumed(spec, record, status, event.view, now_ms) if forgotten else swap.opening(spec, now_ms)
        actions.append(JournalSwap(record))
        actions += [Emit(Happened.SWAP_MOVED, spec.swap_id, amnesia.TOLD)] if forgotten else []
    state = _with_silence(measured(state, spec, event.view), spec, record, now_ms)
    facts = facts_of(state, spec, event.view, now_ms)
    after = record if event.still else swap.moved(spec, record, facts, now_ms)
    if after is not record:
        actions += [JournalSwap(after), tidings(spec, record, after)]
        if after.leg != record.leg:
            state = _with_silence(state, spec, after, now_ms, anew=True)
    actions += swap.table_actions(spec, after, facts, now_ms)
    told_ms = state.told_ms.get(spec.swap_id, -TELL_EVERY_MS)
    acknowledged = agreed(after, facts)
    if after is not record or (not (after.phase.terminal and acknowledged) and now_ms - told_ms >= TELL_EVERY_MS):
        actions += [TellPeer(host, after) for host in spec.hosts if host != state.trust.host]
        told_ms = now_ms
    swaps = {**state.swaps, spec.swap_id: after}
    waits = {swap_id: text for swap_id, text in state.waits.items() if swap_id != spec.swap_id}
    if after.phase in (Phase.SHADOWING, Phase.CAUGHT_UP) and (text := gates.waiting(Look(spec, after, facts, now_ms))):
        waits[spec.swap_id] = text
    return replace(state, swaps=swaps, waits=waits, told_ms={**state.told_ms, spec.swap_id: told_ms}), actions


def tidings(spec: SwapSpec, before: SwapRecord, after: SwapRecord) -> Emit:
    if after.phase is Phase.DONE:
        return Emit(Happened.SWAP_DONE, spec.swap_id, f"{spec.vertex} {spec.blue.version} → {spec.green.version}")
    if after.phase is Phase.UNDONE:
        return Emit(Happened.SWAP_UNDONE, spec.swap_id, "\n".join([after.reason, *after.diff]))
    where = "both seats" if spec.strategy.surge == 2 else f"seat {after.leg + 1}"
    text = f"{where}: {before.phase.value} → {after.phase.value}"
    return Emit(Happened.SWAP_MOVED, spec.swap_id, f"{text}: {after.reason}" if after.reason else text)


def _with_silence(state: AgentState, spec: SwapSpec, record: SwapRecord, now_ms: int, anew: bool = False) -> AgentState:
    """Adds the time since the last look to the other host's silence, when it is silent and the swap has begun."""
    heard = state.heard.get(spec.swap_id, NEVER_HEARD)
    silent = now_ms - heard.at_ms > FRESH_MS and record.phase is not Phase.PENDING
    silent_ms = 0 if anew else heard.silent_ms + (now_ms - state.looked_ms if silent else 0)
    return replace(state, heard={**state.heard, spec.swap_id: replace(heard, silent_ms=silent_ms)})


def facts_of(state: AgentState, spec: SwapSpec, view: HostView, now_ms: int) -> Facts:
    heard = state.heard[spec.swap_id]
    if len(spec.hosts) == 1:  # there is nobody else to hear: what this host has journaled is the word of both
        heard = Heard(_seat_status(state, spec, spec.seats[1], view), now_ms, 0)
    merged = view.rings.get(spec.merged_ring)
    (first, second), shadows = spec.seats, view.shadows

    def head(member: Member) -> int:
        ring = view.rings.get(ring_of(member))
        return -1 if ring is None or ring.head == ring.tail == 0 else ring.head

    return Facts(
        merged_head=0 if merged is None else merged.head,
        cuts=() if merged is None else merged.cuts,
        greens=(green_status(state, first, spec, view), heard.status.green if heard.status else _UNSEEN),
        green_heads=(head(first.green), head(second.green)),
        blue_heads=(head(first.blue), head(second.blue)),
        blues_running=(_running(first.blue_workload, view), heard.status is not None and heard.status.blue_running),
        blues_staying=(_stays(first.blue_workload, view), heard.status is not None and _seen_to_stay(heard.status)),
        shadows=(shadows.get(ring_of(first.green), _NOTHING), shadows.get(ring_of(second.green), _NOTHING)),
        follower=heard.status,
        heard=heard.status is not None and now_ms - heard.at_ms <= FRESH_MS,
        silent_ms=heard.silent_ms,
        equipped=_equipped(state, spec, view),
        judge=_judge_seen(state, spec, view),
        judged=(_judged(first, view), _judged(second, view)),
        usages=(usage_of(state, spec, first, view), heard.status.usage if heard.status else None),
    )


def _judge_seen(state: AgentState, spec: SwapSpec, view: HostView) -> JudgeSeen | None:
    """The judge of this swap; None when it has none, or none yet."""
    workloads = () if state.plan is None else state.plan.plan.workloads
    name = next((w.name for w in workloads if w.runs is Runs.JUDGE and w.member == spec.green), "")
    instance = state.instances.get(name)
    return None if instance is None else JudgeSeen(_running(name, view), instance.restarts, instance.detail)


def _judged(seat: Seat, view: HostView) -> JudgedSeen | None:
    """What is known of this green: not of one that bore its name in an earlier swap."""
    judged = view.judged.get(ring_of(seat.green))
    return judged if judged is not None and judged.generation == seat.green.generation else None


def members_measured(state: AgentState) -> frozenset[str]:
    """The workloads here whose use of processor and memory some swap asks for."""
    asking = (spec for spec in state.orders if spec.strategy.verdict and spec.strategy.verdict.measures_members)
    return frozenset(
        name
        for spec in asking
        if swap.judged_now(spec, state.swaps.get(spec.swap_id))
        for seat in spec.seats
        if seat.host == state.trust.host
        for name in (seat.blue_workload, seat.green_workload)
    )


def measured(state: AgentState, spec: SwapSpec, view: HostView) -> AgentState:
    """The state that has noted what the members of our seats have used so far."""
    if spec.strategy.verdict is None or not spec.strategy.verdict.measures_members:
        return state
    windows = state.windows.get(spec.swap_id, {})
    for seat in spec.seats:
        if seat.host == state.trust.host:
            green = green_status(state, seat, spec, view)
            keeps_up = green.running and 0 <= green.lag_frames <= spec.strategy.lag_frames
            windows = usage.noted(windows, seat, view, keeps_up)
    return replace(state, windows={**state.windows, spec.swap_id: windows})


def usage_of(state: AgentState, spec: SwapSpec, seat: Seat, view: HostView) -> SeatUsage | None:
    """What the members of a seat of ours use."""
    return usage.of_seat(state.windows.get(spec.swap_id, {}), seat, view)


def _equipped(state: AgentState, spec: SwapSpec, view: HostView) -> bool:
    """Is every artifact here that this host's seats need to go the whole way and back, with no controller in reach?"""
    assert state.plan is not None  # noqa: S101 - a swap is in a plan
    mine = [seat for seat in spec.seats if seat.host == state.trust.host]
    names = {name for seat in mine for name in (seat.blue_workload, seat.green_workload)}
    return all(w.artifact in view.artifacts for w in state.plan.plan.workloads if w.name in names)


_NOTHING = ShadowSeen(0, 0)
_UNSEEN = GreenStatus(running=False, failed="", deaths=0, lag_frames=-1, outputs=-1)


def _running(workload: str, view: HostView) -> bool:
    seen = view.instances.get(workload)
    return seen is not None and seen.running


def _stays(workload: str, view: HostView) -> bool:
    seen = view.instances.get(workload)
    return seen is not None and seen.running and not seen.leaving


def _seen_to_stay(status: SeatStatus) -> bool:
    return status.blue_running and not status.blue_leaving


def green_status(state: AgentState, seat: Seat, spec: SwapSpec, view: HostView) -> GreenStatus:
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


def follow(state: AgentState, spec: SwapSpec, view: HostView, now_ms: int) -> tuple[AgentState, list[Action]]:
    """Answers the leader about our seat: every so often, sooner when there is news, and at once when there is a new record to acknowledge."""
    state = measured(state, spec, view)
    seat = next(seat for seat in spec.seats if seat.host == state.trust.host)
    status = _seat_status(state, spec, seat, view)
    news, since_ms = _news(spec, status), now_ms - state.told_ms.get(spec.swap_id, -TELL_EVERY_MS)
    if since_ms < (TELL_EVERY_MS if news == state.told_words.get(spec.swap_id) else NEWS_EVERY_MS):
        return state, []
    told_ms, told_words = {**state.told_ms, spec.swap_id: now_ms}, {**state.told_words, spec.swap_id: news}
    return replace(state, told_ms=told_ms, told_words=told_words), [AnswerPeer(spec.leader, status)]


def _news(spec: SwapSpec, status: SeatStatus) -> SeatNews:
    lag = status.green.lag_frames
    still = replace(status, green=replace(status.green, lag_frames=0, outputs=0), usage=None)
    return SeatNews(still, lag >= 0, 0 <= lag <= spec.strategy.lag_frames)


def _seat_status(state: AgentState, spec: SwapSpec, seat: Seat, view: HostView) -> SeatStatus:
    record = state.swaps.get(spec.swap_id)
    return SeatStatus(
        host=state.trust.host,
        swap_id=spec.swap_id,
        knows_swap=_equipped(state, spec, view),
        number=0 if record is None else record.number,
        green=green_status(state, seat, spec, view),
        blue_running=_running(seat.blue_workload, view),
        usage=usage_of(state, spec, seat, view),
        blue_leaving=_running(seat.blue_workload, view) and not _stays(seat.blue_workload, view),
    )
