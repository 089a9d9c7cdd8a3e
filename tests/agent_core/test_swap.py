"""The swap's table: every row is reached, nobody is ever alone, epochs rise, and silence alone ends nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import seats, swap
from halftrack_agent.events import CutSeen, ProposeCut, ShadowSeen, WithdrawCut
from halftrack_agent.swap import Facts, Row
from halftrack_model.release import Compare
from halftrack_model.swap import GreenStatus, Phase, SeatStatus, SwapRecord, SwapSpec
from halftrack_model.workload import Member
from tests.agent_core.plans import SWAP, B

STRATEGY = SWAP.strategy
BOTH = replace(SWAP, strategy=replace(STRATEGY, surge=2))
OPEN = [phase for phase in Phase if not phase.terminal]


def records() -> st.SearchStrategy[SwapRecord]:
    """Any record that is not an end."""
    return st.builds(
        SwapRecord,
        swap_id=st.just(SWAP.swap_id),
        number=st.integers(1, 50),
        leg=st.integers(0, 1),
        phase=st.sampled_from(OPEN),
        epoch=st.integers(0, 5),
        fence=st.integers(-1, 300),
        fence_moves=st.integers(0, 10**6),
        since_ms=st.just(0),
        leg_since_ms=st.just(0),
        green_deaths=st.integers(0, 3),
        reason=st.just(""),
        head=st.integers(-1, 300),
    ).filter(lambda r: not (r.leg == 1 and r.phase in (Phase.PENDING, Phase.ARMED, Phase.CUT)))


def situations() -> st.SearchStrategy[tuple[SwapSpec, SwapRecord]]:
    """An order and a record that it can come to: under surge 2 there is no second leg."""
    one_by_one = records().map(lambda record: (SWAP, record))
    return one_by_one | records().filter(lambda record: record.leg == 0).map(lambda record: (BOTH, record))


greens = st.builds(
    GreenStatus, st.booleans(), st.just(""), st.integers(0, 3), st.integers(-1, 60), st.integers(-1, 300)
)
heads = st.integers(-1, 300)
cuts = st.lists(
    st.builds(
        CutSeen, st.integers(1, 6), st.integers(1, 2), st.none() | st.integers(0, 300), st.none() | st.integers(0, 300)
    ),
    max_size=4,
    unique_by=lambda cut: cut.epoch,
).map(lambda rows: tuple(row if row.generation == 2 else replace(row, fence=None) for row in rows))
followers = st.none() | st.builds(
    SeatStatus, st.just(B), st.just(SWAP.swap_id), st.booleans(), st.integers(0, 50), greens, st.booleans()
)
facts = st.builds(
    Facts,
    merged_head=st.integers(0, 300),
    cuts=cuts,
    greens=st.tuples(greens, greens),
    green_heads=st.tuples(heads, heads),
    blue_heads=st.tuples(heads, heads),
    blues_running=st.tuples(st.booleans(), st.booleans()),
    blues_staying=st.tuples(st.booleans(), st.booleans()),
    shadows=st.tuples(*[st.builds(ShadowSeen, st.integers(0, 20), st.integers(0, 20))] * 2),
    follower=followers,
    heard=st.booleans(),
    silent_ms=st.just(0),
    equipped=st.booleans(),
)
times = st.integers(0, STRATEGY.deadline_ms)


def counting_and_ready(spec: SwapSpec, record: SwapRecord) -> tuple[set[Member], set[Member]]:
    """Of the wanted members: those whose output counts, and those that can take over."""
    wanted = swap.wanted(spec, record)
    version = swap.owning(spec, record).version
    counts = {member for member in wanted if member.version == version}
    return counts, set(wanted) - counts


# invariant: S1
@given(situations(), st.sampled_from([None, Phase.DONE, Phase.UNDONE]))
def test_someone_counts_and_someone_can_take_over_in_every_record(
    situation: tuple[SwapSpec, SwapRecord], end: Phase | None
) -> None:
    spec, record = situation
    counts, others = counting_and_ready(spec, replace(record, phase=end or record.phase))
    assert len(counts) >= 1
    if spec is BOTH and end is None and record.phase is not Phase.ABORTING and swap.owning(spec, record) == spec.green:
        assert len(counts) == 2, "the release that counts is always there twice"
    assert len(counts | others) >= 2


# invariant: S1
@given(situations(), facts, times)
def test_every_step_keeps_two_and_takes_one_seat_s_member_away_at_most(
    situation: tuple[SwapSpec, SwapRecord], seen: Facts, now_ms: int
) -> None:
    spec, record = situation
    after = swap.moved(spec, record, seen, now_ms)
    before_members, after_members = swap.wanted(spec, record), swap.wanted(spec, after)
    assert len(before_members & after_members) >= 1, "somebody goes on through the step"
    assert len(after_members) >= 2
    gone = {m for m in before_members - after_members if m.version == SWAP.blue.version}
    assert len(gone) <= spec.strategy.surge, "both blues at once only where both greens are there"


@given(situations(), facts, times)
def test_numbers_rise_by_one_and_epochs_never_fall(
    situation: tuple[SwapSpec, SwapRecord], seen: Facts, now_ms: int
) -> None:
    spec, record = situation
    after = swap.moved(spec, record, seen, now_ms)
    assert not (spec is BOTH and after.leg), "both seats are one leg"
    if after is record:
        return
    assert after.number == record.number + 1
    assert after.epoch >= record.epoch
    if after.phase is Phase.ARMED:
        assert after.epoch > record.epoch
        assert all(after.epoch > cut.epoch for cut in seen.cuts)
        assert after.fence >= seen.merged_head + swap.FENCE_AHEAD


@given(st.integers(1, 10**6), st.integers(1, STRATEGY.deadline_ms), st.integers(0, 40))
def test_a_fence_is_as_far_ahead_as_the_output_comes_in_a_round_trip(a_second: int, been_ms: int, moves: int) -> None:
    """Further with each move; but not beyond what the slowest link needs, nor nearer than a few frames when hardly anything flows."""
    head = 10**9
    passed = a_second * been_ms // 1000
    record = replace(_both(Phase.ARMED), fence=head, fence_moves=moves, head=head - passed)
    after = swap.moved(SWAP, record, replace(FINE, merged_head=head), been_ms)
    assert after.phase is Phase.ARMED
    assert after.fence_moves == moves + 1
    pace = passed / been_ms
    least = max(swap.FENCE_AHEAD, pace * swap.FENCE_AHEAD_MS) * 2 ** min(moves + 1, 16)
    most = max(swap.FENCE_AHEAD_CAP, pace * swap.FENCE_AHEAD_CAP_MS)
    assert after.fence - head == pytest.approx(min(least, most), abs=2 ** min(moves + 1, 16))


def test_without_a_pace_a_fence_is_a_few_frames_ahead() -> None:
    record = replace(_both(Phase.ARMED), fence=100, fence_moves=0)
    after = swap.moved(SWAP, record, replace(FINE, merged_head=100), 10)
    assert after.fence == 100 + 2 * swap.FENCE_AHEAD


# invariant: S1
@given(situations(), facts)
def test_nothing_is_proposed_with_a_fence_before_the_other_host_has_the_record(
    situation: tuple[SwapSpec, SwapRecord], seen: Facts
) -> None:
    spec, record = situation
    for action in swap.table_actions(spec, record, seen, 0):
        if isinstance(action, ProposeCut):
            assert all(action.epoch > cut.epoch for cut in seen.cuts), "epochs rise in the table"
            if action.fence is not None:
                assert record.phase is Phase.ARMED
                assert seen.follower is not None
                assert seen.follower.number == record.number
                assert seen.merged_head < action.fence - swap.FENCE_MARGIN
            else:
                assert action.generation == swap.owning(spec, record).generation
        else:
            assert isinstance(action, WithdrawCut)
            assert any(cut.epoch == action.epoch and cut.applied_at is None for cut in seen.cuts)


# invariant: O1
@given(situations(), facts, st.integers(0, 10**9))
def test_silence_alone_never_aborts(situation: tuple[SwapSpec, SwapRecord], seen: Facts, silent_ms: int) -> None:
    """However long nothing was heard: as long as the time without silence is within the deadline, nothing is undone."""
    spec, record = situation
    silent = replace(seen, heard=False, silent_ms=silent_ms)
    after = swap.moved(spec, record, silent, STRATEGY.deadline_ms + silent_ms)
    assert after.phase is not Phase.ABORTING or record.phase is Phase.ABORTING


@given(situations(), facts, times, st.sampled_from(["operator", "failed", "deaths", "deadline", "different"]))
def test_every_phase_can_be_aborted_and_ends_with_blue(
    situation: tuple[SwapSpec, SwapRecord], seen: Facts, now_ms: int, why: str
) -> None:
    order, record = situation
    spec = replace(order, abort=why == "operator")
    bad = {
        "failed": replace(seen.greens[1], failed="exit status 1"),
        "deaths": replace(seen.greens[1], deaths=STRATEGY.green_deaths + 1),
    }
    seen = replace(seen, greens=(seen.greens[0], bad.get(why, seen.greens[1])))
    if why == "deadline":
        now_ms = STRATEGY.deadline_ms + 1
    if why == "different":
        spec = replace(spec, strategy=replace(spec.strategy, compare=Compare.EQUAL))
        seen = replace(seen, shadows=(ShadowSeen(0, 1), ShadowSeen(0, 1)))
    if why == "deadline" and record.phase in (Phase.PENDING, Phase.CUT, Phase.DRAINING, Phase.GONE):
        return  # what has not begun, or has only to let go of blue, may wait for ever
    after = swap.moved(spec, record, seen, now_ms)
    if record.phase is not Phase.ABORTING:
        assert after.phase is Phase.ABORTING
        assert after.reason
    assert _blue_again(spec, after if after.phase is Phase.ABORTING else record, seen).phase is Phase.UNDONE


# invariant: S1
@given(records(), facts, times)
def test_a_one_way_swap_obeys_an_order_to_go_back_only_until_green_counts(
    record: SwapRecord, seen: Facts, now_ms: int
) -> None:
    ordered = replace(SWAP, abort=True)
    one_way = replace(ordered, one_way=True)
    if not record.green_in_force or record.phase is Phase.ABORTING:
        assert swap.moved(one_way, record, seen, now_ms) == swap.moved(ordered, record, seen, now_ms)
        return
    assert swap.moved(one_way, record, seen, now_ms) == swap.moved(SWAP, record, seen, now_ms)
    failed = replace(seen, greens=(replace(seen.greens[0], failed="it raised"), seen.greens[1]))
    assert swap.moved(one_way, record, failed, now_ms).phase is Phase.ABORTING, "blue still shadows, and takes over"


def _blue_again(spec: SwapSpec, record: SwapRecord, seen: Facts) -> SwapRecord:
    """Play an abort to its end: blues run close behind, the table does as it is told."""
    table = {cut.epoch: cut for cut in seen.cuts}
    head = 300
    for _ in range(12):
        for cut in list(table.values()):
            if cut.fence is None and cut.applied_at is None:  # the merge is alive
                table[cut.epoch] = replace(cut, applied_at=head)
        told = replace(STATUS, number=record.number)
        look = replace(seen, cuts=tuple(table.values()), follower=told, merged_head=head)
        look = replace(look, blue_heads=(head, head), blues_staying=(True, True))
        for action in swap.table_actions(spec, record, look, 0):
            if isinstance(action, WithdrawCut):
                del table[action.epoch]
            elif isinstance(action, ProposeCut):
                assert action.generation == spec.blue.generation
                table[action.epoch] = CutSeen(action.epoch, action.generation, action.fence, head)
        record = swap.moved(spec, record, look, 0)
        if record.phase is Phase.UNDONE:
            top = max(table.values(), key=lambda cut: cut.epoch, default=None)
            assert top is None or top.generation == spec.blue.generation
            break
    return record


# ---------------------------------------------------------------------------------------------------- each row is reached

GOOD = GreenStatus(running=True, failed="", deaths=0, lag_frames=0, outputs=100)
DEAD = replace(GOOD, running=False, lag_frames=-1)
STATUS = SeatStatus(B, SWAP.swap_id, True, 1, GOOD, True)
FINE = Facts(
    merged_head=100,
    cuts=(),
    greens=(GOOD, GOOD),
    green_heads=(100, 100),
    blue_heads=(100, 100),
    blues_running=(True, True),
    blues_staying=(True, True),
    shadows=(ShadowSeen(50, 50), ShadowSeen(50, 50)),
    follower=STATUS,
    heard=True,
    silent_ms=0,
    equipped=True,
)
GREEN_IN_FORCE = (CutSeen(2, 2, 90, 90),)
BLUE_ENDED = (False, True), (True, False)


def _facts_for(row: Row, leg: int) -> Facts:
    """What makes exactly this row hold."""
    changes: dict[str, dict[str, object]] = {
        "_trial_green_dead": {"greens": (DEAD, GOOD) if leg == 0 else (GOOD, DEAD)},
        "_fell_behind": {"green_heads": (0, 0)},
        "_other_silent": {"heard": False},
        "_fence_lost": {"merged_head": 200, "green_heads": (200, 200)},
        "_cut_seen": {"cuts": GREEN_IN_FORCE},
        "_blue_gone": {"blues_running": BLUE_ENDED[leg]},
        "_blue_owns": {"follower": replace(STATUS, number=5)},
    }
    return replace(FINE, **changes.get(row.holds.__name__, {}))  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", [SWAP, BOTH], ids=["surge 1", "surge 2"])
@pytest.mark.parametrize("row", swap.ROWS, ids=lambda row: f"{row.leg} {row.phase.value} → {row.to.value}")
def test_every_row_is_reached(row: Row, spec: SwapSpec) -> None:
    if row.surge not in (None, spec.strategy.surge) or (row.leg == 1 and spec is BOTH):
        return
    for leg in (0,) if spec is BOTH else (0, 1) if row.leg is None else (row.leg,):
        record = SwapRecord(SWAP.swap_id, 5, leg, row.phase, 2, 116, 0, 0, 0, 0, "")
        seen = _facts_for(row, leg)
        if spec is BOTH and row.holds.__name__ == "_blue_gone":
            seen = replace(seen, blues_running=(False, False))
        after = swap.moved(spec, record, seen, STRATEGY.drain_ms + STRATEGY.shadow_ms)
        assert after.phase is row.to
        assert after.leg == (leg if row.to_leg is None else row.to_leg)
        assert after.green_deaths == row.falls


def test_people_count_seats_from_one() -> None:
    """The controller, the demo and the agent speak of the same seat."""
    first = SwapRecord(SWAP.swap_id, 1, 0, Phase.JOINING, 0, -1, 0, 0, 0, 0, "")
    late = swap.moved(SWAP, first, replace(FINE, greens=(DEAD, DEAD)), STRATEGY.deadline_ms + 1)
    assert late.reason.startswith("seat 1 was still joining")
    assert seats.tidings(SWAP, first, replace(first, phase=Phase.SHADOWING)).detail == "seat 1: joining → shadowing"


def test_a_swap_waits_for_both_hosts_to_have_all_that_they_need() -> None:
    opening = swap.opening(SWAP, 0)
    assert swap.moved(SWAP, opening, FINE, 1).phase is Phase.JOINING
    assert swap.moved(SWAP, opening, replace(FINE, equipped=False), 1) is opening
    unready = replace(STATUS, knows_swap=False)
    assert swap.moved(SWAP, opening, replace(FINE, follower=unready), 1) is opening


# invariant: P2
def test_no_swap_uses_an_epoch_of_an_earlier_one_though_withdrawn_rows_are_not_shown() -> None:
    earlier = swap.opening(SWAP, 0)
    for _ in range(1_000):  # each try at a fence withdraws the row of the last one
        earlier = swap.moved(SWAP, replace(earlier, phase=Phase.ARMED, fence=0), FINE, 0)
    seats = tuple(replace(seat, green=replace(seat.green, generation=3)) for seat in SWAP.seats)
    later = swap.opening(replace(SWAP, seats=seats), 0)
    assert later.epoch > earlier.epoch > swap.opening(SWAP, 0).epoch


@pytest.mark.parametrize("phase", [Phase.DONE, Phase.UNDONE])
@given(seen=facts, abort=st.booleans())
def test_an_end_is_an_end(phase: Phase, seen: Facts, abort: bool) -> None:
    record = SwapRecord(SWAP.swap_id, 5, 1, phase, 2, 116, 0, 0, 0, 0, "")
    assert swap.moved(replace(SWAP, abort=abort), record, seen, 10**9) is record


# invariant: S1
@given(situations(), facts, times)
def test_blue_counts_again_when_the_only_green_that_counts_is_dead(
    situation: tuple[SwapSpec, SwapRecord], seen: Facts, now_ms: int
) -> None:
    spec, record = situation
    dead = replace(seen, greens=(DEAD, DEAD))
    if swap.owning(spec, record) != spec.green or record.phase is Phase.ABORTING:
        return
    after = swap.moved(spec, record, dead, now_ms)
    assert swap.owning(spec, after).version == spec.blue.version


# invariant: O1
@given(st.sampled_from([0, 1]), times)
def test_a_slow_link_keeps_blue_but_undoes_nothing(leg: int, now_ms: int) -> None:
    """Draining waits for whoever is to take over, however long the deadline has been over."""
    record = replace(swap.opening(SWAP, 0), leg=leg, phase=Phase.DRAINING)
    far = replace(FINE, blue_heads=(100, 0), green_heads=(100, 0))
    assert swap.moved(SWAP, record, far, STRATEGY.deadline_ms * 10 + now_ms) is record


# ------------------------------------------------------------------------------------------------------------- surge 2


def _both(phase: Phase) -> SwapRecord:
    return SwapRecord(SWAP.swap_id, 5, 0, phase, 2, 116, 0, 0, 0, 0, "")


# invariant: S1
@pytest.mark.parametrize("phase", [Phase.JOINING, Phase.SHADOWING, Phase.CAUGHT_UP, Phase.DRAINING])
@pytest.mark.parametrize("late", [0, 1])
def test_under_surge_2_no_seat_goes_on_without_the_other(phase: Phase, late: int) -> None:
    """Whatever a row asks of green, one green that lags is enough to say no."""
    lagging = tuple(replace(GOOD, lag_frames=-1 if seat == late else 0) for seat in (0, 1))
    far = tuple(0 if seat == late else 100 for seat in (0, 1))
    seen = replace(FINE, greens=(lagging[0], lagging[1]), green_heads=(far[0], far[1]))
    after = swap.moved(BOTH, _both(phase), seen, STRATEGY.drain_ms + STRATEGY.shadow_ms)
    assert after.phase in (phase, Phase.SHADOWING)
    assert swap.moved(BOTH, _both(phase), FINE, STRATEGY.drain_ms + STRATEGY.shadow_ms).phase is not phase


# invariant: S1
@pytest.mark.parametrize("phase", [Phase.CUT, Phase.DRAINING, Phase.GONE])
@pytest.mark.parametrize("dead", [0, 1])
def test_under_surge_2_either_green_may_die_after_the_cut_and_its_twin_counts_on(phase: Phase, dead: int) -> None:
    seen = replace(FINE, greens=(DEAD, GOOD) if dead == 0 else (GOOD, DEAD), cuts=GREEN_IN_FORCE)
    after = swap.moved(BOTH, _both(phase), seen, 10**6)
    assert swap.owning(BOTH, after) == BOTH.green
    assert after.phase in (phase, Phase.DRAINING), "no blue is let go while one green is away"
    if phase is not Phase.GONE:  # else blue is on its way out, and the twin is what there is
        behind = replace(seen, green_heads=(100, 0))
        after = swap.moved(BOTH, _both(phase), behind, 10**6)
        assert (swap.owning(BOTH, after) == BOTH.blue) == (dead == 0), "a twin that lags is no cover, blue is"
