"""A reader's descriptor: readable while frames may be there, for loops that wait for many things at once."""

import asyncio
import os
import select
import threading
from typing import Any

import pytest

from halftrack_dataplane import aio
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.ring import Ring
from tests.ring.ring_peers import payload, peer


@pytest.fixture
def ring(path: Any) -> Ring:
    return Ring.create(path, capacity_bytes=65536, slots=64)


def readable(descriptor: int, timeout_s: float) -> bool:
    return bool(select.select([descriptor], [], [], timeout_s)[0])


def test_it_is_readable_once_there_is_a_frame_and_until_there_is_none(ring: Ring) -> None:
    writer, reader = ring.writer(), ring.reader()
    descriptor = reader.fileno()
    assert reader.fileno() == descriptor
    assert not readable(descriptor, 0)
    for turn in range(200):  # asleep or about to be, whichever comes first
        writer.write(payload(turn))
        assert readable(descriptor, 10)
        assert reader.read(0) == Frame(turn, 0, 0, payload(turn))
        assert reader.read(0) is None
    assert not readable(descriptor, 0.01)


def test_frames_that_were_there_before_are_told(ring: Ring) -> None:
    with ring.writer() as writer:
        writer.write(b"early")
    reader = ring.reader(start="oldest")
    assert readable(reader.fileno(), 10)


def test_blocking_reads_still_work_and_keep_their_time(ring: Ring) -> None:
    writer, reader = ring.writer(), ring.reader()
    reader.fileno()
    assert reader.read(0.05) is None
    thread = threading.Thread(target=lambda: writer.write(b"x"))
    thread.start()
    assert reader.read(10).payload == b"x"  # type: ignore[union-attr]
    thread.join()


def test_closing_ends_thread_and_descriptors(ring: Ring) -> None:
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with ring.reader() as reader:
            reader.fileno()
    left = ring.reader()
    left.fileno()
    del left
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before
    assert ring.stats().readers == ()


def test_asyncio_takes_frames_from_another_process_beside_other_work(ring: Ring, path: Any) -> None:
    def produce(report: int) -> None:
        with Ring.open(path).writer() as writer:
            for seq in range(3000):
                writer.write(payload(seq, 200))
        os.write(report, b"done")

    async def consume() -> int:
        turns = 0

        async def tick() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        expected = 0
        async for frame in aio.frames(reader):
            assert (frame.seq, frame.payload) == (expected, payload(expected, 200))
            expected += 1
            if expected == 3000:
                break
        ticking.cancel()
        return turns

    with ring.reader() as reader, peer(produce):
        assert asyncio.run(consume()) > 10
