"""The seed decides everything that goes wrong, and nothing goes wrong that the rings could not cover."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from examples.demo.faults import planned

SEEDS = st.integers(0, 2**32)
RING_S = 16.0  # of the stream, in the manifests


@given(SEEDS)
def test_a_seed_means_the_same_faults_every_time(seed):
    first, second = planned(seed), planned(seed)
    assert first == second
    assert list(itertools.islice(first.link(), 50)) == list(itertools.islice(second.link(), 50))


@given(SEEDS)
def test_troubles_of_a_link_follow_each_other_with_rest_between(seed):
    troubles = list(itertools.islice(planned(seed).link(), 40))
    for one, next_one in itertools.pairwise(troubles):
        assert one.at_s < one.until_s < next_one.at_s
        assert next_one.at_s - one.until_s >= 1.0
    for trouble in troubles:
        if trouble.fault.cut:
            assert 0.2 <= trouble.until_s - trouble.at_s <= 1.0 < RING_S / 2
    assert any(trouble.fault.cut for trouble in troubles)


def test_over_many_seeds_every_kind_of_fault_occurs():
    plans = [planned(seed) for seed in range(100)]
    assert {plan.agent for plan in plans} == {"tank-a", "tank-b", ""}
    assert {plan.controller_killed for plan in plans} == {True, False}
    assert any(plan.raise_after_s < 2.5 for plan in plans)
    assert any(plan.raise_after_s > 3.0 for plan in plans)
    faults = [trouble.fault for plan in plans for trouble in itertools.islice(plan.link(), 10)]
    assert any(fault.loss_percent for fault in faults)
    assert any(fault.delay_ms for fault in faults)
