"""A tolerance of integers: they are held against each other as what they are, not as what doubles make of them."""

import struct

from hypothesis import example, given
from hypothesis import strategies as st

from halftrack_dataplane import checks
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.judge_orders import FieldTolerance, JudgeOrders


@example(dtype="<u8", blue=10**19, away=9, absolute=8)
@example(dtype=">i8", blue=-(1 << 62), away=-3, absolute=2)
@given(
    dtype=st.sampled_from(["<u8", ">i8", "<i2", "u1"]),
    blue=st.integers(-(1 << 63), (1 << 64) - 1),
    away=st.integers(-24, 24) | st.integers(-(1 << 64), 1 << 64),
    absolute=st.integers(0, 20) | st.integers(1 << 52, 1 << 64),
)
def test_integers_are_as_far_apart_as_they_are(dtype: str, blue: int, away: int, absolute: int) -> None:
    """Also where doubles cannot tell them apart."""
    bits = int(dtype[-1]) * 8
    least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if "i" in dtype else (0, (1 << bits) - 1)
    blue = min(max(blue, least), most)
    green = min(max(blue + away, least), most)
    orders = JudgeOrders((), "tolerance", fields=(FieldTolerance("sum", dtype, 1, str(absolute)),))
    code = {"u8": "Q", "i8": "q", "i2": "h", "u1": "B"}[dtype.lstrip("<>")]
    packed = [struct.pack((dtype[0] if dtype[0] in "<>" else "<") + code, value) for value in (blue, green)]
    text = checks.of_orders(orders, "")(*map(_frame, packed))
    assert (text == "") == (abs(green - blue) <= absolute)


def _frame(payload: bytes) -> Frame:
    return Frame(5, 1, 1, payload)
