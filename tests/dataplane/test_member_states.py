"""What a member goes on from: migrated snapshots there and back, an older one when the newest is damaged, or a replayed window."""

import shutil
import struct
import tempfile
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from halftrack_dataplane import replaying, restarting
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.member import Member, Outlet
from halftrack_dataplane.replaying import Warmth, Window
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec, StateWay
from halftrack_dataplane.runtime import EXIT_PROGRAM, Stop, Unable
from halftrack_dataplane.sdk import Buffer
from halftrack_dataplane.snapshot_form import HEAD_BYTES
from halftrack_dataplane.snapshots import SnapshotFolder
from tests.dataplane.stream_program import STATE, WINDOW, Chain, frame_of, outputs_of

INPUTS = 60


class DeathError(Exception):
    """Stands for SIGKILL: nothing after it runs."""


class Stage:
    """Rings, and lives of members on them."""

    def __init__(self, folder: Path, slots: int = 128) -> None:
        self.folder = folder
        self.source = Ring.create(folder / "in.ring", capacity_bytes=1 << 18, slots=slots)
        self.targets: dict[str, Ring] = {}
        self.snapshots = SnapshotFolder(str(folder / "snapshots"))
        self.message = ""

    def feed(self, end: int, times_ns: Mapping[int, int] | None = None) -> None:
        with self.source.writer(full="overwrite") as writer:
            for seq in range(self.source.head, end):
                writer.write(frame_of(seq, 64), timestamp_ns=(times_ns or {}).get(seq, seq))

    def target(self, release: str) -> Ring:
        if release not in self.targets:
            path = self.folder / f"chain.a@{release}.ring"
            self.targets[release] = Ring.create(path, capacity_bytes=1 << 18, slots=1024)
        return self.targets[release]

    def spec(self, release: str, every: int = 4, **orders: Any) -> RunSpec:
        params: dict[str, str | int | bool] = {"snapshot_every": every, "flavour": release}
        paths = {"snapshot_dir": str(self.folder / "snapshots"), "input_ring": self.source.path}
        return RunSpec(
            "member", "m", "", "p:C", params, output_ring=self.target(release).path, release=release, **paths, **orders
        )

    def live(self, spec: RunSpec, kind: type, die_at: int | None = None) -> None:
        """One life, until the input's end, or a death in the `die_at`-th frame of it."""
        stop, target, stage, left = Stop(), self.target(spec.release), self, [0]

        class Mortal(kind):  # type: ignore[misc]
            def process(self, frame: Frame) -> bytes | None:
                if left[0] == die_at:
                    raise DeathError
                left[0] += 1
                if frame.seq == stage.source.head - 1:
                    stop.ask()
                output: bytes | None = super().process(frame)
                return output

        with target.writer() as writer:
            reader, begin = restarting.begin(spec, Mortal, self.source, target, self.snapshots, stop)
            self.message = begin.message
            with reader:
                if begin.next_in < self.source.head:
                    Member(spec, begin, self.source, reader, Outlet(target, writer, stop), self.snapshots).run(stop)

    def killed(self, spec: RunSpec, kind: type, die_at: int) -> None:
        """A life that ends in a death, unless it is over before."""
        try:
            self.live(spec, kind, die_at)
        except DeathError:
            self.source.reap()

    def outputs(self, release: str) -> dict[int, bytes]:
        with self.target(release).reader(start="oldest") as reader:
            frames = iter(lambda: reader.read(0), None)
            return {frame.seq: bytes(frame.payload) for frame in frames if not frame.gap}

    def covered(self, release: str) -> bool:
        """Is every number from the first to the head a frame or a declared gap?"""
        with self.target(release).reader(start="oldest") as reader:
            frames = list(iter(lambda: reader.read(0), None))
        spans = [(frame.seq, frame.seq + max(frame.gap, 1)) for frame in frames]
        return all(one[1] == two[0] for one, two in pairwise(spans)) and (
            not spans or spans[-1][1] == self.target(release).head
        )


