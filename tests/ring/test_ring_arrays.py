"""Structured frames and pinned ranges of the fast ring: arrays of its memory, and for how long they mean something."""

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.frames import Evicted, NotRetained, RingError, RingFull
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.structured import described, dtype_of
from tests.ring.ring_peers import payload

numpy = pytest.importorskip("numpy", reason="structured frames are NumPy's")

NAMES = st.sampled_from(["re", "im", "flags", "t"])
SCALARS = st.sampled_from(["<f4", ">f8", "<i2", "u1", "<c8", "S5", "<M8[ns]", "?"])
SHAPES = st.lists(st.integers(1, 4), max_size=2).map(tuple)
FIELDS = st.lists(st.tuples(NAMES, SCALARS, SHAPES), min_size=1, max_size=4, unique_by=lambda field: field[0])
DTYPES = st.one_of(SCALARS, st.tuples(SCALARS, SHAPES), FIELDS)


@given(DTYPES)
def test_a_dtype_survives_as_text(kind: Any) -> None:
    schema, frame_bytes = described(kind)
    assert dtype_of(schema) == numpy.dtype(kind)
    assert frame_bytes == numpy.dtype(kind).itemsize


@given(
    st.one_of(
        st.text(max_size=80),
        st.sampled_from(["'|O'", "[('a', '|O')]", "'<f4", "('<f4', -1)", "[]", "('<V0',)", "O", "(2,)O"]),
    )
)
def test_any_other_text_is_refused(schema: str) -> None:
    with contextlib.suppress(RingError):  # or what it says can be shared
        assert not dtype_of(schema).hasobject


