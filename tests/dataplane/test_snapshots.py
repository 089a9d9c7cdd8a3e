"""Snapshots between lives and between processes: whole or not at all, kept short, used again only when nobody reads them."""

import os
import random
import struct
import tempfile
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane.snapshot_form import HEAD_BYTES, PIECE_BYTES
from halftrack_dataplane.snapshots import (
    KEPT,
    SMALL_BYTES,
    Snapshot,
    SnapshotFolder,
    entry_of,
    fits,
    joined,
    pack,
    unpack,
)
from halftrack_dataplane.spool_record import crc32c
from halftrack_dataplane.state_copy import gather
from tests.agent_shell.test_ledger import files_no_longer_than


@given(
    data=st.binary(max_size=200),
    at=st.integers(0, 120) | st.integers(HEAD_BYTES, HEAD_BYTES + 199),
    bit=st.integers(0, 7),
)
def test_any_flipped_bit_of_a_snapshot_is_noticed_or_means_nothing(data: bytes, at: int, bit: int) -> None:
    snapshot = Snapshot("chain/1", "1.0.0", 8, 2, data)
    packed = pack(snapshot)
    meaningful = msgpack_end(packed)
    at %= len(packed)
    packed[at] ^= 1 << bit
    if meaningful <= at < HEAD_BYTES:
        assert unpack(packed) == snapshot
        return
    with pytest.raises(ValueError, match="snapshot"):
        unpack(packed)


def msgpack_end(packed: bytearray) -> int:
    """Behind it the head is zeros up to a page."""
    return 16 + int.from_bytes(packed[8:12], "little")


buffers = st.lists(st.binary(max_size=40) | st.binary(max_size=40).map(lambda data: array("B", data)), max_size=4)


