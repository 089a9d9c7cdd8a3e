"""The bridge over loopback: keys, replay after every interruption, and no silence about what is gone."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane import bridge_sockets, curve
from halftrack_dataplane.bridge_receiver import BACKOFF_CAP_S, backoff_s
from halftrack_dataplane.bridge_wire import Heartbeat, Hello, decode, encode
from halftrack_dataplane.runspec import RunSpec
from tests.dataplane.processes import Host, until


class Bridged:
    """Two hosts on one machine: a server with a ring, and a receiver with its replica."""

    def __init__(self, folder: Path, *, slots: int = 1024, capacity_bytes: int = 1 << 20) -> None:
        self.near, self.far = Host(folder / "near"), Host(folder / "far")
        self.ring = self.near.ring("s/source", slots=slots, capacity_bytes=capacity_bytes)
        self.writer = self.ring.writer()
        self.replica = self.far.ring("s/source", slots=4096, capacity_bytes=8 << 20)
        keys = {name: curve.generate() for name in ("server", "receiver", "stranger")}
        for name, pair in keys.items():
            curve.write_secret(str(folder / f"{name}.key"), pair.secret)
        self.keys, self.folder = keys, folder
        self.peers = folder / "peers.json"
        self.admit("receiver")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.server = RunSpec(
            role="bridge-server",
            name="bridge",
            status_path=str(self.near.folder / "status" / "bridge"),
            rings_dir=str(self.near.rings),
            snapshot_dir=str(self.near.folder / "snapshots"),
            listen=self.address,
            curve_secret_path=str(folder / "server.key"),
            curve_public=keys["server"].public,
            peers_path=str(self.peers),
        )
        self.receiver = RunSpec(
            role="bridge-receiver",
            name="s.source.from-near",
            status_path=str(self.far.folder / "status" / "s.source.from-near"),
            output_ring=self.far.path("s/source"),
            ring_name="s/source",
            connect=self.address,
            curve_secret_path=str(folder / "receiver.key"),
            curve_public=keys["receiver"].public,
            server_public=keys["server"].public,
        )

    def admit(self, name: str) -> None:
        self.peers.with_suffix(".new").write_text(json.dumps({"far": self.keys[name].public}))
        self.peers.with_suffix(".new").replace(self.peers)

    def write(self, count: int, size: int = 100) -> None:
        for _ in range(count):
            seq = self.ring.head
            self.writer.write(seq.to_bytes(8, "little") * (size // 8), epoch=seq % 7, timestamp_ns=seq * 10)

    def caught_up(self) -> None:
        until(lambda: self.replica.head == self.ring.head, f"the replica has all, {self.far.log(self.receiver.name)}")

    def same(self, first: int) -> None:
        """Every frame from `first` on is in the replica, bit by bit."""
        assert self.replica.tail <= first
        for seq in range(max(first, self.ring.tail), self.ring.head):
            assert self.replica.peek(seq) == self.ring.peek(seq)

    def count(self, name: str) -> int:
        status = self.far.status(self.receiver.name)
        return status.counters[name] if status else 0

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def bridged(folder: Path) -> Iterator[Bridged]:
    bridged = Bridged(folder)
    yield bridged
    bridged.close()


def test_a_replica_is_the_ring_through_deaths_of_both_ends(bridged: Bridged) -> None:
    bridged.near.start(bridged.server)
    bridged.far.start(bridged.receiver)
    bridged.write(100)
    bridged.writer.gap(3)
    bridged.write(100, size=5_000)
    bridged.caught_up()
    bridged.far.kill(bridged.receiver.name)
    bridged.write(50)
    bridged.far.start(bridged.receiver)
    bridged.caught_up()
    bridged.near.kill("bridge")
    bridged.write(50)
    bridged.near.start(bridged.server)
    bridged.caught_up()
    bridged.same(0)
    assert bridged.replica.stats().gap_frames == 3


def test_a_silent_server_is_given_up_and_nothing_is_missed_meanwhile(bridged: Bridged) -> None:
    server = bridged.near.start(bridged.server)
    bridged.far.start(bridged.receiver)
    bridged.write(20)
    bridged.caught_up()
    for _ in range(2):
        connects = bridged.count("connects")
        server.send_signal(signal.SIGSTOP)  # a link that swallows everything looks the same
        bridged.write(100)
        until(lambda connects=connects: bridged.count("connects") > connects, "it gives up")  # type: ignore[misc]
        server.send_signal(signal.SIGCONT)
        bridged.write(100)
        bridged.caught_up()
    bridged.same(0)
    assert bridged.count("lost") == 0
    bridged.far.check()


def test_a_replica_that_never_held_a_frame_starts_where_the_ring_does(bridged: Bridged) -> None:
    bridged.writer.start_at(70)
    bridged.write(5)
    bridged.near.start(bridged.server)
    bridged.far.start(bridged.receiver)
    bridged.caught_up()
    bridged.same(70)
    assert bridged.replica.stats().gap_frames == 0
    assert bridged.count("lost") == 0


def test_what_is_no_longer_retained_is_declared_and_counted(bridged: Bridged) -> None:
    # invariant: S2
    bridged.near.start(bridged.server)
    bridged.far.start(bridged.receiver)
    bridged.write(10)
    bridged.caught_up()
    bridged.far.kill(bridged.receiver.name)
    bridged.write(3000)  # the ring holds a thousand
    bridged.far.start(bridged.receiver)
    bridged.caught_up()
    lost = bridged.replica.stats().gap_frames
    assert lost > 0
    assert bridged.replica.peek(10) is not None
    assert bridged.replica.peek(10).gap == lost  # type: ignore[union-attr]
    bridged.same(10 + lost)
    until(lambda: bridged.count("lost") == lost, "the status tells how many")


def test_a_replica_that_a_death_has_emptied_goes_on_where_it_was(bridged: Bridged) -> None:
    """A receiver killed between making room for a large frame and publishing it leaves nothing retained, and a head above 0."""
    # invariant: S2
    half = bridged.replica.stats().capacity_bytes // 2
    with bridged.replica.writer() as writer:
        writer.write(b"x")
        writer.write(b"x" * half)
        writer.claim(half)
    assert bridged.replica.head == bridged.replica.tail == 2
    bridged.write(3000)  # and meanwhile the source has gone on beyond what its ring holds
    bridged.near.start(bridged.server)
    bridged.far.start(bridged.receiver)
    bridged.caught_up()
    lost = bridged.replica.stats().gap_frames
    assert lost == bridged.ring.tail - 2
    bridged.same(2 + lost)
    until(lambda: bridged.count("lost") == lost, "the status tells how many")


def test_a_slow_replica_slows_nobody_and_loses_nothing_within_the_ring(folder: Path) -> None:
    bridged = Bridged(folder)
    try:
        small = bridged.far.ring("s/small", slots=16, capacity_bytes=1 << 16)
        spec = replace(bridged.receiver, output_ring=small.path, params={"credit_bytes": 4096})
        reader = small.reader()
        bridged.near.start(bridged.server)
        bridged.far.start(spec)
        bridged.write(300)
        until(lambda: small.head >= 15, "the replica is full")
        assert bridged.ring.head == 300, "the writer was never held up"
        for seq in range(300):
            frame = reader.read(5)
            assert frame is not None
            assert (frame.seq, frame.gap) == (seq, 0)
        bridged.far.check()
    finally:
        bridged.close()


def test_a_key_that_is_not_admitted_gets_nothing_until_it_is(bridged: Bridged) -> None:
    stranger = {
        "curve_secret_path": str(bridged.folder / "stranger.key"),
        "curve_public": bridged.keys["stranger"].public,
    }
    bridged.write(5)
    bridged.near.start(bridged.server)
    bridged.far.start(replace(bridged.receiver, **stranger))
    until(lambda: (s := bridged.near.status("bridge")) is not None and s.counters["refused_keys"] > 0, "refused")
    assert bridged.replica.head == 0
    bridged.admit("stranger")
    bridged.caught_up()
    bridged.admit("receiver")
    bridged.write(5)
    until(lambda: (s := bridged.near.status("bridge")) is not None and s.counters["sessions"] == 0, "its session ends")


def test_a_key_that_is_admitted_no_more_gets_nothing_more(bridged: Bridged) -> None:
    bridged.near.start(bridged.server)
    bridged.far.start(bridged.receiver)
    bridged.write(10)
    bridged.caught_up()

    def sessions() -> int:
        status = bridged.near.status("bridge")
        return status.counters["sessions"] if status else -1

    until(lambda: sessions() == 1, "the status tells of the session")
    bridged.admit("stranger")
    until(lambda: sessions() == 0, "the session is over")
    bridged.write(10)
    time.sleep(0.3)
    assert bridged.replica.head == 10
    bridged.admit("receiver")
    bridged.caught_up()


def test_a_server_with_another_key_is_not_believed(bridged: Bridged) -> None:
    bridged.write(5)
    bridged.near.start(bridged.server)
    bridged.far.start(replace(bridged.receiver, server_public=bridged.keys["stranger"].public))
    until(lambda: bridged.count("connects") >= 2, "it gives up and tries again")
    assert bridged.replica.head == 0


def test_a_ring_that_comes_later_or_is_made_anew_is_found(bridged: Bridged) -> None:
    name = "s/late.b@1.0.0"
    target = bridged.far.ring(name)
    spec = replace(bridged.receiver, ring_name=name, output_ring=bridged.far.path(name))
    bridged.near.start(bridged.server)
    bridged.far.start(spec)
    until(lambda: "no ring" in (s.message if (s := bridged.far.status(spec.name)) else ""), "it says what is missing")
    late = bridged.near.ring(name)
    late.writer().write(b"one")
    until(lambda: target.head == 1, "the ring is served once it is there")
    Path(late.path).unlink()
    again = bridged.near.ring(name)
    writer = again.writer()
    writer.write(b"one")
    writer.write(b"two")
    until(lambda: target.head == 2, "a ring made anew goes on at the same number")


def context_of(bridged: Bridged) -> tuple[zmq.Context[zmq.Socket[bytes]], zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    return context, bridge_sockets.client(context, bridged.receiver, bridged.address, bridged.receiver.server_public)


def test_fuzzed_messages_are_refused_and_counted(bridged: Bridged) -> None:
    bridged.write(5)
    process = bridged.near.start(bridged.server)
    context, dealer = context_of(bridged)
    try:
        assert dealer.poll(5000, zmq.POLLOUT)

        @given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
        @settings(max_examples=60, deadline=None)
        def fuzz(parts: list[bytes]) -> None:
            dealer.send_multipart(parts)

        fuzz()
        for ring in ("../../etc/passwd", "s/../s/source", "", ".hidden", "s/source\0", "s"):
            dealer.send_multipart(encode(Hello(b"x", ring, 0, 1)))
        dealer.send_multipart(encode(Hello(b"mine", "s/source", 0, 1 << 20)))
        while True:
            assert dealer.poll(5000, zmq.POLLIN), "the server still serves"
            if decode(dealer.recv_multipart()) == Heartbeat(b"mine"):
                break
        assert process.poll() is None
        until(
            lambda: (s := bridged.near.status("bridge")) is not None and s.counters["refused_messages"] > 20, "counted"
        )
    finally:
        context.destroy(0)


def test_a_receiver_of_another_version_is_told_so_in_its_own(bridged: Bridged) -> None:
    bridged.near.start(bridged.server)
    context, dealer = context_of(bridged)
    try:
        assert dealer.poll(5000, zmq.POLLOUT)
        dealer.send(msgpack.packb([1, "hello", b"mine", "s/source", 0, 1]))
        assert dealer.poll(5000, zmq.POLLIN)
        version, kind, session, reason = msgpack.unpackb(dealer.recv())
        assert (version, kind, session) == (1, "refusal", b"mine")
        assert "version 1 of the bridge's language, and this Halftrack version 2" in reason
    finally:
        context.destroy(0)


def test_two_hosts_get_every_frame_of_every_size(bridged: Bridged) -> None:
    other = bridged.far.ring("s/other", slots=4096, capacity_bytes=8 << 20)
    (bridged.peers).write_text(
        json.dumps({"far": bridged.keys["receiver"].public, "else": bridged.keys["stranger"].public})
    )
    second = replace(
        bridged.receiver,
        name="s.source.else",
        status_path=str(bridged.far.folder / "status" / "s.source.else"),
        output_ring=other.path,
        curve_secret_path=str(bridged.folder / "stranger.key"),
        curve_public=bridged.keys["stranger"].public,
    )
    bridged.near.start(bridged.server)
    bridged.far.start(bridged.receiver)
    bridged.far.start(second)
    for size in (64, 40_000, 400_000, 8):
        bridged.write(20, size=size)
        bridged.caught_up()
        until(lambda: other.head == bridged.ring.head, "so has the other")
        for seq in range(bridged.ring.tail, bridged.ring.head):
            assert bridged.replica.peek(seq) == other.peek(seq) == bridged.ring.peek(seq)
    bridged.near.check()
    bridged.far.check()


def _cpu_ns(process: subprocess.Popen[bytes]) -> int:
    """Processor time of all its threads."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks)


