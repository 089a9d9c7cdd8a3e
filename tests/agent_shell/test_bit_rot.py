"""One flipped byte, anywhere below STATE: it is noticed, or means nothing. What was changed is not executed, nobody runs twice, and no agent dies of it.

Journal and outbox are `test_ledger.py`'s, notes `test_notes.py`'s. What a checksum would have found and a record without one does not is found by its form, or costs one restart.
"""

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import zmq
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halftrack_agent import identity, keepsake, launching, notes, retention
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.identity import Membership
from halftrack_agent.places import Places
from halftrack_agent.slots import Running, Slot, Slots, Trial
from halftrack_controller import ca
from halftrack_model import canonical, seals
from halftrack_model.errors import HostFault
from halftrack_model.ids import digest_of
from tests.agent_shell.driver_bench import Bench, go

KEYS = {seals.key_id_of(key): key for key in (b"a" * 32, b"b" * 32, b"c" * 32)}
PUBLIC, SECRET = zmq.curve_keypair()
MEMBER = Membership("g", "h", "10.0.0.1:7443", PUBLIC.decode(), KEYS, KEYS, 2)
BOOT = "0a1b2c3d-0000-4000-8000-000000000000"
RECORDS = {
    "spec.json": {"workload": "a", "digest": "sha256:0", "cgroup": "a.1", "started_ms": 1234, "boot_id": BOOT},
    "instance.json": {"workload": "a", "digest": "d", "boot_id": BOOT, "pid": 4321, "start_ticks": 99, "shim_pid": 4320, "shim_start_ticks": 98},
    "exit.json": {"code": 7, "signal": None, "detail": "the last line"},
}  # fmt: skip
few = settings(max_examples=40)  # each writes files and syncs them
twice = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def flipped(data: bytes, where: int, bits: int) -> bytes:
    """Data of which one byte is another."""
    at = where % len(data)
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An enrolled host's identity."""
    folder = tmp_path_factory.mktemp("identity")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for name, data in (("key.pem", pem), ("curve.key", SECRET), ("cert.pem", b"C"), ("ca.pem", b"A")):
        (folder / name).write_bytes(data)
    (folder / "trust.json").write_bytes(canonical.encode(MEMBER))
    return folder


