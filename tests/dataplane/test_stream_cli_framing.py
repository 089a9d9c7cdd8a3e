"""Cutting a stream into frames and counting what is in flight: properties, without a process."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.filtering import Flight, Run
from halftrack_dataplane.framing import Cutter, Form, Incomplete, Overlong, Unfit

_FRAMES = st.lists(st.binary(max_size=40), max_size=20)
_CUTS = st.lists(st.integers(1, 50), min_size=1, max_size=20)


def _fed(cutter: Cutter, data: bytes, cuts: list[int]) -> list[bytes]:
    """What comes out when `data` goes in, in pieces of those sizes, over and over."""
    found, at, number = [], 0, 0
    while at < len(data):
        size = cuts[number % len(cuts)]
        found += cutter.feed(data[at : at + size])
        at, number = at + size, number + 1
    return found


@given(_FRAMES, _CUTS)
def test_framed_frames_come_out_as_they_went_in(frames: list[bytes], cuts: list[int]) -> None:
    form = Form("framed")
    cutter = form.cutter(40)
    assert _fed(cutter, form.joined(frames), cuts) == frames
    assert cutter.end() == []


@given(_FRAMES, _CUTS)
def test_lines_come_out_as_they_went_in(frames: list[bytes], cuts: list[int]) -> None:
    form, lines = Form("lines"), [frame.replace(b"\n", b" ") for frame in frames]
    form.check(lines)
    cutter = form.cutter(40)
    assert _fed(cutter, form.joined(lines), cuts) == lines
    assert cutter.end() == []


@given(st.integers(1, 20), st.binary(max_size=200), _CUTS)
def test_fixed_frames_are_the_stream_but_for_its_rest(size: int, data: bytes, cuts: list[int]) -> None:
    cutter = Form("fixed", size).cutter(40)
    found = _fed(cutter, data, cuts)
    assert all(len(frame) == size for frame in found)
    assert b"".join(found) == data[: len(data) // size * size]
    if len(data) % size:
        with pytest.raises(Incomplete, match=f"{len(data) % size} of a frame's {size} bytes"):
            cutter.end()


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), _CUTS, st.data())
def test_a_framed_stream_that_is_cut_off_is_incomplete(
    frames: list[bytes], cuts: list[int], data: st.DataObject
) -> None:
    whole = Form("framed").joined(frames)
    ends = {len(Form("framed").joined(frames[:count])) for count in range(len(frames) + 1)}
    at = data.draw(st.integers(0, len(whole)))
    cutter = Form("framed").cutter(40)
    found = _fed(cutter, whole[:at], cuts)
    assert found == frames[: len(found)]
    if at in ends:
        assert cutter.end() == []
    else:
        with pytest.raises(Incomplete):
            cutter.end()


def test_a_last_line_needs_no_line_break() -> None:
    cutter = Form("lines").cutter(40)
    assert cutter.feed(b"one\ntwo") == [b"one"]
    assert cutter.end() == [b"two"]


def test_what_is_too_long_is_refused_before_it_is_held() -> None:
    with pytest.raises(Overlong, match="4294967295") as met:
        Form("framed").cutter(40).feed(b"\1\0\0\0x\xff\xff\xff\xff")
    assert met.value.frames == [b"x"]  # what came before is whole
    lines = Form("lines").cutter(40)
    lines.feed(b"x" * 40)
    with pytest.raises(Overlong, match="a line has more than 40 bytes"):
        lines.feed(b"x")


def test_frames_that_would_be_cut_elsewhere_are_refused() -> None:
    with pytest.raises(Unfit, match="line break"):
        Form("lines").check([b"fine", b"not\nfine"])
    with pytest.raises(Unfit, match="has 3 bytes, not 2"):
        Form("fixed", 2).check([b"ab", b"abc"])


@given(st.integers(1, 8), st.lists(st.sampled_from([-9, -2, -1, 0, 0, 1, 2, 3, 6]), max_size=60))
def test_what_is_in_flight_comes_out_in_order_and_never_exceeds_its_bound(most: int, steps: list[int]) -> None:
    """Positive: so many go in, as far as there is room; negative: so many come out; 0: a gap goes in."""
    flight, model, seq, epoch = Flight(most), deque[tuple[int, int, bool]](), 0, 0
    for step in steps:
        gaps = sum(gap for _, _, gap in model)
        room = flight.room(0)
        assert (room == 0) == (flight.full_since is not None)
        assert room == (most - (len(model) - gaps) if gaps < most else 0)
        if step >= 0 and flight.room(0):
            count = min(step, flight.room(0)) or 1
            epoch += step % 2
            flight.put(Run(seq, count, epoch, 7, gap=step == 0))
            model.extend([(seq, epoch, True)] if step == 0 else [(seq + n, epoch, False) for n in range(count)])
            seq += count
        elif step < 0 and (run := flight.take(-step)) is not None:
            assert run.count == 1 or not run.gap
            for number in range(run.count):
                assert model.popleft() == (run.seq + number, run.epoch, run.gap)
        assert flight.frames == sum(not gap for _, _, gap in model) <= most