def test_an_idle_bridge_costs_next_to_nothing(bridged: Bridged) -> None:
    ends = [bridged.near.start(bridged.server), bridged.far.start(bridged.receiver)]
    bridged.write(5)
    bridged.caught_up()
    shares: list[list[float]] = []
    while len(shares) < 8 and not any(max(share) <= 0.01 for share in shares):  # of a core: twice an idle machine's
        before, began = [_cpu_ns(end) for end in ends], time.monotonic_ns()
        time.sleep(1.5)
        elapsed = time.monotonic_ns() - began
        shares.append([(_cpu_ns(end) - was) / elapsed for end, was in zip(ends, before, strict=True)])
    assert max(shares[-1]) <= 0.01, shares


def test_a_server_whose_linger_cannot_be_says_so(bridged: Bridged) -> None:
    process = bridged.near.start(replace(bridged.server, params={"linger_us": -1}))
    assert process.wait(15) == 2
    assert "'linger_us' must be an integer from 0 to 100000" in bridged.near.log("bridge")


@given(attempt=st.integers(0, 10**9), chance=st.floats(0, 1))
def test_a_backoff_of_a_month_is_still_capped_and_still_jittered(attempt: int, chance: float) -> None:
    assert 0 <= backoff_s(attempt, chance) <= BACKOFF_CAP_S
    assert backoff_s(attempt, 0.5) == backoff_s(attempt, 1.0) / 2


def test_secrets_are_for_their_owner_only(folder: Path) -> None:
    pair = curve.generate()
    path = str(folder / "secret")
    curve.write_secret(path, pair.secret)
    assert curve.read_secret(path) == pair.secret
    assert curve.public_of(pair.secret) == pair.public
    assert pair.secret not in repr(pair)
    Path(path).chmod(0o640)
    with pytest.raises(curve.KeyFileError, match="chmod 600"):
        curve.read_secret(path)
    with pytest.raises(FileExistsError):
        curve.write_secret(path, pair.secret)
