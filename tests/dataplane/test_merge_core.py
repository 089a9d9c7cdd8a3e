"""The merge's decisions over all interleavings of members, deaths, cuts and withdrawals that hypothesis can think of."""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from halftrack_dataplane.frames import Cut
from halftrack_dataplane.merge import Apply, Drop, Lose, Offer, Pass, Wait, decide, owner_of


@dataclass
class Model:
    """A member's ring: outputs [first, head) but for the declared gaps; `cursor` is the merge's."""

    name: str
    generation: int
    first: int
    head: int
    may_skip: bool  # at most one member of a generation ever does: the other's outputs are what S1 relies on
    cursor: int
    gaps: set[int] = field(default_factory=set)

    def missing(self, seq: int) -> bool:
        return seq < self.first or seq in self.gaps

    def offer(self, most: int = 1000) -> Offer:
        """With a run of at most so many frames."""
        at = max(self.cursor, 0)
        if at >= self.head:
            return Offer(self.name, self.generation, 0, 0, False, True)
        gap, end = self.missing(at), at + 1
        while end < self.head and self.missing(end) is gap and (gap or end - at < most):
            end += 1
        return Offer(self.name, self.generation, at, end, gap, True)


class Merging(RuleBasedStateMachine):
    """invariant: S1. Output in order, no gap, no duplicate, always from the generation that owns the number."""

    def __init__(self) -> None:
        super().__init__()
        self.output: list[tuple[int, int]] = []  # (generation, epoch) of sequence n at place n
        self.cuts: tuple[Cut, ...] = (Cut(1, 1, None, None, ""),)
        self.epoch = 1
        self.generation = 1
        self.rings = {f"{member}@1": Model(f"{member}@1", 1, 0, 0, member == "a", 0) for member in "ab"}
        self.most = 1000

    @rule(most=st.sampled_from([1, 2, 3, 1000]))
    def runs_are_cut_short(self, most: int) -> None:
        self.most = most

    @property
    def expected(self) -> int:
        return len(self.output)

    def pick(self, number: int) -> Model | None:
        rings = sorted(self.rings)
        return self.rings[rings[number % len(rings)]] if rings else None

    @rule(number=st.integers(0, 9), count=st.integers(1, 6))
    def a_member_produces(self, number: int, count: int) -> None:
        if ring := self.pick(number):
            ring.head = max(ring.head, ring.first) + count

    @rule(number=st.integers(0, 9), count=st.integers(1, 3))
    def a_member_restarts_with_a_gap(self, number: int, count: int) -> None:
        ring = self.pick(number)
        if ring and ring.may_skip and ring.head >= ring.first:
            ring.gaps |= set(range(ring.head, ring.head + count))
            ring.head += count

    @rule(ahead=st.integers(0, 5), count=st.integers(0, 6))
    def a_green_joins(self, ahead: int, count: int) -> None:
        if len(self.rings) < 6:
            self.generation += 1
            for member in "ab":
                name = f"{member}@{self.generation}"
                first = self.expected + ahead
                head = first + count if count else 0
                self.rings[name] = Model(name, self.generation, first, head, member == "a", self.expected)

    @rule(number=st.integers(0, 9), ahead=st.none() | st.integers(0, 8))
    def an_agent_proposes(self, number: int, ahead: int | None) -> None:
        ring = self.pick(number)
        floor = self.expected if ahead is None else self.expected + ahead
        if ring is None or len(self.cuts) > 40 or ring.first > (floor if ahead is None else ring.head - 1):
            return  # whoever is repaired has had outputs; a green brings some by then, which may begin beyond any fence
        self.epoch += 1
        self.cuts += (Cut(self.epoch, ring.generation, None if ahead is None else floor, None, ""),)

    @rule()
    def an_agent_withdraws(self) -> None:
        self.cuts = tuple(cut for cut in self.cuts if cut.applied_at is not None or cut.epoch == 1)

    @rule(number=st.integers(0, 9))
    def a_generation_goes(self, number: int) -> None:
        ring = self.pick(number)
        wanted = {cut.generation for cut in self.cuts if cut.applied_at is None}
        owner = owner_of(self.expected, self.cuts)
        if ring and ring.generation not in wanted and (owner is None or owner.generation != ring.generation):
            self.rings = {name: kept for name, kept in self.rings.items() if kept.generation != ring.generation}

    @rule()
    def the_merge_dies(self) -> None:
        for ring in self.rings.values():
            ring.cursor = self.expected

    @rule(steps=st.integers(1, 12))
    def the_merge_steps(self, steps: int) -> None:
        for _ in range(steps):
            if not self.step():
                break

    @precondition(lambda self: self.rings)
    @rule()
    def all_catch_up(self) -> None:
        goal = self.expected + 3
        for ring in self.rings.values():
            ring.head = max(ring.head, goal, ring.first)
        while self.step():
            pass
        assert self.expected >= goal, "whoever owns the next number had it, and it did not pass"

    def step(self) -> bool:
        decision = decide(self.expected, self.cuts, [ring.offer(self.most) for ring in self.rings.values()])
        match decision:
            case Apply(epoch, at_seq):
                assert at_seq == self.expected
                self.cuts = tuple(replace(cut, applied_at=at_seq) if cut.epoch == epoch else cut for cut in self.cuts)
            case Pass(name, epoch, end):
                ring = self.rings[name]
                offer = ring.offer(self.most)
                assert (offer.seq, offer.gap) == (self.expected, False)
                assert offer.seq < end <= offer.end
                ring.cursor = end
                self.output += [(ring.generation, epoch)] * (end - offer.seq)
            case Drop(name, end):
                offer = self.rings[name].offer(self.most)
                assert offer.seq < end <= min(offer.end, self.expected)
                self.rings[name].cursor = end
            case Lose():
                raise AssertionError(f"declared a loss at {self.expected} that one member could have filled")
            case Wait():
                return False
        return True

    @invariant()
    def every_number_came_from_its_owner(self) -> None:
        for seq in range(max(0, len(self.output) - 16), len(self.output)):
            owner = owner_of(seq, self.cuts)
            assert owner is not None
            assert self.output[seq] == (owner.generation, owner.epoch)

    @invariant()
    def every_fence_that_was_applied_is_where_its_release_begins(self) -> None:
        assert all(cut.applied_at in (None, cut.fence) for cut in self.cuts if cut.fence is not None)


