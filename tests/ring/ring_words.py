"""Words of a ring's file by their places, for tests that look at what is shared or damage it. See ring_layout.h."""

import os
import struct
from pathlib import Path

STATIC = {"slots": 0x20, "capacity_bytes": 0x30, "total_bytes": 0x10, "base_seq": 0x38, "checksum": 0x1F8}
HEAD, DATA_HEAD, RECORDS = 0x200, 0x208, 0x210
TAIL, RECLAIM, TAIL_RECORD = 0x280, 0x288, 0x290
WRITER = 0x300
DATA_EVENT, DATA_WAITERS = 0x380, 0x388
SPACE_EVENT, SPACE_WAITING, SPACE_WANTED = 0x400, 0x404, 0x408
READER_LIMIT = 0x480
SCHEMA, SCHEMA_BYTES = 0x500, 2048
OWNER, CURSOR, READER_BYTES = 0x1000, 0x1008, 128  # of the first reader slot
HEADER_BYTES = 0x5000  # descriptors begin here
FREE, CLAIMING, LOSSLESS, LOSSY, EVICTED, WRITING = range(6)


def word(path: Path, at: int, form: str = "<Q") -> int:
    """One word, as it is in the file now."""
    with path.open("rb", buffering=0) as file:
        value: int = struct.unpack(form, os.pread(file.fileno(), struct.calcsize(form), at))[0]
        return value


def put(path: Path, at: int, value: int, form: str = "<Q") -> None:
    """Writes one word into the file, and so into everybody's mapping."""
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), struct.pack(form, value), at)


def checksum(whole: bytes) -> int:
    """FNV-1a of the static part and the schema, written again from its definition, so that the header's own is checked too."""
    total = 0xCBF29CE484222325
    for byte in whole[: STATIC["checksum"]] + whole[SCHEMA : SCHEMA + SCHEMA_BYTES]:
        total = (total ^ byte) * 0x100000001B3 % 2**64
    return total


def nobody() -> int:
    """The identity of a process of our pid namespace that is dead for certain: no pid is that high here."""
    return 4194303 << 3 | (os.stat("/proc/self/ns/pid").st_ino & 0xFFFF) << 25
