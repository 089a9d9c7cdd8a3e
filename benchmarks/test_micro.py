"""What the parts cost, one call at a time (pytest-benchmark): documents, seals, the merge's decision, the ring in one process.

make bench      or      .venv/bin/python -m pytest benchmarks
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from halftrack_controller.keys import SealingKey
from halftrack_dataplane.frames import Cut
from halftrack_dataplane.merge import Offer, Pass, decide
from halftrack_dataplane.ring import Ring
from halftrack_model import canonical, seals
from halftrack_model.plan import Peer, Plan
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.seals import Seal, Sealed
from halftrack_model.workload import Kind, Member, RingSpec, Runs, Workload

DIGEST = "sha256:" + "a" * 64


def _plan() -> Plan:
    """About what a host of the demo gets: six workloads, three rings, two releases."""
    state = StateSchemas("spectra.v1", ("spectra.v1",))
    release = Release(
        "spectrometer", "1.1.0", Artifact(DIGEST, 9000), "spectrometer:Spectrometer", {}, state, SwapStrategy()
    )
    sealed = Sealed(seals.RELEASE, canonical.encode(release), (Seal("0" * 16, bytes(64)),))
    member = Member("spectra", "spectrometer", "a", "1.1.0", 2)
    workload = Workload(
        "spectra.spectrometer.a@1.1.0", Kind.VERTEX, Runs.MEMBER, DIGEST, release.entry, (), {"channels": 1024, "window": "hann"},
        "spectra/source", "spectra/spectrometer.a@1.1.0", "", "1.1.0", state, member,
    )  # fmt: skip
    ring = RingSpec("spectra/spectrometer.a@1.1.0", 1 << 26, 1024, member)
    peer = Peer("tank-b", "10.0.0.2:7450", "10.0.0.2:7451", "x" * 40)
    return Plan("home", "telescope", "tank-a", 7, (sealed,) * 2, (ring,) * 3, (workload,) * 6, (), (peer,), False)


@pytest.mark.benchmark(group="documents")
def test_encode_a_plan(benchmark: Any) -> None:
    encoded = benchmark(canonical.encode, _plan())
    assert canonical.decode(Plan, encoded) == _plan()
    benchmark.extra_info["bytes"] = len(encoded)


@pytest.mark.benchmark(group="documents")
def test_decode_a_plan(benchmark: Any) -> None:
    plan = _plan()
    assert benchmark(canonical.decode, Plan, canonical.encode(plan)) == plan


@pytest.mark.benchmark(group="documents")
def test_open_a_seal(benchmark: Any) -> None:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    key = SealingKey(private, public, seals.key_id_of(public))
    sealed = key.sealed(seals.PLAN, canonical.encode(_plan()))
    assert benchmark(seals.opened, sealed, seals.PLAN, {key.key_id: public}, _verify) == sealed.payload


def _verify(public: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    return True


@pytest.mark.benchmark(group="merge")
def test_decide_what_passes(benchmark: Any) -> None:
    """In mid-swap: four rings, two generations, a cut behind and one ahead."""
    cuts = (Cut(1, 1, None, 0, "1.0.0"), Cut(2, 2, 10_000, None, "1.1.0"))
    offers = tuple(
        Offer(f"spectra/spectrometer.{member}@{generation}", generation, 5000, 5001, False, True)
        for member in "ba"
        for generation in (2, 1)
    )
    assert isinstance(benchmark(decide, 5000, cuts, offers), Pass)


@pytest.fixture
def through_a_ring(tmp_path: Path) -> Iterator[Callable[[bytes], int]]:
    ring = Ring.create(tmp_path / "micro.ring", capacity_bytes=4 << 20, slots=64)
    with ring, ring.writer() as writer, ring.reader(start="oldest") as reader:

        def once(data: bytes) -> int:
            writer.write(data)
            frame = reader.read(0)
            assert frame is not None
            return len(frame.payload)

        yield once


@pytest.mark.benchmark(group="ring, in one process")
@pytest.mark.parametrize("size", [64, 65_536])
def test_write_and_read_a_frame(benchmark: Any, through_a_ring: Callable[[bytes], int], size: int) -> None:
    assert benchmark(through_a_ring, bytes(size)) == size
