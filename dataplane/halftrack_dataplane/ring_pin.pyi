from types import TracebackType
from typing import Self

from halftrack_dataplane.frame import Batch
from halftrack_dataplane.ring_reader import Reader

__all__ = ["Pin"]

class Pin:
    first: int
    end: int
    def __init__(self, reader: Reader, first: int, end: int) -> None: ...
    @property
    def held(self) -> bool: ...
    def blocks(self) -> list[Batch]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