Merging.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestMerging = Merging.TestCase  # invariant: S1

offers = st.builds(
    lambda ring, generation, seq, length, gap, live: Offer(
        ring, generation, seq if length else 0, seq + (length if gap else 1) if length else 0, gap and length > 0, live
    ),
    st.sampled_from(["a@1", "b@1", "a@2"]),
    st.sampled_from([1, 2]),
    st.integers(0, 30),
    st.integers(0, 9),
    st.booleans(),
    st.booleans(),
)


@given(expected=st.integers(0, 20), found=st.lists(offers, max_size=4), fence=st.none() | st.integers(0, 30))
def test_a_loss_is_declared_only_when_all_who_can_speak_are_past_it(
    expected: int, found: list[Offer], fence: int | None
) -> None:
    # invariant: S2
    cuts = [Cut(1, 1, None, 0, "")] + ([Cut(2, 2, fence, None, "")] if fence is not None else [])
    decision = decide(expected, cuts, found)
    if not isinstance(decision, Lose):
        return
    owned = [offer for offer in found if offer.generation == 1]
    speakers = [offer for offer in owned if offer.live] or owned
    assert speakers, "nobody said that it is lost"
    assert decision.count >= 1
    lost = range(expected, expected + decision.count)
    assert all(offer.end > expected for offer in speakers)
    assert not any(offer.seq in lost and not offer.gap for offer in speakers)
    if fence is not None and fence > expected:
        assert lost.stop <= fence, "beyond the fence another generation answers"


def test_before_the_first_cut_nothing_passes() -> None:
    assert isinstance(decide(0, (), [Offer("a@1", 1, 0, 1, False, True)]), Wait)


def test_a_fence_that_has_gone_by_is_never_applied() -> None:
    cuts = (Cut(1, 1, None, 0, ""), Cut(2, 2, 5, None, ""))
    assert decide(6, cuts, [Offer("a@1", 1, 6, 9, False, True)]) == Pass("a@1", 1, 9)
    assert decide(5, cuts, []) == Apply(2, 5)


def test_a_run_ends_at_the_nearest_fence_and_its_duplicates_where_the_owner_changed() -> None:
    # invariant: S1
    cuts = (Cut(1, 1, None, 0, ""), Cut(2, 2, 8, None, ""), Cut(3, 1, 6, None, ""))
    assert decide(3, cuts, [Offer("a@1", 1, 3, 20, False, True)]) == Pass("a@1", 1, 6)
    assert decide(3, cuts, [Offer("a@1", 1, 3, 20, True, True), Offer("b@1", 1, 9, 20, False, True)]) == Lose(3, 1)
    behind = [Offer("a@1", 1, 3, 20, False, True)]
    assert decide(12, (Cut(1, 1, None, 0, ""), Cut(2, 2, 8, 8, "")), behind) == Drop("a@1", 8)
    assert decide(12, (Cut(1, 1, None, 0, ""),), behind) == Drop("a@1", 12)


GREEN_BEYOND = [Offer("a@2", 2, 9, 20, False, True), Offer("b@2", 2, 0, 8, True, True)]


