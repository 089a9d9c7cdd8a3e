from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self

from halftrack_dataplane.frames import Cut, Frame, ReaderStats, RingStats
from halftrack_dataplane.ring_pin import Pin
from halftrack_dataplane.ring_reader import Reader
from halftrack_dataplane.ring_writer import Writer
from halftrack_dataplane.structured import ArrayReader

__all__ = ["Reader", "Ring", "Writer"]

class Ring:
    path: str
    capacity_bytes: int
    slots: int
    label: str
    generation: int
    frame_bytes: int
    schema: str
    checked: bool
    shared: bool
    retain_s: float | None
    base_seq: int
    @staticmethod
    def create(
        path: str | PathLike[str] | None,
        *,
        capacity_bytes: int = ...,
        slots: int = 4096,
        base_seq: int = 0,
        label: str = "",
        generation: int = 0,
        mode: int = 0o600,
        frame_bytes: int = 0,
        schema: str = "",
        checked: bool = False,
        shared: bool = False,
        retain_s: float | None = None,
        dtype: Any = None,
    ) -> Ring: ...
    @staticmethod
    def open(path: str | PathLike[str] | int, *, readonly: bool = False) -> Ring: ...
    @property
    def head(self) -> int: ...
    @property
    def tail(self) -> int: ...
    def fileno(self) -> int: ...
    def prefault(self) -> bool: ...
    def seq_at(self, timestamp_ns: int) -> int: ...
    @property
    def credit_bytes(self) -> int: ...
    def writer(
        self,
        *,
        full: Literal["block", "drop", "overwrite"] = "block",
        name: str = "",
        spare: int | None = None,
        stores: Literal["cached", "streamed", "chosen"] = "chosen",
    ) -> Writer: ...
    def reader(
        self,
        *,
        policy: Literal["lossless", "lossy", "sample"] = "lossless",
        name: str = "",
        start: int | Literal["now", "oldest"] = "now",
        every: int = 1,
        per_s: float | None = None,
        latest: bool = False,
        evict_after_s: float | None = None,
        verify: bool = False,
        priority: int = 0,
    ) -> Reader: ...
    def pin(self, first: int, end: int | None = None, *, hold_s: float = 10.0, name: str = "") -> Pin: ...
    def arrays(self, **options: Any) -> ArrayReader: ...
    def peek(self, seq: int) -> Frame | None: ...
    def stats(self) -> RingStats: ...
    def reap(self) -> tuple[ReaderStats, ...]: ...
    def evict(self, slot: int) -> None: ...
    def propose_cut(self, epoch: int, generation: int, fence: int | None, label: str) -> None: ...
    def cuts(self) -> tuple[Cut, ...]: ...
    def apply_cut(self, epoch: int, at_seq: int) -> None: ...
    def withdraw_cut(self, epoch: int) -> bool: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
