"""DADA headers and files of one observation: to text and back, refused with line and reason, in order with what is missing between."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.dada import SIZE, DadaError, Header, Part, runs

_KEYS = st.from_regex(r"[A-Z][A-Z0-9_]{0,15}", fullmatch=True).filter(
    lambda key: key not in ("HDR_SIZE", "OBS_OFFSET", "FILE_SIZE", "RESOLUTION", "PICOSECONDS")
)
_VALUES = st.from_regex(r"[!-\"$-~]([ -\"$-~]{0,20}[!-\"$-~])?", fullmatch=True)
_FIELDS = st.dictionaries(_KEYS, _VALUES, max_size=20)


@given(_FIELDS, st.sampled_from([4096, 8192, 65536]))
def test_what_is_parsed_is_what_was_written(fields: dict[str, str], size: int) -> None:
    header = Header({"HDR_SIZE": str(size), **fields})
    block = header.to_bytes()
    assert len(block) == size
    assert Header.parse(block) == header
    assert list(Header.parse(block).fields) == list(header.fields)
    assert Header.parse(header.text().encode()) == header


@given(_FIELDS)
def test_comments_blanks_and_tabs_are_no_part_of_a_value(fields: dict[str, str]) -> None:
    text = "# a comment\n\n" + "".join(f"  {key}\t  {value}   # why\n" for key, value in fields.items())
    assert Header.parse(text.encode()).fields == fields


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"A 1\nB\n", "line 2: 'B' is not a key and its value"),
        (b"A 1\n\n# c\nA 2\n", "line 4: A was there before, as '1'"),
        (b"A 1\nB \xff\n", "line 2: .* is not ASCII"),
        (b"A 1\n9X 1\n", "line 2: "),
        (b"A \x07b\n", "line 1: "),
        (b"HDR_SIZE 0\n", "HDR_SIZE 0 is no header's size"),
        (b"HDR_SIZE 999999999\n", "is no header's size"),
        (b"HDR_SIZE four\n", "HDR_SIZE is 'four'"),
        (b"OBS_OFFSET -1\n", "OBS_OFFSET is '-1'"),
        (b"FILE_SIZE 1.5\n", "FILE_SIZE is '1.5'"),
    ],
)
def test_a_malformed_header_is_refused_with_line_and_reason(text: bytes, reason: str) -> None:
    with pytest.raises(DadaError, match=reason):
        Header.parse(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_refused(data: bytes) -> None:
    try:
        header = Header.parse(data)
    except DadaError:
        return
    assert Header.parse(header.text().encode()) == header


@pytest.mark.parametrize("fields", [{"A": "x # y"}, {"A": "1\n2"}, {"A": ""}, {"A": " x"}, {"a b": "1"}, {"A": "é"}])
def test_what_a_header_cannot_say_is_not_written(fields: dict[str, str]) -> None:
    with pytest.raises(DadaError):
        Header(fields).to_bytes()


def test_lines_beyond_the_header_size_are_refused() -> None:
    with pytest.raises(DadaError, match="raise HDR_SIZE"):
        Header({f"KEY{at}": "x" * 40 for at in range(100)}).to_bytes()
    assert len(Header({}).to_bytes()) == SIZE


def test_times() -> None:
    fields = {"UTC_START": "2026-11-25-01:00:00", "BYTES_PER_SECOND": "1000", "PICOSECONDS": "5000"}
    began = 1795568400 * 10**9
    assert Header(fields).time_ns(0) == began + 5
    assert Header(fields).time_ns(1500) == began + 5 + 1_500_000_000
    assert Header({**fields, "UTC_START": "2026-11-25-01:00:00.25"}).time_ns(0) == began + 5 + 250_000_000
    sampled = {"UTC_START": fields["UTC_START"], "TSAMP": "0.5", "NBIT": "8", "NDIM": "2", "NPOL": "2"}
    assert Header(sampled).time_ns(8_000_000) == began + 10**9
    for wrong in (
        {"UTC_START": "yesterday"},
        {"BYTES_PER_SECOND": "0"},
        {"BYTES_PER_SECOND": "nan"},
        {"UTC_START": ""},
    ):
        assert Header({**fields, **wrong}).time_ns(0) == 0
    assert Header({"UTC_START": fields["UTC_START"]}).time_ns(0) == 0


def test_of_a_real_file_we_see_what_baseband_sees() -> None:
    import baseband.data
    from baseband import dada as theirs

    with open(baseband.data.SAMPLE_DADA, "rb") as file:
        header = Header.parse(file.read(4096))
    with theirs.open(baseband.data.SAMPLE_DADA, "rb") as opened:
        seen = opened.read_header()
    assert set(header.fields) == {
        key for key in seen if not key.startswith("_")
    }  # theirs keeps comments under such names
    assert header.number("OBS_OFFSET") == seen["OBS_OFFSET"]
    assert header.time_ns(header.number("OBS_OFFSET")) / 1e9 == pytest.approx(seen.time.unix, abs=1e-6)


# ------------------------------------------------------------------------------------------------------------------ files


def part(begin: int, size: int, start: str = "2026-11-25-01:00:00", name: str = "") -> Part:
    """A file whose data are `size` bytes from `begin` on."""
    return Part(name or f"at{begin}", Header({"UTC_START": start, "OBS_OFFSET": str(begin)}), size)


@given(
    st.integers(1, 64),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_files_are_put_in_order_and_holes_are_whole_frames(
    each: int, made: list[tuple[int, int]], chance: object
) -> None:
    parts, at = [], 0
    covered: list[int] = []
    for hole, frames in made:
        at += hole
        parts.append(part(at * each, frames * each))
        covered += range(at, at + frames)
        at += frames
    shuffled = list(parts)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    found = runs(shuffled, each)
    assert [one for run in found for one in run.parts] == parts
    assert [
        run.first + at for run in found for at in range(sum(one.data_bytes for one in run.parts) // each)
    ] == covered
    assert all(
        one.first + sum(part.data_bytes for part in one.parts) // each < other.first
        for one, other in itertools.pairwise(found)
    )


def test_a_frame_may_lie_in_two_files_that_follow_each_other() -> None:
    assert [run.first for run in runs([part(0, 15), part(15, 5)], 10)] == [0]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([part(0, 20), part(10, 20)], "at10 begins at byte 10 of the observation, but the file before it ends at 20"),
        ([part(0, 20), part(20, 20, "2026-11-26-00:00:00")], "one observation at a time"),
        ([part(5, 20)], "no whole number of frames of 10 bytes"),
        ([part(0, 15), part(20, 20)], "ends at 15"),
        ([part(0, 20), part(25, 20)], "begins at byte 25"),
    ],
)
def test_files_that_do_not_fit_each_other_are_refused(parts: list[Part], reason: str) -> None:
    with pytest.raises(DadaError, match=reason):
        runs(parts, 10)