def test_a_cut_waits_for_a_generation_that_begins_beyond_what_the_owner_has() -> None:
    # invariant: S1
    fenced, repair = [(Cut(1, 1, None, 0, ""), Cut(2, 2, fence, None, "")) for fence in (5, None)]
    has, has_not = Offer("a@1", 1, 5, 12, False, True), Offer("a@1", 1, 0, 0, False, True)
    assert decide(5, fenced, [has, *GREEN_BEYOND]) == Pass("a@1", 1, 8), "the fence goes by"
    assert decide(8, fenced, [replace(has, seq=8), replace(GREEN_BEYOND[1], seq=8, end=9)]) == Pass("a@1", 1, 12)
    assert decide(5, repair, [has, *GREEN_BEYOND]) == Pass("a@1", 1, 8), "up to where it begins"
    assert decide(8, repair, [replace(has, seq=8), Offer("b@2", 2, 8, 9, False, True)]) == Apply(2, 8)
    assert decide(5, fenced, [has_not, *GREEN_BEYOND]) == Wait("a@1")
    assert decide(5, repair, [has_not, *GREEN_BEYOND]) == Apply(2, 5), "a repair waits for nobody"
    for cuts in (fenced, repair):
        assert decide(5, cuts, [replace(has_not, live=False), *GREEN_BEYOND]) == Apply(2, 5)
        assert decide(5, cuts, [replace(has, seq=6), *GREEN_BEYOND]) == Apply(2, 5), "it is lost in any case"
        assert decide(5, cuts, [has, *GREEN_BEYOND, Offer("c@2", 2, 0, 0, False, True)]) == Apply(2, 5)
        assert decide(5, cuts, [has, *GREEN_BEYOND, Offer("c@2", 2, 0, 0, False, False)]) != Apply(2, 5)


def test_before_a_cut_is_applied_it_is_known_what_its_generation_has_there() -> None:
    # invariant: S1
    cuts = (Cut(1, 1, None, 0, ""), Cut(2, 2, 5, None, ""))
    blue = Offer("a@1", 1, 5, 12, False, True)
    assert decide(5, cuts, [blue, Offer("a@2", 2, 3, 5, False, True)]) == Drop("a@2", 5)
    assert decide(5, cuts, [blue, Offer("a@2", 2, 5, 9, True, True)]) == Pass("a@1", 1, 9)


@dataclass
class Merged:
    """A merge that takes runs of at most `most` frames, over rings that it shares with another but for the cursors."""

    most: int
    cursors: dict[str, int] = field(default_factory=dict)
    output: list[tuple[int, int] | None] = field(default_factory=list)  # None: lost
    cuts: tuple[Cut, ...] = (Cut(1, 1, None, 0, ""),)

    def go(self, rings: list[Model]) -> None:
        """As far as it gets."""
        while not isinstance(
            decision := decide(len(self.output), self.cuts, [self.offer(ring) for ring in rings]), Wait
        ):
            match decision:
                case Apply(epoch, at):
                    self.cuts = tuple(replace(cut, applied_at=at) if cut.epoch == epoch else cut for cut in self.cuts)
                case Pass(name, epoch, end):
                    generation = next(ring.generation for ring in rings if ring.name == name)
                    self.output += [(generation, epoch)] * (end - len(self.output))
                    self.cursors[name] = end
                case Drop(name, end):
                    self.cursors[name] = end
                case Lose(count, _):
                    self.output += [None] * count

    def offer(self, ring: Model) -> Offer:
        return replace(ring, cursor=self.cursors.get(ring.name, 0)).offer(self.most)


NAMES = (("a@1", 1), ("b@1", 1), ("a@2", 2), ("b@2", 2))
events = st.one_of(
    st.tuples(st.just("frames"), st.integers(0, 3), st.integers(1, 12)),
    st.tuples(st.just("gap"), st.integers(0, 3), st.integers(1, 5)),
    st.tuples(st.just("cut"), st.integers(1, 2), st.none() | st.integers(0, 12)),
    st.tuples(st.just("withdraw"), st.just(0), st.just(0)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(events, max_size=40), st.integers(2, 20))
def test_runs_are_what_frame_by_frame_is(happened: list[tuple[str, int, int | None]], most: int) -> None:
    """Whatever arrives, is lost or is cut, in whatever order. invariants: S1, S2"""
    rings = [Model(name, generation, 0, 0, True, 0) for name, generation in NAMES]
    by_frame, by_run = Merged(1), Merged(most)
    for epoch, (what, which, amount) in enumerate(happened, start=2):
        if what == "cut":
            fence = None if amount is None else len(by_frame.output) + amount
            by_frame.cuts += (Cut(epoch, which, fence, None, ""),)
            by_run.cuts += (Cut(epoch, which, fence, None, ""),)
        elif what == "withdraw":
            for merged in (by_frame, by_run):
                merged.cuts = tuple(cut for cut in merged.cuts if cut.applied_at is not None)
        else:
            ring = rings[which]
            if what == "gap":
                ring.gaps |= set(range(ring.head, ring.head + (amount or 0)))
            ring.head += amount or 0
        by_frame.go(rings)
        by_run.go(rings)
        assert by_run.output == by_frame.output
        assert by_run.cuts == by_frame.cuts
        assert by_run.cursors == by_frame.cursors