@pytest.mark.parametrize("kind", ["O", [("a", "O")], "V0", "no such"])
def test_what_means_nothing_elsewhere_is_refused(path: Path, kind: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot be shared|no dtype"):
        Ring.create(path, dtype=kind)
    assert not path.exists()


def test_a_dtype_says_what_schema_and_frame_bytes_are(path: Path) -> None:
    for marks in ({"schema": "'<f4'"}, {"frame_bytes": 4}):
        with pytest.raises(ValueError, match="leave these out"):
            Ring.create(path, dtype="<f4", **marks)
    ring = Ring.create(path, capacity_bytes=1 << 16, dtype=[("power", "<f4", (3,)), ("flags", "u1")])
    assert (ring.frame_bytes, ring.schema) == (13, "[('power', '<f4', (3,)), ('flags', '|u1')]")
    with pytest.raises(RingError, match="schema is ''"):
        Ring.create(path.with_name("plain"), frame_bytes=13).arrays()


# invariant: S1
def test_rows_arrive_as_the_arrays_that_they_were(path: Path) -> None:
    kind = numpy.dtype([("power", "<f4", (3,)), ("flags", "u1")])
    ring = Ring.create(path, capacity_bytes=1 << 16, dtype=kind)
    writer, reader = ring.writer(), Ring.open(path).arrays(name="science")
    rows = numpy.zeros(100, kind)
    rows["power"] = numpy.arange(300).reshape(100, 3)
    rows["flags"] = numpy.arange(100)
    writer.write_array(rows, epoch=3, timestamp_ns=9)
    block = reader.view()
    assert (block.seq, block.epoch, block.timestamp_ns, block.gap) == (0, 3, 9, 0)
    seen = block.array
    while len(seen) < 100:
        seen = numpy.concatenate([seen, reader.view().array])
    assert (seen == rows).all()
    assert seen["power"].shape == (100, 3)
    writer.gap(4, epoch=3)
    assert (reader.view().gap, len(reader.reader.name)) == (4, 7)
    writer.write_array(rows[:5])
    copied = reader.read(3)
    assert (copied.array == rows[:3]).all()
    assert (reader.read().array == rows[3:5]).all()
    assert reader.view(timeout_s=0) is None
    reader.close()


def test_a_view_is_the_rings_memory_and_a_copy_is_not(path: Path) -> None:
    ring = Ring.create(path, capacity_bytes=1 << 18, dtype=("<i4", (256,)))
    writer, reader = ring.writer(), ring.arrays()
    writer.write_array(numpy.ones((2, 256), "<i4"))
    block = reader.view()
    assert block.array.shape == (2, 256)
    assert not block.array.flags.writeable
    assert not block.array.flags.owndata
    reader.reader.seek(0)
    assert reader.read().array.flags.writeable


def test_room_for_a_copy_is_bounded_however_large_a_frame_is(path: Path) -> None:
    with Ring.create(path, capacity_bytes=8 << 20, dtype=("<u2", (1 << 20,))) as ring, ring.writer() as writer:
        reader = ring.arrays()
        writer.write_array(numpy.full((1, 1 << 20), 7, "<u2"))
        block = reader.read(1 << 40)
        assert block.array.shape == (1, 1 << 20)
        assert block.array.base.nbytes == 2 << 20  # one frame's, not a thousand's
        assert (block.array == 7).all()
        reader.close()


def write_until_full(writer: Any, seq: int) -> int:
    """Frames from `seq` on; which one did not fit."""
    with contextlib.suppress(RingFull):
        while seq < 1 << 20:
            writer.write(payload(seq, 300), timeout_s=0)
            seq += 1
    return seq


# ---- pins ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(path: Path) -> Any:
    ring = Ring.create(path, capacity_bytes=4096, slots=8, base_seq=100)
    with ring.writer() as writer:
        for seq in range(100, 105):
            writer.write(payload(seq, 300))
        writer.gap(3)
    return ring


# invariant: S2
def test_a_pinned_range_stays_while_its_owner_reads_on(filled: Ring) -> None:
    reader, writer = filled.reader(start="oldest"), filled.writer()
    with filled.pin(101, 107, name="trigger") as pin:
        blocks = pin.blocks()
        while reader.read(0):
            pass
        written = write_until_full(writer, 108)
        assert 108 < written < 120
        kept = [(block.seq, block.count, bytes(block.payload or b""), block.gap) for block in blocks]
        assert kept == [(seq, 1, payload(seq, 300), 0) for seq in range(101, 105)] + [(105, 0, b"", 2)]
        assert pin.held
        assert [stats.name for stats in filled.stats().readers] == ["", "trigger"]
    with pytest.raises(ValueError, match="released"):
        bytes(blocks[0].payload)
    assert not pin.held
    head = filled.head
    assert writer.write(b"on", timeout_s=0) == head


# invariant: S2
def test_a_pin_holds_a_writer_up_for_so_long_only(filled: Ring) -> None:
    pin, writer = filled.pin(100, hold_s=0.01), filled.writer()
    blocks = pin.blocks()
    assert (pin.first, pin.end) == (100, 108)
    for seq in range(108, 130):
        writer.write(payload(seq, 300), timeout_s=10)
    assert not pin.held
    assert filled.stats().evicted == 1
    with pytest.raises(Evicted):
        pin.blocks()
    bytes(blocks[0].payload)  # whatever it is now: it can be looked at, and `held` says that it is not the range
    pin.close()


@pytest.mark.parametrize(("first", "end"), [(99, 103), (101, 109), (104, 103)])
def test_a_range_that_is_not_all_there_is_not_pinned(filled: Ring, first: int, end: int) -> None:
    with pytest.raises(NotRetained, match=r"\[100, 108\)"):
        filled.pin(first, end)
    assert filled.stats().readers == ()


def test_a_pin_of_a_dead_process_is_reaped(filled: Ring) -> None:
    pid = os.fork()
    if pid == 0:
        pin = Ring.open(filled.path).pin(100)
        os._exit(0 if pin.held else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [reader.pid for reader in filled.reap()] == [pid]
    with filled.writer() as writer:
        for seq in range(20):
            writer.write(payload(seq, 300), timeout_s=0)
