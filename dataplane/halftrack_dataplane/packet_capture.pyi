from collections.abc import Callable, Sequence
from typing import Literal

from halftrack_dataplane.packet_order import Order
from halftrack_dataplane.ring_writer import Writer
from halftrack_dataplane.vdif import Numbering

__all__ = ["Capture"]

class Capture:
    def __init__(
        self,
        writer: Writer,
        capacity_bytes: int,
        fd: int,
        *,
        frame_bytes: int,
        numbers: Literal["arrival", "le64", "be64", "vdif"] = "arrival",
        prefixed: bool = False,
        window: int = 64,
        keep_on: Callable[[], bool] | None = None,
        numbering: Numbering | None = None,
        epochs_s: Sequence[int] = (),
        leaps_s: Sequence[int] = (),
        epoch: int = 0,
    ) -> None: ...
    @property
    def order(self) -> Order: ...
    epoch: int
    packets: int
    frames: int
    wrong_size: int
    unfit: int
    dropped: int
    kernel_drops: int
    def step(self, packets: int | None = None) -> int: ...
    def finish(self) -> None: ...