# invariants: P1, D1
@given(
    st.sampled_from(["key.pem", "curve.key", "cert.pem", "ca.pem", "trust.json"]), st.integers(0), st.integers(1, 255)
)
def test_a_damaged_identity_trusts_nobody_else(member: Path, name: str, where: int, bits: int) -> None:
    before = (member / name).read_bytes()
    (member / name).write_bytes(flipped(before, where, bits))
    found, reason = MEMBER, "identity-damaged"
    try:
        found = identity.load(member).member
    except HostFault as error:
        reason = error.reason
    finally:
        (member / name).write_bytes(before)
    assert reason == "identity-damaged"
    assert (found.plan_keys, found.release_keys, found.curve_public) == (KEYS, KEYS, MEMBER.curve_public)
    assert 1 <= found.release_threshold <= len(KEYS)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The identity of an enrolled host whose agent has started once."""
    folder = tmp_path_factory.mktemp("kept")
    authority = ca.new_authority("g")
    pem = authority.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for name, data in (
        ("key.pem", pem),
        ("curve.key", SECRET),
        ("cert.pem", b"C"),
        ("ca.pem", ca.pem(authority.certificate)),
    ):
        (folder / name).write_bytes(data)
    identity.put_membership(folder, MEMBER)
    assert keepsake.whole(folder).member == MEMBER
    return folder


# invariants: P1, D1
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@few
@given(st.sampled_from(["curve.key", "ca.pem", "trust.json", "kept"]), st.integers(0), st.integers(1, 255))
def test_a_host_is_itself_again_whichever_byte_of_it_has_changed(kept: Path, name: str, where: int, bits: int) -> None:
    """It may boot without a link, and its workloads must not wait for a person; whom it obeys and where it looks for its controller does not change unseen."""
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    (kept / name).write_bytes(flipped(before[name], where, bits))
    try:
        found = keepsake.whole(kept)
        assert found.member == MEMBER
        assert identity.own_curve_key(kept / "curve.key") == MEMBER.curve_public
        assert identity.is_authority(found.ca_pem)
        if name in ("trust.json", "kept"):  # the others have more than one spelling
            assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    finally:
        for path, data in before.items():
            (kept / path).write_bytes(data)


@few
@given(where=st.integers(0), length=st.integers(1, 64))
def test_a_key_that_cannot_be_read_any_more_is_put_back(kept: Path, where: int, length: int) -> None:
    before = (kept / "key.pem").read_bytes()
    at = where % len(before)
    (kept / "key.pem").write_bytes(before[:at] + bytes(length) + before[at + length :])
    keepsake.whole(kept)
    assert (kept / "key.pem").read_bytes() == before


def test_a_host_without_a_copy_is_refused_as_before(kept: Path) -> None:
    before = {name: (kept / name).read_bytes() for name in ("kept", "trust.json")}
    (kept / "kept").unlink()
    (kept / "trust.json").write_bytes(b"rot")
    try:
        with pytest.raises(HostFault, match="enrol this host again"):
            keepsake.whole(kept)
    finally:
        for name, data in before.items():
            (kept / name).write_bytes(data)


def test_a_threshold_of_nobody_is_a_damage_and_needs_a_seal_all_the_same(member: Path) -> None:
    before = (member / "trust.json").read_bytes()
    (member / "trust.json").write_bytes(before.replace(b'"release_threshold":2', b'"release_threshold":0'))
    try:
        with pytest.raises(HostFault, match="damaged"):
            identity.load(member)
    finally:
        (member / "trust.json").write_bytes(before)


# invariant: D1
@twice
@given(st.binary(min_size=1, max_size=200), st.integers(0), st.integers(1, 255))
def test_a_damaged_program_is_not_executed(tmp_path: Path, program: bytes, where: int, bits: int) -> None:
    digest = digest_of(program)
    path = tmp_path / "store" / digest.removeprefix("sha256:")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(program)
    store = ArtifactStore(path.parent)
    assert store.path(digest) == path
    path.write_bytes(flipped(program, where, bits))
    assert ArtifactStore(path.parent).digests == frozenset(), "an agent that starts finds it"
    assert not path.exists()
    path.write_bytes(flipped(program, where, bits))
    with pytest.raises(HostFault, match="fetched again"):
        store.path(digest)


def test_what_was_left_of_another_boot_goes(bench: Bench) -> None:
    """Nobody holds its lock: then a strange record is what a power cut has left."""
    folder = bench.folder / "run" / "a"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(RECORDS["spec.json"]))
    (folder / "lock").touch()

    async def work() -> None:
        async with bench.running() as driver:
            assert await driver.adopt() == ()
            assert os.listdir(bench.folder / "run") == []

    go(work())


# -------------------------------------------------------------------------------------------------------- notes below STATE


SLOT = Slot("sha256:" + "0" * 64, "9.0.0", ("/usr/bin/python3", "-I", "/unpacked/start.py"))
VERSIONS = Slots("one", SLOT, Trial(replace(SLOT, version="9.1.0"), 1, (Running("a", 4321, 99),)))


# invariants: P1, D1
@few
@given(where=st.integers(0), bits=st.integers(1, 255))
def test_a_damaged_record_of_versions_begins_none_of_them(where: int, bits: int) -> None:
    """It says what is executed, before anything could be asked whether that is right."""
    with tempfile.TemporaryDirectory() as scratch:
        at = Places(Path(scratch, "state"), Path(scratch, "run"))
        at.state.mkdir()
        launching.store(at, VERSIONS)
        assert launching.load(at, "one") == VERSIONS
        path = at.state / "slots.json"
        path.write_bytes(flipped(path.read_bytes(), where, bits))
        assert launching.load(at, "one") == Slots("one")


def test_a_record_of_versions_from_before_it_had_a_sum_is_read(tmp_path: Path) -> None:
    (tmp_path / "slots.json").write_bytes(canonical.encode(VERSIONS))
    assert launching.load(Places(tmp_path, tmp_path), "one") == VERSIONS


# invariant: D1
@few
@given(st.sampled_from(["", ".before"]), st.booleans(), st.integers(0), st.integers(1, 255))
def test_a_damaged_note_of_what_must_stay_takes_no_way_back(which: str, sums: bool, where: int, bits: int) -> None:
    """What a plan names stays whatever the note says. What its product ran before it stays by the note, or by the one before that."""
    content = (b"now", b"before", b"other")
    now, before, _other = digests = [digest_of(data) for data in content]
    with tempfile.TemporaryDirectory() as scratch:
        folder, path = Path(scratch, "artifacts"), Path(scratch, "retained.json")
        folder.mkdir()
        for data, digest in zip(content, digests, strict=True):
            (folder / digest.removeprefix("sha256:")).write_bytes(data)
        if sums:
            store = ArtifactStore(folder)
            store.retain({"page": (before,)}, None)
            store.retain({"page": (now,)}, None)
        else:  # as of a version before: nothing beside it, and nothing tells that it has changed
            path.write_bytes(canonical.encode(retention.Retained({"page": retention.Versions((now,), (before,))}, ())))
        note = path.with_name(path.name + which)
        if note.exists():
            note.write_bytes(flipped(note.read_bytes(), where, bits))
        with pytest.MonkeyPatch.context() as patch:
            if sums:
                patch.setattr(retention.doomed, "__defaults__", (0, 0))  # nothing stays but what is named
            store = ArtifactStore(folder)
            store.retain({"page": (now,)}, None)
        assert store.digests == (frozenset({now, before}) if sums else frozenset(digests))
        read = notes.retained_of(path).read()
        assert read is not None
        assert read.products["page"].now == (now,)
