"""Whether a ring goes on with the stream that a spool holds: by what both say of themselves, and by a frame that both have.

invariant: S1
"""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from halftrack_dataplane.spool_segments import Identity, SpoolMismatch
from halftrack_dataplane.spool_stream import Standing, continued

SPOOL = Identity("adc", "<i2", 64, 3, base_seq=100)
_END = 500  # the spool has 100 to 499


def goes_on(ring: Standing, alike: bool) -> bool | None:
    """None: it does not. Both have the ring's frames below the end, and have the same there or not."""

    def same(seq: int) -> bool | None:
        held = ring.begins is not None and max(ring.begins, 100) <= seq < min(ring.head, _END)
        return alike if held else None

    try:
        return continued(SPOOL, _END, ring, same)
    except SpoolMismatch:
        return None


@pytest.mark.parametrize(
    "other",
    [
        replace(SPOOL, label="dac"),
        replace(SPOOL, schema="<i4"),
        replace(SPOOL, frame_bytes=32),
        replace(SPOOL, generation=4),
    ],
)
def test_a_ring_that_says_that_it_is_another_is_another(other: Identity) -> None:
    assert goes_on(Standing(other, 100, 600), True) is None


@given(st.integers(0, 900), st.integers(0, 900), st.integers(0, 300), st.booleans())
def test_no_number_is_taken_for_two_frames(base: int, begins: int, length: int, alike: bool) -> None:
    """Whatever goes on has begun behind the spool, or has been seen to have the same frames as far as both go."""
    assume(base <= begins)
    found = goes_on(Standing(replace(SPOOL, base_seq=base), begins, begins + length), alike)
    behind = begins >= _END and (base != 100 or begins > base)
    if behind:
        assert found is True
    elif base == 100:
        compared = length > 0 and begins + length > 100
        assert (found is False) == (compared and alike)
    else:
        assert found is None


@given(st.integers(_END, 900), st.booleans())
def test_the_ring_that_it_was_spooled_from_goes_on_when_neither_can_be_compared_any_more(
    head: int, alike: bool
) -> None:
    assert goes_on(Standing(SPOOL, None, head), alike) is False


@given(st.integers(0, 900))
def test_a_ring_that_has_nothing_yet_is_nobodys(base: int) -> None:
    assert goes_on(Standing(replace(SPOOL, base_seq=base), base, base), True) is (True if base >= _END else None)
