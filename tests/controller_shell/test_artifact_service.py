"""Artifacts over the wire: whole or not at all, resumed at any offset."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_controller import galaxy
from halftrack_controller.artifacts import ArtifactFiles
from halftrack_model import canonical
from halftrack_model.errors import HalftrackError, HostFault, InvalidInput, Refused, Untrusted
from halftrack_model.ids import digest_of
from halftrack_model.seals import RELEASE
from halftrack_proto import artifact_codec
from halftrack_proto import messages as said
from halftrack_proto.artifact_messages import OfferReply, OfferRequest
from halftrack_proto.channel import CHUNK_BYTES
from halftrack_proto.status import error_of
from halftrack_proto.v1 import artifacts_pb2, artifacts_pb2_grpc
from tests.controller_shell.shell_harness import (
    Credentials,
    LiveController,
    channel_as,
    enrol,
    fetch,
    publish,
    release,
)

CONTENT = bytes(range(256)) * 3000  # three chunks and a bit


@pytest.fixture
def tank_a(live: LiveController) -> Credentials:
    with live.operator() as client:
        return enrol(live, client.create_token("tank-a", 600).token, "tank-a")


def put(live: LiveController, who: Credentials, chunks: list[said.PutChunk]) -> said.PutReply:
    def outgoing() -> Iterator[artifacts_pb2.PutChunk]:
        yield from (artifact_codec.put_chunk_message(chunk) for chunk in chunks)

    with channel_as(live, who) as channel:
        try:
            return artifact_codec.put_reply_of(artifacts_pb2_grpc.ArtifactsStub(channel).Put(outgoing(), timeout=10))
        except grpc.RpcError as error:
            raise error_of(error) from None


def as_operator(live: LiveController, who: Credentials) -> Credentials:
    mine = galaxy.load_operator(live.folder / "operator").identity
    return dataclasses.replace(who, key_pem=mine.key_pem, certificate_pem=mine.certificate_pem)


def test_a_transfer_goes_on_where_it_ended(live: LiveController, tank_a: Credentials, tmp_path: Path) -> None:
    """From any offset, the end included; outside the file, or of an unknown digest, it is refused."""
    path = tmp_path / "artifact"
    path.write_bytes(CONTENT)
    with live.operator() as client:
        reply = client.put_artifact(path)
        assert reply == said.PutReply(digest_of(CONTENT), len(CONTENT), already_held=False)
        assert client.put_artifact(path).already_held
        for held in (live.folder / "controller/artifacts/sha256").iterdir():
            held.unlink()
        assert not client.put_artifact(path).already_held, "what a disk has lost is taken in again"
    for offset in (0, 1, CHUNK_BYTES, len(CONTENT) - 1, len(CONTENT)):
        assert fetch(live, tank_a, reply.digest, offset) == (len(CONTENT), CONTENT[offset:])
    for digest, offset, kind in (
        (reply.digest, len(CONTENT) + 1, InvalidInput),
        (reply.digest, -1, InvalidInput),
        (digest_of(b"other"), 0, Refused),
        ("../../plan.key", 0, InvalidInput),
    ):
        with pytest.raises(kind):
            fetch(live, tank_a, digest, offset)


def test_a_wrong_upload_leaves_nothing(live: LiveController, tank_a: Credentials) -> None:
    """Corrupted, cut short, longer than announced, too large, empty, or from a host: refused, and the folder is as before."""
    # invariant: D1
    operator, digest, size = as_operator(live, tank_a), digest_of(CONTENT), len(CONTENT)
    spoiled = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    for who, first, rest, kind, reason in (
        (operator, said.PutChunk(digest, size, b""), spoiled, InvalidInput, "wrong-digest"),
        (operator, said.PutChunk(digest, size, b""), CONTENT[:-1], InvalidInput, "cut-short"),
        (operator, said.PutChunk(digest, size, b""), CONTENT + b"x", InvalidInput, "bad-size"),
        (operator, said.PutChunk(digest, 1 << 40, b""), b"", InvalidInput, "bad-size"),
        (operator, said.PutChunk("", 0, b""), b"", InvalidInput, "bad-digest"),
        (tank_a, said.PutChunk(digest, size, b""), CONTENT, Untrusted, "wrong-caller"),
    ):
        with pytest.raises(HalftrackError) as caught:
            put(live, who, [first, said.PutChunk("", 0, rest)])
        assert (type(caught.value), caught.value.reason) == (kind, reason)
        with pytest.raises(Refused):
            fetch(live, tank_a, digest, 0)
    folder = live.folder / "controller" / "artifacts"
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    """Half an upload is never mistaken for one."""
    upload = ArtifactFiles(tmp_path).upload(digest_of(CONTENT), len(CONTENT))
    upload.add(CONTENT[:10])
    assert list((tmp_path / "incoming").iterdir())
    ArtifactFiles(tmp_path)
    assert not list((tmp_path / "incoming").iterdir())
    upload.drop()


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=6), st.booleans())
def test_pieces_become_the_artifact_or_nothing(pieces: list[bytes], spoil: bool) -> None:
    """However it is cut, only the announced content gets a name."""
    import tempfile

    whole = b"".join(pieces)
    with tempfile.TemporaryDirectory() as folder:
        files = ArtifactFiles(Path(folder))
        upload = files.upload(digest_of(whole + b"!" if spoil else whole), len(whole))
        try:
            for piece in pieces:
                upload.add(piece)
            if spoil:
                with pytest.raises(InvalidInput):
                    upload.finish()
            else:
                assert upload.finish() == len(whole)
        finally:
            upload.drop()
        assert not list((Path(folder) / "incoming").iterdir())
        assert [path.read_bytes() for path in (Path(folder) / "sha256").iterdir()] == ([] if spoil else [whole])


def offer(live: LiveController, who: Credentials, digest: str, *held: str) -> OfferReply:
    request = artifact_codec.offer_request_message(OfferRequest(digest, held))
    with channel_as(live, who) as channel:
        try:
            stub = artifacts_pb2_grpc.ArtifactsStub(channel)
            return artifact_codec.offer_reply_of(stub.Offer(request, timeout=10))
        except grpc.RpcError as error:
            raise error_of(error) from None


def test_a_host_is_offered_what_it_can_rebuild_and_fetches_it_like_an_artifact(
    live: LiveController, tank_a: Credentials, tmp_path: Path
) -> None:
    """By what it holds of the same product; packed alone when it holds nothing of it, and not at all when that would not be smaller."""
    text = [b"".join(b"line %d of %d\n" % (line, seed) for line in range(3_000)) for seed in (1, 1, 2)]
    text[1] += b"and one more"
    digests = [digest_of(each) for each in text]
    with live.operator() as client:
        for number, (product, content) in enumerate(zip("aab", text, strict=True)):
            path = tmp_path / str(number)
            path.write_bytes(content)
            client.put_artifact(path)
            made = release(product, f"1.{number}.0", content)
            client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))
        small = publish(client, tmp_path, "c", "1.0.0").artifact.digest
    found = offer(live, tank_a, digests[1], digests[0], digests[2])
    assert (found.base, found.size_bytes < 100) == (digests[0], True)
    size, parcel = fetch(live, tank_a, found.digest, 7)
    assert size == found.size_bytes == len(parcel) + 7
    assert offer(live, tank_a, digests[1], digests[0]) == found
    alone = offer(live, tank_a, digests[1], digests[2])
    assert (alone.base, found.size_bytes < alone.size_bytes < len(text[1])) == ("", True)
    assert offer(live, tank_a, small, digests[0]) == OfferReply("", 0, "")
    with pytest.raises(Refused):
        offer(live, tank_a, digest_of(b"other"), digests[0])
    for held in (("../../plan.key",), (digests[0],) * 65):
        with pytest.raises(InvalidInput):
            offer(live, tank_a, digests[1], *held)


# invariant: D1
def test_what_rots_on_the_controllers_disk_is_not_sent_over_a_link_and_can_be_published_again(
    live: LiveController, tank_a: Credentials, tmp_path: Path
) -> None:
    """A host would find it out when all of it has come, and begin once more."""
    text = b"".join(b"line %d\n" % line for line in range(3_000))
    contents = [text, text + b"and one more"]
    digests = [digest_of(each) for each in contents]
    folder = live.folder / "controller"
    files = [folder / "artifacts/sha256" / digest.removeprefix("sha256:") for digest in digests]

    def published() -> list[bool]:
        held = []
        with live.operator() as client:
            for number, content in enumerate(contents):
                (tmp_path / str(number)).write_bytes(content)
                held.append(client.put_artifact(tmp_path / str(number)).already_held)
                made = release("a", f"1.{number}.0", content)
                client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))
        return held

    assert published() == [False, False]
    parcel = offer(live, tank_a, digests[1], digests[0])
    assert parcel.base == digests[0]
    (packed,) = folder.rglob(f"*.{parcel.digest.removeprefix('sha256:')}")
    for path, digest in ((packed, parcel.digest), (files[1], digests[1])):
        fetch(live, tank_a, digest, 0)
        turned(path)
        with pytest.raises(HostFault, match="publish its release once more"):
            fetch(live, tank_a, digest, 0)
    assert offer(live, tank_a, digests[1], digests[0]) == OfferReply("", 0, ""), "nothing is made of what is damaged"
    assert published() == [True, False]
    assert offer(live, tank_a, digests[1], digests[0]) == parcel, "it was made again"
    fetch(live, tank_a, parcel.digest, 0)
    assert fetch(live, tank_a, digests[1], 0) == (len(contents[1]), contents[1])
    turned(files[0])
    packed.unlink()
    assert offer(live, tank_a, digests[1], digests[0]).base == ""


def turned(path: Path) -> None:
    """One bit of it, while nobody looks."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_pieces_are_as_small_as_the_host_asks_for(live: LiveController, tank_a: Credentials, tmp_path: Path) -> None:
    """A host that may take little in at once is not sent a lot."""
    path = tmp_path / "artifact"
    path.write_bytes(CONTENT[:10_000])
    with live.operator() as client:
        digest = client.put_artifact(path).digest
    with channel_as(live, tank_a) as channel:
        stub = artifacts_pb2_grpc.ArtifactsStub(channel)
        for asked, most in ((2_000, 2_000), (1, 1 << 10), (1 << 40, CHUNK_BYTES), (0, CHUNK_BYTES)):
            request = artifact_codec.fetch_request_message(said.FetchRequest(digest, 0, asked))
            pieces = [artifact_codec.fetch_chunk_of(message).data for message in stub.Fetch(request, timeout=10)]
            assert max(map(len, pieces)) == min(most, 10_000)
            assert b"".join(pieces) == CONTENT[:10_000]
        for offset, most in ((0, 2_500), (9_000, 2_500), (10_000, 1), (0, -1)):
            request = artifact_codec.fetch_request_message(said.FetchRequest(digest, offset, 1_000, most))
            pieces = [artifact_codec.fetch_chunk_of(message).data for message in stub.Fetch(request, timeout=10)]
            assert b"".join(pieces) == CONTENT[offset : min(10_000, offset + most) if most > 0 else 10_000]
