"""Who of a site brings an artifact: one of them, whatever they hear of each other and when; and nobody waits for ever."""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_agent import sharing
from halftrack_agent.sharing import (
    HEAR_MS,
    MOST_MS,
    PATIENCE_MS,
    SILENT_MS,
    SLACK_BYTES,
    Answer,
    Bring,
    Heard,
    Here,
    Stands,
    Take,
    Wait,
    choice,
    said,
)
from halftrack_model.ids import digest_of

DIGEST = digest_of(b"an artifact")
SIZE = 3 * SLACK_BYTES
STEP_MS = 100

stands = st.sampled_from(Stands)
times = st.integers(0, MOST_MS)
heards = st.builds(Heard, stands, st.integers(0, SIZE), times, times)
siblings = st.dictionaries(st.sampled_from(["b", "c", "d", "e"]), st.none() | heards)


def first(*hosts: str) -> str:
    return min(hosts, key=lambda host: sharing.rank(DIGEST, host))


@given(siblings, st.integers(0, SIZE) | st.none(), st.booleans(), times, times)
def test_what_is_chosen_is_possible_and_waiting_has_an_end(
    heard: dict[str, Heard | None], brought: int | None, linked: bool, since_ms: int, now_ms: int
) -> None:
    here = Here("a", linked or brought is not None, brought, since_ms)
    match choice(DIGEST, here, heard, now_ms):
        case Take(host):
            one = heard[host]
            assert one is not None
            assert one.stands is Stands.HAS
            assert now_ms - one.at_ms < SILENT_MS
        case Bring():
            assert here.linked
        case Wait(why):
            assert why
            assert not here.linked or now_ms - since_ms < MOST_MS
    # Whoever says nothing more is not waited for.
    silent = choice(DIGEST, here, heard, max([now_ms, *(one.at_ms for one in heard.values() if one)]) + MOST_MS + 1)
    assert isinstance(silent, Bring if here.linked else Wait)


@given(st.lists(st.tuples(st.sampled_from([Stands.WANTS, Stands.BRINGS, Stands.CUT_OFF]), st.integers(1, 5_000))))
def test_one_that_begins_for_ever_and_gets_nowhere_is_not_waited_for(turns: list[tuple[Stands, int]]) -> None:
    heard, now_ms = said(None, Answer(0, Stands.WANTS, 0, 0), 0), 0
    for stand, pause_ms in [*turns, (Stands.BRINGS, PATIENCE_MS[Stands.BRINGS])]:
        now_ms += pause_ms
        heard = said(heard, Answer(0, stand, 0, 0), now_ms)
    assert isinstance(choice(DIGEST, Here("a", True, None, 0), {"b": heard}, now_ms), Bring)


@given(st.integers(0, SIZE), st.integers(0, SIZE), st.integers(0, SIZE), st.integers(0, SIZE))
def test_of_two_that_bring_it_never_both_yield(a: int, b: int, a_late: int, b_late: int) -> None:
    """What each hears of the other is of a moment ago: at most what it has now."""
    by_a = Heard(Stands.BRINGS, max(0, b - b_late), 0, 0)
    by_b = Heard(Stands.BRINGS, max(0, a - a_late), 0, 0)
    of_a = choice(DIGEST, Here("a", True, a, 0), {"b": by_a}, 1)
    of_b = choice(DIGEST, Here("b", True, b, 0), {"a": by_b}, 1)
    assert Bring() in (of_a, of_b)
    if not a_late and not b_late:
        assert Bring() != of_a or Bring() != of_b


def test_who_is_unheard_of_is_waited_for_a_moment_and_who_neither_has_nor_wants_it_not_at_all() -> None:
    here = Here("a", True, None, 0)
    assert isinstance(choice(DIGEST, here, {"b": None}, HEAR_MS - 1), Wait)
    assert choice(DIGEST, here, {"b": None}, HEAR_MS) == Bring()
    for stand in (Stands.NOTHING, Stands.CUT_OFF):
        assert choice(DIGEST, here, {"b": Heard(stand, 0, 0, 0)}, 1) == Bring()


def test_one_that_says_for_ever_that_it_brings_it_is_believed_for_hours_and_no_longer() -> None:
    heard = {"b": Heard(Stands.BRINGS, 7, MOST_MS - 1, MOST_MS - 1)}
    assert choice(DIGEST, Here("a", True, None, 0), heard, MOST_MS - 1) == Wait("b brings it")
    assert choice(DIGEST, Here("a", True, None, 0), heard, MOST_MS) == Bring()


