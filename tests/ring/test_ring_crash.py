"""Processes that die while they use a ring: what they had published stays whole, and nobody waits for them for ever."""

import contextlib
import os
import random
import signal
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from halftrack_dataplane.frames import RingFull, WriterBusy
from halftrack_dataplane.ring import Reader, Ring
from tests.ring.ring_peers import kill, payload, peer, wait_forever

OWNER_AT = 0x1000  # the first reader slot's owner word
WRITER_AT = 0x300


@pytest.fixture
def ring(path: Path) -> Ring:
    return Ring.create(path, capacity_bytes=16384, slots=64)


def produce(path: Path, report: int) -> None:
    """Writes for ever: copies, claims and gaps in turn, each frame's content following from its number."""
    ring = Ring.open(path)
    writer = ring.writer()
    os.write(report, b"w")
    while True:
        data = payload(ring.head)
        if ring.head % 11 == 3:
            writer.gap(ring.head % 5 + 1)
        elif ring.head % 3:
            writer.write(data, epoch=ring.head)
        else:
            writer.claim(len(data))[:] = data
            writer.commit(epoch=ring.head)


def consume(reader: Reader, frames: int, timeout_s: float = 20) -> int:
    """Reads that many records, or all there are if a negative number is asked, and proves each."""
    done = 0
    while done != frames:
        expected, missed = reader.cursor, reader.missed
        frame = reader.read(timeout_s if frames >= 0 else 0)
        if frame is None:
            assert frames < 0
            return done
        assert frame.seq == expected + reader.missed - missed
        if frame.gap:
            assert frame.payload == b""
        else:
            assert frame.epoch == frame.seq
            assert frame.payload == payload(frame.seq)
        done += 1
    return done


# invariants: S1, S2
@pytest.mark.parametrize("policy", ["lossless", "lossy"])
def test_a_writer_killed_at_random_moments_leaves_nothing_half_visible(ring: Ring, path: Path, policy: Any) -> None:
    draw = random.Random(20260729)
    reader = ring.reader(policy=policy)
    for _ in range(40):
        with peer(lambda report: produce(path, report)) as (pid, reports):
            assert os.read(reports, 1) == b"w"
            consume(reader, draw.randrange(300))
            os.kill(pid, signal.SIGKILL)
            consume(reader, -1)  # while it is dying
            kill(pid)
        consume(reader, -1)
        assert reader.cursor == ring.head
        assert reader.missed == 0 or policy == "lossy"
    with ring.writer() as writer:  # the dead writer's claim is no obstacle
        assert writer.write(b"resumed") == ring.head - 1
    assert reader.read(0).payload == b"resumed"


# invariant: S1
def test_joining_while_the_writer_reclaims_never_shows_a_frame_that_is_being_overwritten(
    ring: Ring, path: Path
) -> None:
    held: set[int] = set()
    with peer(lambda report: produce(path, report)) as (_, reports):
        assert os.read(reports, 1) == b"w"
        while len(held) < 1500:
            with ring.reader(start="oldest") as reader:
                frame = reader.view(20)
                if not frame.gap:
                    assert bytes(frame.payload) == payload(frame.seq)
                    os.sched_yield()  # to the writer, which may fill the ring up to this frame and no further
                    assert bytes(frame.payload) == payload(frame.seq)
                    held.add(frame.seq)
                reader.seek(frame.seq)  # what is held can be gone back to
                assert reader.read(0).seq == frame.seq
                assert reader.missed == 0


# invariant: S2
def test_a_killed_lossless_reader_is_reaped_and_the_blocked_writer_goes_on(ring: Ring, path: Path) -> None:
    def read_one(report: int) -> None:
        reader = Ring.open(path).reader(name="doomed")
        os.write(report, b"j")
        frame = reader.view()
        os.write(report, bytes(frame.payload))
        wait_forever()

    def write_many(report: int) -> None:
        writer = Ring.open(path).writer()
        for number in range(100):
            writer.write(struct.pack("<I", number))
        os.write(report, b"done")

    with contextlib.ExitStack() as peers:
        doomed, seen = peers.enter_context(peer(read_one))
        assert os.read(seen, 1) == b"j"
        _, written = peers.enter_context(peer(write_many))
        assert os.read(seen, 4) == bytes(4)
        assert ring.reap() == ()
        while ring.head < 64:  # it can publish 64 and no more
            assert ring.head <= 64
        kill(doomed)
        gone = ring.reap()
        assert [(reader.name, reader.pid, reader.policy, reader.cursor) for reader in gone] == [
            ("doomed", doomed, "lossless", 0)
        ]
        assert os.read(written, 4) == b"done"
    assert ring.head == 100
    assert (ring.stats().evicted, ring.stats().readers) == (1, ())
    assert ring.reap() == ()