def slow_crc32c(data: bytes) -> int:
    """By its definition, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# Around what is summed up side by side (768 bytes) and copied at a time (3072).
@given(
    size=st.sampled_from([0, 1, 15, 767, 768, 769, 3071, 3072, 3073, 6200]),
    at=st.integers(0, 40),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_a_copy_is_the_same_bytes_with_the_sum_of_them_wherever_it_begins(size: int, at: int, seed: int) -> None:
    data, into = random.Random(seed).randbytes(size), bytearray(b"?" * (size + 100))
    (crc,) = struct.unpack("<I", gather(memoryview(into)[at:], [data], 1 << 20) or struct.pack("<I", 0))
    assert crc == crc32c(data) == slow_crc32c(data)
    assert bytes(into) == b"?" * at + data + b"?" * (100 - at), "not a byte beside it"


@given(parts=buffers)
def test_a_state_in_several_buffers_is_the_state_that_they_make_together(parts: list[Any]) -> None:
    whole = b"".join(bytes(part) for part in parts)
    assert bytes(unpack(pack(Snapshot("s/1", "1.0.0", 3, 1, parts))).state) == whole  # type: ignore[arg-type]
    assert joined(parts) == whole


@given(
    size=st.integers(SMALL_BYTES - 2, SMALL_BYTES + 3 * PIECE_BYTES),
    cut=st.integers(1, 1 << 20),
    bad=st.integers(0, 1 << 23),
)
@settings(max_examples=15, deadline=None)
def test_a_large_state_comes_back_from_the_memory_it_lies_in_or_not_at_all(size: int, cut: int, bad: int) -> None:
    state = random.Random(size).randbytes(size)
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="halftrack-test-") as name:
        writer, reader = SnapshotFolder(name), SnapshotFolder(name)
        for next_in in range(3):
            writer.write("a@1.0.0", Snapshot("s/1", "1.0.0", next_in, 0, [state[:cut], memoryview(state)[cut:]]))
        newest, older = reader.entries()
        found = reader.read(newest)
        assert found is not None
        assert found.state == state
        with open(Path(name) / older.name, "r+b") as file:
            os.pwrite(file.fileno(), bytes([state[bad % size] ^ 1]), HEAD_BYTES + bad % size)
        assert reader.read(older) is None, "a damaged one is never restored"
        assert (reader.damaged, reader.read(newest)) == (1, found)
        del found
        writer.close()


def test_a_file_that_somebody_reads_is_not_used_again(folder: Path) -> None:
    # invariant: D1
    writer, reader = SnapshotFolder(str(folder)), SnapshotFolder(str(folder))
    states = [bytes([number]) * (3 << 20) for number in range(12)]

    def write(number: int) -> None:
        writer.write("a@1.0.0", Snapshot("s/1", "1.0.0", number, 0, states[number]))

    write(0)
    held = reader.read(reader.entries()[0])
    for number in range(1, 6):
        write(number)
    assert held is not None
    assert held.state == states[0], "what was verified never changes"
    assert [entry.next_in for entry in reader.entries()] == [5, 4]
    inodes = {path.stat().st_ino for path in folder.iterdir()}
    for number in range(6, 12):
        write(number)
    assert {path.stat().st_ino for path in folder.iterdir()} == inodes, (
        "what nobody reads is used again: new memory is slow"
    )
    stale = reader.entries()[0]
    with reader.opened(stale.name):
        writer.drop([stale])
        with pytest.raises(FileNotFoundError), reader.opened(stale.name):
            pass
    assert reader.read(stale) is None
    assert reader.damaged == 0, "gone is not damaged"
    writer.close()


def test_a_migrated_snapshot_stands_beside_its_original(folder: Path) -> None:
    snapshots = SnapshotFolder(str(folder))
    for next_in in (4, 8, 12):
        snapshots.write("a@2.0.0", Snapshot("s/2", "2.0.0", next_in, 1, b"new"))
        snapshots.write("a@2.0.0", Snapshot("s/1", "2.0.0", next_in, 1, b"old"), form=1)
    assert [(entry.next_in, entry.form) for entry in snapshots.entries()] == [(12, 0), (12, 1), (8, 0), (8, 1)]
    heads = [snapshots.head(entry) for entry in snapshots.entries()]
    assert [head.schema for head in heads if head] == ["s/2", "s/1", "s/2", "s/1"]
    assert [fits(head, "1.0.0", "s/1", ("s/1",)) for head in heads if head] == [False, True, False, True]
    assert [fits(head, "2.0.0", "s/2", ("s/2",)) for head in heads if head] == [True, False, True, False]


def test_a_state_for_which_there_is_no_room_is_told_and_takes_none(folder: Path) -> None:
    snapshots = SnapshotFolder(str(folder))
    with files_no_longer_than(1 << 20), pytest.raises(OSError, match="large"):
        snapshots.write("a@1.0.0", Snapshot("s/1", "1.0.0", 4, 1, bytes(3 << 20)))
    assert list(folder.iterdir()) == []
    with pytest.raises(TypeError, match="contiguous buffer"):
        snapshots.write("a@1.0.0", Snapshot("s/1", "1.0.0", 4, 1, 17))  # type: ignore[arg-type]


@pytest.mark.parametrize("release", ["1.0.0", "2.10.3-rc.1", "1.0.0+build.7", "1.0.0-" + "x" * 58])
def test_snapshots_of_every_version_are_found_again_and_kept_short(folder: Path, release: str) -> None:
    snapshots = SnapshotFolder(str(folder))
    for next_in in (4, 8, 12, 16):
        snapshots.write(f"a@{release}", Snapshot("chain/1", release, next_in, 0, b""))
    assert [(entry.next_in, entry.release) for entry in snapshots.entries()] == [(16, release), (12, release)]
    assert len(list(folder.iterdir())) == KEPT
    with pytest.raises(ValueError, match="cannot name"):
        snapshots.write("a", Snapshot("chain/1", release, 20, 0, b""))


def test_damaged_snapshots_are_counted_and_the_rest_is_kept_short(folder: Path) -> None:
    snapshots = SnapshotFolder(str(folder))
    for next_in in (4, 8, 12, 16):
        snapshots.write("a@1.0.0", Snapshot("chain/1", "1.0.0", next_in, 0, b""))
    snapshots.write("b@1.1.0", Snapshot("chain/1", "1.1.0", 5, 0, b""))
    assert [entry.next_in for entry in snapshots.entries() if entry.instance == "a@1.0.0"] == [16, 12]
    assert len(snapshots.entries()) == KEPT + 1
    newest = snapshots.entries()[0]
    (folder / newest.name).write_bytes(b"torn")
    assert snapshots.read(newest) is None
    assert snapshots.read(newest) is None
    assert snapshots.damaged == 1
    (folder / "00000000000000000099.a@1.0.0.snap").write_bytes(pack(Snapshot("chain/1", "1.0.0", 12, 0, b"")))
    assert snapshots.read(snapshots.entries()[0]) is None, "a file that was renamed is not what its name says"
    snapshots.write("a@1.0.0", Snapshot("chain/1", "1.0.0", 13, 0, b""))
    mine = [entry.next_in for entry in snapshots.entries() if entry.instance == "a@1.0.0"]
    assert mine == [13, 12], "what claims to be from further ahead is from another life"
    assert entry_of("../etc/passwd") is None
    assert entry_of(newest.name) == newest


def test_which_snapshots_fit() -> None:
    own, other = Snapshot("chain/2", "1.1.0", 0, 0, b""), Snapshot("chain/1", "1.0.0", 0, 0, b"")
    assert fits(own, "1.1.0", "chain/2", ("chain/1",))
    assert fits(other, "1.1.0", "chain/2", ("chain/1",))
    assert not fits(other, "1.1.0", "chain/2", ())
    assert not fits(own, "1.2.0", "chain/3", ("chain/1",))
