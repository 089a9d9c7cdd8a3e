"""What flows without a decision is what would have been decided: two merges over the same rings, one of which decides about each run."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from halftrack_dataplane import merging
from halftrack_dataplane.frames import Cut
from halftrack_dataplane.merge import NO_FENCE, Steady, decide, due_cut, owner_of, steady
from halftrack_dataplane.merging import Merge
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec

RINGS = (("a@1", 1), ("b@1", 1), ("a@2", 2), ("b@2", 2))
SLOTS = 64
Act = tuple[str, int, int]


class World:
    """Members' rings, a merge, and what has come out of it."""

    def __init__(self, folder: Path, flowing: bool, exits: ExitStack) -> None:
        folder.mkdir()
        self.rings = [
            Ring.create(folder / f"v.{name}.ring", capacity_bytes=1 << 16, slots=SLOTS, generation=generation)
            for name, generation in RINGS
        ]
        self.writers = [exits.enter_context(ring.writer(full="drop")) for ring in self.rings]
        self.out = Ring.create(folder / "v.ring", capacity_bytes=1 << 18, slots=4096)
        self.out.propose_cut(1, 1, None, "1")
        self.epoch, self.flowed = 1, 0
        spec = RunSpec("merge", "merge", output_ring=self.out.path, rings_dir=str(folder), merge_prefix="v")
        self.merge = Merge(spec, self.out, exits.enter_context(self.out.writer()))
        if flowing:
            self._count_rows()
        else:
            self.merge._flows = lambda holds, now: False  # type: ignore[method-assign]

    def _count_rows(self) -> None:
        flow = self.merge._flow

        class Counting:
            @staticmethod
            def run(*given: object) -> object:
                found = flow.run(*given)  # type: ignore[arg-type]
                self.flowed += len(found[0])
                return found

        self.merge._flow = Counting()  # type: ignore[assignment]

    def act(self, what: str, which: int, amount: int) -> None:
        """One thing happens, and the merge does what follows from it."""
        getattr(self, f"_{what}")(which, amount)
        self.settle()

    def _frames(self, which: int, amount: int) -> None:
        ring = self.rings[which]
        for _ in range(amount):
            self.writers[which].write(b"%d" % ring.head * (1 + ring.head % 5), epoch=9, timestamp_ns=ring.head)

    def _odd(self, which: int, amount: int) -> None:
        """One that no other ring has, and others, which the merge finds all at once."""
        self.writers[which].write(b"%d of %d" % (self.rings[which].head, which), timestamp_ns=self.rings[which].head)
        self._frames(which, amount - 1)

    def _gap(self, which: int, amount: int) -> None:
        self.writers[which].gap(amount, timeout_s=0)

    def _evict(self, which: int, amount: int) -> None:
        ring = self.rings[which]
        for reader in ring.stats().readers:
            ring.evict(reader.slot)

    def _lapse(self, which: int, amount: int) -> None:
        """Both members bring more than their rings hold before the merge is back."""
        twins = range(which // 2 * 2, which // 2 * 2 + 2)
        for place in twins:
            self._evict(place, amount)
        for place in twins:
            self._frames(place, SLOTS + amount)

    def _cut(self, which: int, amount: int) -> None:
        self._propose(which, self.out.head + amount)

    def _repair(self, which: int, amount: int) -> None:
        self._propose(which, None)

    def _propose(self, which: int, fence: int | None) -> None:
        self.epoch += 1
        if len(self.out.cuts()) < 12:
            self.out.propose_cut(self.epoch, 1 + which // 2, fence, "x")

    def _withdraw(self, which: int, amount: int) -> None:
        for cut in self.out.cuts():
            if cut.applied_at is None and cut.epoch != 1:
                self.out.withdraw_cut(cut.epoch)

    def settle(self) -> None:
        """Until nothing moves any more."""
        still = 0
        while still < 3:
            before = self.state()
            self.merge._step()
            still = still + 1 if self.state() == before else 0

    def state(self) -> tuple[int, tuple[Cut, ...], list[list[int]]]:
        return self.out.head, self.out.cuts(), [[each.cursor for each in ring.stats().readers] for ring in self.rings]

    def shown(self) -> object:
        comparison, status = self.merge._comparison, self.merge._status()
        with self.out.reader(start="oldest") as reader:
            frames = list(iter(lambda: reader.read(0), None))
        told = [(frame.seq, frame.gap, frame.epoch, frame.timestamp_ns, bytes(frame.payload)) for frame in frames]
        return told, self.state(), status.counters, comparison.counts, comparison.diverged, status.lost


@contextmanager
def worlds() -> Iterator[tuple[World, World]]:
    folder = Path(tempfile.mkdtemp(prefix="halftrack-test-", dir="/dev/shm"))
    try:
        with ExitStack() as exits, pytest.MonkeyPatch.context() as patch:
            patch.setattr(merging, "RESCAN_S", 0.0)  # nobody waits
            yield World(folder / "flowing", True, exits), World(folder / "deciding", False, exits)
    finally:
        shutil.rmtree(folder)


whats = st.sampled_from(
    ["frames", "frames", "frames", "odd", "gap", "evict", "lapse", "cut", "cut", "repair", "withdraw"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(whats, st.integers(0, 3), st.integers(1, 9)), max_size=30))
@example([("frames", place, 9) for place in range(4)] * 8)
@example([("frames", 0, 9), ("frames", 2, 9), ("cut", 2, 5), ("frames", 1, 9), ("odd", 0, 1), ("frames", 2, 9)])
@example(
    [
        ("frames", 0, 9),
        ("frames", 2, 9),
        ("cut", 2, 3),
        ("frames", 0, 9),
        ("frames", 2, 9),
        ("frames", 1, 9),
        ("odd", 1, 9),
    ]
)
@example([("frames", 0, 9), ("lapse", 0, 1), ("frames", 1, 9)])
def test_what_flows_is_what_is_decided(acts: list[Act]) -> None:
    # invariant: S1
    with worlds() as (flowing, deciding):
        for act in acts:
            flowing.act(*act)
            deciding.act(*act)
            assert flowing.state()[:2] == deciding.state()[:2]
        assert flowing.shown() == deciding.shown()


def test_frames_of_a_plain_stream_are_not_decided_about() -> None:
    with worlds() as (flowing, _):
        for place in (0, 1) * 3:
            flowing.act("frames", place, 5)
        assert flowing.out.head == 15
        assert flowing.flowed == 6


@given(
    st.integers(0, 20),
    st.lists(st.tuples(st.integers(1, 3), st.none() | st.integers(0, 25), st.none() | st.integers(0, 25)), max_size=5),
)
def test_what_is_steady_is_what_the_table_says(expected: int, rows: list[tuple[int, int | None, int | None]]) -> None:
    cuts = [Cut(epoch, *row, "") for epoch, row in enumerate(rows, 1)]
    holds, owner = steady(expected, cuts), owner_of(expected, cuts)
    if owner is None or due_cut(expected, cuts) is not None:
        assert holds is None
        return
    assert holds is not None
    assert (holds.generation, holds.epoch) == (owner.generation, owner.epoch)
    assert holds.since <= expected < holds.until
    for seq in range(expected, min(holds.until, 30)):
        later = [cut for cut in cuts if cut.applied_at is not None and expected < cut.applied_at <= seq]
        assert later or owner_of(seq, cuts) == owner
    for seq in range(holds.since, expected):
        assert all(cut.applied_at is None or not seq < cut.applied_at <= expected for cut in cuts)


def test_a_table_without_fences_holds_for_ever() -> None:
    assert steady(5, [Cut(1, 7, None, 0, "")]) == Steady(7, 1, 0, NO_FENCE)
    assert steady(5, [Cut(1, 7, None, None, "")]) is None
    assert decide(5, [Cut(1, 7, None, None, "")], []) is not None
