"""Artifacts: resumed, verified before they have a name, bounded, never executed damaged."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halftrack_agent import artifacts
from halftrack_agent.artifacts import ArtifactStore
from halftrack_model.errors import HostFault, InvalidInput, Untrusted
from halftrack_model.ids import digest_of


class Sender:
    """A controller that sends `data`, breaking off after `patience` bytes of each call."""

    def __init__(self, data: bytes, patience: int = 10**9, said: int | None = None) -> None:
        self.data, self.patience, self.said = data, patience, len(data) if said is None else said
        self.offsets: list[int] = []

    async def __call__(self, digest: str, offset: int) -> AsyncIterator[tuple[int, bytes]]:
        self.offsets.append(offset)
        end = min(len(self.data), offset + self.patience)
        yield self.said, self.data[offset : min(offset + 3, end)]
        for at in range(offset + 3, end, 7):
            yield 0, self.data[at : min(at + 7, end)]
        if end < len(self.data):
            raise HostFault("unreachable", "the link is gone")


def fetch(store: ArtifactStore, digest: str, size: int, sender: Sender) -> None:
    asyncio.run(store.fetch(digest, size, sender))


# invariant: P1
@given(st.binary(min_size=1, max_size=200), st.integers(1, 60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_an_interrupted_transfer_goes_on_across_restarts(tmp_path: Path, data: bytes, patience: int) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    sender, digest = Sender(data, patience), digest_of(data)
    while digest not in (store := ArtifactStore(tmp_path)).digests:
        try:
            fetch(store, digest, len(data), sender)
        except HostFault:
            assert store.digests == frozenset()
            with pytest.raises(HostFault, match="not complete"):
                store.path(digest)
    assert store.path(digest).read_bytes() == data
    assert len(sender.offsets) <= len(data) // patience + 1
    assert sender.offsets == sorted(set(sender.offsets))


# invariant: P1 D1
def test_what_does_not_have_its_digest_never_gets_its_name(tmp_path: Path) -> None:
    store, digest = ArtifactStore(tmp_path), digest_of(b"right")
    with pytest.raises(Untrusted, match="has the digest"):
        fetch(store, digest, 5, Sender(b"wrong"))
    assert list(tmp_path.iterdir()) == []
    fetch(store, digest, 5, Sender(b"right"))
    assert store.digests == {digest}


def test_lengths_are_checked_before_a_byte_is_kept(tmp_path: Path) -> None:
    store, digest = ArtifactStore(tmp_path), digest_of(b"right")
    for sender in (Sender(b"right", said=6), Sender(b"rightly", said=5)):
        with pytest.raises(Untrusted, match="the plan says"):
            fetch(store, digest, 5, sender)
    with pytest.raises(HostFault, match="no room"):
        fetch(store, digest, 10**15, Sender(b""))
    with pytest.raises(InvalidInput):
        fetch(store, "sha256:../../etc/passwd", 5, Sender(b""))


def test_a_disk_that_fails_is_a_fault_of_the_host_wherever_it_fails(tmp_path: Path) -> None:
    """Any other error would end the transfer's task unheard, and the next look would begin another one at once."""
    store, digest = ArtifactStore(tmp_path), digest_of(b"right")
    part = tmp_path / f"{digest.removeprefix('sha256:')}.part"
    part.mkdir()
    for size in (10**6, 5):  # it is larger than the artifact; it cannot be read
        with pytest.raises(HostFault) as caught:
            fetch(store, digest, size, Sender(b"right"))
        assert caught.value.reason == "disk-fault"
    store.retain({}, None)
    part.rmdir()
    fetch(store, digest, 5, Sender(b"right"))
    assert store.digests == {digest}


# invariant: D1
@pytest.mark.parametrize("running", [True, False])
def test_what_is_damaged_on_the_disk_is_not_executed(tmp_path: Path, running: bool) -> None:
    store, digest = ArtifactStore(tmp_path), digest_of(b"right")
    fetch(store, digest, 5, Sender(b"right"))
    path = store.path(digest)
    path.chmod(0o600)
    path.write_bytes(b"wrong")
    os.utime(path, ns=(1, 1))
    if not running:
        store = ArtifactStore(tmp_path)
        assert "damaged" in store.findings[0]
    with pytest.raises(HostFault):
        store.path(digest)
    assert store.digests == frozenset()
    fetch(store, digest, 5, Sender(b"right"))
    assert store.path(digest).read_bytes() == b"right"


