"""How frames lie in a byte stream: one behind the other at a fixed size, one a line, or each behind its length.

Decides where one frame ends and the next begins, and back. Pure; holds one unfinished frame at most, never reads or writes.
A length is an unsigned 32-bit little-endian number of the bytes that follow it.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

LENGTH = struct.Struct("<I")


class Incomplete(Exception):  # noqa: N818 - says what the end of the stream was
    """The stream ended inside a frame."""


class Overlong(Exception):  # noqa: N818 - says what the frame is
    """A frame is longer than its taker can hold. `frames` are those that the same piece completed before it."""

    def __init__(self, message: str, frames: list[bytes]) -> None:
        super().__init__(message)
        self.frames = frames


class Unfit(Exception):  # noqa: N818 - says what the frame is
    """A frame cannot be told from its neighbours in this form."""


class Cutter(Protocol):
    """Cuts a stream that comes in pieces of any size."""

    def feed(self, piece: bytes) -> list[bytes]:
        """The frames that `piece` completes."""

    def end(self) -> list[bytes]:
        """What the stream's end completes; Incomplete if it ended inside a frame."""


@dataclass(frozen=True, slots=True)
class Form:
    """How the frames of one stream lie in bytes. `frame_bytes` is for "fixed"."""

    kind: Literal["raw", "fixed", "lines", "framed"]
    frame_bytes: int = 0

    def cutter(self, most_bytes: int) -> Cutter:
        """What takes such a stream apart; a frame of more than `most_bytes` is refused when its length is known."""
        if self.kind == "lines":
            return _Lines(most_bytes)
        if self.kind == "framed":
            return _Framed(most_bytes)
        if self.kind == "raw":
            raise ValueError("raw bytes have no frames")
        return _Fixed(self.frame_bytes)

    def joined(self, frames: Sequence[bytes]) -> bytes:
        """The bytes of `frames`."""
        if self.kind == "lines":
            return b"".join([part for frame in frames for part in (frame, b"\n")])
        if self.kind == "framed":
            return b"".join([part for frame in frames for part in (LENGTH.pack(len(frame)), frame)])
        return b"".join(frames)

    def check(self, frames: Sequence[bytes]) -> None:
        """Refuse frames that a cutter would cut elsewhere."""
        if self.kind == "lines" and any(b"\n" in frame for frame in frames):
            raise Unfit("a frame has a line break inside, so it cannot be one line")
        if (
            self.kind == "fixed"
            and (wrong := next((len(f) for f in frames if len(f) != self.frame_bytes), None)) is not None
        ):
            raise Unfit(f"a frame has {wrong} bytes, not {self.frame_bytes}")


class _Fixed:
    def __init__(self, frame_bytes: int) -> None:
        self._bytes = frame_bytes
        self._rest = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        self._rest += piece
        size, whole = self._bytes, len(self._rest) // self._bytes
        with memoryview(self._rest) as view:
            frames = [bytes(view[at * size : (at + 1) * size]) for at in range(whole)]
        del self._rest[: whole * size]
        return frames

    def end(self) -> list[bytes]:
        if self._rest:
            raise Incomplete(f"{len(self._rest)} of a frame's {self._bytes} bytes")
        return []


class _Lines:
    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, piece: bytes) -> list[bytes]:
        first, *others = piece.split(b"\n")
        frames: list[bytes] = []
        self._hold(first, frames)
        for other in others:
            frames.append(b"".join(self._parts))
            self._parts, self._held = [], 0
            self._hold(other, frames)
        return frames

    def _hold(self, part: bytes, before: list[bytes]) -> None:
        self._held += len(part)
        if self._held > self._most:
            raise Overlong(f"a line has more than {self._most} bytes", before)
        if part:
            self._parts.append(part)

    def end(self) -> list[bytes]:
        rest = b"".join(self._parts)
        self._parts, self._held = [], 0
        return [rest] if rest else []


class _Framed:
    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._rest = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        self._rest += piece
        frames: list[bytes] = []
        at, end = 0, len(self._rest)
        with memoryview(self._rest) as view:
            while end - at >= LENGTH.size:
                (length,) = LENGTH.unpack_from(view, at)
                if length > self._most:
                    raise Overlong(f"a length of {length}, and at most {self._most} bytes can be taken", frames)
                if end - at - LENGTH.size < length:
                    break
                at += LENGTH.size + length
                frames.append(bytes(view[at - length : at]))
        del self._rest[:at]
        return frames

    def end(self) -> list[bytes]:
        if len(self._rest) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._rest)
            raise Incomplete(f"{len(self._rest) - LENGTH.size} of a frame's {length} bytes")
        if self._rest:
            raise Incomplete(f"{len(self._rest)} of a length's {LENGTH.size} bytes")
        return []
