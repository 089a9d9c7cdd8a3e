"""The files between the agent and the data plane, and between a member's lives: exact, bounded, never half believed."""

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane import runspec, status
from halftrack_dataplane.runspec import RunSpec, SnapshotPeer, SpecError
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


def test_a_status_says_when_its_process_began_and_when_the_next_is_to_be_expected(folder: Path) -> None:
    began_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    for beats in (status.STEADY, status.STARTING):
        StatusFile(str(folder / beats), beats).offer(lambda: Status("s", "merge"))
        found = status.load((folder / beats).read_bytes())
        assert found.beats == beats
        assert 0 <= found.began_ms - began_ms < 60_000
    of_before = {"name": "s", "role": "merge", "seq_in": 0, "seq_out": 0, "lag_frames": 0}
    of_before |= {"counters": {}, "shadow": {}, "message": ""}
    assert (
        status.load(json.dumps(of_before).encode()).beats == ""
    )  # who promised nothing is never taken for one that hangs


def test_a_process_beats_on_a_full_disk_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = StatusFile(str(folder / "status"))
    file.offer(lambda: Status("s", "merge"))
    os.utime(folder / "status", ns=(1, 1))
    (folder / f"status.{os.getpid()}.draft").mkdir()  # the draft cannot be written
    file.offer(lambda: Status("s", "merge"), last=True)
    assert (folder / "status").stat().st_mtime_ns > 1


def test_a_status_is_replaced_whole_and_not_too_often(folder: Path) -> None:
    file = StatusFile(str(folder / "status"))
    said = Status(
        "s", "merge", 1, 2, 3, {"passed": 4}, {"s/chain.a@1": Compared(5, 6)}, "fine", began_ms=7, beats="free"
    )
    file.offer(lambda: said)
    assert status.load((folder / "status").read_bytes()) == said
    file.offer(lambda: dataclasses.replace(said, message="too soon"))
    assert status.load((folder / "status").read_bytes()) == said
    file.offer(lambda: dataclasses.replace(said, message="last"), last=True)
    assert status.load((folder / "status").read_bytes()).message == "last"
    assert [path.name for path in folder.iterdir()] == ["status"]
    StatusFile(str(folder / "nowhere" / "status")).offer(lambda: said)  # a disk that is full stops no stream


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
