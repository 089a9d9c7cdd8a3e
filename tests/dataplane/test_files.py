"""The files between the agent and the data plane, and between a member's lives: exact, bounded, never half believed."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane import runspec, status
from halftrack_dataplane.runspec import RunSpec, SnapshotPeer, SpecError
from halftrack_dataplane.snapshots import KEPT, Snapshot, SnapshotFolder, entry_of, fits, pack, unpack
from halftrack_dataplane.source import BURST_S, Pace
from halftrack_dataplane.status import Compared, Status, StatusFile

GOOD = RunSpec(
    role="member",
    name="s.chain.a@1.0.0",
    program="/store/0123",
    entry="program:Chain",
    params={"flavour": "plain", "snapshot_every": 3, "fast": True},
    input_ring="/run/rings/s/source.ring",
    output_ring="/run/rings/s/chain.a@1.0.0.ring",
    release="1.0.0",
    generation=1,
    state_writes="chain/1",
    state_reads=("chain/1", "chain/0"),
    snapshot_dir="/var/snapshots/s/chain",
    snapshot_peers=(SnapshotPeer("10.0.0.2:7450", "k" * 40),),
)


def test_a_spec_survives_the_file() -> None:
    assert runspec.load(runspec.dump(GOOD)) == GOOD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "blue"}, r"unknown fields \['colour'\]"),
        ({"role": "juggler"}, "role"),
        ({"program": ""}, "a member needs it"),
        ({"program": "relative/path"}, "absolute"),
        ({"entry": "program"}, "module:Class"),
        ({"generation": "1"}, "generation"),
        ({"generation": True}, "generation"),
        ({"params": {"rate": 1.5}}, r"params\.rate"),
        ({"state_reads": "chain/1"}, "list of strings"),
        ({"snapshot_peers": [{"connect": "x"}]}, "server_public"),
        ({"name": 7}, "name"),
    ],
)
def test_a_bad_spec_is_refused_by_field(change: dict[str, object], message: str) -> None:
    tree = json.loads(runspec.dump(GOOD)) | change
    with pytest.raises(SpecError, match=message):
        runspec.load(json.dumps(tree).encode())


@given(st.sampled_from([entry.name for entry in dataclasses.fields(RunSpec)]))
def test_a_missing_field_is_refused(name: str) -> None:
    tree = json.loads(runspec.dump(GOOD))
    del tree[name]
    with pytest.raises(SpecError, match=name):
        runspec.load(json.dumps(tree).encode())


@given(st.binary(max_size=100))
def test_noise_is_no_spec_and_no_status(data: bytes) -> None:
    with pytest.raises(SpecError):
        runspec.load(data)
    with pytest.raises(ValueError, match=r".*"):
        status.load(data)


@pytest.mark.parametrize("count", ["1e999", "-1e999", "NaN", "-1", str(2**63), "1" + "0" * 5000, "[" * 100_000])
def test_a_program_that_counts_what_is_no_count_has_no_status(count: str) -> None:
    """Each of these once came out of `load` as another error, or as a number that nothing behind it could carry."""
    good = status.dump(Status("s", "member", counters={"refused": 7}))
    with pytest.raises(ValueError, match=r".*"):
        status.load(good.replace(b"7", count.encode()))


def test_a_status_is_replaced_whole_and_not_too_often(folder: Path) -> None:
    file = StatusFile(str(folder / "status"))
    said = Status("s", "merge", 1, 2, 3, {"passed": 4}, {"s/chain.a@1": Compared(5, 6)}, "fine")
    file.offer(lambda: said)
    assert status.load((folder / "status").read_bytes()) == said
    file.offer(lambda: dataclasses.replace(said, message="too soon"))
    assert status.load((folder / "status").read_bytes()) == said
    file.offer(lambda: dataclasses.replace(said, message="last"), last=True)
    assert status.load((folder / "status").read_bytes()).message == "last"
    assert [path.name for path in folder.iterdir()] == ["status"]
    StatusFile(str(folder / "nowhere" / "status")).offer(lambda: said)  # a disk that is full stops no stream


@given(data=st.binary(max_size=200), at=st.integers(0, 400), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_snapshot_is_noticed(data: bytes, at: int, bit: int) -> None:
    packed = bytearray(pack(Snapshot("chain/1", "1.0.0", 8, 2, data)))
    packed[at % len(packed)] ^= 1 << bit
    with pytest.raises(ValueError, match="digest"):
        unpack(bytes(packed))


@pytest.mark.parametrize("release", ["1.0.0", "2.10.3-rc.1", "1.0.0+build.7", "1.0.0-" + "x" * 58])
def test_snapshots_of_every_version_are_found_again_and_kept_short(folder: Path, release: str) -> None:
    snapshots = SnapshotFolder(str(folder))
    for next_in in (4, 8, 12, 16):
        snapshots.write(f"a@{release}", Snapshot("chain/1", release, next_in, 0, b""))
    assert [(entry.next_in, entry.release) for entry in snapshots.entries()] == [(16, release), (12, release)]
    assert len(list(folder.iterdir())) == KEPT
    with pytest.raises(ValueError, match="cannot name"):
        snapshots.write("a", Snapshot("chain/1", release, 20, 0, b""))


def test_damaged_snapshots_are_counted_and_the_rest_is_kept_short(folder: Path) -> None:
    snapshots = SnapshotFolder(str(folder))
    for next_in in (4, 8, 12, 16):
        snapshots.write("a@1.0.0", Snapshot("chain/1", "1.0.0", next_in, 0, b""))
    snapshots.write("b@1.1.0", Snapshot("chain/1", "1.1.0", 5, 0, b""))
    assert [entry.next_in for entry in snapshots.entries() if entry.instance == "a@1.0.0"] == [16, 12]
    assert len(snapshots.entries()) == KEPT + 1
    newest = snapshots.entries()[0]
    (folder / newest.name).write_bytes(b"torn")
    assert snapshots.read(newest) is None
    assert snapshots.read(newest) is None
    assert snapshots.damaged == 1
    (folder / "00000000000000000099.a@1.0.0.snap").write_bytes(pack(Snapshot("chain/1", "1.0.0", 12, 0, b"")))
    assert snapshots.read(snapshots.entries()[0]) is None, "a file that was renamed is not what its name says"
    snapshots.write("a@1.0.0", Snapshot("chain/1", "1.0.0", 13, 0, b""))
    mine = [entry.next_in for entry in snapshots.entries() if entry.instance == "a@1.0.0"]
    assert mine == [13, 12], "what claims to be from further ahead is from another life"
    assert entry_of("../etc/passwd") is None
    assert entry_of(newest.name) == newest


def test_which_snapshots_fit() -> None:
    own, other = Snapshot("chain/2", "1.1.0", 0, 0, b""), Snapshot("chain/1", "1.0.0", 0, 0, b"")
    assert fits(own, "1.1.0", "chain/2", ("chain/1",))
    assert fits(other, "1.1.0", "chain/2", ("chain/1",))
    assert not fits(other, "1.1.0", "chain/2", ())
    assert not fits(own, "1.2.0", "chain/3", ("chain/1",))


@given(
    rate=st.integers(1000, 10**9),
    sizes=st.lists(st.integers(1, 100_000), min_size=1, max_size=50),
    stalls=st.lists(st.floats(0, 2), max_size=50),
)
def test_a_source_keeps_its_rate_and_never_bursts_beyond_a_quarter_second(
    rate: int, sizes: list[int], stalls: list[float]
) -> None:
    pace, now = Pace(rate), 1000.0
    sent: list[tuple[float, int]] = []
    for size, stall in zip(sizes, stalls + [0.0] * len(sizes), strict=False):
        now += stall
        now += pace.wait_s(now, size)
        sent.append((now, size))
    for first in range(len(sent)):
        total = sum(size for _, size in sent[first:])
        allowed = (sent[-1][0] - sent[first][0] + BURST_S) * rate + sent[-1][1]
        assert total <= allowed * (1 + 1e-6) + 1
    assert Pace(0).wait_s(now, 10**9) == 0
