"""Rings as memory that processes share: passed descriptors, read-only holds, damaged bytes, pages made early."""

import ctypes
import mmap
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from halftrack_dataplane import ring as fast
from halftrack_dataplane.frames import FrameCorrupt, RingError
from tests.ring import c_ring
from tests.ring import ring_words as words
from tests.ring.ring_peers import payload, peer

PAGE = mmap.PAGESIZE


@pytest.fixture(params=[fast, c_ring], ids=["fast", "c"])
def sharing(request: pytest.FixtureRequest) -> Any:
    """The rings that share memory; the reference ring has none to share."""
    return request.param


@pytest.fixture
def ring(sharing: Any, path: Path) -> Any:
    return sharing.Ring.create(path, capacity_bytes=8192, slots=8, checked=True)


def flip(path: Path, at: int) -> None:
    words.put(path, at, words.word(path, at, "<B") ^ 0x10, "<B")


# invariant: D1
@pytest.mark.parametrize("policy", ["lossless", "lossy"])
@pytest.mark.parametrize("at", [0, 700, 2999])
def test_a_flipped_byte_is_found_by_whoever_verifies(ring: Any, path: Path, policy: Any, at: int) -> None:
    data = words.HEADER_BYTES + PAGE
    with ring.writer() as writer:
        for seq in range(3):
            writer.write(bytes([seq]) * 1000)
    flip(path, data + at // 1000 * 1024 + at % 1000)
    damaged = at // 1000
    reader, trusting = ring.reader(policy=policy, start=0, verify=True), ring.reader(policy=policy, start=0)
    assert [trusting.read(0).seq for _ in range(3)] == [0, 1, 2]
    for seq in range(3):
        if seq != damaged:
            assert reader.read(0).seq == seq
            continue
        for look in (
            lambda: reader.read(0),
            lambda: reader.read_many(timeout_s=0),
            lambda: reader.read_into(bytearray(1000), 0),
        ):
            with pytest.raises(FrameCorrupt, match=f"{seq} does not match"):
                look()
        reader.seek(seq + 1)
    assert reader.read(0) is None


def test_a_batch_ends_before_what_is_corrupt(ring: Any, path: Path) -> None:
    with ring.writer() as writer:
        for seq in range(3):
            writer.write(bytes([seq]) * 1000)
    flip(path, words.HEADER_BYTES + PAGE + 1024)
    reader = ring.reader(start=0, verify=True)
    assert reader.read_many(timeout_s=0).count == 1
    with pytest.raises(FrameCorrupt):
        reader.read_many(timeout_s=0)


def test_a_hold_that_is_read_only_cannot_write_even_by_mistake(sharing: Any, ring: Any, path: Path) -> None:
    with ring.writer() as writer:
        writer.write(b"seen")
    looking, beside = sharing.Ring.open(path, readonly=True), sharing.Ring.open(path)
    assert looking.peek(0).payload == b"seen"
    assert looking.seq_at(0) == 0
    for act in (looking.writer, looking.reader, looking.reap, lambda: looking.evict(0)):
        with pytest.raises(RingError, match="read-only"):
            act()
    maps = Path("/proc/self/maps").read_text().splitlines()
    kinds = sorted(line.split()[1] for line in maps if line.endswith(str(path)))
    assert kinds == ["r--s", "rw-s"]
    beside.close()


def test_c_refuses_to_take_part_through_a_read_only_hold(path: Path) -> None:
    """Without Python's own check before it: a mistake must be an error, not a signal."""
    c_ring.Ring.create(path, capacity_bytes=4096, slots=8).close()
    looking, core = c_ring.Ring.open(path, readonly=True), c_ring.core()
    out, reader, holder = c_ring.opaque(0), c_ring.opaque(1), ctypes.c_uint64()
    ring = looking._ring()
    assert core.ht_begin(ring, 0, b"", out, ctypes.byref(holder)) == c_ring.READONLY
    assert core.ht_join(ring, 1, ctypes.c_uint64(0), ctypes.c_int64(0), 0, b"", reader) == c_ring.READONLY
    assert core.ht_evict(ring, 0) == c_ring.READONLY
    assert core.ht_reap(ring, None) == 0


def test_c_refuses_what_cannot_be_written_instead_of_writing_past_the_ring(path: Path) -> None:
    ring = c_ring.Ring.create(path, capacity_bytes=4096, slots=8, frame_bytes=64)
    writer, core, zero = ring.writer(), c_ring.core(), ctypes.c_int64(0)
    for count, length, code in (
        (1, 63, c_ring.WRONG_LENGTH), (0, 64, c_ring.WRONG_LENGTH), (33, 64, c_ring.TOO_LARGE), (1 << 58, 64, c_ring.TOO_LARGE),
        ((1 << 58) + 1, 64, c_ring.TOO_LARGE), (32, 64, c_ring.OK), (1 << 57, 64, c_ring.TOO_LARGE),
    ):  # fmt: skip
        sent = core.ht_send(
            writer._thing, bytes(2048), c_ring.u64(count), c_ring.u64(length), c_ring.u64(0), zero, zero
        )
        assert sent == code, (count, length)
    assert ring.head == 32
    for wrong in (-1, 64, 1 << 20):
        assert core.ht_evict(ctypes.byref(ring._held), wrong) == c_ring.IMPOSSIBLE
    assert core.ht_abi() == 2


def test_who_only_looks_does_not_unlearn_how_long_waiting_pays(path: Path) -> None:
    reader = c_ring.Ring.create(path, capacity_bytes=4096, slots=8).reader()
    before = reader.spin_ns
    for _ in range(20):
        assert reader.read(0) is None
    assert reader.spin_ns == before
    assert reader.read(0.001) is None
    assert reader.spin_ns < before


# invariants: S1, S2
def test_a_ring_without_a_name_is_passed_over_a_socket(sharing: Any) -> None:
    """A memfd: both ends share it, its size is sealed, and it is gone with its last user."""
    ours, theirs = socket.socketpair()
    with ours, theirs, fast.Ring.create(None, capacity_bytes=8192, slots=8, label="passed on") as ring:
        with pytest.raises(PermissionError):
            os.ftruncate(ring.fileno(), 0)

        def echo(report: int) -> None:
            (descriptor,) = socket.recv_fds(theirs, 1, 1)[1]
            held = sharing.Ring.open(descriptor)
            os.close(descriptor)
            assert held.label == "passed on"
            reader = held.reader(name="child")
            os.write(report, b"j")
            for seq in range(100):
                assert reader.read(20).payload == payload(seq)
            os.write(report, b"!")

        with peer(echo) as (_, reports):
            socket.send_fds(ours, [b"r"], [ring.fileno()])
            assert os.read(reports, 1) == b"j"
            with ring.writer() as writer:
                for seq in range(100):
                    writer.write(payload(seq), timeout_s=20)
            assert os.read(reports, 1) == b"!"
        again = sharing.Ring.open(os.open(f"/proc/self/fd/{ring.fileno()}", os.O_RDONLY), readonly=True)
        assert again.head == 100


def test_a_descriptor_that_may_only_read_opens_read_only_rings_only(sharing: Any) -> None:
    with fast.Ring.create(None, capacity_bytes=4096, slots=8) as ring:
        descriptor = os.open(f"/proc/self/fd/{ring.fileno()}", os.O_RDONLY)
        try:
            with pytest.raises(PermissionError):
                sharing.Ring.open(descriptor)
            assert sharing.Ring.open(descriptor, readonly=True).head == 0
        finally:
            os.close(descriptor)
    with pytest.raises(RingError, match="closed"):
        ring.fileno()


def test_a_rings_file_has_no_descriptor_to_pass(path: Path) -> None:
    with fast.Ring.create(path, capacity_bytes=4096) as ring, pytest.raises(RingError, match="pass its path on"):
        ring.fileno()


def resident(path: Path) -> int:
    """Pages of the ring that this process has mapped, all its mappings together."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    starts = [at for at, line in enumerate(lines) if line.endswith(str(path))]
    rss = [next(line for line in lines[at:] if line.startswith("Rss:")) for at in starts]
    return sum(int(line.split()[1]) for line in rss) * 1024 // PAGE


def test_prefault_maps_every_page_and_changes_none(sharing: Any, path: Path) -> None:
    sharing.Ring.create(path, capacity_bytes=64 * PAGE, slots=8).close()
    before = path.read_bytes()
    for readonly in (False, True):
        ring = sharing.Ring.open(path, readonly=readonly)
        assert resident(path) < 20
        if ring.prefault():  # Linux 5.14
            assert resident(path) >= 64 + 6
        ring.close()
    assert path.read_bytes() == before
