"""A state that is a function of the last inputs: when is it complete, and how far back must a member begin? Pure.

Such a vertex keeps no snapshots. Its output for input `s` depends on `s` and on the inputs of the window before it; until a life has met
all of these, what it computes is nobody's to see. Outputs bear their inputs' numbers, as those of a vertex without state do, so every
life agrees on them with nothing handed over.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """How far back the state reaches: so many inputs, or all of so long. One of them is 0."""

    frames: int
    ns: int


@dataclass(frozen=True, slots=True)
class Warmth:
    """What a life has met without interruption: from input `first` on, which came at `first_ns`. None before any, and after a gap.

    `whole`: from the stream's first frame on, and there is nothing before that.
    """

    first: int | None = None
    first_ns: int = 0
    whole: bool = False

    def met(self, seq: int, timestamp_ns: int) -> "Warmth":
        """After input `seq`."""
        return self if self.first is not None else Warmth(seq, timestamp_ns, seq == 0)

    def complete(self, window: Window, seq: int, timestamp_ns: int) -> bool:
        """Is the state behind input `seq` what it would be in a life that never ended?"""
        if self.first is None or self.whole:
            return self.whole
        if window.frames:
            return seq - self.first >= window.frames
        return (
            timestamp_ns - self.first_ns > window.ns
        )  # more, not as much: frames of one time may lie before the first, too


def first_input(window: Window, oldest: int, wanted: int, earlier: int) -> int:
    """The input to begin with, so that `wanted` is the first output that counts; the oldest there is, when that is too late.

    `earlier`: the newest input that is older than all of a window of time before `wanted`. A window of frames needs none.
    """
    return max(oldest, wanted - window.frames if window.frames else earlier)
