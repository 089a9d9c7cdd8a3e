"""What `determinism.py` asks of `twin.py`: one run of a vertex, as bytes. Pure: both read it, and neither trusts anything else."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import msgpack  # type: ignore[import-untyped]


@dataclass(frozen=True, slots=True)
class Request:
    """What to run: frames from input `first` on, beginning from `state` if there is any."""

    file: str
    entry: str
    module: str  # the name by which the asker knows the program; empty when it is an artifact
    params: Mapping[str, str | int | bool]
    first: int
    frames: tuple[tuple[int, bytes], ...]  # (timestamp_ns, payload)
    state: bytes | None
    shift_s: int  # how far the clock of the vertex is put forward
    looks: tuple[int, ...]  # inputs before which a snapshot is taken and thrown away
    splits: tuple[int, ...]  # inputs before which a snapshot is taken, and a new vertex goes on from it
    keep: int  # the input before which the snapshot is taken that the answer has; -1: none


def pack(request: Request) -> bytes:
    """The request's bytes."""
    packed: bytes = msgpack.packb(asdict(request))
    return packed


def unpack(data: bytes) -> Request:
    """The request that `data` holds."""
    return Request(**msgpack.unpackb(data, use_list=False))