def test_a_zombie_is_dead_and_a_reused_pid_is_another_process(ring: Ring, path: Path) -> None:
    def join(report: int) -> None:
        reader = Ring.open(path).reader(name="mine")
        os.write(report, b"j")
        wait_forever()
        reader.close()

    with peer(join) as (pid, reports):
        assert os.read(reports, 1) == b"j"
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, not yet buried
        assert [reader.pid for reader in ring.reap()] == [pid]
    with peer(join) as (pid, reports):
        assert os.read(reports, 1) == b"j"
        with path.open("r+b") as file:  # as if our pid had belonged to one that started a tick earlier
            file.seek(OWNER_AT)
            owner = struct.unpack("<Q", file.read(8))[0]
            file.seek(OWNER_AT)
            file.write(struct.pack("<Q", (owner - (1 << 41)) % 2**64))
        assert [reader.pid for reader in ring.reap()] == [pid]


def test_processes_of_another_pid_namespace_are_not_judged(ring: Ring, path: Path) -> None:
    stranger = 4194303 << 3 | 1 << 41  # no such process here; the namespace bits are ours with one bit changed
    namespace = (os.stat("/proc/self/ns/pid").st_ino & 0xFFFF) << 25
    for bits, dead in ((namespace ^ 1 << 25, False), (namespace, True)):
        with path.open("r+b") as file:
            file.seek(WRITER_AT)
            file.write(struct.pack("<Q", stranger | bits | 5))
        if dead:
            ring.writer().close()
        else:
            ring.reap()
            with pytest.raises(WriterBusy, match="4194303"):
                ring.writer()


def test_a_writer_that_lives_is_not_replaced_and_one_that_died_is(ring: Ring, path: Path) -> None:
    with peer(lambda report: produce(path, report)) as (pid, reports):
        assert os.read(reports, 1) == b"w"
        with pytest.raises(WriterBusy, match=str(pid)):
            ring.writer()
        ring.reap()
        assert ring.stats().writer_pid == pid
    ring.reap()
    assert ring.stats().writer_pid == 0
    with ring.writer(full="drop"):
        assert ring.stats().writer_pid == os.getpid()


def test_slots_of_dead_processes_are_found_when_all_are_taken(ring: Ring, path: Path) -> None:
    def crowd(report: int) -> None:
        readers = [Ring.open(path).reader() for _ in range(64)]
        os.write(report, b"j")
        wait_forever()
        readers.clear()

    with peer(crowd) as (_, reports):
        assert os.read(reports, 1) == b"j"
    assert ring.reader().slot == 0
    assert ring.stats().evicted == 64


def test_no_wake_up_is_lost(ring: Ring, path: Path) -> None:
    """Ping-pong, each side asleep or about to be; one lost wake-up costs a 100 ms slice, and 2,000 would be minutes."""
    back = Ring.create(path.with_name("back"), capacity_bytes=4096, slots=2)
    writer, reader = ring.writer(), back.reader()

    def echo(report: int) -> None:
        ring, back = Ring.open(path), Ring.open(path.with_name("back"))
        reader, writer = ring.reader(), back.writer()
        os.write(report, b"e")
        while True:
            writer.write(reader.read().payload)

    with peer(echo) as (_, reports):
        assert os.read(reports, 1) == b"e"
        before = time.monotonic()
        for number in range(2000):
            writer.write(struct.pack("<I", number))
            assert reader.read(20).payload == struct.pack("<I", number)
        assert time.monotonic() - before < 15


def test_ctrl_c_ends_a_wait(ring: Ring, path: Path) -> None:
    def interrupted(report: int) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ring = Ring.open(path)
        reader, writer = ring.reader(), ring.writer()

        def fill() -> None:
            while True:
                writer.write(b"x")

        def drain() -> None:
            while reader.view() is not None:
                pass

        for wait in (reader.read, fill, drain):
            try:
                os.write(report, b"?")
                wait()
            except KeyboardInterrupt:
                os.write(report, b"!")
        with contextlib.suppress(RingFull):  # and everything still works
            while True:
                writer.write(b"x", timeout_s=0)
        os.write(report, b".")

    with peer(interrupted) as (pid, reports):
        for _ in range(3):
            assert os.read(reports, 1) == b"?"
            os.kill(pid, signal.SIGINT)  # whether it waits already or is about to
            assert os.read(reports, 1) == b"!"
        assert os.read(reports, 1) == b"."
