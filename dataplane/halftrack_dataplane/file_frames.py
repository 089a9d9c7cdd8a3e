"""Frames of one length that lie one behind the other in files, which may break anywhere: what a ring is filled from.

Owns reading, the buffer, and what becomes of a last frame that is short. Never writes a ring and never looks into a frame.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Tail = Literal["refuse", "pad", "drop"]
BUFFER_BYTES = 1 << 20  # or one frame, when that is larger


class ShortTail(Exception):  # noqa: N818 - says what the files' end is
    """The files end inside a frame."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One file, and how many bytes of it are no frames but a header."""

    path: Path
    skip: int = 0


class FileFrames:
    """Iterates over blocks of whole frames, each a view that is good until the next. `rest_bytes` of a short last frame."""

    def __init__(self, pieces: Sequence[Piece], frame_bytes: int, *, tail: Tail = "refuse", most: int = 0) -> None:
        """`most`: frames of one block; 0: as many as fit the buffer."""
        self._pieces, self._size, self._tail = pieces, frame_bytes, tail
        fit = max(1, BUFFER_BYTES // frame_bytes)
        self._room = memoryview(bytearray(min(fit, most or fit) * frame_bytes))
        self.rest_bytes = 0

    def __iter__(self) -> Iterator[memoryview]:
        held = 0
        for piece in self._pieces:
            with piece.path.open("rb", buffering=0) as file:
                if piece.skip > os.fstat(file.fileno()).st_size:
                    raise ShortTail(f"{piece.path} is shorter than the {piece.skip} bytes to be skipped")
                file.seek(piece.skip)
                while got := file.readinto(self._room[held:]):
                    held += got
                    if held == len(self._room):
                        yield self._room
                        held = 0
        whole = held // self._size * self._size
        self.rest_bytes = held - whole
        if self.rest_bytes and self._tail == "pad":
            missing = self._size - self.rest_bytes
            self._room[held : held + missing] = bytes(missing)
            whole += self._size
        if whole:
            yield self._room[:whole]
        if self.rest_bytes and self._tail == "refuse":
            raise ShortTail(
                f"the last frame has {self.rest_bytes} of {self._size} bytes; what came before it is written. "
                "Check --frame-bytes and --skip, or say --tail pad or drop."
            )