# invariant: D1 R1
@pytest.mark.parametrize("takes_no_change", [False, True])
def test_sectors_that_cannot_be_read_cost_one_artifact_and_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes_no_change: bool
) -> None:
    """Neither of a complete artifact nor of what has come of one; a disk that fails is often made read-only, too."""
    blobs, real, bad = [b"right", b"wronged", b"half of it"], artifacts._hasher_of, set[str]()
    digests = [digest_of(data) for data in blobs]
    names = [digest.removeprefix("sha256:") for digest in digests]

    def read(path: Path) -> Any:
        if path.name in bad and path.exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    def refused(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(artifacts, "_hasher_of", read)
    store = ArtifactStore(tmp_path)
    for number in (0, 1):
        fetch(store, digests[number], len(blobs[number]), Sender(blobs[number]))
    (tmp_path / f"{names[2]}.part").write_bytes(b"half")
    bad.update((names[1], f"{names[2]}.part"))
    with monkeypatch.context() as disk:
        if takes_no_change:
            disk.setattr(Path, "unlink", refused)
        store = ArtifactStore(tmp_path)
        assert store.digests == {digests[0]}
        assert [names[1][:12] in finding for finding in store.findings] == [True]
    bad.discard(names[1])  # other sectors
    fetch(store, digests[1], len(blobs[1]), Sender(blobs[1]))
    os.utime(store.path(digests[1]), ns=(1, 1))
    bad.add(names[1])
    with pytest.raises(HostFault, match="it is fetched again"):
        store.path(digests[1])
    bad.discard(names[1])
    fetch(store, digests[1], len(blobs[1]), Sender(blobs[1]))
    with pytest.raises(HostFault):
        fetch(store, digests[2], len(blobs[2]), Sender(blobs[2]))
    fetch(store, digests[2], len(blobs[2]), Sender(blobs[2]))
    assert store.digests == {*digests}


# invariant: R3
def test_a_disk_of_their_own_has_more_in_it_than_artifacts(tmp_path: Path) -> None:
    """Where STATE/artifacts is a file system: no start fails for it, and it is nobody's to remove."""
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "README").write_text("of the site's owner")
    store = ArtifactStore(tmp_path)
    store.retain({}, None)
    assert (store.digests, store.findings) == (frozenset(), ())
    assert {path.name for path in tmp_path.iterdir()} == {"lost+found", "README"}


# invariant: R2
def test_a_way_back_is_kept_and_the_rest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by an agent that has started anew, and when the disk needs room for what a plan wants."""
    monkeypatch.setattr(artifacts.retention.doomed, "__defaults__", (2, 64))
    folder = tmp_path / "artifacts"
    store, names = ArtifactStore(folder), [b"%d" % number for number in range(7)]
    digests = [digest_of(name) for name in names]
    for number, data in enumerate(names):
        fetch(store, digests[number], 1, Sender(data))
        os.utime(store.path(digests[number]), ns=(number, number))
    (folder / ("0" * 64 + ".part")).write_bytes(b"x")
    store = ArtifactStore(folder)
    store.retain({"a": {digests[0]}}, {digests[1]})
    assert store.digests == {digests[number] for number in (0, 1, 5, 6)}
    assert len(list(folder.iterdir())) == 4
    store.retain({"a": {digests[5]}}, None)
    store = ArtifactStore(folder)
    store.retain({"a": {digests[5]}}, None)
    assert store.digests == {digests[number] for number in (0, 1, 5, 6)}
    monkeypatch.setattr(ArtifactStore, "_has_room", lambda self, _more: len(self.digests) < 4)
    fetch(store, digests[2], 1, Sender(names[2]))
    assert store.digests == {digests[number] for number in (0, 1, 2, 5)}, "the reserve gives way"
    monkeypatch.setattr(ArtifactStore, "_has_room", lambda self, _more: len(self.digests) < 3)
    with pytest.raises(HostFault, match="no room"):
        fetch(store, digests[3], 1, Sender(names[3]))
    assert store.digests == {digests[number] for number in (0, 1, 5)}, "what is named does not"


def test_a_memory_that_is_damaged_costs_no_start(tmp_path: Path) -> None:
    (tmp_path / "retained.json").write_bytes(b"{")
    ArtifactStore(tmp_path / "artifacts").retain({"a": set()}, None)
    assert ArtifactStore(tmp_path / "artifacts").digests == frozenset()