@contextmanager
def staged(slots: int = 128) -> Iterator[Stage]:
    folder = Path(tempfile.mkdtemp(prefix="halftrack-test-", dir="/dev/shm"))
    stage = Stage(folder, slots)
    try:
        yield stage
    finally:
        stage.snapshots.close()  # whoever makes room for the next one has done so before its folder goes
        shutil.rmtree(folder)


# ------------------------------------------------------------------------------------------------------------ migrations


class Chain2(Chain):
    """A later Chain, whose snapshots have another form: its numbers in words, in the other order."""

    def snapshot(self) -> bytes:
        return one_and_a_half_to_two(one_to_one_and_a_half(super().snapshot()))

    def restore(self, state: bytes, *, same_release: bool) -> int:
        return super().restore(two_to_one(state), same_release=same_release)


def one_to_one_and_a_half(state: bytes) -> bytes:
    return struct.pack("<QQQ", *reversed(STATE.unpack(state)))


def one_and_a_half_to_two(state: bytes) -> bytes:
    return b"chain/2 " + " ".join(map(str, struct.unpack("<QQQ", state))).encode()


def two_to_one(state: bytes) -> bytes:
    return STATE.pack(*reversed([int(word) for word in state.split()[1:]]))


ONE = {"state_writes": "chain/1", "state_reads": ("chain/1",)}
HERE = __name__
TWO = {
    "state_writes": "chain/2",
    "state_reads": ("chain/2",),
    "state_inward": (StateWay("chain/1", (f"{HERE}:one_to_one_and_a_half", f"{HERE}:one_and_a_half_to_two")),),
    "state_outward": (StateWay("chain/1", (f"{HERE}:two_to_one",)),),
}


