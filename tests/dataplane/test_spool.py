"""A spool's reader in each of its ways, large frames, what is carried over, and how disk and ring change places."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane.frames import RingError
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.ring_writer import Writer
from halftrack_dataplane.spool_cursor import SpoolCursor
from halftrack_dataplane.spool_files import Folder, SegmentFile
from halftrack_dataplane.spool_reader import SpoolReader
from halftrack_dataplane.spool_segments import HEAD_BYTES, Limits, SpoolMissing
from halftrack_dataplane.spool_writer import PACK_BYTES, Spooler, segment_bytes_for


@contextmanager
def _spooled(
    folder: Path, capacity_bytes: int = 1 << 16, **options: int | str | bool
) -> Iterator[tuple[Ring, Writer, Spooler]]:
    """A ring with a writer, and its spooler."""
    ring = Ring.create(folder / "ring", capacity_bytes=capacity_bytes, slots=256, **options)  # type: ignore[arg-type]
    size = segment_bytes_for(ring, 0)
    with ring, ring.writer() as writer, Spooler(ring, folder / "spool", Limits(9 * size, size)) as spooler:
        yield ring, writer, spooler


def _all(spooler: Spooler) -> None:
    while spooler.end_seq < spooler.ring.head:
        spooler.step(0)
    spooler.sync()


def test_each_way_of_reading_gives_the_same_frames(folder: Path) -> None:
    with _spooled(folder, frame_bytes=16) as (_, writer, spooler):
        frames = [b"%016d" % number for number in range(20)]
        writer.write_many(frames, epoch=3, timestamp_ns=9)
        writer.gap(4)
        writer.write_many(frames[:2])
        _all(spooler)
        with SpoolReader(folder / "spool") as reader:
            assert reader.lag_frames == 26
            first = reader.view(0)
            assert first is not None
            assert (bytes(first.payload), first.epoch, first.timestamp_ns) == (frames[0], 3, 9)
            assert reader.cursor == 0  # while it views
            reader.release()
            assert reader.cursor == 1
            with pytest.raises(ValueError, match="released"):
                bytes(first.payload)
            many = reader.read_many(3, 0)
            assert many is not None
            assert (many.seq, many.payload) == (1, frames[1:4])
            room = bytearray(40)
            filled = reader.read_into(room, 0)
            assert filled is not None
            assert (filled.seq, filled.count, bytes(room[:32])) == (4, 2, frames[4] + frames[5])
            with pytest.raises(ValueError, match="a buffer of 15 bytes; the next frame has 16"):
                reader.read_into(bytearray(15), 0)
            block = reader.view_many(timeout_s=0)
            assert block is not None
            assert (block.seq, block.count, block.frame_bytes) == (6, 14, 16)
            assert bytes(block.payload) == b"".join(frames[6:])
            gap = reader.read_many(9, 0)
            assert gap is not None
            assert (gap.seq, gap.gap, len(gap)) == (20, 4, 0)
            assert next(reader).payload == frames[0]
            assert [frame.payload for frame in (reader.read(0),) if frame] == [frames[1]]
            assert reader.read(0.01) is None


def test_a_place_is_durable_and_only_goes_up(folder: Path) -> None:
    with _spooled(folder) as (_, writer, spooler):
        writer.write_many([b"x"] * 10)
        _all(spooler)
        with SpoolReader(folder / "spool", name="it") as reader:
            reader.read_many(6, 0)
            with pytest.raises(ValueError, match="sequence 7 has not been read"):
                reader.commit(7)
            reader.commit(4)
            reader.commit(2)  # what was done with stays done with
            assert reader.committed == 4
        with SpoolReader(folder / "spool", name="it") as reader:
            assert reader.cursor == 4
            reader.seek(1)
            assert next(reader).seq == 1
            assert reader.committed == 4
        with SpoolReader(folder / "spool") as reader, pytest.raises(RingError, match="no place to commit"):
            reader.commit()
        with pytest.raises(ValueError, match="no name of a consumer"):
            SpoolReader(folder / "spool", name="../it")
        with pytest.raises(SpoolMissing, match="no spool at"):
            SpoolReader(folder / "none")


@settings(max_examples=15)
@given(st.lists(st.sampled_from([0, 1, 63, 64, 32703, 32768, 65535, PACK_BYTES + 1]), min_size=1, max_size=6))
def test_frames_of_any_length_come_back_aligned(lengths: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name, _spooled(Path(name), 4 * PACK_BYTES) as (_, writer, spooler):
        for length in lengths:
            writer.write(bytes([length % 251]) * length, timeout_s=5)
            spooler.step(0)
        _all(spooler)
        with SpoolReader(Path(name) / "spool") as reader:
            for seq, length in enumerate(lengths):
                frame = reader.view(0)
                assert frame is not None
                assert (frame.seq, bytes(frame.payload)) == (seq, bytes([length % 251]) * length)
                held = SpoolCursor(Folder(Path(name) / "spool"))
                found = held.at(seq)
                assert found is not None
                assert found.entry.at % 64 == 0  # type: ignore[union-attr]
                held.close()


def test_what_frames_are_is_carried_over(folder: Path) -> None:
    with _spooled(folder, schema="<i2", label="adc", generation=4, frame_bytes=2, base_seq=7) as (_, writer, spooler):
        writer.write(b"ab")
        _all(spooler)
        file = SegmentFile(folder / "spool", 7)
        who = file.head.identity
        with SpoolReader(folder / "spool") as reader:
            assert reader.schema == "<i2"
        file.close()
        assert (who.schema, who.label, who.generation, who.frame_bytes, who.base_seq) == ("<i2", "adc", 4, 2, 7)


def test_a_frame_that_is_corrupt_in_the_ring_becomes_a_counted_gap(folder: Path) -> None:
    with _spooled(folder, checked=True) as (_, writer, spooler):
        for word in (b"before", b"damaged", b"after"):
            writer.write(word)
        data = (folder / "ring").read_bytes()
        with (folder / "ring").open("r+b") as file:
            file.seek(data.index(b"damaged"))
            file.write(b"D")
        _all(spooler)
        assert spooler.losses.corrupt == 1
        with SpoolReader(folder / "spool") as reader:
            assert [(frame.seq, frame.gap, frame.payload) for frame in (next(reader), next(reader), next(reader))] == [
                (0, 0, b"before"),
                (1, 1, b""),
                (2, 0, b"after"),
            ]


def test_a_consumer_changes_to_the_ring_and_back_and_never_holds_the_writer_up(folder: Path) -> None:
    with (
        _spooled(folder) as (ring, writer, spooler),
        SpoolReader(folder / "spool", folder / "ring", name="slow") as reader,
    ):
        writer.write(b"%d" % ring.head)
        assert reader.read(5).payload == b"0"  # type: ignore[union-attr]
        assert reader.from_ring
        view = reader.view(0)
        assert view is None
        for _ in range(1000):  # four times what the ring holds, and nobody waits for this consumer
            writer.write(b"%d" % ring.head, timeout_s=0)
            spooler.step(0)
            spooler.sync()
        ways = set()
        for seq in range(1, ring.head):
            frame = reader.view(0)
            assert frame is not None
            assert (frame.seq, bytes(frame.payload)) == (seq, b"%d" % seq)
            ways.add(reader.from_ring)
        assert ways == {True, False}
        assert reader.from_ring  # it has caught up


def test_what_a_crash_left_behind_the_last_record_is_zeros_before_anything_follows(folder: Path) -> None:
    with _spooled(folder) as (ring, writer, spooler):
        writer.write(b"x" * 100)
        _all(spooler)
        path = folder / "spool" / f"{0:020d}.seg"
        spooler.close()
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(HEAD_BYTES + 64 + 128)
            file.write(b"HTRS and half of a record")
            file.seek(size - 9)
            file.write(b"and more")
        with Spooler(ring, folder / "spool", spooler.limits) as again:
            assert again.end_seq == 1
            assert not path.read_bytes()[HEAD_BYTES + 64 + 128 :].strip(b"\0")
