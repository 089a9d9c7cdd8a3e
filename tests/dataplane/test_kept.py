"""A member begins beside others in a stream that is held back: what a snapshot needs of the input is still there, and holding it stops nobody."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halftrack_dataplane import restoring
from halftrack_dataplane.frames import RingFull
from halftrack_dataplane.kept import SHARE, Kept
from halftrack_dataplane.member import Member, Outlet
from halftrack_dataplane.ring import Reader, Ring
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import Stop, Unable
from halftrack_dataplane.snapshots import SnapshotFolder
from tests.dataplane.stream_program import Chain, frame_of

SLOTS = 64
CHAINS = {"state_writes": "chain/1", "state_reads": ("chain/1",)}


class Held:
    """A ring that its source fills whenever there is room, and members that a test steps."""

    def __init__(self, folder: Path, frame_bytes: int, exits: ExitStack) -> None:
        self.folder, self._frame, self._exits = folder, frame_bytes, exits
        self.source = Ring.create(folder / "in.ring", capacity_bytes=1 << 16, slots=SLOTS)
        self._writer = exits.enter_context(self.source.writer())
        self._began = 0

    def fill(self) -> None:
        with suppress(RingFull):
            while True:
                self._writer.write(frame_of(self.source.head, self._frame), timeout_s=0)

    def begin(self, every: int) -> tuple[Member, Reader]:
        self._began += 1
        name = f"m{self._began}"
        target = Ring.create(self.folder / f"chain.{name}@1.0.0.ring", capacity_bytes=1 << 16, slots=SLOTS)
        paths = {"snapshot_dir": str(self.folder / "snapshots"), "input_ring": self.source.path}
        params: dict[str, str | int | bool] = {"snapshot_every": every, "flavour": "x"}
        spec = RunSpec("member", name, "", "p:C", params, output_ring=target.path, release="1.0.0", **paths, **CHAINS)
        folder, stop = SnapshotFolder(spec.snapshot_dir), Stop()
        writer = self._exits.enter_context(target.writer())
        reader, begun = restoring.begin(spec, Chain, self.source, target, folder, stop)
        self._exits.enter_context(reader)
        member = Member(spec, begun, self.source, reader, Outlet(target, writer, stop), folder)
        self._exits.callback(member.close)
        member.arrive()
        return member, reader


@contextmanager
def held(tmp_path_factory: pytest.TempPathFactory, frame_bytes: int = 64) -> Iterator[Held]:
    with ExitStack() as exits:
        yield Held(tmp_path_factory.mktemp("kept"), frame_bytes, exits)


@given(every=st.integers(1, SLOTS // SHARE), turns=st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=20))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_green_finds_its_place_beside_busy_members_at_any_moment(
    every: int, turns: list[tuple[bool, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    # invariant: S1
    with held(tmp_path_factory) as stream:
        members = [stream.begin(every)[0] for _ in "ab"]
        stream.fill()
        for which, frames in turns:
            for _ in range(frames):
                assert members[which].step(0)
                stream.fill()
        tail = stream.source.tail
        _, reader = stream.begin(every)
        assert tail <= reader.cursor <= tail + SLOTS


@pytest.mark.parametrize("frame_bytes", [64, 8192], ids=["by slots", "by bytes"])
def test_a_snapshot_that_is_seldom_taken_never_stops_the_stream(
    frame_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with held(tmp_path_factory, frame_bytes) as stream:
        member, reader = stream.begin(10_000)
        for _ in range(20 * SLOTS):
            stream.fill()
            assert reader.lag_frames, "the member has read all, and there is no room for more: nobody can go on"
            member.step(0)
        with pytest.raises(Unable):
            stream.begin(10_000)  # as ever: nothing that it could begin from is there


def test_what_is_kept_is_let_go_of_beyond_a_share_of_the_ring(tmp_path: Path) -> None:
    with Ring.create(tmp_path / "in.ring", capacity_bytes=1 << 16, slots=SLOTS) as ring, ring.writer() as writer:
        kept = Kept(ring, "m")
        kept.since(0)
        assert [each.name for each in ring.stats().readers] == ["m/kept"]
        for seq in range(SLOTS // SHARE):
            writer.write(b"x")
            kept.passed(seq + 1, 1)
        assert ring.stats().readers[0].cursor == 0
        kept.since(3)
        assert ring.stats().readers[0].cursor == 3
        for seq in range(3, 4 + SLOTS // SHARE):
            kept.passed(seq + 1, 1)
        assert ring.stats().readers == ()
        kept.since(9)
        assert ring.stats().readers[0].cursor == 9
        ring.evict(ring.stats().readers[0].slot)
        kept.since(10)  # nobody is served by an error here
        assert ring.stats().readers == ()
        kept.let_go()
