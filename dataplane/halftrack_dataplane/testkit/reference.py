"""What a vertex's outputs are when nothing ever happens to it: one life, no ring, no kill, and a hand-over where a release took over.

Owns a numbering of its own, so that the runner's is held against something. Deterministic vertices only: that is what it is for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from halftrack_dataplane.frames import Frame
from halftrack_dataplane.sdk import Vertex
from halftrack_dataplane.snapshot_form import joined
from halftrack_dataplane.testkit.checker import Expected
from halftrack_dataplane.testkit.release import Release


@dataclass(frozen=True, slots=True)
class Reign:
    """From input `first` on, the state is this release's: it was taken over from its predecessor there (or from nothing)."""

    release: Release
    first: int


def outputs_of(vertex: Vertex, frame: Frame) -> list[bytes]:
    """The outputs for one frame, as bytes."""
    output = vertex.process(frame)
    if output is None:
        return []
    several: Sequence[bytes] = output if isinstance(output, (list, tuple)) else (output,)
    return [bytes(item) for item in several]


def expected(reigns: Sequence[Reign], frames: Sequence[Frame]) -> Expected:
    """The outputs of the last of `reigns` over `frames`, each of which took over from the one before it."""
    if not reigns[-1].release.writes:
        vertex = reigns[-1].release.vertex()
        return Expected(0, [next(iter(outputs_of(vertex, frame)), None) for frame in frames])
    number, hidden, state = 0, 0, b""
    ends = [*(reign.first for reign in reigns[1:]), len(frames)]
    for place, (reign, end) in enumerate(zip(reigns, ends, strict=True)):
        vertex = reign.release.vertex()
        if place:
            hidden = vertex.restore(state, same_release=False)
        found = list(chain.from_iterable(outputs_of(vertex, frame) for frame in frames[reign.first : end]))
        if place == len(reigns) - 1:
            return Expected(number + hidden, found[hidden:])
        number += len(found)
        state = joined(vertex.snapshot())
    raise AssertionError("reigns are never empty")


def input_of(reigns: Sequence[Reign], frames: Sequence[Frame], number: int) -> int:
    """The last input before which the last of `reigns` has had at most `number` outputs, counted from the stream's first."""
    if not reigns[-1].release.writes:
        return min(number, len(frames))
    count, state, vertex = 0, b"", reigns[0].release.vertex()
    begins = {reign.first: reign.release for reign in reigns[1:]}
    for frame in frames:
        if taking_over := begins.get(frame.seq):
            state, vertex = joined(vertex.snapshot()), taking_over.vertex()
            vertex.restore(state, same_release=False)
        count += len(outputs_of(vertex, frame))
        if count > number:
            return max(frame.seq, reigns[-1].first)
    return len(frames)
