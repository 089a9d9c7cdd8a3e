"""Vertices for the test kit's own tests: right ones, and each wrong in the one way that its name says."""

import os
import random
import struct
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import ClassVar

from halftrack_dataplane.sdk import Frame, Param

STATE = struct.Struct("<QQ")
WINDOW = 3


class Sums:
    """Every third frame brings a sum over the window, a total since the first frame, and the release's flavour."""

    window = WINDOW

    def __init__(self, params: Mapping[str, Param]) -> None:
        self.flavour = str(params.get("flavour", "")).encode()
        self.seen = self.total = 0

    def process(self, frame: Frame) -> bytes | Sequence[bytes] | None:
        """Add the frame's checksum."""
        self.total += zlib.crc32(frame.payload)
        self.seen += 1
        return self.output() if self.seen % self.window == 0 else None

    def output(self) -> bytes:
        """The window's."""
        return self.flavour + STATE.pack(self.seen, self.total)

    def snapshot(self) -> bytes:
        """Two numbers."""
        return STATE.pack(self.seen, self.total)

    def restore(self, state: bytes, *, same_release: bool) -> int:
        """Nothing is mixed: the flavour is not part of the state."""
        self.seen, self.total = STATE.unpack(state)
        return 0


class Forgetful(Sums):
    """Its snapshot leaves the total out."""

    def snapshot(self) -> bytes:
        """One number, and nothing."""
        return STATE.pack(self.seen, 0)


class Alternating(Sums):
    """What it has counted is changed by being looked at."""

    def snapshot(self) -> bytes:
        """And one more."""
        self.total += 1
        return STATE.pack(self.seen, self.total)


class Timed(Sums):
    """Its output holds the time."""

    def output(self) -> bytes:
        """With the hour, so that two runs in a row may well agree."""
        return super().output() + struct.pack("<Q", int(time.time()) // 3600)


class Random(Sums):
    """Its output holds a random number."""

    def output(self) -> bytes:
        """With noise."""
        return super().output() + random.randbytes(4)


class Hashed(Sums):
    """Its output depends on the order of a set of strings."""

    def output(self) -> bytes:
        """With the first of many."""
        return super().output() + next(iter({f"station {number}" for number in range(64)})).encode()


class Counted(Sums):
    """Another release's state spoils an output, and it says nothing of it."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        super().__init__(params)
        self.spoiled = 0

    def process(self, frame: Frame) -> bytes | Sequence[bytes] | None:
        """As its base, with the flavour chained in frame by frame."""
        self.spoiled = zlib.crc32(self.flavour, self.spoiled)
        output = super().process(frame)
        if output is None:
            return None
        output, self.spoiled = bytes(output) + struct.pack("<I", self.spoiled), 0  # type: ignore[arg-type]
        return output

    def snapshot(self) -> bytes:
        """With what would be mixed."""
        return super().snapshot() + struct.pack("<I", self.spoiled)

    def restore(self, state: bytes, *, same_release: bool) -> int:
        """It should return 1 in mid-window."""
        (self.spoiled,) = struct.unpack_from("<I", state, STATE.size)
        return super().restore(state[: STATE.size], same_release=same_release)


class Honest(Counted):
    """The same, and it says so."""

    def restore(self, state: bytes, *, same_release: bool) -> int:
        """One output is spoiled, in mid-window."""
        super().restore(state, same_release=same_release)
        return 1 if self.seen % self.window and not same_release else 0


class Bursts(Sums):
    """Frame n brings n mod 4 outputs."""

    def process(self, frame: Frame) -> bytes | Sequence[bytes] | None:
        """None, one or several."""
        super().process(frame)
        return [self.output() + bytes([number]) for number in range(self.seen % 4)]


class Stateless:
    """Answers every frame but each fifth, by itself."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        self.flavour = str(params.get("flavour", "")).encode()

    def process(self, frame: Frame) -> bytes | None:
        """The checksum."""
        return None if frame.seq % 5 == 4 else self.flavour + struct.pack("<I", zlib.crc32(frame.payload))

    def snapshot(self) -> bytes:
        """Nothing."""
        return b""

    def restore(self, state: bytes, *, same_release: bool) -> int:
        """Nothing."""
        return 0


class Crowded(Stateless):
    """Two outputs for a frame that has one number."""

    def process(self, frame: Frame) -> Sequence[bytes]:  # type: ignore[override]
        """Two."""
        return [b"one", b"two"]


class Addressed(Sums):
    """Its snapshot is the number of a state that only its own process knows."""

    known: ClassVar[list[tuple[int, int]]] = [(0, 0)]

    def snapshot(self) -> bytes:
        """Where it is kept."""
        self.known.append((self.seen, self.total))
        return STATE.pack(len(self.known) - 1, 0)

    def restore(self, state: bytes, *, same_release: bool) -> int:
        """From there, if there is such a place."""
        self.seen, self.total = self.known[STATE.unpack(state)[0] % len(self.known)]
        return 0


class Failing(Sums):
    """It raises, or ends its process."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        super().__init__(params)
        self.raise_at, self.exit_at = params.get("raise_at"), params.get("exit_at")

    def process(self, frame: Frame) -> bytes | Sequence[bytes] | None:
        """Until then, as its base."""
        if frame.seq == self.raise_at:
            raise ArithmeticError("not to my taste")
        if frame.seq == self.exit_at:
            os._exit(3)
        return super().process(frame)
