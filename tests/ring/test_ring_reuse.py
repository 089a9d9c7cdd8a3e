"""Objects that nobody holds any more are filled again: nobody can tell, and what is kept for it is bounded. See reuse.pxd."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane.ring import Ring
from tests.ring import ring_words as words

CAPACITY, SLOTS = 1 << 16, 64
LENGTHS = st.sampled_from([0, 1, 2, 8, 15, 16, 17, 63, 64, 65, 256, 257, 1024, 1025])
KEPT = 1024  # of a list, as in reuse.pxd


@pytest.fixture
def ring() -> Iterator[Ring]:
    with Ring.create(None, capacity_bytes=CAPACITY, slots=SLOTS) as made:
        yield made


def content(number: int, length: int) -> bytes:
    return (number.to_bytes(4, "little") * (length // 4 + 1))[:length]


# invariant: S1
@settings(max_examples=150, deadline=None)
@given(
    policy=st.sampled_from(["lossless", "lossy"]),
    even=st.booleans(),
    steps=st.lists(
        st.tuples(
            LENGTHS,
            st.sampled_from(["read", "next", "many"]),
            st.integers(1, 6),
            st.sampled_from(["nothing", "frame", "payload", "hash"]),
        ),
        max_size=40,
    ),
)
def test_what_somebody_holds_never_changes(policy: Any, even: bool, steps: list[tuple[int, str, int, str]]) -> None:
    """Also not its hash, which bytes keep once they were asked for it."""
    held: list[tuple[Any, bytes]] = []
    size = 64 if even else 0
    with Ring.create(None, capacity_bytes=CAPACITY, slots=SLOTS, frame_bytes=size) as ring:
        writer, reader = ring.writer(), ring.reader(policy=policy)
        for number, (length, how, count, keep) in enumerate(steps):
            sent = [content(number * 10 + at, size or length) for at in range(count)]
            writer.write_many(sent)
            if how == "many":
                got = reader.read_many(count, 0).payload
                frames = []
            else:
                frames = [next(reader) if how == "next" else reader.read(0) for _ in range(count)]
                got = [frame.payload for frame in frames]
            assert got == sent
            assert not frames or [frame.seq for frame in frames] == list(range(reader.cursor - count, reader.cursor))
            if keep == "frame" and frames:
                held += [(frame, (frame.seq, data)) for frame, data in zip(frames, sent, strict=True)]  # type: ignore[misc]
            elif keep == "payload":
                held += zip(got, sent, strict=True)
            elif keep == "hash":
                assert {hash(data) for data in got} == {hash(data) for data in sent}
            for kept, data in held:
                assert kept == data if isinstance(kept, bytes) else (kept.seq, kept.payload) == data
        reader.close()
        writer.close()


def others(held: list[Any]) -> list[int]:
    """How many hold each item beside this list (and getrefcount's own argument)."""
    return [sys.getrefcount(held[at]) - 2 for at in range(len(held))]


def test_what_is_kept_is_bounded_and_ends_with_the_reader() -> None:
    with Ring.create(None, capacity_bytes=1 << 20, slots=SLOTS, frame_bytes=8) as ring:
        with ring.writer() as writer, ring.reader() as reader:
            writer.write_many([bytes(8)] * (3 * KEPT))
            batch = reader.read_many(3 * KEPT)
            assert batch.count == 3 * KEPT
            assert others(batch.payload) == [1] * KEPT + [0] * (2 * KEPT)
            writer.write_many([bytes(8)] * 9)
            frames = [reader.read() for _ in range(9)]
        assert others(batch.payload)[0] == 1
        assert others(frames) == [0] * 7 + [1] * 2
        del reader
        assert others(batch.payload)[0] == 0
        assert others(frames) == [0] * 9


def test_large_frames_are_not_kept(ring: Ring) -> None:
    with ring.writer() as writer, ring.reader() as reader:
        writer.write_many([bytes(1025)] * 4)
        assert others(reader.read_many(2).payload) == [0, 0]
        assert others([reader.read() for _ in range(2)]) == [0, 0]


def test_a_list_that_changes_while_the_writer_waits_is_written_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    with Ring.create(path, capacity_bytes=4096, slots=8) as ring, ring.writer() as writer, ring.reader() as reader:
        sent = [content(number, 8 + number % 2) for number in range(12)]
        frames = list(sent)
        thread = threading.Thread(target=writer.write_many, args=(frames,), daemon=True)
        thread.start()
        while not words.word(path, words.SPACE_WAITING, "<I"):
            os.sched_yield()
        frames[:] = [b"x"]
        got = [reader.read(20).payload for _ in sent]
        thread.join(20)
        assert got == sent
