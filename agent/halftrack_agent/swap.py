"""The swap of a 1+1 pair, blue → green: one transition table, driven by what the rings and processes show. Pure.

The host on which the merge runs leads: it alone moves the record along, journals each step before it takes effect, and tells
the other host, which journals it too. Both derive the members they run from plan and record (`wanted`), so a step is taken by
knowing it. Rules:

* Under surge 1, leg 0 replaces the leader's own seat and makes the cut; leg 1 replaces the other seat, behind a green that
  already counts. Under surge 2, leg 0 replaces both: what a row asks of green it asks of both greens, and there is no leg 1.
* A cut takes effect only when the other host has acknowledged the record that holds its fence, and the output is still
  `FENCE_MARGIN` short of it; otherwise the fence moves ahead, each time under a new epoch.
* The owner table in the merged ring's header is the truth about a cut. What it shows is obeyed whatever the record hoped.
* `owning` says whose output must count in each phase; whenever the table disagrees, the table is corrected at the next sequence.
  That one rule makes the first cut, the way back after a failure, and the repair after a crash.
* A seat's blue goes only after the other side of the pair was seen to be close behind the output: there is always one that
  counts and one that can take over.
* Before the cut a failure costs green its place. After it, blue, which has been shadowing, counts again at the next sequence.
* A green that ends by its own fault has failed. One that a signal killed joins again, `green_deaths` times.

Sources: process pairs and upstream backup, Hwang et al., "High-Availability Algorithms for Distributed Stream Processing",
ICDE 2005; the cut by sequence number is docs/adr/0005.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from halftrack_agent import gates
from halftrack_agent.events import Action, CutSeen, ProposeCut, WithdrawCut
from halftrack_agent.looks import Facts, Look, agreed, blues_ready
from halftrack_model.release import Compare
from halftrack_model.swap import Phase, SwapRecord, SwapSpec
from halftrack_model.workload import Member

# At the output's pace of just now: far enough for a round trip between two hosts on a good link, a journal's two fsyncs in it. A fence that is
# agreed in time is waited for, so it is no further than that. Each move doubles it, up to what a slow satellite link with its host asleep
# needs; a pace that is not known is taken for a slow one, for which the numbers of frames stand.
FENCE_AHEAD_MS, FENCE_AHEAD_CAP_MS = 40, 10_000
FENCE_AHEAD = 16
FENCE_AHEAD_CAP = 1 << 14
# The merge must find the row before it reaches the fence. Missing it is safe (it is then never applied), only a lost try.
FENCE_MARGIN = 4
# For each generation of a vertex, which never repeat. A swap uses one for each try at a fence: days of them fit.
EPOCHS = 1_000_000
assert 0 < FENCE_MARGIN < FENCE_AHEAD <= FENCE_AHEAD_CAP  # noqa: S101


def opening(spec: SwapSpec, now_ms: int) -> SwapRecord:
    """The record with which a swap begins. Its epochs are its own: a row that was withdrawn is not seen, but its epoch is used."""
    return SwapRecord(
        spec.swap_id,
        1,
        0,
        Phase.PENDING,
        spec.green.generation * EPOCHS,
        -1,
        0,
        now_ms,
        now_ms,
        0,
        "waiting for the other host",
    )


def wanted(spec: SwapSpec, record: SwapRecord | None) -> frozenset[Member]:
    """The members, of all that `spec` names, that shall run while `record` stands."""
    first, second = spec.seats
    blues, greens = {first.blue, second.blue}, {first.green, second.green}
    if record is None or record.phase in (Phase.PENDING, Phase.UNDONE):
        return frozenset(blues)
    if record.phase is Phase.DONE:
        return frozenset(greens)
    if spec.strategy.surge == 2:
        return frozenset(greens | (set() if record.phase is Phase.GONE else blues))
    if record.phase is Phase.ABORTING:
        return frozenset(blues | ({first.green} if record.leg == 0 else greens))
    if record.leg == 0:
        return frozenset({second.blue, first.green} | (set() if record.phase is Phase.GONE else {first.blue}))
    return frozenset(greens | (set() if record.phase is Phase.GONE else {second.blue}))


def judged_now(spec: SwapSpec, record: SwapRecord | None) -> bool:
    """Shall the judge of this swap run, if it has one, while `record` stands? Only the first cut is judged."""
    return record is not None and record.leg == 0 and record.phase in gates.GATED


def owning(spec: SwapSpec, record: SwapRecord | None) -> Member:
    """Whose release counts while `record` stands. (While ARMED: still blue's; the fence decides when that ends.)"""
    if record is None or record.phase in (Phase.UNDONE, Phase.ABORTING):
        return spec.blue
    cut_made = record.leg == 1 or record.phase in (Phase.CUT, Phase.DRAINING, Phase.GONE, Phase.DONE)
    return spec.green if cut_made else spec.blue


# ------------------------------------------------------------------------------------------------------- the conditions


def _both_ready(look: Look) -> bool:
    follower = look.facts.follower
    ready = look.facts.equipped and follower is not None and follower.knows_swap and follower.blue_running
    return ready and look.facts.heard and look.facts.merged_head > 0


def _joined(look: Look) -> bool:
    produces = all(look.facts.green_heads[seat] > 0 for seat in look.seats)
    return produces and all(green.running and green.lag_frames >= 0 for green in look.greens)


def _shadowed(look: Look) -> bool:
    strategy = look.spec.strategy
    shadows = [look.facts.shadows[seat] for seat in look.seats]
    enough = all(shadow.equal + shadow.different >= strategy.shadow_frames for shadow in shadows)
    return look.been_ms() >= strategy.shadow_ms and enough and _close(look) and not gates.waiting(look)


def _close(look: Look) -> bool:
    keeps_up = all(0 <= green.lag_frames <= look.spec.strategy.lag_frames for green in look.greens)
    return keeps_up and all(look.near(look.facts.green_heads[seat]) for seat in look.seats)


def _fell_behind(look: Look) -> bool:
    return not _close(look)


def _steadily_close(look: Look) -> bool:
    return look.been_ms() >= look.spec.strategy.caught_up_ms and _close(look)


def _steadily_close_and_heard(look: Look) -> bool:
    """A fence needs the other host's word: while it is silent there is no point in setting one. And the judge's, if one is asked."""
    return look.facts.heard and _steadily_close(look) and not gates.waiting(look)


def _drained(look: Look) -> bool:
    """Blue has shadowed on long enough, and whoever takes over when green dies is right behind."""
    facts = look.facts
    if look.last_leg:
        ready = all(green.running for green in facts.greens) and all(look.near(head) for head in facts.green_heads)
    else:
        ready = facts.greens[0].running and look.near(facts.blue_heads[1])
    return look.been_ms() >= look.spec.strategy.drain_ms and ready


def _blue_gone(look: Look) -> bool:
    return not any(look.facts.blues_running[seat] for seat in look.seats)


def _fence_lost(look: Look) -> bool:
    """The output has come too near the fence without the other host's word for it, or has passed it without the cut."""
    record, head = look.record, look.facts.merged_head
    proposed = any(cut.epoch == record.epoch for cut in look.facts.cuts)
    return head > record.fence if proposed else head >= record.fence - FENCE_MARGIN


def _other_silent(look: Look) -> bool:
    return not look.facts.heard


def _cut_seen(look: Look) -> bool:
    return look.green_counts()


def _always(_: Look) -> bool:
    return True


def _counting_green_dead(look: Look) -> bool:
    """The green that counts is dead and no second green is close enough to make that harmless."""
    first, second = look.facts.greens
    blue_goes = look.record.phase is Phase.GONE
    if look.spec.strategy.surge == 2:
        covered = second.running and (blue_goes or look.near(look.facts.green_heads[1]))
    else:
        covered = second.running and look.record.leg == 1 and (blue_goes or look.record.phase is Phase.DRAINING)
    return not first.running and not covered


def _trial_green_dead(look: Look) -> bool:
    """Of the other host's green that is its word, not the want of one (O1): a leader that was just restarted has not heard yet."""
    known = [seat for seat in look.seats if seat == 0 or look.facts.follower is not None]
    return not all(look.facts.greens[seat].running for seat in known)


def _blue_owns(look: Look) -> bool:
    """The table shows blue in force, so nothing of green's can come out any more, and the other blue is ready to take over."""
    facts, top = look.facts, look.top()
    never_cut = all(cut.generation != look.spec.green.generation for cut in facts.cuts)
    in_force = never_cut or (
        top is not None and top.generation == look.spec.blue.generation and top.applied_at is not None
    )
    return in_force and _blues_are_back(look)


def _blues_are_back(look: Look) -> bool:
    """Both blues can take the output now, or one can and the other was waited for.

    For either it waits as long as a deadline at most; for the other host's only while that host is there to bring it.
    """
    here, there = blues_ready(look.spec, look.record, look.facts)
    waited = look.been_ms() >= look.spec.strategy.deadline_ms
    return (here or (there and waited)) and (there or waited or not look.facts.heard)


# Until green is where it shall be, a deadline bounds the trial. Draining has none: a slow link is no evidence against a green
# that keeps up, and blue stays for as long as it takes.
_ON_TRIAL = (Phase.JOINING, Phase.SHADOWING, Phase.CAUGHT_UP, Phase.ARMED)


def must_abort(look: Look) -> str:
    """Why the swap cannot go on, in prose; empty while it can."""
    spec, record, facts, strategy = look.spec, look.record, look.facts, look.spec.strategy
    version = spec.green.version
    # Behind a one-way release an order comes too late then; a green that fails gives way to the blue that shadows all the same.
    if spec.abort and not (spec.one_way and record.green_in_force):
        return "aborted by the operator"
    for seat, green in zip(spec.seats, facts.greens, strict=True):
        if green.failed:
            return f"{spec.vertex} {version} failed on {seat.host}: {green.failed}"
    deaths = max(record.green_deaths, *(green.deaths for green in facts.greens))
    if deaths > strategy.green_deaths:
        return f"{spec.vertex} {version} was killed {deaths} times, {strategy.green_deaths} are tolerated"
    different = max(facts.shadows[seat].different for seat in look.seats)
    if strategy.compare is Compare.EQUAL and different:
        return f"{different} outputs of {spec.vertex} {version} differ from {spec.blue.version}'s, none may"
    if failure := gates.failing(look):
        return failure.reason
    if record.phase in _ON_TRIAL and look.now_ms - record.leg_since_ms - facts.silent_ms > strategy.deadline_ms:
        waits = record.reason or gates.waiting(look)
        waited = f" ({waits})" if waits else ""
        where = "both seats were" if len(look.seats) == 2 else f"seat {record.leg + 1} was"
        return f"{where} still {record.phase.value} after {strategy.deadline_ms} ms{waited}"
    return ""


# ------------------------------------------------------------------------------------------------------------ the table

Condition = Callable[[Look], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """In `phase` (of `leg` and under `surge`, or any), when `holds`: on to `to`, in leg `to_leg`. `falls` counts a death of green."""

    leg: int | None
    phase: Phase
    holds: Condition
    to: Phase
    to_leg: int | None = None
    falls: bool = False
    surge: int | None = None


# Order matters within a phase: the first row that holds is taken. What the table shows comes before what was hoped.
ROWS: tuple[Row, ...] = (
    Row(0, Phase.PENDING, _both_ready, Phase.JOINING),
    Row(None, Phase.JOINING, _joined, Phase.SHADOWING),
    Row(None, Phase.SHADOWING, _trial_green_dead, Phase.JOINING, falls=True),
    Row(None, Phase.SHADOWING, _shadowed, Phase.CAUGHT_UP),
    Row(None, Phase.CAUGHT_UP, _trial_green_dead, Phase.JOINING, falls=True),
    Row(None, Phase.CAUGHT_UP, _fell_behind, Phase.SHADOWING),
    Row(0, Phase.CAUGHT_UP, _steadily_close_and_heard, Phase.ARMED),
    Row(1, Phase.CAUGHT_UP, _steadily_close, Phase.DRAINING),
    Row(0, Phase.ARMED, _cut_seen, Phase.CUT),
    Row(0, Phase.ARMED, _trial_green_dead, Phase.JOINING, falls=True),
    Row(0, Phase.ARMED, _other_silent, Phase.CAUGHT_UP),
    Row(0, Phase.ARMED, _fence_lost, Phase.ARMED),
    Row(0, Phase.CUT, _always, Phase.DRAINING),
    Row(None, Phase.DRAINING, _drained, Phase.GONE),
    Row(0, Phase.GONE, _blue_gone, Phase.JOINING, to_leg=1, surge=1),
    Row(0, Phase.GONE, _blue_gone, Phase.DONE, surge=2),
    Row(1, Phase.GONE, _blue_gone, Phase.DONE),
    Row(None, Phase.ABORTING, _blue_owns, Phase.UNDONE),
)
_GREEN_COUNTS_IN = (Phase.CUT, Phase.DRAINING, Phase.GONE)


def moved(spec: SwapSpec, record: SwapRecord, facts: Facts, now_ms: int) -> SwapRecord:
    """The record after this look: the same object while nothing has to change."""
    look = Look(spec, record, facts, now_ms)
    if record.phase.terminal:
        return record
    if record.phase is not Phase.ABORTING and (reason := must_abort(look)):
        undoing = _stepped(look, Row(None, record.phase, _always, Phase.ABORTING), reason)
        failure = gates.failing(look)
        return replace(undoing, diff=failure.diff) if failure and failure.reason == reason else undoing
    green_counts = record.phase is not Phase.ABORTING and (record.leg == 1 or record.phase in _GREEN_COUNTS_IN)
    if green_counts and _counting_green_dead(look):  # blue takes over at the next sequence; green begins again
        return _stepped(look, Row(None, record.phase, _always, Phase.JOINING, 0, falls=True), "green was killed")
    for row in ROWS:
        mine = row.phase is record.phase and row.leg in (None, record.leg) and row.surge in (None, spec.strategy.surge)
        if mine and row.holds(look):
            return _stepped(look, row, "")
    return record


def _stepped(look: Look, row: Row, reason: str) -> SwapRecord:
    record, now_ms = look.record, look.now_ms
    leg = record.leg if row.to_leg is None else row.to_leg
    step = replace(
        record,
        number=record.number + 1,
        leg=leg,
        phase=row.to,
        since_ms=now_ms,
        leg_since_ms=now_ms if leg != record.leg or record.phase is Phase.PENDING else record.leg_since_ms,
        green_deaths=record.green_deaths + row.falls,
        head=look.facts.merged_head,
        reason=reason or (record.reason if row.to is Phase.UNDONE else ""),
    )
    return _armed(look, step) if row.to is Phase.ARMED else step


def _armed(look: Look, step: SwapRecord) -> SwapRecord:
    """With a fence ahead of the output, under an epoch above every one that was ever used."""
    moves = step.fence_moves + 1 if look.record.phase is Phase.ARMED else 0
    top = look.top()
    epoch = max(step.epoch, 0 if top is None else top.epoch) + 1
    return replace(step, epoch=epoch, fence=look.facts.merged_head + _fence_ahead(look, moves), fence_moves=moves)


def _fence_ahead(look: Look, moves: int) -> int:
    """How many outputs ahead a fence is set that was moved that often."""
    least, most, since = FENCE_AHEAD, FENCE_AHEAD_CAP, look.record.head
    if since >= 0:
        passed, been_ms = max(0, look.facts.merged_head - since), max(1, look.been_ms())
        least = max(least, passed * FENCE_AHEAD_MS // been_ms)
        most = max(most, passed * FENCE_AHEAD_CAP_MS // been_ms)
    return min(most, least << min(moves, 16))


# ------------------------------------------------------------------------------------------------------ the owner table


def table_actions(spec: SwapSpec, record: SwapRecord, facts: Facts, now_ms: int) -> Iterable[Action]:
    """What to write into the owner table so that it says what the record means."""
    top = max(facts.cuts, key=lambda cut: cut.epoch, default=None)
    if record.phase is Phase.ARMED and (top is None or top.epoch < record.epoch):
        if top is not None and top.applied_at is None:
            yield WithdrawCut(spec.merged_ring, top.epoch)
        elif agreed(record, facts) and facts.merged_head < record.fence - FENCE_MARGIN:
            green = spec.green
            yield ProposeCut(spec.merged_ring, record.epoch, green.generation, record.fence, green.version)
        return
    if record.phase is Phase.ARMED:
        return
    if record.phase is Phase.ABORTING and not _blue_may_take_over(Look(spec, record, facts, now_ms)):
        return
    yield from corrected(spec.merged_ring, owning(spec, record), record.epoch, facts.cuts)


def _blue_may_take_over(look: Look) -> bool:
    """Both blues are back; or no green is left that brings the output while they are waited for, and one of them does, or nobody."""
    facts = look.facts
    brings = [green.running and look.near(head) for green, head in zip(facts.greens, facts.green_heads, strict=True)]
    if any(brings):
        return _blues_are_back(look)
    return any(blues_ready(look.spec, look.record, facts)) or not any(green.running for green in facts.greens)


def corrected(ring: str, owner: Member, epoch: int, cuts: tuple[CutSeen, ...]) -> Iterable[Action]:
    """One step towards a table whose last row gives `owner` the output, above `epoch` and every epoch in it."""
    top = max(cuts, key=lambda cut: cut.epoch, default=None)
    if top is not None and top.generation == owner.generation:
        return
    if top is not None and top.applied_at is None:
        yield WithdrawCut(ring, top.epoch)  # if it has been applied meanwhile, the next look sees that and cuts back
        return
    above = max(epoch, 0 if top is None else top.epoch) + 1
    yield ProposeCut(ring, above, owner.generation, None, owner.version)
