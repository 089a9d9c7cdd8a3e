"""How artifacts come: by the cheapest way, whatever happens to it, and never anything but what the plan says."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halftrack_agent import artifacts, rebuilding
from halftrack_agent import bringing as bringing_module
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.bringing import Bringing, nothing_offered
from halftrack_agent.limiter import Limiter
from halftrack_controller.parcels import Parcels
from halftrack_model.errors import HalftrackError, HostFault, Untrusted
from halftrack_model.ids import digest_of
from halftrack_proto.artifact_messages import OfferReply

OLD = random.Random(1).randbytes(60_000)
NEW = OLD[:30_000] + b"what has changed" + OLD[30_000:]


NOTHING = OfferReply("", 0, "")


class Controller:
    """Holds blobs and an offer; breaks off after `patience` bytes of each call, and may spoil what it sends."""

    def __init__(self, *blobs: bytes, offer: OfferReply = NOTHING, patience: int = 10**9) -> None:
        self.blobs = {digest_of(blob): blob for blob in blobs}
        self.offered, self.patience, self.piece = offer, patience, 5_000
        self.sent: dict[str, int] = {}
        self.bases: list[tuple[str, ...]] = []

    async def offer(self, digest: str, bases: tuple[str, ...]) -> OfferReply:
        self.bases.append(bases)
        return self.offered

    async def chunks(self, digest: str, offset: int) -> AsyncIterator[tuple[int, bytes]]:
        blob, said = self.blobs[digest], len(self.blobs[digest])
        end = min(len(blob), offset + self.patience)
        while offset < end:
            piece = blob[offset : min(offset + self.piece, end)]
            offset += len(piece)
            self.sent[digest] = self.sent.get(digest, 0) + len(piece)
            yield said, piece
        if end < len(blob):
            raise HostFault("unreachable", "the link is gone")


def packed(folder: Path, new: bytes, old: bytes | None) -> tuple[bytes, OfferReply]:
    """As the controller packs it."""
    folder.mkdir(exist_ok=True)
    paths = [folder / digest_of(each).removeprefix("sha256:") for each in (new, old) if each is not None]
    for path, data in zip(paths, (new, old), strict=False):
        path.write_bytes(data or b"")
    parcels = Parcels(folder / "parcels")
    parcel = parcels.packed(paths[0], paths[1] if old is not None else None)
    assert parcel is not None
    place = parcels.path(parcel.digest)
    assert place is not None
    return place.read_bytes(), OfferReply(parcel.digest, parcel.size_bytes, parcel.base)


def held(folder: Path, *blobs: bytes) -> ArtifactStore:
    store = ArtifactStore(folder / "host")
    for blob in blobs:
        asyncio.run(store.fetch(digest_of(blob), len(blob), Controller(blob).chunks))
    return store


def bring(store: ArtifactStore, controller: Controller, blob: bytes = NEW, tries: int = 1) -> Bringing:
    bringing = Bringing(store, Limiter(), controller.offer, controller.chunks)

    async def run() -> None:
        for number in range(tries):
            try:
                await bringing.bring(digest_of(blob), len(blob))
                return
            except HostFault:
                if number + 1 == tries:
                    raise

    asyncio.run(run())
    assert store.path(digest_of(blob)).read_bytes() == blob
    assert {path.name for path in (store.path(digest_of(blob)).parent).iterdir() if path.suffix} == set()
    assert bringing.gauges() == ()
    return bringing


# invariant: P1 D1
def test_an_upgrade_moves_about_what_has_changed(tmp_path: Path) -> None:
    parcel, offer = packed(tmp_path, NEW, OLD)
    controller = Controller(parcel, offer=offer)  # it does not even have the whole
    bring(held(tmp_path, OLD), controller)
    assert controller.sent == {offer.digest: len(parcel)}
    assert len(parcel) < 200
    assert controller.bases == [(digest_of(OLD),)]


def test_a_host_that_holds_more_than_a_wish_names_names_what_its_product_had_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else upgrades moved whole on hosts that had seen enough of them."""
    monkeypatch.setattr(bringing_module, "MAX_BASES", 1)
    store = held(tmp_path, OLD, *(b"%d" % number for number in range(20)))
    store.retain({"a": {digest_of(OLD)}}, None)
    store.retain({"a": {digest_of(NEW)}}, None)
    parcel, offer = packed(tmp_path, NEW, OLD)
    controller = Controller(parcel, offer=offer)
    bring(store, controller)
    assert controller.bases == [(digest_of(OLD),)]


def test_what_is_small_comes_as_it_is(tmp_path: Path) -> None:
    text = b"#!/bin/sh\n" * 100
    controller = Controller(text)
    bring(held(tmp_path, OLD), controller, text)
    assert controller.sent == {digest_of(text): len(text)}
    assert controller.bases == [], "nobody is asked to pack it"


def test_a_first_installation_comes_packed_too(tmp_path: Path) -> None:
    text = b"".join(b"line %d of a program\n" % number for number in range(3_000))
    parcel, offer = packed(tmp_path, text, None)
    controller = Controller(parcel, offer=offer)
    bring(held(tmp_path), controller, text)
    assert controller.sent[offer.digest] < len(text) / 4


