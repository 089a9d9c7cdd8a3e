"""The test kit's checker sees what is planted, whatever it is and wherever, and nothing where nothing is."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.frames import Cut
from halftrack_dataplane.testkit import Expected, Record, check
from halftrack_dataplane.testkit.checker import TOLD, difference

END = 40
FENCE = 17
BLUE = Expected(0, [b"blue %d" % number for number in range(END)])
GREEN = Expected(9, [b"green %d" % number for number in range(9, END)])
KNOWN = {"1.0.0": BLUE, "1.1.0": GREEN}
CUTS = (Cut(1, 1, None, 0, "1.0.0"), Cut(2, 2, FENCE, FENCE, "1.1.0"), Cut(3, 1, 50, None, "1.0.0"))


def stream() -> list[Record]:
    """As it should be."""
    blue = [Record(number, 0, 1, BLUE.at(number) or b"") for number in range(FENCE)]
    return blue + [Record(number, 0, 2, GREEN.at(number) or b"") for number in range(FENCE, END)]


def counts(records: Sequence[Record]) -> dict[str, int]:
    """What was not right, by kind."""
    verdict = check(records, CUTS, KNOWN, END)
    found = {name: getattr(verdict, name) for name in ("lost", "duplicated", "reordered", "mixed", "wrong")}
    assert verdict.right is not any(found.values())
    assert bool(verdict.findings) is any(found.values())
    return {name: count for name, count in found.items() if count}


def test_a_right_stream_is_right() -> None:
    # invariant: S1
    assert counts(stream()) == {}
    assert (
        str(check(stream(), CUTS, KNOWN, END)) == f"{END} outputs: lost 0, duplicated 0, reordered 0, mixed 0, wrong 0"
    )


@given(at=st.integers(0, END - 1), size=st.integers(1, 5))
def test_lost_outputs_are_counted_wherever_they_were(at: int, size: int) -> None:
    records = stream()
    lost = len(records[at : at + size])
    del records[at : at + size]
    assert counts(records) == {"lost": lost}


@given(at=st.integers(0, END - 1), size=st.integers(1, 5))
def test_declared_losses_are_losses(at: int, size: int) -> None:
    records = stream()
    size = len(records[at : at + size])
    records[at : at + size] = [Record(at, size, records[at].epoch, b"")]
    assert counts(records) == {"lost": size}


@given(at=st.integers(0, END - 1), later=st.integers(0, 8), times=st.integers(1, 3))
def test_duplicates_are_counted(at: int, later: int, times: int) -> None:
    records = stream()
    records[at + later + 1 : at + later + 1] = [records[at]] * times
    assert counts(records) == {"duplicated": times}


@given(at=st.integers(0, END - 2), later=st.integers(1, 8))
def test_what_comes_late_is_reordered_not_lost(at: int, later: int) -> None:
    records = stream()
    late = records.pop(at)
    records.insert(at + later, late)
    assert counts(records) == {"reordered": 1}


@given(at=st.integers(9, END - 1))
def test_the_other_releases_output_is_mixed(at: int) -> None:
    records = stream()
    other = GREEN if at < FENCE else BLUE
    records[at] = replace(records[at], payload=other.at(at) or b"")
    assert counts(records) == {"mixed": 1}


@given(at=st.integers(0, END - 1))
def test_the_wrong_epoch_is_mixed(at: int) -> None:
    records = stream()
    records[at] = replace(records[at], epoch=3 - records[at].epoch)
    assert counts(records) == {"mixed": 1}


@given(at=st.integers(0, END - 1), byte=st.integers(0, 4))
def test_a_flipped_byte_is_wrong_and_named(at: int, byte: int) -> None:
    records = stream()
    payload = bytearray(records[at].payload)
    payload[byte] ^= 0x80
    records[at] = replace(records[at], payload=bytes(payload))
    assert counts(records) == {"wrong": 1}
    assert f"byte {byte} is" in check(records, CUTS, KNOWN, END).findings[0]


def test_an_output_under_anothers_number_is_named() -> None:
    records = stream()
    records[5] = replace(records[5], payload=b"blue 6")
    assert check(records, CUTS, KNOWN, END).findings == ("output 5 is what output 6 of release 1.0.0 should be",)


def test_a_stream_that_is_too_long_or_short_is_told() -> None:
    assert counts(stream()[:-4]) == {"lost": 4}
    assert counts([*stream(), Record(END, 0, 2, b"more")]) == {"mixed": 1, "wrong": 1}


def test_outputs_that_nobody_owns_or_knows_are_told() -> None:
    early = check(stream(), CUTS[1:], KNOWN, END)
    assert early.mixed == FENCE
    assert early.findings[0] == "output 0 came before any release owned the stream"
    assert len(early.findings) == TOLD, "the words are bounded, the counts are not"
    assert check(stream(), CUTS, {"1.0.0": BLUE}, END).mixed == END - FENCE
    late = Expected(FENCE + 2, GREEN.outputs[FENCE + 2 - GREEN.first :])
    assert check(stream(), CUTS, {"1.0.0": BLUE, "1.1.0": late}, END).mixed == 2


def test_numbers_without_an_output_may_be_gaps() -> None:
    known = {"1.0.0": Expected(0, [b"x", None, None, b"y"])}
    right = [Record(0, 0, 1, b"x"), Record(1, 2, 1, b""), Record(3, 0, 1, b"y")]
    assert check(right, CUTS, known, 4).right
    wrong = [*right[:1], Record(1, 0, 1, b"z"), Record(2, 2, 1, b"")]
    assert (check(wrong, CUTS, known, 4).wrong, check(wrong, CUTS, known, 4).lost) == (1, 1)


@pytest.mark.parametrize(
    ("found", "wanted", "told"),
    [
        (b"abc", b"abd", "3 bytes; byte 2 is 0x63, not 0x64"),
        (b"ab", b"abd", "2 bytes instead of 3; the first 2 are equal"),
        (b"xb", b"abd", "2 bytes instead of 3; byte 0 is 0x78, not 0x61"),
        (b"ab", b"ab", "2 bytes, all equal"),
    ],
)
def test_a_difference_is_told_by_its_first_byte(found: bytes, wanted: bytes, told: str) -> None:
    assert difference(found, wanted) == told
