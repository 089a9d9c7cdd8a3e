"""What a spool is on the disk: records, heads, places; how far a segment is whole; what may go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.spool_record import FIELDS_BYTES, GAP, Entry, crc32c, entry_at, record
from halftrack_dataplane.spool_segments import (
    HEAD_BYTES,
    PLACE_BYTES,
    Head,
    Identity,
    Limits,
    Losses,
    Place,
    Segment,
    SpoolDamaged,
    first_of,
    lost_below,
    next_whole,
    pack_head,
    pack_place,
    place_offset,
    read_head,
    read_place,
    room_for,
    segment_name,
    tail_of,
)

SALT = 0x5EED
_SEQ = st.integers(0, (1 << 62) - 1)
_U64 = st.integers(0, (1 << 64) - 1)
_TIME = st.integers(-(1 << 63), (1 << 63) - 1)
_RUNS = st.lists(  # records of a stream: how many frames of how many bytes, or a gap (None)
    st.tuples(st.integers(1, 5), st.one_of(st.none(), st.integers(0, 150))), min_size=1, max_size=6
)


def _stream(runs: list[tuple[int, int | None]], first: int = 7) -> list[bytes]:
    """Records, one a run, that follow each other."""
    made, seq = [], first
    for count, size in runs:
        if size is None:
            made.append(record(SALT, seq, count=count, flags=GAP))
        else:
            made.append(record(SALT, seq, frames=bytes([seq % 251]) * (count * size), frame_bytes=size, count=count))
        seq += count
    return made


def _segment(records: list[bytes], room: int = 512, first: int = 7) -> bytearray:
    return bytearray(pack_head(Head(SALT, first)) + b"".join(records) + bytes(room))


@given(_U64, _U64, st.binary(min_size=1, max_size=300), st.integers(1, 3), _U64, _TIME)
def test_a_record_is_read_as_it_was_written(
    salt: int, seq: int, frame: bytes, count: int, epoch: int, time_ns: int
) -> None:
    data = record(
        salt, seq, frames=frame * count, frame_bytes=len(frame), count=count, epoch=epoch, timestamp_ns=time_ns
    )
    entry = entry_at(data, 0, salt)
    assert isinstance(entry, Entry)
    assert (entry.seq, entry.count, entry.epoch, entry.timestamp_ns, entry.frame_bytes, entry.gap) == (
        (seq, count, epoch, time_ns, len(frame), 0)
    )
    assert data[entry.at : entry.at + count * len(frame)] == frame * count
    assert entry.end == len(data)
    assert len(data) % FIELDS_BYTES == 0


@given(st.integers(1, 3), st.integers(0, 200), st.data())
def test_a_record_that_is_altered_cut_off_or_of_another_spool_is_none(
    count: int, size: int, data: st.DataObject
) -> None:
    whole = record(SALT, 9, frames=b"x" * (count * size), frame_bytes=size, count=count)
    assert entry_at(whole, 0, SALT + 1) is None
    assert entry_at(whole[: data.draw(st.integers(0, len(whole) - 1))], 0, SALT) is None
    altered = bytearray(whole)
    altered[data.draw(st.integers(0, FIELDS_BYTES + count * size - 1))] ^= data.draw(st.integers(1, 255))
    assert entry_at(altered, 0, SALT) is None


def test_the_checksum_is_the_rings() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720's polynomial, its usual check value


@given(_RUNS, st.data())
def test_any_prefix_of_a_segment_is_whole_up_to_its_last_record(
    runs: list[tuple[int, int | None]], data: st.DataObject
) -> None:
    records = _stream(runs)
    segment = _segment(records)
    cut = data.draw(st.integers(HEAD_BYTES, len(segment)))
    segment[cut:] = bytes(len(segment) - cut)
    tail = tail_of(segment, read_head(bytes(segment[:HEAD_BYTES]), "it"))
    ends = [HEAD_BYTES + len(b"".join(records[:n])) for n in range(len(records) + 1)]
    # A cut in a record's last zeros, or in frames that are zeros, changes nothing.
    least = max(n for n, end in enumerate(ends) if end <= cut)
    kept = ends.index(tail.offset)
    assert kept >= least
    assert segment[: tail.offset] == _segment(records)[: tail.offset]
    assert tail.end_seq == 7 + sum(count for count, _ in runs[:kept])


@given(_RUNS, st.data())
def test_damage_in_the_middle_ends_at_the_next_whole_record(
    runs: list[tuple[int, int | None]], data: st.DataObject
) -> None:
    records = _stream([*runs, (1, 10)])
    segment = _segment(records)
    hit = data.draw(st.integers(0, len(runs) - 1))
    begin = HEAD_BYTES + len(b"".join(records[:hit]))
    segment[begin + data.draw(st.integers(0, FIELDS_BYTES - 1))] ^= data.draw(st.integers(1, 255))
    seq = 7 + sum(count for count, _ in runs[:hit])
    assert entry_at(segment, begin, SALT) is None
    assert next_whole(segment, begin, SALT, seq) == begin + len(records[hit])
    assert tail_of(segment, Head(SALT, 7)).end_seq == 7 + sum(count for count, _ in runs) + 1


@given(
    st.builds(
        Head,
        _U64,
        _SEQ,
        st.builds(Identity, st.text(max_size=20), st.text(max_size=99), _SEQ, _SEQ, _SEQ),
        st.builds(Losses, _SEQ, _SEQ, _SEQ, _SEQ),
    ),
    st.data(),
)
def test_a_head_is_read_as_written_or_refused(head: Head, data: st.DataObject) -> None:
    page = pack_head(head)
    assert read_head(page, "it") == head
    altered = bytearray(page)
    altered[data.draw(st.integers(0, HEAD_BYTES - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SpoolDamaged):
        read_head(bytes(altered), "it")
    with pytest.raises(SpoolDamaged):
        read_head(page[: data.draw(st.integers(0, HEAD_BYTES - 1))], "it")


@given(_SEQ, _SEQ)
def test_segments_names_sort_as_their_sequences(one: int, other: int) -> None:
    assert first_of(segment_name(one)) == one
    assert (segment_name(one) < segment_name(other)) == (one < other)
    assert first_of(segment_name(one) + ".part") is None


@given(st.lists(_SEQ, min_size=1, max_size=6), st.integers(0, 80))
def test_a_torn_commit_leaves_the_one_before_it(seqs: list[int], torn: int) -> None:
    file = bytearray(2 * PLACE_BYTES)
    for number, seq in enumerate(seqs[:-1], 1):
        data = pack_place(Place(number, seq, seq // 2))
        file[place_offset(number) : place_offset(number) + len(data)] = data
    before = read_place(bytes(file))
    assert before == (Place(len(seqs) - 1, seqs[-2], seqs[-2] // 2) if len(seqs) > 1 else None)
    newest = Place(len(seqs), seqs[-1], seqs[-1])
    data, at = pack_place(newest), place_offset(len(seqs))
    file[at : at + min(torn, len(data))] = data[:torn]
    assert read_place(bytes(file)) in (before, newest)
    file[at : at + len(data)] = data
    assert read_place(bytes(file)) == newest


def test_a_place_that_keeps_nothing_in_memory_is_what_earlier_versions_read() -> None:
    assert pack_place(Place(7, 9, 9))[16:] == (7).to_bytes(8, "little") + (9).to_bytes(8, "little")
    assert pack_place(Place(7, 9, 9))[:8] == b"HTRKCONS" != pack_place(Place(7, 9, 8))[:8]


# ------------------------------------------------------------------------------------------------------------ what may go

_PAGE = 2 * HEAD_BYTES
_LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=8)


def _segments(lengths: list[int]) -> list[Segment]:
    found, seq = [], 100
    for number, length in enumerate(lengths):
        found.append(Segment(seq, seq + length, _PAGE, number * 10))
        seq += length
    return found


@given(
    _LENGTHS,
    st.lists(st.tuples(st.integers(90, 400), st.integers(0, 200)), max_size=3),
    st.integers(2, 9),
    st.integers(0, 90),
    st.sampled_from(["block", "drop-oldest"]),
    st.sampled_from([0, _PAGE]),
)
def test_what_goes_is_done_with_or_in_the_way_and_counted(
    lengths: list[int], committed: list[tuple[int, int]], most: int, keep_ns: int, full: str, needed: int
) -> None:
    segments, now = _segments(lengths), 90
    limits = Limits(most * _PAGE, _PAGE, keep_ns, full)  # type: ignore[arg-type]
    places = [Place(1, seq, max(0, seq - memory)) for seq, memory in committed]
    room = room_for(needed, segments, places, limits, Losses(lost_to=100), now)
    stay = segments[room.go :]
    assert stay  # the newest never goes
    held = sum(each.bytes for each in stay)
    assert room.fits == (held + needed <= limits.bytes)
    done, safe = (min(each, default=0) for each in ([p.seq for p in places], [p.again for p in places]))
    unread = max(0, stay[0].first - max(done, 100))
    if full == "block" or not needed:
        assert unread == 0
    assert room.losses.lost == unread
    # Nothing went that could have stayed.
    if room.go:
        last = segments[room.go - 1]
        over = held + last.bytes + needed > limits.bytes
        assert over or (last.end <= safe and now - last.written_ns >= keep_ns)
    # Nothing stayed that was free to go, and at the limit of one that drops nothing stayed but the newest.
    if len(stay) > 1:
        assert not (stay[0].end <= safe and now - stay[0].written_ns >= keep_ns)
        assert not (stay[0].end <= done and not room.fits)
        assert room.fits or full == "block" or not needed


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=8))
def test_what_is_lost_is_counted_once(steps: list[tuple[int, int]]) -> None:
    losses, seen, done = Losses(), set[int](), 0
    first = 0
    for forward, committed in steps:
        first, done = max(first, forward), max(done, committed)
        seen |= set(range(losses.lost_to, first)) - set(range(done))
        losses = lost_below(first, done, losses)
        assert losses.lost == len(seen)
        assert lost_below(first, done, losses) == losses


def test_a_limit_that_holds_no_two_segments_is_refused() -> None:
    with pytest.raises(ValueError, match="two segments"):
        Limits(_PAGE, _PAGE)
    with pytest.raises(ValueError, match="whole pages"):
        Limits(_PAGE * 9, _PAGE + 1)