@pytest.mark.parametrize("old", [True, False])
def test_a_controller_that_has_no_parcel_sends_the_whole(tmp_path: Path, old: bool) -> None:
    controller = Controller(NEW)
    bring(held(tmp_path, *[OLD] * old), controller)
    assert controller.sent == {digest_of(NEW): len(NEW)}


# invariant: D1
def test_a_parcel_goes_on_after_every_cut(tmp_path: Path) -> None:
    parcel, offer = packed(tmp_path, NEW, OLD)
    controller = Controller(parcel, offer=offer, patience=1)
    bring(held(tmp_path, OLD), controller, tries=len(parcel))
    assert controller.sent == {offer.digest: len(parcel)}, "no byte came twice"


# invariant: P1
@pytest.mark.parametrize(
    "fault", ["cut short", "bits flipped", "another artifact's", "no zstd", "base missing", "too long"]
)
def test_whatever_is_wrong_with_a_parcel_the_whole_comes(tmp_path: Path, fault: str) -> None:
    parcel, offer = packed(tmp_path, NEW, OLD)
    base = offer.base
    match fault:
        case "cut short":
            parcel = parcel[:-9]
        case "bits flipped":
            parcel = parcel[:-5] + bytes([parcel[-5] ^ 16]) + parcel[-4:]
        case "another artifact's":
            parcel, _ = packed(tmp_path, OLD[::-1] + NEW, OLD)
        case "no zstd":
            parcel = b"nothing that could be unpacked"
        case "base missing":
            base = digest_of(b"nowhere")
        case "too long":
            parcel += b"and more"
    controller = Controller(parcel, NEW, offer=OfferReply(digest_of(parcel), len(parcel), base))
    bring(held(tmp_path, OLD), controller)
    assert controller.sent[digest_of(NEW)] == len(NEW)


# invariant: P1
def test_a_controller_that_sends_another_parcel_than_it_says_is_not_believed(tmp_path: Path) -> None:
    parcel, offer = packed(tmp_path, NEW, OLD)
    controller = Controller(NEW, offer=offer)
    controller.blobs[offer.digest] = parcel[::-1]
    bring(held(tmp_path, OLD), controller)
    assert controller.sent[digest_of(NEW)] == len(NEW)


def test_what_has_come_of_the_whole_is_not_thrown_away_for_a_parcel_that_is_larger(tmp_path: Path) -> None:
    parcel, offer = packed(tmp_path, NEW, OLD)
    store = held(tmp_path, OLD)
    with pytest.raises(HostFault):
        asyncio.run(store.fetch(digest_of(NEW), len(NEW), Controller(NEW, patience=len(NEW) - 20).chunks))
    controller = Controller(NEW, parcel, offer=offer)
    bring(store, controller)
    assert controller.sent == {digest_of(NEW): 20}


def test_a_disk_with_room_for_the_whole_alone_gets_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parcel, offer = packed(tmp_path, NEW, OLD)
    monkeypatch.setattr(artifacts, "MAX_ARTIFACT_BYTES", len(NEW))
    controller = Controller(NEW, parcel, offer=offer)
    bring(held(tmp_path, OLD), controller)
    assert controller.sent == {digest_of(NEW): len(NEW)}


def test_a_bomb_is_stopped_at_the_length_that_the_plan_says(tmp_path: Path) -> None:
    parcel, _ = packed(tmp_path, bytes(4 << 20), None)
    out = tmp_path / "out"
    (tmp_path / "bomb").write_bytes(parcel)
    with pytest.raises(Untrusted, match="cannot be unpacked"):
        asyncio.run(rebuilding.rebuild(None, tmp_path / "bomb", out, 1000))
    assert out.stat().st_size <= 1000


def test_only_a_link_that_is_gone_ends_the_attempt() -> None:
    assert nothing_offered(HalftrackError("unimplemented", "a controller of before")) == OfferReply("", 0, "")
    with pytest.raises(HostFault):
        nothing_offered(HostFault("unreachable", "gone"))


# invariant: P1 D1
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_sender_does_the_store_has_the_artifact_or_nothing(tmp_path: Path, data: st.DataObject) -> None:
    """Cut anywhere, changed, doubled, dropped, said to be another length, nothing at all: never a wrong file, never a byte too many."""
    blob, folder = OLD[:64], tmp_path / "any"
    for path in folder.glob("*"):
        path.unlink()
    store, most = ArtifactStore(folder), 0
    for _ in range(data.draw(st.integers(1, 4))):
        said = data.draw(st.sampled_from([64, 64, 64, 0, 63, 65, 10**12]))
        pieces = data.draw(st.lists(st.sampled_from([0, 1, 7, 64, 300]), max_size=12))
        spoil = data.draw(st.sampled_from([0, 0, 0, 1]))

        async def sender(
            _digest: str, offset: int, said: int = said, pieces: list[int] = pieces, spoil: int = spoil
        ) -> AsyncIterator[tuple[int, bytes]]:
            for number, size in enumerate(pieces):
                piece = bytes(byte ^ spoil for byte in blob[offset : offset + size]) or bytes(size)
                offset += size
                yield said if number == 0 else 0, piece

        try:
            asyncio.run(store.fetch(digest_of(blob), 64, sender))
        except (HostFault, Untrusted):
            assert store.digests == frozenset()
        most = max([most, *(path.stat().st_size for path in folder.iterdir())])
    assert most <= 64
    assert not store.digests or store.path(digest_of(blob)).read_bytes() == blob
