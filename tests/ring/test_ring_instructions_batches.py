"""Death between any two instructions of a batch, of a frame that joins a growing record, and of reaping. See single_step.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halftrack_dataplane.ring import Ring
from tests.ring import ring_words as words
from tests.ring.single_step import moments
from tests.ring.test_ring_instructions import each

FRAME = 64
EVEN: dict[str, Any] = {"capacity_bytes": 16384, "slots": 8, "frame_bytes": FRAME}  # records of four frames


def frame(seq: int) -> bytes:
    """What frame number `seq` holds."""
    return (seq * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "little") * (FRAME // 8)


def frames(first: int, count: int) -> list[bytes]:
    return [frame(seq) for seq in range(first, first + count)]


def many(writer: Any, ring: Ring, count: int) -> None:
    writer.write_many(frames(ring.head, count))


def rows(writer: Any, ring: Ring, count: int) -> None:
    writer.write_array(memoryview(b"".join(frames(ring.head, count))).cast("B", (count, FRAME)))


def one_by_one(writer: Any, ring: Ring, count: int) -> None:
    for _ in range(count):
        writer.write(frame(ring.head))


def claimed(writer: Any, ring: Ring, count: int) -> None:
    writer.claim(count * FRAME)[:] = b"".join(frames(ring.head, count))
    writer.commit()


def check_then_resume(ring: Ring) -> int:
    """Everything retained is whole and consecutive, however it is read; a new writer goes on from there. Returns the head."""
    found, first = ring.head, ring.tail
    with ring.reader(start="oldest", policy="lossy") as reader:
        start = reader.cursor  # past what the dead one was about to reclaim: it might have, had it lived
        assert first <= start <= first + 4
        batch = reader.read_many(1000, 0)
        assert (batch.seq, batch.payload) == (start, frames(start, found - start))
        assert reader.read(0) is None
    for seq in (first, (first + found) // 2, found - 1):
        assert ring.peek(seq).payload == frame(seq)
    with ring.writer() as writer, ring.reader(start="oldest", verify=True) as reader:
        for seq in range(first, found):
            assert reader.read(0).payload == frame(seq)
        for _ in range(9):
            many(writer, ring, 3)
            assert reader.read_many(3, 0).payload == frames(ring.head - 3, 3)
        assert (reader.missed, ring.head) == (0, found + 27)
    return found


# invariants: S1, S2, D1
@pytest.mark.parametrize(
    ("act", "count", "steps"),
    [(one_by_one, 3, 3), (many, 9, 3), (rows, 9, 3), (claimed, 6, 1)],
    ids=["growing", "batch", "array", "claim of many"],
)
@pytest.mark.parametrize("checked", [False, True])
def test_a_writer_may_die_at_any_instruction_of_a_batch(
    path: Path, act: Callable[[Any, Ring, int], None], count: int, steps: int, checked: bool
) -> None:
    ring = Ring.create(path, checked=checked, **EVEN)
    with ring.writer() as writer:
        for _ in range(12):
            many(writer, ring, 4)

    def prepare() -> Callable[[], object]:
        held = Ring.open(path)
        mine = held.writer()
        return lambda: act(mine, held, count)

    heads = each(path, moments(path, prepare), check_then_resume)
    assert heads == sorted(heads)
    assert heads[-1] - heads[0] == count
    assert steps <= len(set(heads)) - 1 <= steps + 1  # each run of frames became visible at one instruction


# invariant: S2
def test_whoever_reaps_may_die_at_any_instruction(path: Path) -> None:
    """The slot, the count and the writer's way are free again, whoever reaps next."""
    ring = Ring.create(path, capacity_bytes=4096, slots=8)
    with ring.writer() as writer:
        for _ in range(8):
            writer.write(b"x")
    ring.reader().close()

    def prepare() -> Callable[[], object]:
        held = Ring.open(path)

        def act() -> None:
            words.put(path, words.OWNER, words.nobody() | words.LOSSLESS)
            assert len(held.reap()) == 1

        return act

    def check(moment: Ring) -> int:
        moment.reap()
        assert moment.stats().readers == ()
        with moment.reader() as reader, moment.writer() as writer:
            assert reader.slot == 0
            assert writer.write(b"y", timeout_s=0) == 8
            assert reader.read(0).payload == b"y"
        return moment.stats().evicted

    counts = each(path, moments(path, prepare), check)
    assert set(counts) <= {0, 1, 2}
    assert len(counts) > 4
