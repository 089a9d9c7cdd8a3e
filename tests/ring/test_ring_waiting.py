"""Who waits for a ring is woken, ends in time, and can be ended by others."""

import threading
import time
from typing import Any

import pytest

from halftrack_dataplane.frames import Evicted, RingError, RingFull


def run(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_waiting_readers_and_writers_are_woken(ring: Any) -> None:
    writer, readers = ring.writer(), [ring.reader(), ring.reader()]
    got: list[list[int]] = [[], []]

    def consume(number: int) -> None:
        while len(got[number]) < 500:
            got[number].append(readers[number].read().seq)

    threads = [run(lambda number=number: consume(number)) for number in range(2)]
    for _ in range(500):
        writer.write(b"x")  # eight fit: it waits for them and they for it
    for thread in threads:
        thread.join(20)
    assert got == [list(range(100, 600))] * 2


@pytest.mark.parametrize("end", ["evict", "close"])
def test_a_waiting_reader_can_be_ended_from_outside(ring: Any, end: str) -> None:
    reader = ring.reader()
    raised: list[type] = []

    def wait() -> None:
        try:
            reader.read()
        except RingError as error:
            raised.append(type(error))

    thread = run(wait)
    ring.evict(reader.slot) if end == "evict" else reader.close()
    thread.join(10)
    assert raised == [Evicted if end == "evict" else RingError]
    assert ring.stats().readers == ()


def test_timeouts_are_kept(ring: Any) -> None:
    reader, writer = ring.reader(), ring.writer()
    before = time.monotonic()
    assert reader.read(0.05) is None
    assert reader.view(timeout_s=0.05) is None
    for _ in range(8):
        writer.write(b"x")
    with pytest.raises(RingFull):
        writer.write(b"x", timeout_s=0.05)
    with pytest.raises(RingFull):
        writer.gap(1, timeout_s=-1)
    assert 0.15 <= time.monotonic() - before < 5
