"""Members over all deaths: whenever a life ends, whatever snapshot the next begins from, the output is the same."""

import shutil
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane import restoring
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.member import Member, Outlet
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import EXIT_GAP, EXIT_NO_STATE, Stop, Unable
from halftrack_dataplane.snapshots import SnapshotFolder
from tests.agent_shell.test_ledger import files_no_longer_than
from tests.dataplane.stream_program import WINDOW, Chain, frame_of, outputs_of

INPUTS = 60
CHAINS = {"state_writes": "chain/1", "state_reads": ("chain/1",)}


class DeathError(Exception):
    """Stands for SIGKILL: nothing after it runs."""


class Lives:
    """A stream's rings and the lives of its members."""

    def __init__(self, folder: Path, *, slots: int = 128) -> None:
        self.folder = folder
        self.source = Ring.create(folder / "in.ring", capacity_bytes=1 << 16, slots=slots)
        self.targets: dict[str, Ring] = {}

    def target(self, release: str) -> Ring:
        if release not in self.targets:
            path = self.folder / f"chain.a@{release}.ring"
            self.targets[release] = Ring.create(path, capacity_bytes=1 << 16, slots=128)
        return self.targets[release]

    def feed(self, first: int, end: int) -> None:
        with self.source.writer() as writer:
            for seq in range(first, end):
                writer.write(frame_of(seq, 64))

    def live(self, release: str, *, every: int, die_at: int | None = None, die_in: str = "process") -> None:
        """One life, until the input's end, or until it dies at the `die_at`-th frame or snapshot."""
        target = self.target(release)
        params: dict[str, str | int | bool] = {"snapshot_every": every, "flavour": release}
        paths = {"snapshot_dir": str(self.folder / "snapshots"), "input_ring": self.source.path}
        spec = RunSpec("member", "m", "", "p:C", params, output_ring=target.path, release=release, **paths, **CHAINS)
        stop, folder, left = Stop(), SnapshotFolder(spec.snapshot_dir), count()

        class Mortal(Chain):
            def process(self, frame: Frame) -> bytes | None:
                if die_in == "process" and next(left) == die_at:
                    raise DeathError
                if frame.seq == lives.source.head - 1:
                    stop.ask()
                return super().process(frame)

            def snapshot(self) -> bytes:
                if die_in == "snapshot" and next(left) == die_at:
                    raise DeathError
                return super().snapshot()

        lives = self
        with target.writer() as writer:
            reader, begin = restoring.begin(spec, Mortal, self.source, target, folder, stop)
            with reader:
                if begin.next_in >= self.source.head:
                    return
                Member(spec, begin, self.source, reader, Outlet(target, writer, stop), folder).run(stop)

    def outputs(self, release: str) -> dict[int, bytes]:
        ring = self.target(release)
        with ring.reader(start="oldest") as reader:
            frames = iter(lambda: reader.read(0), None)
            return {frame.seq: bytes(frame.payload) for frame in frames if not frame.gap}


