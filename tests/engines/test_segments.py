"""Frames in files: every cut through a torn end, disks without room, and segments that somebody carries away."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.engines.segments import RECORD, SegmentSink, recorded, segments
from halftrack_dataplane.frames import Cut, Frame
from halftrack_dataplane.runtime import Unable
from halftrack_dataplane.sdk import Away
from tests.small_disk import small_disk


def written(folder: Path, count: int, **params: int) -> SegmentSink:
    sink = SegmentSink(params, str(folder))
    for seq in range(sink.next_seq(), count):
        sink.consume(Frame(seq, 1, seq, b"%d" % seq))
    sink.flush()
    return sink


def test_segments_are_named_by_what_is_in_them(tmp_path: Path) -> None:
    written(tmp_path, 30, segment_bytes=10 * (RECORD.size + 2)).close()
    assert [path.name for path in segments(tmp_path)] == [
        "00000000000000000000-00000000000000000009.frames",
        "00000000000000000010-00000000000000000019.frames",
    ]
    assert [path.name for path in tmp_path.glob("*.part")] == ["00000000000000000020.part"]
    assert [frame.seq for frame in recorded(tmp_path)] == list(range(30))


@given(st.integers(0, 600), st.booleans())
def test_only_a_torn_end_is_cut_off(tmp_path_factory: pytest.TempPathFactory, keep: int, damage: bool) -> None:
    # invariant: D1
    folder = tmp_path_factory.mktemp("cut")
    written(folder, 14).close()
    part = next(folder.glob("*.part"))
    data = part.read_bytes()
    torn = data[:keep] if not damage or keep >= len(data) else data[:keep] + bytes([data[keep] ^ 1]) + data[keep + 1 :]
    part.write_bytes(torn)
    whole = [at for at in range(15) if _end(at) <= keep][-1]
    sink = SegmentSink({}, str(folder))
    assert sink.next_seq() == whole
    sink.close()
    assert [frame.seq for frame in recorded(folder)] == list(range(whole))
    assert part.stat().st_size == _end(whole)


def _end(count: int) -> int:
    return sum(RECORD.size + len(b"%d" % seq) for seq in range(count))


def test_a_death_between_the_next_part_and_the_name_of_this_one(tmp_path: Path) -> None:
    # invariant: S1
    written(tmp_path, 10).close()
    (tmp_path / f"{10:020d}.part").touch()
    sink = written(tmp_path, 12)
    sink.close()
    assert [path.name for path in segments(tmp_path)] == ["00000000000000000000-00000000000000000009.frames"]
    assert [frame.seq for frame in recorded(tmp_path)] == list(range(12))


def test_segments_may_be_carried_away(tmp_path: Path) -> None:
    sink = written(tmp_path, 30, segment_bytes=10 * (RECORD.size + 2))
    sink.consume(Frame(30, 1, 0, bytes(1000)))  # ends the part that begins with 20
    sink.flush()
    sink.close()
    for path in segments(tmp_path):
        path.unlink()
    again = SegmentSink({}, str(tmp_path))
    assert again.next_seq() == 31
    again.close()


@pytest.mark.parametrize("torn_bytes", [0, 11])
def test_a_disk_without_room_makes_it_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn_bytes: int) -> None:
    sink = written(tmp_path, 5)
    real = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        real(fd, data[:torn_bytes], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Away, match="No space left on device"):
        sink.consume(Frame(5, 1, 5, b"5"))
    sink.flush()
    monkeypatch.undo()
    sink.consume(Frame(5, 1, 5, b"5"))
    sink.flush()
    sink.close()
    assert [frame.seq for frame in recorded(tmp_path)] == list(range(6))


def test_what_a_disk_fails_to_keep_is_not_taken_for_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # invariant: D1
    sink = written(tmp_path, 5)
    sink.consume(Frame(5, 1, 5, b"5"))

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        sink.flush()
    monkeypatch.undo()
    sink.close()
    again = SegmentSink({}, str(tmp_path))
    assert again.next_seq() == 5
    again.close()


def test_a_real_disk_that_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        sink = SegmentSink({"segment_bytes": 20_000}, str(disk))
        seq = _filled(sink)
        assert seq > 20
        segments(disk)[0].unlink()
        sink.consume(Frame(seq, 1, 0, bytes(1000)))
        sink.flush()
        sink.close()
        found = [frame.seq for frame in recorded(disk)]
        assert found == list(range(found[0], seq + 1))


def _filled(sink: SegmentSink) -> int:
    """How many frames of 1000 bytes find room."""
    for seq in range(sink.next_seq(), 100):
        try:
            sink.consume(Frame(seq, 1, 0, bytes(1000)))
        except Away as error:
            assert "No space left on device" in str(error)  # noqa: PT017 - what it says is half of the test
            return seq
        sink.flush()
    raise AssertionError("it is never full")


def test_two_at_once_are_not_possible(tmp_path: Path) -> None:
    first = written(tmp_path, 3)
    second = SegmentSink({}, str(tmp_path))
    with pytest.raises(Away, match="another process writes"):
        second.next_seq()
    first.close()
    assert second.next_seq() == 3
    second.close()


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    written(tmp_path, 3).close()
    (tmp_path / f"{5:020d}-{9:020d}.frames").touch()
    sink = SegmentSink({}, str(tmp_path))
    with pytest.raises(Unable, match="begins before"):
        sink.next_seq()
    sink.close()


def test_the_owner_table_is_beside_it(tmp_path: Path) -> None:
    sink = written(tmp_path, 3)
    sink.cuts([Cut(1, 1, None, 0, "1.0.0")])
    sink.cuts([Cut(1, 1, None, 0, "1.0.0")])
    sink.close()
    assert len((tmp_path / "cuts.jsonl").read_text().splitlines()) == 1
