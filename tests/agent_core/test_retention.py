"""What a plan, its way back or a running workload names is never taken; of the rest, the newest stay as far as the reserve goes."""

from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent.retention import (
    MAX_PRODUCTS,
    NOTHING,
    Held,
    Retained,
    artifacts_of,
    bases,
    doomed,
    retained,
    spare,
)
from halftrack_model import canonical
from halftrack_model.plan import Plan

DIGESTS = st.sampled_from([f"sha256:{number:064x}" for number in range(12)])
HELD = st.dictionaries(DIGESTS, st.builds(Held, st.integers(0, 100), st.integers(0, 9)))
PLANS = st.dictionaries(st.sampled_from("abc"), st.frozensets(DIGESTS, min_size=1, max_size=2))


# invariant: R2 D1
@given(HELD, st.frozensets(DIGESTS), st.integers(0, 300), st.integers(0, 8))
def test_what_is_named_stays_and_the_reserve_has_the_newest(
    held: dict[str, Held], kept: frozenset[str], most_bytes: int, most: int
) -> None:
    going = doomed(held, kept, most_bytes, most)
    assert not kept & set(going)
    left = held.keys() - set(going) - kept
    assert sum(held[digest].size_bytes for digest in left) <= most_bytes
    assert len(left) <= most
    for digest in going:  # it went for want of room among those that are newer
        newer = [each for each in left if (held[each].came, each) > (held[digest].came, digest)]
        room = most_bytes - sum(held[each].size_bytes for each in newer)
        assert len(newer) >= most or held[digest].size_bytes > room
    assert list(spare(held, kept)) == sorted(held.keys() - kept, key=lambda each: (held[each].came, each))


# invariant: R2
@given(st.lists(st.tuples(PLANS, st.none() | st.frozensets(DIGESTS, max_size=3)), min_size=1, max_size=8))
def test_the_way_back_of_every_product_is_remembered(
    steps: list[tuple[dict[str, frozenset[str]], frozenset[str] | None]],
) -> None:
    known, running = NOTHING, frozenset[str]()
    now: dict[str, frozenset[str]] = {}
    before: dict[str, frozenset[str]] = {}
    for plan, seen in steps:
        known = canonical.decode(Retained, canonical.encode(retained(known, plan, seen)))
        assert retained(known, plan, seen) == known, "the same plan again, after a restart, changes nothing"
        running = running if seen is None else seen
        for product in {*now, *plan}:
            if plan.get(product, frozenset()) != now.get(product, frozenset()):
                before[product] = now.get(product) or before.get(product, frozenset())
                now[product] = plan.get(product, frozenset())
        expected = running.union(*now.values(), *before.values())
        assert known.digests == expected


@given(HELD, st.lists(PLANS, max_size=3), DIGESTS, st.integers(0, 12))
def test_a_wish_names_its_products_own_first_and_then_the_newest(
    held: dict[str, Held], plans: list[dict[str, frozenset[str]]], digest: str, most: int
) -> None:
    known = NOTHING
    for plan in plans:
        known = retained(known, plan, None)
    named = bases(held, known, digest, most)
    assert len(named) == len(set(named)) == min(most, len(held.keys() - {digest}))
    assert set(named) <= held.keys() - {digest}
    products = [{*each.now, *each.before} for each in known.products.values()]
    kin = frozenset().union(*(product for product in products if digest in product)) & (held.keys() - {digest})
    assert set(named[: len(kin)]) <= kin
    for rest in (kin, held.keys() - kin - {digest}):
        came = [held[each].came for each in named if each in rest]
        assert came == sorted((held[each].came for each in rest), reverse=True)[: len(came)]


def test_what_is_remembered_is_bounded() -> None:
    known = NOTHING
    for number in range(MAX_PRODUCTS + 9):
        known = retained(known, {f"p{number:04}": {f"d{number}"}}, None)
    assert len(known.products) == MAX_PRODUCTS
    assert f"d{MAX_PRODUCTS + 8}" in known.digests


# invariant: P1
def test_versions_of_the_agent_that_it_goes_back_to_stay_whatever_the_plan_says() -> None:
    """Two versions were given up since the one that runs, which no plan names any more, on a host where nothing else runs."""
    plan = Plan("milkyway", "home", "tank-a", 7, (), (), (), (), (), False)
    known = NOTHING
    for _ in range(3):
        known = retained(known, artifacts_of(plan, {"sha256:1"}), None)
    assert "sha256:1" in known.digests
    assert artifacts_of(plan) == {}