@given(
    blue_inputs=st.integers(WINDOW, INPUTS // 2),
    green_inputs=st.integers(0, INPUTS // 2),
    deaths=st.lists(st.integers(0, 30), max_size=3),
    every=st.integers(1, 6),
)
@settings(max_examples=60, deadline=None)
def test_a_release_of_another_schema_goes_on_from_blue_and_blue_from_it(
    blue_inputs: int, green_inputs: int, deaths: list[int], every: int
) -> None:
    # invariant: S1
    with staged() as stage:
        stage.feed(blue_inputs)
        stage.live(stage.spec("1.0.0", every, **ONE), Chain)
        stage.feed(blue_inputs + WINDOW)
        two = stage.spec("2.0.0", every, **TWO)
        for death in deaths:
            stage.killed(two, Chain2, death)
            stage.feed(stage.source.head + 3)
        stage.feed(stage.source.head + green_inputs)
        stage.live(two, Chain2)
        whole = outputs_of(stage.source.head // WINDOW, "2.0.0", 64)
        found = stage.outputs("2.0.0")
        assert found == {seq: whole[seq] for seq in found}
        assert not found or sorted(found) == list(range(min(found), len(whole))), "no life has left a gap"
        blues = [entry for entry in stage.snapshots.entries() if entry.release == "1.0.0"]
        stage.snapshots.drop(blues)  # too old by now, as on a host where blue was stopped long ago
        stage.feed(stage.source.head + 2 * WINDOW)
        stage.targets["1.0.0"] = Ring.create(stage.folder / "chain.b@1.0.0.ring", capacity_bytes=1 << 18, slots=1024)
        stage.live(stage.spec("1.0.0", every, **ONE), Chain)
        assert "from a snapshot of 2.0.0" in stage.message
        back = stage.outputs("1.0.0")
        whole = outputs_of(stage.source.head // WINDOW, "1.0.0", 64)
        assert back == {seq: whole[seq] for seq in back}
        assert max(back) == len(whole) - 1


def test_a_migration_that_the_program_lacks_ends_it_in_words() -> None:
    with staged() as stage:
        stage.feed(8)
        stage.live(stage.spec("1.0.0", **ONE), Chain)
        stage.feed(20)
        lacking = TWO | {"state_inward": (StateWay("chain/1", (f"{HERE}:nowhere",)),)}
        with pytest.raises(Unable, match="'nowhere'") as caught:
            stage.live(stage.spec("2.0.0", **lacking), Chain2)
        assert caught.value.code == EXIT_PROGRAM


def test_a_schema_without_a_way_is_not_restored() -> None:
    with staged(slots=16) as stage:
        stage.feed(8)
        stage.live(stage.spec("1.0.0", **ONE), Chain)
        stage.feed(20)
        with pytest.raises(Unable, match="nothing to begin from"):
            stage.live(replace(stage.spec("2.0.0", **TWO), state_inward=()), Chain2)


# ---------------------------------------------------------------------------------------------------- damaged, and large


@given(damaged=st.integers(0, 2), at=st.integers(0, 30))
@settings(max_examples=20, deadline=None)
def test_a_damaged_snapshot_is_passed_over_and_counted_and_the_output_is_the_same(damaged: int, at: int) -> None:
    # invariant: S1 D1
    with staged() as stage:
        one = stage.spec("1.0.0", **ONE)
        stage.feed(INPUTS - 7)
        stage.live(one, Chain)
        for entry in stage.snapshots.entries()[:damaged]:
            path = stage.folder / "snapshots" / entry.name
            data = bytearray(path.read_bytes())
            data[at if at < 20 else HEAD_BYTES + at % STATE.size] ^= 4
            path.write_bytes(data)
        stage.feed(INPUTS)
        stage.live(one, Chain)
        assert stage.outputs("1.0.0") == dict(enumerate(outputs_of(INPUTS // WINDOW, "1.0.0", 64)))
        assert stage.snapshots.damaged == damaged
        assert ("from nothing" in stage.message) == (damaged == 2)


class Large(Chain):
    """A Chain with two megabytes of ballast, given as it lies and taken as it is given."""

    views: list[memoryview]

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self._ballast: Buffer = bytearray(b"ballast!" * (1 << 18))

    def snapshot(self) -> list[Buffer]:  # type: ignore[override]
        return [super().snapshot(), self._ballast]

    def restore_view(self, state: memoryview, *, same_release: bool) -> int:
        assert state.readonly
        assert bytes(state[STATE.size : STATE.size + 16]) == b"ballast!ballast!"
        self._ballast = state[STATE.size :]
        return super().restore(bytes(state[: STATE.size]), same_release=same_release)


@given(deaths=st.lists(st.integers(0, 30), max_size=4))
@settings(max_examples=15, deadline=None)
def test_a_large_state_is_restored_from_the_snapshots_own_memory(deaths: list[int]) -> None:
    # invariant: S1
    with staged() as stage:
        one = stage.spec("1.0.0", **ONE)
        stage.feed(INPUTS)
        for death in deaths:
            stage.killed(one, Large, death)
        stage.live(one, Large)
        assert stage.outputs("1.0.0") == dict(enumerate(outputs_of(INPUTS // WINDOW, "1.0.0", 64)))


# ------------------------------------------------------------------------------------------------------------ windows


class Last:
    """Every frame brings a sum over the frames of the window: the last `count`, or those of the last `ns`."""

    window: Window

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._frames: deque[tuple[int, int]] = deque()

    def process(self, frame: Frame) -> bytes | None:
        output = struct.pack("<QI", frame.seq, zlib.crc32(repr(list(self._recent(frame))).encode()))
        self._frames.append((frame.timestamp_ns, zlib.crc32(frame.payload)))
        return output if frame.seq % 3 else None

    def _recent(self, frame: Frame) -> Iterator[int]:
        while self._frames and self._out(frame, self._frames[0][0], len(self._frames)):
            self._frames.popleft()
        return (crc for _, crc in self._frames)

    def _out(self, frame: Frame, then_ns: int, count: int) -> bool:
        return count > self.window.frames if self.window.frames else frame.timestamp_ns - then_ns > self.window.ns


def reference(window: Window, times: Mapping[int, int], end: int) -> dict[int, bytes]:
    """What a life that never ended puts out."""
    kind = type("Whole", (Last,), {"window": window})
    vertex = kind({})
    found = {seq: vertex.process(Frame(seq, 0, times[seq], frame_of(seq, 64))) for seq in range(end)}
    return {seq: output for seq, output in found.items() if output is not None}


windows = st.builds(Window, st.integers(1, 20), st.just(0)) | st.builds(
    Window, st.just(0), st.integers(1, 20).map(lambda ms: ms * 1_000_000)
)
steps_ns = st.lists(st.integers(0, 3).map(lambda ms: ms * 1_000_000), min_size=INPUTS * 2, max_size=INPUTS * 2)


@given(
    window=windows,
    steps=steps_ns,
    slots=st.sampled_from([16, 64, 256]),
    deaths=st.lists(st.integers(0, 40), max_size=4),
)
@settings(max_examples=80, deadline=None)
@example(Window(4, 0), [1] * INPUTS * 2, 16, [5, 5])
def test_a_replayed_window_gives_the_outputs_of_a_life_that_never_ended(
    window: Window, steps: list[int], slots: int, deaths: list[int]
) -> None:
    # invariant: S1 S2
    times = {seq: sum(steps[: seq + 1]) for seq in range(len(steps))}
    with staged(slots) as stage:
        kind = type("Lives", (Last,), {"window": window})
        spec = stage.spec("1.0.0", replay_frames=window.frames, replay_ms=window.ns // 1_000_000)
        stage.feed(INPUTS // 2, times)
        for death in deaths:
            stage.killed(spec, kind, death)
            stage.feed(stage.source.head + 5, times)
        stage.live(spec, kind)
        found = stage.outputs("1.0.0")
        whole = reference(window, times, stage.source.head)
        assert found == {seq: whole[seq] for seq in found}, "nothing of a state that was not complete is ever seen"
        assert stage.covered("1.0.0"), "what nobody could compute is declared"
        if slots == 256:
            assert found == whole, "with the window in the ring nothing is missing"
        assert not (stage.folder / "snapshots").exists()


@given(window=windows, gap=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_a_gap_in_the_input_costs_the_outputs_whose_window_it_lies_in(window: Window, gap: int) -> None:
    # invariant: S2
    with staged(256) as stage:
        kind = type("Lives", (Last,), {"window": window})
        spec = stage.spec("1.0.0", replay_frames=window.frames, replay_ms=window.ns // 1_000_000)
        times = {seq: seq * 1_000_000 for seq in range(INPUTS + gap)}
        stage.feed(20, times)
        with stage.source.writer() as writer:
            writer.gap(gap)
        stage.feed(INPUTS + gap, times)
        stage.live(spec, kind)
        whole = reference(window, times, INPUTS + gap)
        again = 20 + gap + (window.frames or window.ns // 1_000_000 + 1)
        assert stage.outputs("1.0.0") == {seq: out for seq, out in whole.items() if seq < 20 or seq >= again}


@given(window=windows, first=st.integers(0, 50), ahead=st.integers(0, 60), step=st.integers(0, 3))
def test_a_state_is_complete_exactly_when_no_input_of_its_window_was_missed(
    window: Window, first: int, ahead: int, step: int
) -> None:
    times = {seq: seq * step * 1_000_000 for seq in range(first + ahead + 1)}
    warmth = Warmth()
    assert not warmth.complete(window, first, times[first])
    for seq in range(first, first + ahead + 1):
        warmth = warmth.met(seq, times[seq])
    last = first + ahead
    needed = (
        range(max(0, last - window.frames), last)
        if window.frames
        else [seq for seq in range(last) if times[last] - times[seq] <= window.ns]
    )
    complete = all(seq >= first for seq in needed)
    told = warmth.complete(window, last, times[last])
    assert complete or not told, "never too early"
    assert told or not complete or (step == 0 and first > 0) or window.ns > 0, "by count it is not late either"
    assert replaying.first_input(window, first, last, first) >= first
