from collections.abc import Callable, Sequence
from typing import Literal

from typing_extensions import Buffer

from halftrack_dataplane.packet_order import Order
from halftrack_dataplane.ring_writer import Writer
from halftrack_dataplane.vdif import Numbering

__all__ = ["Capture", "place_bytes"]

def place_bytes(frame_bytes: int, window: int) -> int: ...

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
        place: Buffer | None = None,
        expected: int | None = None,
        socket: int = 0,
        kernel_seen: int = 0,
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
    def feed(self, number: int, frame: Buffer, timestamp_ns: int) -> None: ...
    def step(self, packets: int | None = None) -> int: ...
    def finish(self) -> None: ...
