"""A member whose host has no snapshot that it could use gets one from its peer's host: over a cut link, in pieces, never a wrong one."""

import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zmq

from halftrack_dataplane import snapshot_fetch
from halftrack_dataplane.runspec import SnapshotPeer
from halftrack_dataplane.snapshot_fetch import fetch
from halftrack_dataplane.snapshot_form import HEAD_BYTES, PIECE_BYTES
from halftrack_dataplane.snapshots import KEPT, Entry, Snapshot, SnapshotFolder
from tests.dataplane.bad_link import BadLink
from tests.dataplane.processes import until
from tests.dataplane.test_bridge import Bridged

ME = "a@1.0.0"
BIG = random.Random(5).randbytes(11 * PIECE_BYTES + 77)


class DeathError(Exception):
    """Stands for SIGKILL: nothing after it runs."""


def dying_behind(count: int) -> Callable[[snapshot_fetch._Draft, bytes], None]:
    """Takes pieces, up to so many bytes."""
    right = snapshot_fetch._Draft.take

    def take(draft: snapshot_fetch._Draft, body: bytes) -> None:
        if draft.have > count:
            raise DeathError
        right(draft, body)

    return take


class Hosts(Bridged):
    """The server's host, with the snapshots of vertex s/chain, and the asker's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, slots=4096, capacity_bytes=8 << 20)
        self.there = SnapshotFolder(str(self.near.folder / "snapshots" / "s" / "chain"))
        self.here = SnapshotFolder(str(self.far.folder / "snapshots" / "s" / "chain"))
        self.member = replace(
            self.receiver, role="member", release="1.0.0", state_writes="chain/1", state_reads=("chain/1",)
        )
        self.near.start(self.server)
        until(lambda: self.near.status("bridge") is not None, "the bridge serves")

    def fetch(
        self, least: int = 0, *, via: str = "", release: str = "1.0.0", reads: tuple[str, ...] = ("chain/1",)
    ) -> Entry | None:
        peer = SnapshotPeer(via or self.address, self.keys["server"].public)
        return fetch(replace(self.member, release=release), peer, "s/chain", least, reads, ME, self.here)

    def close(self) -> None:
        """First those whose threads may still be making room in the folders."""
        self.there.close()
        self.here.close()
        super().close()

    def parts_served(self) -> int:
        status = self.near.status("bridge")
        return status.counters["snapshot_parts"] if status else 0


@pytest.fixture
def hosts(folder: Path) -> Iterator[Hosts]:
    hosts = Hosts(folder)
    yield hosts
    hosts.close()


def state_of(folder: SnapshotFolder, entry: Entry | None) -> bytes:
    assert entry is not None
    found = folder.read(entry)
    assert found is not None
    return bytes(found.state)  # type: ignore[arg-type]


def test_the_best_snapshot_for_the_asker_is_given(hosts: Hosts) -> None:
    hosts.there.write("b@1.0.0", Snapshot("chain/1", "1.0.0", 50, 5, BIG))
    hosts.there.write("b@1.1.0", Snapshot("chain/1", "1.1.0", 40, 4, b"state"))
    hosts.there.write("b@2.0.0", Snapshot("chain/2", "2.0.0", 60, 6, b"new"))
    hosts.there.write("b@2.0.0", Snapshot("chain/1", "2.0.0", 60, 6, b"old"), form=1)
    assert state_of(hosts.here, hosts.fetch()) == BIG, "its own release's newest"
    assert state_of(hosts.here, hosts.fetch(51)) == b"old", "what a later release has migrated for it"
    assert state_of(hosts.here, hosts.fetch(release="1.1.0")) == b"state"
    assert state_of(hosts.here, hosts.fetch(release="3.0.0", reads=("chain/2",))) == b"new"
    assert hosts.fetch(61) is None
    assert hosts.fetch(release="3.0.0", reads=("other/1",)) is None


def test_a_link_that_is_cut_again_and_again_costs_no_piece_twice_but_those_on_their_way(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    # invariant: S2
    monkeypatch.setattr(snapshot_fetch, "STALL_S", 60.0)  # when somebody else is asked is not what is looked at here
    hosts.there.write("b@1.0.0", Snapshot("chain/1", "1.0.0", 50, 5, BIG))
    link = BadLink(hosts.address, cut_after=5 * PIECE_BYTES // 2)
    try:
        assert state_of(hosts.here, hosts.fetch(via=link.address)) == BIG
        assert link.cuts >= 4
        assert link.carried < (link.cuts + 12) * PIECE_BYTES * 2, "each connection goes on where the one before was cut"
    finally:
        link.close()


def test_both_ends_may_die_and_what_had_come_may_be_spoiled(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.there.write("b@1.0.0", Snapshot("chain/1", "1.0.0", 50, 5, BIG))
    monkeypatch.setattr(snapshot_fetch._Draft, "take", dying_behind(6 * PIECE_BYTES))
    with pytest.raises(DeathError):
        hosts.fetch()
    monkeypatch.undo()
    hosts.near.kill("bridge")
    (draft,) = (hosts.far.folder / "snapshots" / "s" / "chain").glob(f".{ME}.*.fetched")
    with draft.open("r+b") as file:
        os.pwrite(file.fileno(), b"?!", HEAD_BYTES + 3 * PIECE_BYTES)
        os.ftruncate(file.fileno(), draft.stat().st_size - 3)
    hosts.near.start(hosts.server)
    assert state_of(hosts.here, hosts.fetch()) == BIG
    assert not draft.exists()


def test_a_death_of_the_asker_costs_it_nothing_that_had_come(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.there.write("b@1.0.0", Snapshot("chain/1", "1.0.0", 50, 5, BIG))
    monkeypatch.setattr(snapshot_fetch._Draft, "take", dying_behind(8 * PIECE_BYTES))
    with pytest.raises(DeathError):
        hosts.fetch()
    monkeypatch.undo()
    until(lambda: hosts.parts_served() >= 12, "all that it asked for ahead was served")
    before = hosts.parts_served()
    assert state_of(hosts.here, hosts.fetch()) == BIG
    until(lambda: hosts.parts_served() >= before + 4, "the rest was served")
    assert hosts.parts_served() - before <= 5, "its head, and what was missing"


def test_a_snapshot_that_is_damaged_at_the_peer_is_never_taken(hosts: Hosts) -> None:
    # invariant: D1
    hosts.there.write("b@1.0.0", Snapshot("chain/1", "1.0.0", 50, 5, BIG))
    (entry,) = hosts.there.entries()
    path = Path(hosts.near.folder) / "snapshots" / "s" / "chain" / entry.name
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), b"?!", HEAD_BYTES + 7 * PIECE_BYTES)
    assert hosts.fetch() is None
    assert hosts.here.damaged == 1
    assert hosts.here.entries() == ()
    hosts.there.write("b@1.0.0", Snapshot("chain/1", "1.0.0", 60, 6, BIG))
    assert state_of(hosts.here, hosts.fetch()) == BIG, "the next one is sound"


def test_a_member_that_goes_on_snapshotting_takes_nothing_from_under_the_asker(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = snapshot_fetch._Draft.take

    def take_late(draft: snapshot_fetch._Draft, body: bytes) -> None:
        """The first piece waits until the member has gone on, past what it keeps."""
        if draft.head is None:
            begun = number
            until(lambda: number > begun + KEPT, "it went on")
        right(draft, body)

    monkeypatch.setattr(snapshot_fetch._Draft, "take", take_late)
    first = Snapshot("chain/1", "1.0.0", 50, 5, BIG)
    hosts.there.write("b@1.0.0", first)
    stop, number = threading.Event(), 50

    def go_on() -> None:
        nonlocal number
        while not stop.is_set():
            number += 1
            hosts.there.write("b@1.0.0", Snapshot("chain/1", "1.0.0", number, 5, bytes([number % 251]) * len(BIG)))

    writing = threading.Thread(target=go_on)
    writing.start()
    try:
        found = hosts.fetch()
    finally:
        stop.set()
        writing.join()
    assert found is not None
    state = state_of(hosts.here, found)
    assert state in (BIG, bytes([found.next_in % 251]) * len(BIG))
    assert number > found.next_in + KEPT


def test_streams_flow_while_a_snapshot_is_fetched(hosts: Hosts) -> None:
    hosts.far.start(hosts.receiver)
    hosts.write(1)
    hosts.caught_up()
    hosts.there.write("b@1.0.0", Snapshot("chain/1", "1.0.0", 50, 5, BIG * 8))
    heads = []
    done = threading.Event()
    fetching = threading.Thread(target=lambda: (hosts.fetch(), done.set()))
    fetching.start()
    while not done.is_set() and len(heads) < 2000:
        before = hosts.parts_served()
        hosts.write(1)
        hosts.caught_up()
        heads.append(before)
    fetching.join()
    assert len(hosts.here.entries()) == 1
    assert len(heads) >= 4, "frames came through in between"


def test_a_link_that_is_cut_between_the_look_and_the_word_ends_nothing(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.there.write("b@1.0.0", Snapshot("chain/1", "1.0.0", 50, 5, BIG))
    right, refused = zmq.Socket.send_multipart, iter([True, False, True])

    def send(socket: zmq.Socket[bytes], *words: object, **more: object) -> object:
        if next(refused, False):
            raise zmq.Again
        return right(socket, *words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(zmq.Socket, "send_multipart", send)
    assert state_of(hosts.here, hosts.fetch()) == BIG
    assert next(refused, "all") == "all", "both refusals were met"
