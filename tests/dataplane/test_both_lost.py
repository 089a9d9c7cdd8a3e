"""Both members die, at any touch of their snapshots' files: as long as the input has what the newest whole snapshot needs, nothing is missing."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

from halftrack_dataplane import snapshots
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.snapshots import SnapshotFolder
from tests.dataplane.stream_program import WINDOW, Chain, outputs_of
from tests.dataplane.test_member_states import ONE, DeathError, Large, Stage, staged

TOUCHES = ("replace", "ftruncate", "posix_fallocate", "unlink")
SLOTS = 128  # the newest snapshots are never further behind in these tests


@contextmanager
def dying_at(touch: int) -> Iterator[None]:
    """Death at the touch of that number: before it, or, when it writes a head into a mapped file, in the midst of it."""
    left = [touch]

    def mortal(right: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **options: Any) -> Any:
            if threading.current_thread() is threading.main_thread():  # not the one that makes room for the next
                left[0] -= 1
                if left[0] < 0:
                    raise DeathError
            return right(*arguments, **options)

        return act

    def half_written(memory: memoryview, snapshot: Any, parts: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            memory[:4096] = os.urandom(4096)
            raise DeathError
        snapshots_write_into(memory, snapshot, parts)

    snapshots_write_into = snapshots.write_into
    patched = {name: mortal(getattr(os, name)) for name in TOUCHES}
    with mock.patch.multiple(os, **patched), mock.patch.object(snapshots, "write_into", half_written):
        yield


def spec_of(stage: Stage, member: str, every: int) -> RunSpec:
    ring = f"chain.{member}@1.0.0"
    if ring not in stage.targets:
        path = stage.folder / f"{ring}.ring"
        stage.targets[ring] = Ring.create(path, capacity_bytes=1 << 18, slots=1024)
    stage.targets["1.0.0"] = stage.targets[ring]
    return replace(stage.spec("1.0.0", every, **ONE), name=member)


def live(stage: Stage, member: str, every: int, kind: type, touch: int | None) -> None:
    """A life of this member, that ends in a death or at the input's end. A new process has a folder of its own."""
    stage.snapshots = SnapshotFolder(str(stage.folder / "snapshots"))
    spec = spec_of(stage, member, every)
    try:
        if touch is None:
            stage.live(spec, kind)
        else:
            with dying_at(touch):
                stage.live(spec, kind)
    except DeathError:
        stage.source.reap()
    finally:
        if stage.snapshots._making is not None:
            stage.snapshots._making.join()
        for slot in stage.snapshots._slots:
            slot.close()  # as the kernel does; what lies in the folder stays
        stage.snapshots._slots.clear()


def outputs(stage: Stage, member: str) -> dict[int, bytes]:
    with stage.targets[f"chain.{member}@1.0.0"].reader(start="oldest") as reader:
        return {frame.seq: bytes(frame.payload) for frame in iter(lambda: reader.read(0), None) if not frame.gap}


rounds = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25), st.integers(1, 40)), max_size=5)


@given(deaths=rounds, every=st.integers(1, 9), large=st.booleans())
@settings(max_examples=20, deadline=None)
@example(deaths=[(0, 0, 40), (1, 1, 40), (2, 2, 40)], every=4, large=True)
def test_both_may_die_at_any_touch_of_a_snapshot_and_the_outputs_are_whole(
    deaths: list[tuple[int, int, int]], every: int, large: bool
) -> None:
    # invariant: S1 D1
    kind = Large if large else Chain
    with staged(SLOTS) as stage:
        stage.feed(WINDOW)
        for first, second, more in deaths:
            for member, touch in (("a", first), ("b", second)):
                live(stage, member, every, kind, touch)
            stage.feed(min(stage.source.head + more, oldest_needed(stage) + SLOTS))
        for member in ("a", "b"):
            live(stage, member, every, kind, None)
        whole = dict(enumerate(outputs_of(stage.source.head // WINDOW, "1.0.0", 64)))
        found = {member: outputs(stage, member) for member in ("a", "b")}
        for member, put_out in found.items():
            assert put_out == {seq: whole[seq] for seq in put_out}, f"{member}: {stage.message}"
        assert found["a"] | found["b"] == whole, (
            "what one left out, since the other had gone further, that one has put out"
        )


def oldest_needed(stage: Stage) -> int:
    """The input must not run on past the newest snapshot of the member that is further back."""
    newest: dict[str, int] = {"a": 0, "b": 0}
    for entry in stage.snapshots.entries():
        member = entry.instance.partition("@")[0]
        if stage.snapshots.head(entry) is not None:
            newest[member] = max(newest[member], entry.next_in)
    return min(newest.values())
