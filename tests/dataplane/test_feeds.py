"""Sockets that outlive the process that reads them: captures are ended, killed and started again, keepers too, and what was sent is counted."""

import os
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from halftrack_dataplane import feed_wire
from halftrack_dataplane.feed_wire import Word
from tests.dataplane.feeding_host import SIZE, FeedingHost, FramesSender, Sender, payload, who
from tests.dataplane.processes import until


@pytest.fixture
def udp(tmp_path: Path) -> Iterator[FeedingHost]:
    host = FeedingHost(tmp_path, "udp", buffer_bytes=32 << 20)
    yield host
    host.close()


@pytest.fixture
def tcp(tmp_path: Path) -> Iterator[FeedingHost]:
    host = FeedingHost(tmp_path, "tcp")
    yield host
    host.close()


def told(host: FeedingHost, end: int) -> tuple[int, int]:
    """How many frames the ring has, each with its own number's payload, and how many it says are lost."""
    at = frames = lost = 0
    while at < end:
        found = host.ring.peek(at)
        assert found is not None
        assert found.gap or found.payload == payload(at), at
        frames, lost, at = frames + (found.gap == 0), lost + found.gap, at + (found.gap or 1)
    return frames, lost


# invariants: S1, S2
def test_every_packet_comes_once_and_in_order_while_its_capture_is_ended_and_killed(udp: FeedingHost) -> None:
    udp.keep()
    udp.capture()
    sender = Sender(udp.port)
    luck = random.Random(1)
    with sender.sending():
        for again in range(5):
            udp.reach(udp.ring.head + luck.randrange(1, 500))
            udp.end("f", kill=again % 2 == 0)
            udp.capture()
    udp.reach(sender.next)
    udp.end("f")
    assert told(udp, sender.next) == (sender.next, 0)
    until(
        lambda: (found := udp.status("keeper")) is not None and "nobody" in found.message,
        "the keeper says that it is alone",
    )
    status = udp.status("keeper")
    assert status is not None
    assert status.counters["dropped"] == 0


# invariants: S1, S2
def test_a_keeper_that_is_killed_gets_its_sockets_back_from_the_capture(udp: FeedingHost) -> None:
    udp.keep()
    udp.capture()
    sender = Sender(udp.port)
    with sender.sending():
        for _ in range(2):
            udp.reach(udp.ring.head + 300)
            udp.end("f.feeds", kill=True)
            udp.keep()
            until(udp.has_its_sockets, "the keeper has its sockets")
            udp.end("f", kill=True)
            udp.capture()
    udp.reach(sender.next)
    assert told(udp, sender.next) == (sender.next, 0)


# invariant: S2
def test_what_the_kernel_drops_while_nobody_reads_is_lost_by_number_and_counted_alike(tmp_path: Path) -> None:
    host = FeedingHost(tmp_path, "udp", buffer_bytes=64 << 10)
    try:
        host.keep()
        host.capture()
        sender = Sender(host.port)
        sender.send(100)
        host.reach(100)
        host.end("f", kill=True)
        sender.send(2_000, 100_000)  # far more than the buffer holds
        host.capture()
        until(lambda: host.ring.head > 100, "it goes on")
        until(
            lambda: (found := host.status("f")) is not None and found.counters["frames"] > 100,
            "it has emptied the buffer",
        )
        sender.send(100)
        host.reach(sender.next)
        frames, lost = told(host, sender.next)
        until(
            lambda: (found := host.status("f")) is not None and found.counters["lost"] == lost,
            "the capture counts them",
        )
        counted, kept = host.status("f"), host.status("keeper")
        assert counted is not None
        assert kept is not None
        assert frames + lost == sender.next
        assert lost == kept.counters["dropped"] == counted.counters["kernel_drops"] > 0
        host.end("f", kill=True)
        host.capture()
        sender.send(10)
        host.reach(sender.next)
        until(lambda: (found := host.status("f")) is not None and found.counters["frames"] == 10, "the next one counts")
        again = host.status("f")
        assert again is not None
        assert (again.counters["kernel_drops"], again.counters["lost"]) == (0, 0)  # counted once
    finally:
        host.close()


# invariant: S1
def test_every_frame_of_a_connection_comes_once_while_its_capture_and_its_keeper_are_killed(tcp: FeedingHost) -> None:
    tcp.keep()
    tcp.capture()
    sender, luck = FramesSender(tcp.port), random.Random(3)
    with sender.sending():
        for again in range(5):
            tcp.reach(tcp.ring.head + luck.randrange(1, 2_000))
            tcp.end("f", kill=again != 3)
            tcp.capture(most_bytes=1 << 12)
            if again == 1:
                tcp.reach(tcp.ring.head + 1_000)
                tcp.end("f.feeds", kill=True)
                tcp.keep()
                until(lambda: tcp.has_its_sockets("data.connections"), "the keeper has its connection")
    tcp.reach(sender.next)
    until(lambda: (found := tcp.status("f")) is not None and found.counters["ended"] == 1, "its end is seen")
    assert told(tcp, sender.next) == (sender.next, 0)
    assert tcp.ring.head == sender.next


# invariant: S1
def test_a_capture_that_is_killed_between_ring_and_socket_repeats_and_loses_nothing(tmp_path: Path) -> None:
    host = FeedingHost(tmp_path, "tcp", slots=64)
    try:
        host.keep()
        with host.ring.reader(start="oldest") as reader:  # it holds the ring full, so each kill meets a turn half done
            host.capture()
            total = 1_000
            with socket.create_connection(("127.0.0.1", host.port)) as sender:
                sender.sendall(b"".join(struct.pack("<I", SIZE) + payload(number) for number in range(total)))
                seen = 0
                for upto in (0, 40, 70, total):
                    for number in range(seen, upto):
                        found = reader.read(20)
                        assert found is not None
                        assert (found.seq, found.gap, bytes(found.payload)) == (number, 0, payload(number))
                    seen = upto
                    if upto < total:
                        host.reach(upto + 60)  # 64 fit
                        host.end("f", kill=True)
                        host.capture()
            until(lambda: (found := host.status("f")) is not None and found.counters["ended"] == 1, "its end is seen")
        assert host.ring.head == total
    finally:
        host.close()


def test_only_the_workloads_own_process_gets_the_sockets(udp: FeedingHost) -> None:
    known = udp.folder / "instance.json"
    who(known, os.getppid())
    udp.keep(taker_path=str(known))
    until((udp.feed_dir / feed_wire.SOCKET).exists, "the keeper listens")
    assert os.stat(udp.feed_dir).st_mode & 0o777 == 0o700

    def heard() -> Word | None:
        line = feed_wire.connected(str(udp.feed_dir))
        assert line is not None
        with line:
            line.setblocking(True)
            try:
                feed_wire.send(line, Word("take"))
                found = feed_wire.receive(line)
            except OSError:
                return None
            if found is None:
                return None
            for fd in found[1]:
                os.close(fd)
            return found[0]

    assert heard() is None
    who(known, os.getpid())
    word = heard()
    assert word is not None
    assert (word.say, word.name, word.text) == ("feed", "data", "udp")


def test_a_keeper_whose_address_somebody_else_has_says_so_and_ends(tmp_path: Path) -> None:
    host = FeedingHost(tmp_path, "udp")
    try:
        bound, host.bound = host.bound, None
        assert bound is not None
        with bound:
            host.keep()
            process = host.running["f.feeds"]
            assert process.wait(20) == 4
        assert "in use by somebody else: 127.0.0.1:" in host.log("f.feeds")
    finally:
        host.close()
