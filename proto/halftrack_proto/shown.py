"""Frames that an operator looks at, on their way from a host's ring: what is asked for, and what is shown. Pure.

They are for eyes, not for machines: cut to a length, dropped when somebody does not keep up, and never a ground for a decision.
"""

from dataclasses import dataclass

MAX_FRAMES_AT_ONCE = 256
MAX_BYTES_EACH = 1 << 20  # of one frame that is shown; more is a job for a sink
MAX_BYTES_AT_ONCE = 2 << 20  # fits a message with room


@dataclass(frozen=True, slots=True)
class WantFrames:
    """The controller asks a host to show what comes into one of its rings, from now on."""

    watch: str  # names this wish in what comes back
    ring: str
    frames: int  # so many; 0: until the wish ends
    bytes_each: int  # of each frame's payload


@dataclass(frozen=True, slots=True)
class ShownFrame:
    """One frame or declared gap. `size_bytes` is the payload's length in the ring, `payload` its beginning."""

    seq: int
    epoch: int
    timestamp_ns: int
    gap: int
    size_bytes: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Shown:
    """Frames for a wish. `missed` were overrun before these; `problem` ends the wish, in words for the operator."""

    watch: str
    frames: tuple[ShownFrame, ...]
    missed: int
    problem: str


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """An operator wants to look at what a vertex produces."""

    environment: str
    graph: str
    vertex: str
    frames: int
    bytes_each: int
