"""Where one operation meets another: a slot that changes hands, a wait that is given up, a process that is half dead."""

import ctypes
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from halftrack_dataplane.frames import RingDamaged, RingFull
from halftrack_dataplane.ring import Ring
from tests.ring import ring_words as words
from tests.ring.ring_peers import peer, wait_forever
from tests.ring.single_step import moments

SYS_EXIT = {"x86_64": 60, "aarch64": 93}


@pytest.fixture
def ring(path: Path) -> Ring:
    return Ring.create(path, capacity_bytes=4096, slots=8)


class GivenUpError(Exception):
    pass


def interrupted(call: Any, after_s: float = 0.02) -> None:
    """Calls, and gives up when a signal comes."""

    def give_up(*_: object) -> None:
        raise GivenUpError

    before = signal.signal(signal.SIGALRM, give_up)
    try:
        signal.setitimer(signal.ITIMER_REAL, after_s)
        with pytest.raises(GivenUpError):
            call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def asleep(thread: threading.Thread) -> bool:
    stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "S"


def test_a_slots_waiting_bit_is_cleared_only_while_nobody_else_can_join_there(ring: Ring, path: Path) -> None:
    """Else it could be the bit of a reader that has just joined and gone to sleep, and that nobody would wake then."""
    dead = words.nobody() | words.LOSSLESS
    ring.reader().close()  # so that the slot is looked at

    def prepare() -> Any:
        held = Ring.open(path)

        def act() -> None:
            words.put(path, words.OWNER, words.nobody() | words.EVICTED)
            words.put(path, words.DATA_WAITERS, 1)
            words.put(path, words.OWNER, dead)
            assert len(held.reap()) == 1

        return act

    seen = set()
    for moment in moments(path, prepare):
        owner, waiting = (int.from_bytes(moment[at : at + 8], "little") for at in (words.OWNER, words.DATA_WAITERS))
        seen.add((owner == dead, owner & 7, waiting))
    assert (True, words.LOSSLESS, 0) not in seen
    assert (False, words.FREE, 1) not in seen
    assert (False, words.CLAIMING, 0) in seen


def test_a_slot_is_free_only_after_the_writer_was_told(ring: Ring, path: Path) -> None:
    """Else a reader that is killed in between leaves nothing to reap, and a writer that sleeps for it."""

    def prepare() -> Any:
        held = Ring.open(path)
        words.put(path, words.SPACE_WAITING, 1, "<I")
        return lambda: held.reader().close()

    left, told = False, 0
    for moment in moments(path, prepare):
        owner, event = (int.from_bytes(moment[at : at + 4], "little") for at in (words.OWNER, words.SPACE_EVENT))
        if owner & 7 == words.LOSSLESS:
            left, told = True, event
        elif left and owner == words.FREE:
            assert event > told
    assert left


def test_whoever_takes_a_dead_writers_place_wakes_whom_it_may_have_told_nothing(ring: Ring, path: Path) -> None:
    for act in (ring.reap, lambda: ring.writer().close()):
        words.put(path, words.WRITER, words.nobody() | words.WRITING)
        before = words.word(path, words.DATA_EVENT, "<I")
        act()
        assert words.word(path, words.DATA_EVENT, "<I") == before + 1


def test_whoever_was_woken_and_reads_on_is_not_among_the_waiters(ring: Ring, path: Path) -> None:
    reader, writer = ring.reader(), ring.writer()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(reader.read(20)), daemon=True)
    thread.start()
    while not (words.word(path, words.DATA_WAITERS) and asleep(thread)):
        os.sched_yield()
    writer.write(b"x")
    thread.join(20)
    assert got[0].payload == b"x"
    assert words.word(path, words.DATA_WAITERS) == 0


def test_a_wait_that_is_given_up_costs_nobody_anything(ring: Ring, path: Path) -> None:
    reader, writer = ring.reader(), ring.writer()
    interrupted(reader.read)
    assert words.word(path, words.DATA_WAITERS) == 0
    for _ in range(8):
        writer.write(b"x")
    interrupted(lambda: writer.write(b"x"))
    assert words.word(path, words.SPACE_WAITING, "<I") == 0


def test_a_readers_patience_starts_anew_with_each_frame_that_waits(ring: Ring) -> None:
    reader, writer = ring.reader(evict_after_s=0.3), ring.writer()
    for _ in range(8):
        writer.write(b"x")
    before = time.monotonic()
    interrupted(lambda: writer.write(b"x"))
    assert reader.read(0).seq == 0
    writer.write(b"x")
    while time.monotonic() - before < 0.35:  # what counts is the clock
        os.sched_yield()
    with pytest.raises(RingFull):
        writer.write(b"x", timeout_s=0.02)
    assert reader.read(0).seq == 1


def test_a_reader_that_gave_way_while_joining_wakes_the_writer_that_gave_way_to_it(ring: Ring, path: Path) -> None:
    writer = ring.writer()
    for _ in range(8):
        writer.write(b"x")
    words.put(path, words.RECLAIM, 4)  # as if a writer were about to reclaim, saw the reader at 0, and went to sleep
    words.put(path, words.SPACE_WAITING, 1, "<I")
    before = words.word(path, words.SPACE_EVENT, "<I")
    with ring.reader(start="oldest") as reader:
        assert reader.cursor == 4
        assert words.word(path, words.SPACE_EVENT, "<I") == before + 1


