from typing_extensions import Buffer

ALIGN: int
CORRUPT: int
FIELDS_BYTES: int
GAP: int
MAGIC: bytes
MISSED: int

class Entry:
    @property
    def seq(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def timestamp_ns(self) -> int: ...
    @property
    def frame_bytes(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def at(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def gap(self) -> int: ...
    @property
    def end_seq(self) -> int: ...

def crc32c(data: Buffer) -> int: ...
def record(
    salt: int,
    seq: int,
    *,
    frames: Buffer = b"",
    frame_bytes: int = 0,
    count: int = 0,
    epoch: int = 0,
    timestamp_ns: int = 0,
    flags: int = 0,
) -> bytes: ...
def entry_at(data: Buffer, at: int, salt: int, *, frames: bool = True) -> Entry | None: ...