def test_an_artifact_that_all_have_is_taken_from_many() -> None:
    names = [f"tank-{number}" for number in range(16)]
    heard: dict[str, Heard | None] = {name: Heard(Stands.HAS, 0, 0, 0) for name in names}
    chosen = {choice(DIGEST, Here(f"new-{number}", True, None, 0), heard, 1) for number in range(64)}
    assert len(chosen) > 8


# ---------------------------------------------------------------------------------------- a site, in steps


@dataclass
class Member:
    """A host of the site: it learns of the artifact at `from_ms`, may be cut off until `linked_ms`, and dies at `dead_ms`."""

    name: str
    from_ms: int
    linked_ms: int
    dead_ms: int
    late_ms: int  # how old what others hear of it is
    here: Here | None = None
    heard: dict[str, Heard | None] = field(default_factory=dict)
    has: bool = False
    took: int = 0
    log: list[Answer] = field(default_factory=list)  # of each step

    def alive(self, now_ms: int) -> bool:
        return self.from_ms <= now_ms < self.dead_ms

    def answer(self, now_ms: int) -> Answer:
        if self.has:
            return Answer(0, Stands.HAS, SIZE, 0)
        if now_ms < self.from_ms:
            return Answer(0, Stands.NOTHING, 0, 0)
        if self.here is not None and self.here.brought is not None:
            return Answer(0, Stands.BRINGS, 0, self.here.brought)
        return Answer(0, Stands.WANTS if now_ms >= self.linked_ms else Stands.CUT_OFF, 0, 0)


def run(members: list[Member], rate: int, until_ms: int) -> int:
    """Returns the bytes that came over the link."""
    carried = 0
    for now_ms in range(0, until_ms, STEP_MS):
        if all(one.has or not one.alive(now_ms) for one in members if one.from_ms <= now_ms) and now_ms > 5_000:
            break
        for one in members:
            one.log.append(one.answer(now_ms))
        for one in members:
            if not one.alive(now_ms) or one.has:
                continue
            one.here = one.here or Here(one.name, False, None, now_ms)
            one.here = replace(one.here, linked=now_ms >= one.linked_ms)
            for other in members:
                if other is one or now_ms >= other.dead_ms:
                    continue
                before = one.heard.setdefault(other.name, None)
                if now_ms >= other.late_ms:
                    one.heard[other.name] = said(before, other.log[(now_ms - other.late_ms) // STEP_MS], now_ms)
            match choice(DIGEST, one.here, one.heard, now_ms):
                case Take():
                    one.has = True
                case Bring():
                    brought = (one.took if one.here.brought is None else one.here.brought) + rate
                    carried += rate
                    one.took, one.has = brought, brought >= SIZE
                    one.here = replace(one.here, brought=None if one.has else brought)
                case Wait():
                    one.here = replace(one.here, brought=None)
    return carried


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(0, 3_000), st.sampled_from([0, 0, 4_000, 10**9]), st.integers(0, 300)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([SIZE // 50, SIZE // 200]),
)
def test_a_site_brings_it_about_once_and_all_have_it(hosts: list[tuple[int, int, int]], rate: int) -> None:
    """Plans come at different times, some hosts have no link (some never), and what they hear of each other is late."""
    members = [Member(f"h{n}", *when[:2], 10**9, when[2]) for n, when in enumerate(hosts)]
    someone = any(member.linked_ms < 10**9 for member in members)
    carried = run(members, rate, 30_000)
    assert all(member.has for member in members) == someone
    # Two that began at once are told so within a second: that much of the link is lost, and no more.
    assert carried <= SIZE + rate + (len(hosts) - 1) * rate * 2_000 // STEP_MS


def test_those_who_learn_of_it_together_bring_it_exactly_once() -> None:
    assert run([Member(f"h{number}", 0, 0, 10**9, 0) for number in range(5)], SIZE // 50, 30_000) == SIZE // 50 * 51


@given(st.integers(1_000, 10_000), st.integers(2, 4))
@settings(max_examples=10)
def test_when_the_one_that_brings_it_dies_another_goes_on(dead_ms: int, count: int) -> None:
    names = [f"h{number}" for number in range(count)]
    members = [Member(name, 0, 0, dead_ms if name == first(*names) else 10**9, 100) for name in names]
    run(members, SIZE // 200, 60_000)
    assert all(member.has for member in members if member.dead_ms == 10**9)
