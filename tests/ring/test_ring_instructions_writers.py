"""Death of one of several writers between any two instructions of its turn, and at random while all of them write."""

import os
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halftrack_dataplane.ring import Ring
from tests.ring.ring_peers import payload, peer
from tests.ring.single_step import moments
from tests.ring.test_ring_instructions import check_then_resume, each, writes

SMALL: dict[str, Any] = {"capacity_bytes": 4096, "slots": 8, "shared": True}


def goes_on(ring: Ring, sizes: dict[int, int], *, reaped: bool) -> tuple[int, bool]:
    """What is retained is whole, and another writer goes on at once. The head that it found, and whether it took a dead one's turn."""
    died = ring.stats().writer_pid > 0
    if reaped:
        ring.reap()
        assert ring.stats().writer_pid == 0
    else:
        with ring.writer() as writer:
            writer.claim(8, timeout_s=0)  # finds the dead one, and goes on from what it left
    found = check_then_resume(ring, sizes)
    assert ring.stats().writers_died == died
    return found, died


# invariants: S1, S2
@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "found"])
@pytest.mark.parametrize("sizes", [[200], [1900, 0, -700]], ids=["full", "wrapping, gap, claim"])
def test_a_writer_of_several_may_die_at_any_instruction_of_its_turn(path: Path, sizes: list[int], reaped: bool) -> None:
    ring, expected = Ring.create(path, **SMALL), {}
    with ring.writer() as writer:
        while ring.head < 20:
            expected[ring.head] = 300
            writer.write(payload(ring.head, 300), epoch=ring.head)
    seq = ring.head
    for size in sizes * 2:
        expected[seq] = abs(size)
        seq += 1 if size else 3
    contents = moments(path, writes(path, sizes))
    found = each(path, contents, lambda moment: goes_on(moment, expected, reaped=reaped))
    heads = [head for head, _ in found]
    assert heads == sorted(heads)
    assert len(set(heads)) == len(sizes) + 1
    died = [died for _, died in found]
    assert died.count(True) > 6 * len(sizes)
    assert died.count(False) >= len(sizes)  # between two turns nobody misses it


# invariants: S1, S2
def test_writers_killed_at_random_hold_the_others_up_for_a_moment_and_lose_nothing(path: Path) -> None:
    ring = Ring.create(path, capacity_bytes=1 << 16, slots=256, shared=True)

    def flood(number: int) -> Callable[[int], None]:
        def work(report: int) -> None:
            writer, count = Ring.open(path).writer(), 0
            os.write(report, b"w")
            while True:
                data = struct.pack("<BQ", number, count) + payload(count, 400)
                if count % 5:
                    writer.write(data)
                else:
                    writer.claim(len(data))[:] = data
                    writer.commit()
                count += 1

        return work

    reader, longest = ring.reader(), 0.0
    for _ in range(12):
        with peer(flood(1)) as (doomed, one), peer(flood(2)) as (_, two):
            assert os.read(one, 1) == os.read(two, 1) == b"w"
            counts: dict[int, int] = {}
            for at in range(600):
                before = time.monotonic()
                frame = reader.read(10)
                if at == 300:
                    os.kill(doomed, signal.SIGKILL)
                elif at > 300:
                    longest = max(longest, time.monotonic() - before)
                number, count = struct.unpack_from("<BQ", frame.payload)
                assert counts.get(number, -1) in (-1, count - 1)
                assert frame.payload[9:] == payload(count, 400)
                counts[number] = count
            assert counts[2] > 0  # it is the one that is left
        while reader.read(0):
            pass
    assert longest < 5  # far above a millisecond, since machines are busy; a wait for ever would be ten
    ring.reap()
    with ring.writer() as writer:
        assert writer.write(b"on", timeout_s=0) == ring.head - 1
