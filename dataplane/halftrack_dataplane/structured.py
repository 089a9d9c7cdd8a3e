"""Structured frames: what a frame is, as NumPy says it, in the ring's header; readers get arrays of the ring's memory, with nothing copied or parsed.

Owns the text that stands for a dtype. NumPy is needed only here, and only by who uses this; a ring itself knows lengths.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from halftrack_dataplane.frames import RingError

if TYPE_CHECKING:
    from halftrack_dataplane.ring import Ring

__all__ = ["ArrayReader", "Block", "described", "dtype_of"]

COPY_BYTES = (
    1 << 20
)  # of a copied block, or one frame if that is larger: the room is made before it is known what comes


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        raise RingError("structured frames need NumPy: install halftrack[arrays]") from None
    return numpy


def described(dtype: Any) -> tuple[str, int]:
    """The text for a ring's header and the bytes of a frame. `dtype`: what numpy.dtype takes, with a shape if a frame is an array.

    ValueError: it has Python objects in it, which mean nothing to another process, or no bytes.
    """
    numpy = _numpy()
    try:
        kind = numpy.dtype(dtype)
    except TypeError as error:
        raise ValueError(f"{dtype!r} is no dtype of NumPy's: {error}") from None
    if kind.hasobject or not kind.itemsize:
        raise ValueError(f"a frame of {kind} cannot be shared: it must have bytes, and no Python objects")
    base = numpy.lib.format.dtype_to_descr(kind.base)
    if isinstance(base, str):
        return f"{kind.shape or ''}{base}", kind.itemsize
    return repr((base, kind.shape) if kind.shape else base), kind.itemsize


def dtype_of(schema: str) -> Any:
    """The numpy.dtype that `described` made the text of. RingError: the text is none."""
    numpy = _numpy()
    for read in (_literally, numpy.dtype):
        try:
            kind = read(schema)
            if schema and isinstance(kind, numpy.dtype) and not kind.hasobject and kind.itemsize:
                return kind
        except (ValueError, TypeError, SyntaxError, KeyError, IndexError, MemoryError, RecursionError):
            continue
    raise RingError(f"this ring's frames are not described as arrays: its schema is {schema!r}")


def _literally(schema: str) -> Any:
    return _numpy().lib.format.descr_to_dtype(ast.literal_eval(schema))


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive frames as one array, its first axis counting them; with `gap` > 0 none, and [seq, seq + gap) is declared as lost."""

    seq: int
    array: Any
    epoch: int
    timestamp_ns: int
    gap: int


class ArrayReader:
    """A reader of a ring whose frames are described; the options are `Ring.reader`'s."""

    def __init__(self, ring: "Ring", **options: Any) -> None:
        self.dtype = dtype_of(ring.schema)
        if ring.frame_bytes != self.dtype.itemsize:
            raise RingError(
                f"{ring.path}: frames of {ring.frame_bytes} bytes, but {self.dtype} has {self.dtype.itemsize}"
            )
        self.reader = ring.reader(**options)

    def view(self, limit: int = 1 << 32, timeout_s: float | None = None) -> Block | None:
        """Up to `limit` frames of one record as an array of the ring's memory, valid until the next call; lossless readers only."""
        batch = self.reader.view_many(limit, timeout_s)
        return None if batch is None else self._block(batch, batch.payload)

    def read(self, limit: int = 1024, timeout_s: float | None = None) -> Block | None:
        """Up to `limit` frames of one record, copied: the array is the caller's."""
        numpy = _numpy()
        rows = min(limit, max(1, COPY_BYTES // self.dtype.itemsize))
        room = numpy.empty(rows * self.dtype.itemsize, numpy.uint8)
        batch = self.reader.read_into(room, timeout_s)
        return None if batch is None else self._block(batch, room[: batch.count * self.dtype.itemsize])

    def _block(self, batch: Any, data: Any) -> Block:
        array = _numpy().frombuffer(data, self.dtype) if batch.count else _numpy().empty(0, self.dtype)
        return Block(batch.seq, array, batch.epoch, batch.timestamp_ns, batch.gap)

    def __iter__(self) -> Iterator[Block]:
        """Blocks in the ring's memory, for ever; see `view`."""
        while (block := self.view()) is not None:
            yield block

    def close(self) -> None:
        """Gives the reader's slot back."""
        self.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