def test_only_the_last_reader_to_get_where_the_writer_wants_all_wakes_it(ring: Ring, path: Path) -> None:
    writer, readers = ring.writer(), [ring.reader(), ring.reader()]
    for _ in range(8):
        writer.write(b"x")
    words.put(path, words.SPACE_WANTED, 3)
    words.put(path, words.SPACE_WAITING, 1, "<I")
    before = words.word(path, words.SPACE_EVENT, "<I")
    for reader, counts in ((readers[0], (3, 4, 5)), (readers[1], (1, 2))):
        for count in counts:
            while reader.cursor < count:
                reader.read(0)
            assert words.word(path, words.SPACE_EVENT, "<I") == before
    readers[1].read(0)
    assert words.word(path, words.SPACE_EVENT, "<I") == before + 1
    assert words.word(path, words.SPACE_WAITING, "<I") == 0


def test_a_writer_that_waits_long_wants_no_more_than_it_needs(path: Path) -> None:
    """Else who reads slowly, or waits for the same writer elsewhere, would hold it up for longer than it must."""
    ring = Ring.create(path, capacity_bytes=4096, slots=32)
    writer, reader = ring.writer(), ring.reader()
    for _ in range(32):
        writer.write(b"x")
    thread = threading.Thread(target=writer.write, args=(b"y",), daemon=True)
    thread.start()
    wanted = set()
    while 1 not in wanted:
        if words.word(path, words.SPACE_WAITING, "<I"):
            wanted.add(words.word(path, words.SPACE_WANTED))
    assert wanted <= {1, 1 + 31 // 8}
    assert reader.read(0).seq == 0
    thread.join(20)
    assert ring.head == 33


def test_a_process_whose_first_thread_has_ended_lives_on(ring: Ring, path: Path) -> None:
    """Its state is "zombie" then, although another of its threads uses the ring."""

    def half_dead(report: int) -> None:
        reader = Ring.open(path).reader()

        def live() -> None:
            while Path("/proc/self/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                os.sched_yield()
            os.write(report, b"z")
            wait_forever_in_a_thread()
            reader.close()

        threading.Thread(target=live, daemon=True).start()
        ctypes.CDLL(None).syscall(SYS_EXIT[os.uname().machine], 0)

    with peer(half_dead) as (pid, reports):
        assert os.read(reports, 1) == b"z"
        assert ring.reap() == ()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert [reader.pid for reader in ring.reap()] == [pid]


def wait_forever_in_a_thread() -> None:
    """`ring_peers.wait_forever` is for a process's first thread."""
    threading.Event().wait()
    wait_forever()


def test_a_reader_limit_beyond_all_slots_is_not_followed(ring: Ring, path: Path) -> None:
    reader, writer = ring.reader(), ring.writer(full="overwrite")
    words.put(path, words.READER_LIMIT, 2**32 - 1, "<I")
    assert len(ring.stats().readers) == 1
    assert ring.reap() == ()
    for _ in range(20):
        writer.write(b"x")
    assert ring.stats().evicted == 1
    reader.close()


@pytest.mark.parametrize("at", [words.HEAD, words.DATA_HEAD, words.RECORDS, words.TAIL, words.TAIL_RECORD])
@pytest.mark.parametrize("value", [2, 2**40 + 1, 2**64 - 1])
def test_a_writer_refuses_a_ring_that_no_writer_can_have_left(ring: Ring, path: Path, at: int, value: int) -> None:
    with ring.writer() as writer:
        for _ in range(20):
            writer.write(bytes(700))
    before = words.word(path, words.RECLAIM)
    words.put(path, at, value)
    with pytest.raises(RingDamaged, match="wrote over the ring's memory"):
        ring.writer()
    assert words.word(path, words.RECLAIM) == before
    assert ring.stats().writer_pid == 0


@pytest.mark.parametrize("field", [0, 1, 2], ids=["seq", "offset", "length"])
def test_a_writer_refuses_descriptors_that_no_writer_can_have_left(ring: Ring, path: Path, field: int) -> None:
    with ring.writer() as writer:
        for _ in range(4):
            writer.write(bytes(700))
    words.put(path, words.HEADER_BYTES + 64 * 2 + 8 * field, 2**40 + 64)
    with pytest.raises(RingDamaged):
        ring.writer()


@pytest.mark.parametrize("name", ["capacity_bytes", "base_seq"])
def test_numbers_whose_sums_wrap_are_refused_even_with_a_right_checksum(ring: Ring, path: Path, name: str) -> None:
    if name == "capacity_bytes":
        beside = ring.stats().capacity_bytes
        total = words.word(path, words.STATIC["total_bytes"])
        words.put(path, words.STATIC["capacity_bytes"], 2**64 - 4096)
        words.put(path, words.STATIC["total_bytes"], (total - beside - 4096) % 2**64)
    else:
        words.put(path, words.STATIC["base_seq"], 2**63)
    words.put(path, words.STATIC["checksum"], words.checksum(path.read_bytes()))
    with pytest.raises(RingDamaged, match="contradicts itself"):
        Ring.open(path)


def test_a_gap_that_claims_a_checksum_is_not_summed(path: Path) -> None:
    with Ring.create(path, capacity_bytes=4096, slots=8, checked=True) as ring, ring.writer() as writer:
        writer.write(b"x")
        writer.gap(2**40)
        words.put(path, words.HEADER_BYTES + 64 + 16, 4096)  # its length
        words.put(path, words.HEADER_BYTES + 64 + 44, 3, "<I")  # HT_GAP | HT_HAS_CRC
        reader = ring.reader(start="oldest", verify=True)
        assert reader.read(0).payload == b"x"
        assert reader.read(0).gap == 2**40