@given(
    every=st.integers(1, 20),
    deaths=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["process", "snapshot"])), max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_any_number_of_deaths_leaves_no_trace(every: int, deaths: list[tuple[int, str]]) -> None:
    # invariant: S1
    folder = Path(tempfile.mkdtemp(prefix="halftrack-test-", dir="/dev/shm"))
    try:
        lives = Lives(folder)
        lives.feed(0, INPUTS)
        for die_at, die_in in deaths:
            try:
                lives.live("1.0.0", every=every, die_at=die_at, die_in=die_in)
            except DeathError:
                lives.source.reap()
        lives.live("1.0.0", every=every)
        expected = outputs_of(INPUTS // WINDOW, "1.0.0", 64)
        assert lives.outputs("1.0.0") == dict(enumerate(expected))
        assert lives.target("1.0.0").stats().gap_frames == 0
    finally:
        shutil.rmtree(folder)


def test_a_member_outlives_a_full_disk(tmp_path: Path) -> None:
    lives = Lives(tmp_path)
    lives.feed(0, 20)
    lives.live("1.0.0", every=4)
    lives.feed(20, INPUTS)
    with files_no_longer_than(8):
        lives.live("1.0.0", every=4)
    folder = SnapshotFolder(str(tmp_path / "snapshots"))
    assert [entry.next_in for entry in folder.entries()] == [20, 16], "the older ones still serve"
    assert not [path for path in (tmp_path / "snapshots").iterdir() if path.name.endswith("draft")]
    lives.feed(INPUTS, INPUTS + 4)
    lives.live("1.0.0", every=4)
    assert folder.entries()[0].next_in == INPUTS + 4
    expected = outputs_of((INPUTS + 4) // WINDOW, "1.0.0", 64)
    assert lives.outputs("1.0.0") == dict(enumerate(expected))


@given(blue_inputs=st.integers(0, INPUTS), every=st.integers(1, 9), die_at=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_a_green_begins_from_blue_with_outputs_of_its_own_only(blue_inputs: int, every: int, die_at: int) -> None:
    # invariant: S1
    folder = Path(tempfile.mkdtemp(prefix="halftrack-test-", dir="/dev/shm"))
    try:
        lives = Lives(folder)
        lives.feed(0, blue_inputs)
        if blue_inputs:
            lives.live("1.0.0", every=every)
        lives.feed(blue_inputs, INPUTS + WINDOW)
        try:
            lives.live("1.1.0", every=every, die_at=die_at)
        except DeathError:
            lives.source.reap()
        lives.live("1.1.0", every=every)
        found = lives.outputs("1.1.0")
        expected = outputs_of((INPUTS + WINDOW) // WINDOW, "1.1.0", 64)
        assert found == {seq: expected[seq] for seq in found}
        assert max(found) == len(expected) - 1
        assert sorted(found) == list(range(min(found), len(expected))), "a life began where its predecessor had a gap"
    finally:
        shutil.rmtree(folder)


@given(every=st.integers(1, 9), first=st.integers(4, 20), deaths=st.lists(st.integers(0, 20), max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_green_that_dies_while_blue_goes_on_leaves_no_gap(every: int, first: int, deaths: list[int]) -> None:
    # invariant: S1
    folder = Path(tempfile.mkdtemp(prefix="halftrack-test-", dir="/dev/shm"))
    try:
        lives = Lives(folder)
        end = first
        lives.feed(0, end)
        lives.live("1.0.0", every=every)
        for die_at in deaths:
            lives.feed(end, end + 16)
            end += 16
            try:
                lives.live("1.1.0", every=1000, die_at=die_at)
            except DeathError:
                lives.source.reap()
            lives.live("1.0.0", every=every)  # its older snapshots go
        lives.feed(end, end + WINDOW)
        lives.live("1.1.0", every=1000)
        found = lives.outputs("1.1.0")
        assert not found or sorted(found) == list(range(min(found), (end + WINDOW) // WINDOW))
        assert lives.target("1.1.0").stats().gap_frames == 0
    finally:
        shutil.rmtree(folder)


def test_an_older_snapshot_is_better_than_a_gap(folder: Path) -> None:
    lives = Lives(folder)
    lives.feed(0, 40)
    lives.live("1.0.0", every=4)  # ten outputs
    (folder / "other").mkdir()
    other = Lives(folder / "other")
    other.feed(0, 40)
    target = other.target("1.0.0")
    with target.writer() as writer:
        for output in outputs_of(9, "1.0.0", 64):
            writer.write(output)
    shutil.copytree(folder / "snapshots", folder / "other" / "snapshots")
    other.live("1.0.0", every=4)
    assert len(other.outputs("1.0.0")) == 10
    assert target.stats().gap_frames == 0


def test_an_output_ring_that_a_death_has_emptied_is_gone_on_with(folder: Path) -> None:
    lives = Lives(folder)
    lives.feed(0, 8)
    target = lives.target("1.0.0")
    spec = RunSpec("member", "m", output_ring=target.path)
    assert restoring.look(spec, lives.source, target, SnapshotFolder(str(folder))).published is None
    half = target.stats().capacity_bytes // 2
    with target.writer() as writer:
        writer.write(b"x")
        writer.write(b"x" * half)
        writer.claim(half)
    assert target.head == target.tail == 2
    assert restoring.look(spec, lives.source, target, SnapshotFolder(str(folder))).published == 2


def test_a_member_whose_snapshots_are_replaced_while_it_reads_looks_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives = Lives(folder)
    lives.feed(0, 128)
    lives.live("1.0.0", every=4)
    lives.feed(128, 140)  # the first frames are gone: it cannot begin from nothing
    read, outrun = SnapshotFolder.head, []

    def head(self: SnapshotFolder, entry: Any) -> Any:
        if len(outrun) == 2:
            return read(self, entry)
        outrun.append(entry)  # both that were listed are gone by now, since the other member was quicker
        if len(outrun) == 2:
            lives.live("1.0.0", every=4)
            lives.feed(140, 140 + WINDOW)
        return None

    monkeypatch.setattr(SnapshotFolder, "head", head)
    lives.live("1.1.0", every=4)
    assert lives.outputs("1.1.0")


def test_what_the_ring_no_longer_holds_is_refused_in_words(folder: Path) -> None:
    lives = Lives(folder, slots=16)
    lives.feed(0, 40)
    with pytest.raises(Unable, match="larger") as caught:
        lives.live("1.0.0", every=4)
    assert caught.value.code == EXIT_NO_STATE


def test_a_gap_in_the_input_ends_a_stateful_member_and_its_next_life_begins_after_it(folder: Path) -> None:
    # invariant: S2
    lives = Lives(folder)
    lives.feed(0, 10)
    with lives.source.writer() as writer:
        writer.gap(5)
    lives.feed(15, 30)
    lives.target("1.0.0")
    for room in (0, 1 << 20):  # on a full disk it is no fault of the program's either, and the next life sets the mark
        with files_no_longer_than(room), pytest.raises(Unable, match="10 to 14") as caught:
            lives.live("1.0.0", every=4)
        assert caught.value.code == EXIT_GAP
    with pytest.raises(Unable) as caught:
        lives.live("1.0.0", every=4)
    assert caught.value.code == EXIT_NO_STATE, "its old snapshots lead into the same gap"
    whole = Lives(folder / "elsewhere") if (folder / "elsewhere").mkdir() is None else lives
    whole.feed(0, 22)
    whole.live("1.0.0", every=4)
    for path in (folder / "elsewhere" / "snapshots").iterdir():
        shutil.copy(path, folder / "snapshots")
    lives.live("1.0.0", every=4)
    expected = outputs_of(7, "1.0.0", 64)
    assert lives.outputs("1.0.0") == {seq: expected[seq] for seq in (0, 1, 5, 6)}, "numbers do not shift across a gap"
    assert lives.target("1.0.0").stats().gap_frames == 3


def test_a_stateless_vertex_numbers_its_outputs_like_its_inputs(folder: Path) -> None:
    class Odd:
        def __init__(self, params: Mapping[str, Any]) -> None:
            pass

        def process(self, frame: Frame) -> bytes | None:
            if frame.seq == 9:
                stop.ask()
            return bytes(frame.payload[:1]) if frame.seq % 2 else None

    source = Ring.create(folder / "in.ring", capacity_bytes=1 << 16, slots=64)
    target = Ring.create(folder / "odd.a@1.0.0.ring", capacity_bytes=1 << 16, slots=64)
    with source.writer() as writer:
        for seq in range(4):
            writer.write(bytes([seq]))
        writer.gap(3)
        for seq in range(7, 10):
            writer.write(bytes([seq]))
    spec = RunSpec("member", "m", "", "p:C", {}, source.path, target.path, "1.0.0", snapshot_dir=str(folder))
    stop, snapshots = Stop(), SnapshotFolder(str(folder))
    with target.writer() as writer:
        reader, begin = restoring.begin(spec, Odd, source, target, snapshots, stop)  # type: ignore[arg-type]
        with reader:
            Member(spec, begin, source, reader, Outlet(target, writer, stop), snapshots).run(stop)
    with target.reader(start=0) as reader:
        found = [(frame.seq, frame.gap or bytes(frame.payload)) for frame in iter(lambda: reader.read(0), None)]
    assert found == [(0, 1), (1, b"\1"), (2, 1), (3, b"\3"), (4, 3), (7, b"\7"), (8, 1), (9, b"\11")]
