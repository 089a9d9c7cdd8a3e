"""A vertex without a twin over its releases: one ring, which the next release goes on with where the last one stopped or died."""

import shutil
import tempfile
from itertools import groupby
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane.ring import Ring
from tests.dataplane.stream_program import WINDOW, outputs_of
from tests.dataplane.test_member_lives import DeathError, Lives

RELEASES = ("1.0.0", "1.1.0", "1.2.0")


class SingleLives(Lives):
    """All releases write the vertex's own ring."""

    def target(self, release: str) -> Ring:
        del release
        if "vertex" not in self.targets:
            path = self.folder / "vertex.ring"
            self.targets["vertex"] = Ring.create(path, capacity_bytes=1 << 16, slots=128)
        return self.targets["vertex"]


@given(
    every=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(0, 25), st.none() | st.integers(0, 25)), min_size=3, max_size=3),
)
@settings(max_examples=80, deadline=None)
def test_each_release_goes_on_where_the_last_one_ended(every: int, steps: list[tuple[int, int | None]]) -> None:
    """Each takes some frames, and is then stopped at the input's end or killed on the way; the last one finishes."""
    folder = Path(tempfile.mkdtemp(prefix="halftrack-test-", dir="/dev/shm"))
    try:
        lives, end = SingleLives(folder), 0
        for release, (count, die_at) in zip(RELEASES, steps, strict=True):
            lives.feed(end, end + count)
            end += count
            if end:
                try:
                    lives.live(release, every=every, die_at=die_at)
                except DeathError:
                    lives.source.reap()
        lives.feed(end, end + WINDOW)
        lives.live(RELEASES[-1], every=every)
        found = lives.outputs("")
        assert sorted(found) == list(range((end + WINDOW) // WINDOW))  # invariant: S1
        assert lives.target("").stats().gap_frames == 0
        by = {release: outputs_of(len(found), release, 64) for release in RELEASES}
        written = [next(release for release in RELEASES if by[release][seq] == found[seq]) for seq in sorted(found)]
        order = [release for release, _ in groupby(written)]
        assert order == sorted(set(order)), "a release came back, or an output is of no release at all"
    finally:
        shutil.rmtree(folder)
