"""Stores past the caches: the same bytes as any, and chosen by what they cost here and now. See native/ring_stores.h."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane.ring import Ring
from tests.ring import c_ring

MIB, CACHED, STREAMED, CHOSEN = 1 << 20, 0, 1, 2
WINDOW = 8 * MIB  # of a ring of 4 MiB
Cost = Callable[[int, int], float]  # ns for a MiB, by kind and by how much was written before


class Stores:
    """ht_stores, under a clock that says what a test wants it to."""

    def __init__(self, kind: int = CHOSEN) -> None:
        self._core, self._state = c_ring.core(), ctypes.create_string_buffer(64)
        self._core.c_stores_begin(self._state, ctypes.c_uint64(4 * MIB), kind)
        self.kind, self.written = CACHED if kind == CHOSEN else kind, 0

    def write(self, size: int, cost: Cost) -> int:
        """One copy of `size` MiB; which kind it used."""
        used, ns = self.kind, int(cost(self.kind, self.written) * size)
        self.kind = self._core.c_stores_count(self._state, ctypes.c_uint64(size * MIB), ctypes.c_int64(ns))
        self.written += size
        return used

    def share(self, size: int, cost: Cost) -> float:
        """How much of the next `size` MiB went past the caches."""
        return sum(self.write(4, cost) for _ in range(size // 4)) * 4 / size


@given(st.floats(10_000, 500_000), st.floats(0.1, 10), st.floats(0, 0.05))
@settings(max_examples=200)
def test_the_cheaper_kind_is_kept_and_the_other_one_is_tried_ever_more_rarely(
    cached: float, ratio: float, noise: float
) -> None:
    def cost(kind: int, written: int) -> float:
        return (cached * ratio if kind == STREAMED else cached) * (1 + noise * (written // 4 % 7 - 3) / 3)

    stores = Stores()
    stores.share(400, cost)
    share = stores.share(40_000, cost)
    if ratio < 0.7:
        assert share > 0.9
    elif ratio > 0.9:
        assert share < 0.02


@given(st.integers(2_000, 60_000), st.booleans())
@settings(max_examples=100)
def test_processes_that_are_moved_apart_or_together_change_the_choice_soon(moved_at: int, apart: bool) -> None:
    near, far = (22_000, 50_000), (400_000, 55_000)  # ns for a MiB, cached and streamed: 45 and 20 GB/s, 2.6 and 18

    def cost(kind: int, written: int) -> float:
        return (far if (written >= moved_at) == apart else near)[kind]

    stores = Stores()
    stores.share(moved_at // 4 * 4, cost)
    longest = 1024 * 8 + 1024 if not apart else 600  # together: only the next trial shows it
    stores.share(longest // 4 * 4, cost)
    share = stores.share(4000, cost)
    assert share > 0.9 if apart else share < 0.3


@pytest.mark.parametrize("kind", [CACHED, STREAMED])
def test_a_kind_that_was_asked_for_is_never_left(kind: int) -> None:
    stores = Stores(kind)
    assert stores.share(4000, lambda used, _: 1_000_000 if used == kind else 1) == kind


@given(st.integers(0, 130), st.integers(0, 130), st.integers(0, 4096))
def test_streamed_bytes_are_the_bytes_and_no_others(start: int, source: int, size: int) -> None:
    data = bytes(at * 31 % 251 for at in range(source + size))
    into = bytearray(b"\xee" * (start + size + 200))
    view = (ctypes.c_char * len(into)).from_buffer(into)
    given_bytes = ctypes.create_string_buffer(data, len(data) or 1)
    c_ring.core().c_stream(ctypes.byref(view, start), ctypes.byref(given_bytes, source), ctypes.c_uint64(size))
    del view
    assert into == b"\xee" * start + data[source:] + b"\xee" * 200


# invariant: S1
@pytest.mark.parametrize("stores", ["cached", "streamed", "chosen"])
@pytest.mark.parametrize("frame_bytes", [0, 20_001])
def test_large_frames_arrive_whole_however_they_are_stored(path: Path, stores: Any, frame_bytes: int) -> None:
    ring = Ring.create(path, capacity_bytes=MIB, slots=64, frame_bytes=frame_bytes)
    with ring.writer(stores=stores) as writer, ring.reader() as reader:
        for seq in range(200):
            size = frame_bytes or 16_000 + seq * 977 % 60_000
            data = bytes([seq % 251]) * size
            if seq % 3:
                writer.write(data, timeout_s=0)
            else:
                writer.write_many([data], timeout_s=0)
            frame = reader.read(0)
            assert frame is not None
            assert (frame.seq, frame.payload) == (seq, data)
        if stores != "chosen":
            assert writer.stores == stores


def test_an_unknown_kind_of_stores_is_refused(path: Path) -> None:
    with Ring.create(path) as ring, pytest.raises(ValueError, match="cached, streamed, chosen"):
        ring.writer(stores="quick")  # type: ignore[arg-type]
