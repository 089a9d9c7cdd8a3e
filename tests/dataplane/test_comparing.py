"""Comparisons of members' outputs: what is counted, and who is blamed, over all outputs that hypothesis can think of."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.comparing import DISPUTES, FIRST, Comparison, odd_one

RINGS = ("a@1", "b@1", "a@2")


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(0, 3), max_size=5))
def test_who_is_blamed_stands_alone_against_an_agreement(digests: dict[str, int]) -> None:
    odd = odd_one(digests)
    others = {ring: digest for ring, digest in digests.items() if ring != odd}
    if odd is not None:
        assert len(others) >= 2
        assert len(set(others.values())) == 1
        assert digests[odd] not in others.values()
    elif len(digests) >= 3:
        assert sorted(Counter(digests.values()).values())[:-1] != [1]


def told(outputs: dict[str, list[int]], order: list[int], spans: list[int]) -> Comparison:
    """a@1 passes all; the others are held against it, in spans and in an order that vary."""
    comparison, done, turn = Comparison(), dict.fromkeys(RINGS, 0), 0
    count = len(outputs["a@1"])
    while any(done[ring] < count for ring in RINGS):
        ring = RINGS[order[turn % len(order)] % 3] if turn < 3 * count else min(RINGS, key=lambda name: done[name])
        end = min(count, done[ring] + spans[turn % len(spans)])
        turn += 1
        if ring == "a@1":
            comparison.passed(ring, done[ring], end)
        else:
            end = min(end, done["a@1"])
            differing = [
                (seq, outputs[ring][seq], outputs["a@1"][seq])
                for seq in range(done[ring], end)
                if outputs[ring][seq] != outputs["a@1"][seq]
            ]
            counted = end - done[ring] - len(differing), len(differing)
            comparison.dropped(ring, done[ring], end, counted, differing, twins=ring == "b@1")
        done[ring] = max(end, done[ring])
    return comparison


columns = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=DISPUTES)


@given(
    columns, st.lists(st.integers(0, 2), min_size=1, max_size=9), st.lists(st.integers(1, 7), min_size=1, max_size=5)
)
def test_every_difference_is_counted_and_the_odd_one_of_three_is_blamed(
    frames: list[tuple[int, int, int]], order: list[int], spans: list[int]
) -> None:
    outputs = {ring: [frame[place] for frame in frames] for place, ring in enumerate(RINGS)}
    comparison = told(outputs, order, spans)
    wrong = [seq for seq, frame in enumerate(frames) if frame[1] != frame[0]]
    found = comparison.diverged.get("b@1")
    assert (found.frames if found else 0) == len(wrong)
    assert (found.first if found else ()) == tuple(wrong[:FIRST])
    for ring in RINGS[1:]:
        different = sum(one != other for one, other in zip(outputs[ring], outputs["a@1"], strict=True))
        assert comparison.counts.get(ring, (0, 0)) == (len(frames) - different, different)
    disputed = [dict(zip(RINGS, frame, strict=True)) for frame in frames if frame[0] != frame[1]]
    blamed = Counter(odd for frame in disputed if (odd := odd_one(frame)))
    assert "a@2" not in blamed  # a release is not blamed for being another
    assert {ring: row.odd for ring, row in comparison.diverged.items() if row.odd} == dict(blamed)


def test_two_alone_accuse_nobody_and_another_release_is_no_twin() -> None:
    comparison = Comparison()
    comparison.passed("a@1", 0, 4)
    comparison.dropped("a@2", 0, 4, (0, 4), [(seq, 9, 1) for seq in range(4)], twins=False)
    assert comparison.diverged == {}
    comparison = Comparison()
    comparison.passed("a@1", 0, 4)
    comparison.dropped("b@1", 0, 4, (3, 1), [(2, 9, 1)], twins=True)
    assert (comparison.diverged["b@1"].frames, comparison.diverged["b@1"].odd) == (1, 0)


def test_what_is_remembered_is_bounded_and_what_is_gone_is_forgotten() -> None:
    comparison = Comparison()
    for seq in range(0, 10 * DISPUTES, 2):
        comparison.passed("a@1", seq, seq + 1)
        comparison.dropped("b@1", seq, seq + 1, (0, 1), [(seq, 9, 1)], twins=True)
    assert len(comparison._disputes) == DISPUTES
    assert len(comparison.diverged["b@1"].first) == FIRST
    comparison.forget("b@1")
    assert (comparison.counts, comparison.diverged) == ({}, {})
